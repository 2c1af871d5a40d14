"""Tensors of a shape without data that remember small integers: grids of patches, lengths, offsets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_map

_REMEMBERED = 1 << 16  # elements of a tensor whose values are kept; torch itself keeps those of one


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
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        if limit is not None:
            fake_tensor.CONSTANT_NUMEL_LIMIT = limit
        if truncated is not None:
            torch.nn.init._no_grad_trunc_normal_ = truncated


def _untouched(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
    return tensor


def value_of(tensor: Any) -> Tensor | None:
    """The values that a tensor remembers; None where it has none."""
    return tensor.constant if isinstance(tensor, FakeTensor) else None


def remembering(value: Tensor, like: Any) -> Tensor:
    """A tensor without data that remembers `value`, in the mode that `like` belongs to."""
    mode = like.fake_mode
    made: Tensor = mode.fake_tensor_converter.from_real_tensor(mode, value, make_constant=True)
    return made


def remember_made(func: Any, args: Any, kwargs: Any, out: Any) -> None:
    """Have a tensor of integers that was made of nothing, as by `arange`, remember its values."""
    if not isinstance(out, FakeTensor) or out.constant is not None or out.is_floating_point():
        return
    if out.numel() <= _REMEMBERED:
        with no_dispatch():
            out.constant = func(*args, **{**kwargs, "device": "cpu"})
        out.fake_mode.fake_tensor_converter.add_constant_storage_mapping(out)


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """An operator on remembered values, whose outcome has a shape or a value that depends on them.

    Args:
        func: The operator.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Returns:
        The outcome, remembered; None where not all values are known.
    """
    found: list[Any] = []

    def known(item: Any) -> Any:
        if isinstance(item, Tensor):
            found.append((item, value_of(item)))
            return found[-1][1]
        return item

    real_args, real_kwargs = tree_map(known, (args, kwargs))
    if not found or any(value is None for _, value in found):
        return None
    out = func(*real_args, **real_kwargs)
    first = found[0][0]
    return tree_map(lambda o: remembering(o, first) if isinstance(o, Tensor) else o, out)
