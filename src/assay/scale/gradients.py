"""The gradients of outputs: autograd gives an output its place in the graph only after its dispatch."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from assay.scale.record import Call, Record


class Gradients:
    """Outputs whose gradients are asked for, and the hooks that note them."""

    def __init__(self) -> None:
        self.wanted = False  # those before are of a backward pass inside the forward pass
        self.pending: list[tuple[Tensor, Record, Call]] = []
        self._handles: list[Any] = []

    def ask(self, x: Tensor, record: Record, call: Call) -> None:
        """Ask for the gradient of an output that is just being made."""
        self.pending.append((x, record, call))

    def arm(self) -> None:
        """Hook the outputs of earlier operators."""
        for x, record, call in self.pending:
            if x.requires_grad:
                self._handles.append(x.register_hook(partial(self._keep, record, call)))
        self.pending.clear()

    def release(self) -> None:
        """Take the hooks off whatever tensors the caller keeps."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keep(self, record: Record, call: Call, gradient: Tensor) -> None:
        if self.wanted:
            record.add_gradient(call, gradient)
