"""Sizes, and numbers computed from them, that note what they are compared with.

They are handed to the builder, and dimensions of tensors to the model, as integers and floats like any other.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import BuiltinFunctionType, FrameType
from typing import Any, TypeGuard

import numpy as np

from assay.cost.notes import CURVED, PERIOD, note, on
from assay.cost.tabled import looked_up


class _Noting:
    """What both kinds of numbers have in common; `int` or `float` is the other base."""

    def __reduce__(self) -> Any:
        return type(plain(self)), (plain(self),)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:  # a configuration that is copied goes on noting
        return self

    def __hash__(self) -> int:
        if on():
            looked_up(smooth(self), sys._getframe(1))
        return super().__hash__()

    def __neg__(self) -> Any:
        return tracked(-plain(self), -smooth(self))

    def __abs__(self) -> Any:
        return tracked(abs(plain(self)), abs(smooth(self)))

    def __divmod__(self, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        divided(self, other, sys._getframe(1))
        return self // other, self % other  # type: ignore[operator]


class Size(_Noting, int):
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

    def __bool__(self) -> bool:
        if on():  # `if n // 384:`
            note(self.smooth - 1, sys._getframe(1))
        return int.__bool__(self)

    def __round__(self, digits: Any = None) -> int:
        return self if digits is None else int(self).__round__(digits)

    def __and__(self, other: Any) -> Any:  # `n & 63` is `n % 64`
        if not isinstance(other, int):
            return NotImplemented
        divided(self, plain(other) + 1, sys._getframe(1))
        return Size(plain(self) & plain(other))

    __rand__ = __and__

    def __rshift__(self, other: Any) -> Any:
        return self // 2 ** plain(other) if isinstance(other, int) else NotImplemented

    def __lshift__(self, other: Any) -> Any:
        return self * 2 ** plain(other) if isinstance(other, int) else NotImplemented

    def bit_length(self) -> int:
        """As of any integer; its smooth companion is the logarithm."""
        smooth = math.log2(self.smooth) + 1 if self.smooth > 0 else 0.0
        made: int = bent(tracked(int.bit_length(self), smooth, curved=True), sys._getframe(1))
        return made


class Quotient(_Noting, float):
    """A number that was computed from a size by way of a division, a root or a logarithm."""

    smooth: float
    curved = False

    def __new__(cls, value: float, smooth: float | None = None) -> Quotient:  # noqa: D102
        made = super().__new__(cls, value)
        made.smooth = value if smooth is None else smooth
        return made

    def __int__(self) -> int:
        bent(self, sys._getframe(1))
        return int(float(self))

    def __floor__(self) -> int:
        return self._whole(math.floor, sys._getframe(1))

    def __ceil__(self) -> int:
        return self._whole(math.ceil, sys._getframe(1))

    def __trunc__(self) -> int:
        return self._whole(math.trunc, sys._getframe(1))

    def __round__(self, digits: Any = None) -> Any:
        if digits is None:
            return self._whole(round, sys._getframe(1))
        return Quotient(round(float(bent(self, sys._getframe(1))), digits), self.smooth)

    def is_integer(self) -> bool:
        """As of any float: at multiples of what it was divided by."""
        whole(self, sys._getframe(1))
        return float.is_integer(self)

    def _whole(self, function: Callable[[float], int], frame: FrameType) -> Size:
        """A whole number: `w * ceil(n / w) == n` at multiples of w."""
        whole(self, frame)
        return tracked(function(float(self)), self.smooth, curved=self.curved)  # type: ignore


class NumpyNumber(np.float64):
    """What numpy made of a size: a float of numpy's that remembers it, until it is made a whole number."""

    smooth: float
    curved: bool

    @classmethod
    def of(cls, value: np.floating[Any], smooth: float, *, curved: bool) -> NumpyNumber:
        """The value, and what it would be if nothing was rounded."""
        made = cls(value)
        made.smooth, made.curved = smooth, curved
        return made


def bent(value: Any, frame: FrameType) -> Any:
    """The number, noted where it is a logarithm or a root."""
    if value.curved:
        note(value.smooth, frame, CURVED)
    return value


def whole(value: Quotient | NumpyNumber, frame: FrameType) -> None:
    """Note that a number is made a whole one: it was one at multiples of what it was divided by."""
    bent(value, frame)
    if not value.curved:
        note(value.smooth - 1, frame, PERIOD)


def divided(value: Any, by: float, frame: FrameType) -> None:
    """Note that a number is divided by another; of roots and logarithms none tells where that matters."""
    if type(by) in (int, float) and by > 1 and not getattr(value, "curved", False):
        note(smooth(value) - by, frame, PERIOD)


def is_tracked(value: Any) -> TypeGuard[Size | Quotient]:
    """Whether a number notes what it is compared with."""
    return type(value) is Size or type(value) is Quotient


def tracked(value: Any, smooth: Any, *, curved: bool = False) -> Any:
    """A number as one that notes; anything else as it is.

    Args:
        value: The number.
        smooth: What it would be if divisions left no remainder.
        curved: Whether a logarithm or a root went into it.

    Returns:
        A Size, a Quotient, or the value.
    """
    made: Any = value
    if type(value) is int:
        made = Size(value, smooth)
    elif type(value) is float:
        made = Quotient(value, smooth)
    if curved and made is not value:
        made.curved = True
    return made


def plain(value: Any) -> Any:
    """An int or a float that notes nothing."""
    return int.__int__(value) if isinstance(value, int) else float.__float__(value)


def smooth(value: Any) -> float:
    """What a number would be if divisions left no remainder."""
    found: float | None = getattr(value, "smooth", None)
    return float(value) if found is None else found


@contextmanager
def curves_followed(namespaces: Iterable[dict[str, Any]]) -> Iterator[None]:
    """Logarithms and roots of what notes are numbers that note, too.

    Args:
        namespaces: Where the functions of `math` may stand, besides there.
    """
    found = [
        (names, name, value)
        for names in (vars(math), *namespaces)
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
        if not is_tracked(value):
            return function(value, *base)
        base = tuple(map(plain, base))
        exact = function(plain(value), *base)
        companion = near(value.smooth, *base) if value.smooth > 0 else float(exact)
        straight = function is math.pow and float(base[0]).is_integer()
        made = tracked(exact, companion, curved=value.curved or not straight)
        return bent(made, sys._getframe(1)) if type(made) is Size else made

    return curve


_CURVED = {"cbrt", "isqrt", "log", "log10", "log1p", "log2", "pow", "sqrt"}
_CURVES = {
    function: _curve(function)
    for function in vars(math).values()
    if getattr(function, "__name__", "") in _CURVED
}


def _binary(operate: Callable[[Any, Any], Any], smoothly: Callable[[Any, Any], Any]) -> Any:
    raised = operate is operator.pow

    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        value = operate(plain(self), plain(other))
        try:
            companion = smoothly(smooth(self), smooth(other))
            companion = companion if isinstance(companion, float) else float(value)
        except ArithmeticError:
            companion = math.inf
        if operate in (operator.floordiv, operator.mod) and on():
            divided(self, other, sys._getframe(1))
        curved = self.curved or getattr(other, "curved", False)
        curved = curved or (raised and not float(other).is_integer())
        if curved and operate is operator.floordiv:
            note(companion, sys._getframe(1), CURVED)
        return tracked(value, companion, curved=curved)

    return method


def _swapped(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda one, other: operate(other, one)


def _comparison(compare: Callable[[Any, Any], Any], kind: type) -> Any:
    original = getattr(kind, f"__{compare.__name__}__")

    def method(self: Any, other: Any) -> Any:
        if on() and isinstance(other, int | float | np.integer):
            note(smooth(self) - smooth(other), sys._getframe(1))
            bent(self, sys._getframe(1))
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
for _kind, _type in ((Size, int), (Quotient, float)):
    for _name, (_exact, _near) in _OPERATORS.items():
        setattr(_kind, f"__{_name}__", _binary(_exact, _near))
        setattr(_kind, f"__r{_name}__", _binary(_swapped(_exact), _swapped(_near)))
    for _compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
        setattr(_kind, f"__{_compare.__name__}__", _comparison(_compare, _type))
for _name in ("__pos__", "__floor__", "__ceil__", "__trunc__"):
    setattr(Size, _name, lambda self: self)
