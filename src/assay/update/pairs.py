"""Differences in a loss, written out, that pair every output with every target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from assay.where import Location, here

_SUBTRACTS = {"sub", "rsub"}
_ADDS_A_DIMENSION = {"unsqueeze", "view", "_unsafe_view", "reshape"}


class Pairs(TorchDispatchMode):
    """Notices `o - y` of shapes [N, 1] and [N], which is every output against every target: [N, N].

    Who wants all pairs puts a dimension there, in the loss: `o[:, None] - y`. That is no mistake, and what
    comes of such a tensor is not looked at. Of two tensors, at least one has a gradient: the outputs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._on_purpose = WeakIdKeyDictionary()
        self.found: list[tuple[str, str, Location | None]] = []  # of targets, of outputs; the line

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.overloadpacket.__name__
        given = [x for x in args if isinstance(x, Tensor)]
        if name in _SUBTRACTS and len(given) == 2 and self._by_mistake(*given):
            outputs, targets = given if given[0].requires_grad else given[::-1]
            self.found.append((str(list(targets.shape)), str(list(outputs.shape)), here()))
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and (
            (name in _ADDS_A_DIMENSION and given and out.dim() > given[0].dim())
            or any(x in self._on_purpose for x in given)
        ):
            self._on_purpose[out] = True
        return out

    def _by_mistake(self, a: Tensor, b: Tensor) -> bool:
        """Whether two tensors are paired by broadcasting that nobody asked for."""
        few, many = sorted((a, b), key=Tensor.dim)
        if few.dim() == many.dim() or not few.dim() or not (a.requires_grad or b.requires_grad):
            return False
        if not (a.is_floating_point() and b.is_floating_point()) or _same_storage(a, b):
            return False
        if a in self._on_purpose or b in self._on_purpose:
            return False
        # N numbers each, and N times N of both: a bias or a weight for each column gives no more than before
        paired = torch.broadcast_shapes(a.shape, b.shape)
        return a.numel() == b.numel() and paired.numel() > a.numel()


def _same_storage(a: Tensor, b: Tensor) -> bool:
    """Whether one is a view of the other: all pairs of the outputs themselves."""
    if a.layout != torch.strided or b.layout != torch.strided:
        return False
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
