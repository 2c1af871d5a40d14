"""What a run compares its sizes with: where a cost may turn from one law to another.

A branch `if n > 384` is invisible at small sizes, wherever the 384 comes from: a configuration, a property,
an environment variable, a quotient. But the comparison is made at every size. So sizes are handed to the
builder, and dimensions of tensors to the model, as integers that note what they are compared with.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import BuiltinFunctionType, CodeType, FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

Comparison = tuple[CodeType, int, Any]  # the code, where in it, and which time or with which key
_TIMES = 16  # that a comparison is told apart in one run: once for each layer
LAST = "last"  # in place of which time: the last one of a loop
PERIOD = "period"  # in place of which time: a division by a number
CURVED = "curved"  # in place of which time: a logarithm or a root that is made a whole number, or compared
_LISTED = 16  # keys of a dictionary that are looked at; a longer one is data
_PERIOD = 64  # what a size is divided by is looked at from here on: less is a stride, or heads
_INNER = ("assay.", "torch.")  # whose own comparisons turn nothing that depends on large sizes

_noted: dict[Comparison, float] | None = None
_times: dict[tuple[CodeType, int], int] = {}


@contextmanager
def comparisons(namespaces: Iterable[dict[str, Any]] = ()) -> Iterator[dict[Comparison, float]]:
    """Note what sizes are compared with.

    Args:
        namespaces: Globals of the user's modules, for what they took from `math` by name.

    Yields:
        For every comparison that was made by how much its two sides differed, filled in on the way.
    """
    global _noted
    before, _noted = _noted, {}
    _times.clear()
    try:
        with _followed([vars(math), *namespaces]):
            yield _noted
    finally:
        _noted = before


@contextmanager
def _followed(namespaces: Iterable[dict[str, Any]]) -> Iterator[None]:
    """Logarithms and roots of what notes are numbers that note, too."""
    found = [
        (names, name, value)
        for names in namespaces
        for name, value in [*names.items()]
        if type(value) is BuiltinFunctionType and value in _CURVES
    ]
    for names, name, value in found:
        names[name] = _CURVES[value]
    try:
        yield
    finally:
        for names, name, value in found:
            names[name] = value


def _curve(function: Callable[..., Any]) -> Callable[..., Any]:
    near = {"isqrt": math.sqrt}.get(function.__name__, function)

    @wraps(function)
    def curve(value: Any, /, *base: Any) -> Any:
        if type(value) is not Size and type(value) is not _Quotient:
            return function(value, *base)
        exact = function(_plain(value), *base)
        smooth = near(value.smooth, *base) if value.smooth > 0 else float(exact)
        made = _tracked(exact, smooth, curved=True)
        return _bent(made, sys._getframe(1)) if type(made) is Size else made

    return curve


_CURVES = {
    function: _curve(function)
    for function in (math.cbrt, math.isqrt, math.log, math.log10, math.log1p, math.log2, math.sqrt)
}


def _note(difference: float, frame: FrameType, which: Any = None) -> None:
    if _noted is None or frame.f_globals.get("__name__", "").startswith(_INNER):
        return
    place = frame.f_code, frame.f_lasti
    if which is None:
        _noted[(*place, LAST)] = difference
        which = _times[place] = _times.get(place, -1) + 1
        if which >= _TIMES:
            return
    _noted[(*place, which)] = difference


class Size(int):
    """An integer that notes what it is compared with, and so does what is computed from it.

    Args:
        value: The integer.
        smooth: What it would be if divisions left no remainder: the way to where it turns is straighter.

    Attributes:
        curved: Whether a logarithm or a root went into it: it may turn again and again, further up.
    """

    smooth: float
    curved = False

    def __new__(cls, value: int, smooth: float | None = None) -> Size:  # noqa: D102
        made = super().__new__(cls, value)
        made.smooth = float(value) if smooth is None else smooth
        return made

    def __reduce__(self) -> Any:
        return int, (int(self),)

    def __hash__(self) -> int:
        if _noted is not None:
            _looked_up(self, sys._getframe(1))
        return int.__hash__(self)

    def __bool__(self) -> bool:
        if _noted is not None:  # `if n // 384:`
            _note(self.smooth - 1, sys._getframe(1))
        return int.__bool__(self)

    def bit_length(self) -> int:
        """As of any integer; its smooth companion is the logarithm."""
        smooth = math.log2(self.smooth) + 1 if self.smooth > 0 else 0.0
        made: int = _bent(_tracked(int.bit_length(self), smooth, curved=True), sys._getframe(1))
        return made


class _Quotient(float):
    """A number that was computed from a size by way of a division, a root or a logarithm."""

    smooth: float
    curved = False

    def __new__(cls, value: float, smooth: float | None = None) -> _Quotient:
        made = super().__new__(cls, value)
        made.smooth = value if smooth is None else smooth
        return made

    def __reduce__(self) -> Any:
        return float, (float(self),)

    def __hash__(self) -> int:
        return float.__hash__(self)

    def __int__(self) -> int:
        _bent(self, sys._getframe(1))
        return int(float(self))

    def __floor__(self) -> int:
        return Size(math.floor(float(_bent(self, sys._getframe(1)))), self.smooth)

    def __ceil__(self) -> int:
        return Size(math.ceil(float(_bent(self, sys._getframe(1)))), self.smooth)

    def __round__(self, digits: Any = None) -> Any:
        found = round(float(_bent(self, sys._getframe(1))), digits)
        return Size(found, self.smooth) if digits is None else _Quotient(found, self.smooth)


def _bent(value: Any, frame: FrameType) -> Any:
    """The number, noted where it is a logarithm or a root."""
    if value.curved:
        _note(value.smooth, frame, CURVED)
    return value


def _tracked(value: Any, smooth: Any, *, curved: bool = False) -> Any:
    made: Any = value
    if type(value) is int:
        made = Size(value, smooth)
    elif type(value) is float:
        made = _Quotient(value, smooth)
    if curved and made is not value:
        made.curved = True
    return made


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, int) else float(value)


def _smooth(value: Any) -> float:
    found: float | None = getattr(value, "smooth", None)
    return float(value) if found is None else found


def _binary(operate: Callable[[Any, Any], Any], smoothly: Callable[[Any, Any], Any]) -> Any:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        value = operate(_plain(self), _plain(other))
        try:
            smooth = smoothly(_smooth(self), _smooth(other))
            smooth = smooth if isinstance(smooth, float) else float(value)
        except ArithmeticError:
            smooth = math.inf
        periodic = operate in (operator.floordiv, operator.mod)
        if periodic and _noted is not None and type(other) is int and other >= _PERIOD:
            _note(_smooth(self) - other, sys._getframe(1), PERIOD)
        curved = self.curved or getattr(other, "curved", False)
        if curved and operate is operator.floordiv:
            _note(smooth, sys._getframe(1), CURVED)
        return _tracked(value, smooth, curved=curved)

    return method


def _swapped(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda one, other: operate(other, one)


def _comparison(compare: Callable[[Any, Any], Any], plain: type) -> Any:
    original = getattr(plain, f"__{compare.__name__}__")

    def method(self: Any, other: Any) -> Any:
        if _noted is not None and isinstance(other, int | float | np.integer):
            _note(_smooth(self) - _smooth(other), sys._getframe(1))
            _bent(self, sys._getframe(1))
        return original(self, other)

    return method


_OPERATORS: dict[str, tuple[Any, Any]] = {
    "add": (operator.add, operator.add),
    "sub": (operator.sub, operator.sub),
    "mul": (operator.mul, operator.mul),
    "truediv": (operator.truediv, operator.truediv),
    "floordiv": (operator.floordiv, operator.truediv),
    "mod": (operator.mod, operator.mod),
    "pow": (operator.pow, operator.pow),
}
for _kind, _type in ((Size, int), (_Quotient, float)):
    for _name, (_exact, _near) in _OPERATORS.items():
        setattr(_kind, f"__{_name}__", _binary(_exact, _near))
        setattr(_kind, f"__r{_name}__", _binary(_swapped(_exact), _swapped(_near)))
    for _compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        setattr(_kind, f"__{_compare.__name__}__", _comparison(_compare, _type))
    _kind.__neg__ = lambda self: _tracked(-_plain(self), -_smooth(self))  # type: ignore


def _looked_up(size: Size, frame: FrameType) -> None:
    """A size is looked up: keys of the dictionaries and sets at hand are what it is compared with."""
    names, local = frame.f_code.co_names, [*frame.f_locals.values()]
    named = [frame.f_globals.get(name) for name in names]
    at_hand = [*local, *frame.f_code.co_consts, *named]
    at_hand += [
        getattr(holder, "__dict__", {}).get(name)
        for owner in (*local, *named)
        for holder in (owner, *type(owner).__mro__)  # a table may stand in a class
        for name in names
    ]
    for held in at_hand:
        # a tuple among the constants may be the keys of a dictionary that is spelled out, a number the one
        # key of another
        if isinstance(held, dict | set | frozenset | tuple) and len(held) <= _LISTED:
            keys = [part for key in held for part in (key if isinstance(key, tuple) else (key,))]
        else:
            keys = [held]
        for key in keys:
            if type(key) is int:
                _note(size.smooth - key, frame, key)


def noting(func: Any, args: tuple[Any, ...], out: Any) -> Any:
    """What a function of torch returned, where that is a dimension, as one that notes.

    Args:
        func: The function.
        args: Its arguments: a tensor that is cut at a number is compared with it.
        out: What it returned.

    Returns:
        The same, or dimensions that note what they are compared with.
    """
    if _noted is None:
        return out
    if func in _DIMENSIONS:
        if isinstance(out, torch.Size):
            return torch.Size([Size(x) for x in out])
        return Size(out) if type(out) is int else out
    if func is Tensor.__getitem__:
        _cut(*args)
    return out


def with_numbers(size: Size, numbers: Iterable[float]) -> None:
    """A size is compared with each number of a tensor."""
    frame = _user_frame()
    for number in numbers:
        _note(size.smooth - number, frame, number)


def _user_frame() -> FrameType:
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_INNER):
        frame = frame.f_back
    return frame


_DIMENSIONS = {Tensor.shape.__get__, Tensor.size, Tensor.numel, torch.numel}  # type: ignore


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
                    _note(tensor.shape[dimension] - abs(_smooth(end)), frame, (dimension, end < 0))
        dimension += item is not None
