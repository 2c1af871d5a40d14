"""Where an operator ran: in which module, and at which line of the user's code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules import module as hooks

from assay.where import line_here


class Place(NamedTuple):
    """Where an operator ran: the innermost module's dotted path, and file and line of the user's code."""

    module: str
    line: str


NOWHERE = Place("", "")


class Modules:
    """Which module runs now: by hooks in the forward pass, by autograd's sequence numbers in the backward.

    A node of the autograd graph gets the next number when its operator runs forward; when the node runs
    backward, the number leads back to the module.
    """

    def __init__(self, names: Mapping[nn.Module, str]) -> None:
        self._names = names
        self._stack = [""]
        self._of_node: dict[int, Place] = {}
        self.backward = False

    def __enter__(self) -> Modules:
        self._handles = (
            hooks.register_module_forward_pre_hook(self._enter),
            hooks.register_module_forward_hook(self._leave, always_call=True),
        )
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def running(self) -> bool:
        """Whether a module below the model's root is being called."""
        return len(self._stack) > 1

    def current(self) -> Place:
        """The innermost module and the line; in the backward pass those of the forward operator."""
        node = torch._C._current_autograd_node()
        if node is not None:
            place = self._of_node.get(node._sequence_nr(), NOWHERE)
            if not self.running:
                return place
            # checkpointing runs modules again: their nodes are new ones, and theirs
            place = Place(self._stack[-1], place.line)
        elif self.backward:  # between the nodes: nobody's line
            return NOWHERE
        else:
            place = Place(self._stack[-1], line_here(2))
        self._of_node.setdefault(torch._C._autograd._get_sequence_nr() - 1, place)
        return place

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self._stack.append(self._names.get(module, self._stack[-1]))

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._stack.pop()
