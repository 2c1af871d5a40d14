"""What a run compares its sizes with: numbers that note it, handed out wherever the user's code gets one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from assay.cost.notes import NUMBER, Comparison, is_inner, note, noting_down, on
from assay.cost.tracked import Size, curves_followed, smooth


@contextmanager
def comparisons(namespaces: Iterable[dict[str, Any]] = ()) -> Iterator[dict[Comparison, float]]:
    """Note what sizes are compared with.

    Args:
        namespaces: Globals of the user's modules, for what they took from `math` by name.

    Yields:
        For every comparison that was made by how much its two sides differed, filled in on the way.
    """
    with noting_down() as noted, curves_followed(namespaces):
        yield noted


def noting(func: Any, args: tuple[Any, ...], out: Any) -> Any:
    """What a function of torch returned, where that is a dimension, as one that notes.

    Args:
        func: The function.
        args: Its arguments: a tensor that is cut at a number is compared with it.
        out: What it returned.

    Returns:
        The same, or dimensions that note what they are compared with.
    """
    if not on():
        return out
    if func in _DIMENSIONS:
        if isinstance(out, torch.Size):
            return torch.Size([Size(x) for x in out])
        if type(out) is tuple:
            return tuple(map(Size, out))
        return Size(out) if type(out) is int else out
    if func is Tensor.__getitem__:
        _cut(*args)
    return out


def with_numbers(size: Size, numbers: Iterable[float]) -> None:
    """A size is compared with each number of a tensor."""
    frame = _user_frame()
    # they may grow with sizes, so it is their place that tells them apart
    for place, number in enumerate(numbers):
        note(size.smooth - number, frame, (NUMBER, place))


def _user_frame() -> FrameType:
    frame = sys._getframe(2)
    while frame.f_back is not None and is_inner(frame):
        frame = frame.f_back
    return frame


_DIMENSIONS = {
    *(Tensor.shape.__get__, Tensor.size, Tensor.numel, torch.numel),  # type: ignore
    *(Tensor.stride, Tensor.nbytes.__get__),  # type: ignore
}


def _cut(tensor: Tensor, index: Any) -> None:
    """`x[:, -1500:]` takes all there is, up to a length of 1500."""
    items = index if isinstance(index, tuple) else (index,)
    kinds = set(map(type, items))
    if slice not in kinds or type(Ellipsis) in kinds:
        return
    frame, dimension = _user_frame(), 0
    for item in items:
        if isinstance(item, slice) and dimension < tensor.dim():
            for end in (item.start, item.stop):
                if isinstance(end, int) and abs(end) > 1:
                    note(tensor.shape[dimension] - abs(smooth(end)), frame, (dimension, end < 0))
        dimension += item is not None
