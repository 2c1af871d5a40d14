"""Tensors of a shape without data that remember small integers: grids of patches, lengths, offsets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorMode,
    in_kernel_invocation_manager,
)
from torch.utils._mode_utils import no_dispatch

from assay.cost.operators import MAKERS

_REMEMBERED = 1 << 20  # elements of a tensor whose values are kept; torch itself keeps those of one
_FEW = 64  # of a tensor of floating-point numbers: a schedule, and no weight


_aten = torch.ops.aten
# norms that return statistics behind their output, and which argument their weights are
_NORMS = {
    _aten.native_layer_norm.default: 2,
    _aten.native_group_norm.default: 1,
    _aten.native_batch_norm.default: 1,
}


class _Remembering(FakeTensorMode):
    """Has a tensor that was made of nothing, as by `arange`, remember its values: integers, or a few."""

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().dispatch(func, types, args, kwargs)
        if func in _NORMS:
            return _with_exact_statistics(out, args[_NORMS[func]])
        if func not in MAKERS or not isinstance(out, FakeTensor) or out.constant is not None:
            return out
        if out.numel() <= (_FEW if out.is_floating_point() else _REMEMBERED):
            with no_dispatch():
                out.constant = func(*args, **{**(kwargs or {}), "device": "cpu"})
            self.fake_tensor_converter.add_constant_storage_mapping(out)
        return out


def _with_exact_statistics(out: Any, weight: Tensor | None) -> Any:
    """What a norm returns: with weights of 32 bits so are its statistics, as under autocast.

    Torch's tensors without data have them as short as the input.

    Returns:
        The output and the statistics.
    """
    if weight is None or weight.dtype is not torch.float32:
        return out
    longer = (
        remade(x.shape, x.stride(), weight.dtype, x.fake_device, x.fake_mode)
        if x.dtype in (torch.bfloat16, torch.float16)
        else x
        for x in out[1:]
    )
    return out[0], *longer


@contextmanager
def fake_tensors() -> Iterator[None]:
    """FakeTensorMode in which small tensors that code spells out keep their values, and so do results.

    A vision model asks for the sides of its images as `grid.tolist()`. Initialisers that look at what they
    drew, to draw again, are left out: there is nothing to look at.

    Yields:
        Nothing.
    """
    limit = getattr(fake_tensor, "CONSTANT_NUMEL_LIMIT", None)
    truncated = getattr(torch.nn.init, "_no_grad_trunc_normal_", None)
    try:
        if limit is not None:
            fake_tensor.CONSTANT_NUMEL_LIMIT = _REMEMBERED
        if truncated is not None:
            torch.nn.init._no_grad_trunc_normal_ = _untouched
        with _Remembering(allow_non_fake_inputs=True):
            yield
    finally:
        if limit is not None:
            fake_tensor.CONSTANT_NUMEL_LIMIT = limit
        if truncated is not None:
            torch.nn.init._no_grad_trunc_normal_ = truncated


def _untouched(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
    return tensor


def remade(
    shape: Any, stride: Any, dtype: torch.dtype, device: torch.device, mode: FakeTensorMode | None
) -> Tensor:
    """A new tensor without data.

    Args:
        shape: Its shape.
        stride: Its strides.
        dtype: Its type.
        device: Where it is, or claims to be.
        mode: The mode to which it belongs; None for one on the meta device.

    Returns:
        The tensor.
    """
    if mode is None:
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)
    with torch._C._DisableTorchDispatch():
        made = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
    return FakeTensor(mode, made, device)


def viewed(func: Any, args: Any, kwargs: Any, mode: FakeTensorMode) -> Any:
    """What a view of a tensor without data is, without the checks that the mode makes.

    Args:
        func: The operator.
        args: Its arguments, a tensor without data first.
        kwargs: Its keyword arguments.
        mode: The mode to which it belongs.

    Returns:
        The view, or the views.
    """
    device = args[0].fake_device
    with in_kernel_invocation_manager(mode):
        out = func(*args, **kwargs)
    if isinstance(out, Tensor):
        return FakeTensor(mode, out, device)
    return type(out)(FakeTensor(mode, part, device) for part in out)


def remembering(value: Tensor, like: Any) -> Tensor:
    """A tensor without data that remembers `value`, in the mode that `like` belongs to."""
    mode = like.fake_mode
    made: Tensor = mode.fake_tensor_converter.from_real_tensor(mode, value, make_constant=True)
    return made
