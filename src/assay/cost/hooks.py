"""What rewritten code calls: the operation that stood there, and a note of the numbers that it asks about.

Sizes note by themselves what they are compared with. But `len(x)`, `int(n)`, a counter of a loop or the
length of a list are plain numbers, of which only the code that compares them can tell.
"""

from __future__ import annotations

import math
import operator
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from types import BuiltinFunctionType, FrameType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.cost.notes import PERIOD, TRIED, TURNS, note, note_plainly, on
from assay.cost.tabled import is_number, keys
from assay.cost.tracked import (
    NumpyNumber,
    Quotient,
    Size,
    divided,
    is_tracked,
    smooth,
    tracked,
    whole,
)

_ran: set[str] = set()
_SIZED = (list, tuple, range, dict, deque, str, Tensor, nn.ModuleList, nn.ParameterList)
_TABLES = (Mapping, AbstractSet, list, tuple, range)
_KNOWN_BY_TYPE = (BuiltinFunctionType, MethodType, type)  # of functions that hooks may stand in for


@contextmanager
def entering(names: set[str]) -> Iterator[None]:
    """Collect the names of the functions that are run."""
    global _ran
    before, _ran = _ran, names
    try:
        yield
    finally:
        _ran = before


def entered(name: str) -> None:
    """Take down that a function is run.

    Args:
        name: A name of its own.
    """
    _ran.add(name)


def asked(value: Any) -> Any:
    """The truth of a value: of a number whether it is 0.

    Args:
        value: What an `if` or a `while` asks for.

    Returns:
        The value.
    """
    if is_number(value) and on():
        note_plainly(_apart(value, 0), sys._getframe(1))
    return value


def item(holder: Any, key: Any) -> Any:
    """`holder[key]`: a number may be looked up in a table.

    Args:
        holder: Anything.
        key: The key, or the index.

    Returns:
        What is there.
    """
    if on() and isinstance(holder, Mapping):
        _among(key, holder, sys._getframe(1))
    return holder[key]


def cut(holder: Any, start: Any, stop: Any) -> Any:
    """`holder[start:stop]`: `past[-128:]` takes all there is, up to a length of 128.

    Args:
        holder: A list, a tensor, anything.
        start: Where it begins, or None.
        stop: Where it ends, or None.

    Returns:
        What is there.
    """
    if on() and isinstance(holder, list | tuple | str | range):
        for end in (start, stop):
            if _counts(end):
                _beside(len(holder), abs(end), sys._getframe(1), end < 0)
    return holder[start:stop]


def _comparing(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compare(left: Any, right: Any) -> Any:
        if on() and is_number(left) and is_number(right):
            note_plainly(_apart(left, right), sys._getframe(1))
        return operate(left, right)  # a size notes it itself

    return compare


def _looking(*, found: bool) -> Callable[[Any, Any], bool]:
    def look(left: Any, table: Any) -> bool:
        if on() and isinstance(table, _TABLES):
            _among(left, table, sys._getframe(1))
        return (left in table) is found

    return look


def _dividing(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def divide(left: Any, right: Any) -> Any:
        if on() and is_number(left) and is_number(right) and right > 1:
            note_plainly(_apart(left, right), sys._getframe(1), PERIOD)
        return operate(left, right)

    return divide


def called(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """`function(…)` of a function that loses what a size notes, or looks numbers up.

    Args:
        function: What is called.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Returns:
        What it returns; a number that notes where its argument does.
    """
    if type(function) is np.ufunc and len(args) == 1 and not kwargs and on():
        return _of_numpy(function, args[0], sys._getframe(1))
    if on() and type(function) in _KNOWN_BY_TYPE:
        frame, owner = sys._getframe(1), getattr(function, "__self__", None)
        if (hook := _BUILTINS.get(function)) is not None:
            return hook(frame, *args, **kwargs)
        if isinstance(owner, torch.Size) and not args:  # numel
            return math.prod(owner)
        if isinstance(owner, deque) and owner.maxlen is not None:
            _beside(len(owner), owner.maxlen, frame)
        elif isinstance(owner, Mapping) and args:
            _among(args[0], owner, frame)
    return function(*args, **kwargs)


def tried(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """`tensor.view(…)` inside `try`: a number that does not divide a dimension raises, and is caught.

    Args:
        function: What is called.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Returns:
        What it returns.
    """
    tensor = getattr(function, "__self__", None)
    if on() and isinstance(tensor, Tensor):
        numbers = [x for a in args for x in (a if isinstance(a, tuple | list) else (a,))]
        for dimension, size in enumerate(tensor.shape):
            for number in numbers:
                if type(number) is int and number > 1:
                    which = (TRIED, dimension, number)
                    note(smooth(size) - number, sys._getframe(1), which)
    return function(*args, **kwargs)


def _counts(value: Any) -> bool:
    return is_tracked(value) or is_number(value)


def _apart(left: Any, right: Any) -> float:
    try:
        return float(left) - float(right)
    except OverflowError:  # an integer that is larger than any float
        return math.inf


def _beside(left: Any, right: Any, frame: FrameType, key: Any = None) -> None:
    """Two numbers are compared, though nobody writes `<` between them."""
    if is_tracked(left) or is_tracked(right):
        note(smooth(left) - smooth(right), frame, key)
    else:
        note_plainly(_apart(left, right), frame, key)


def _among(left: Any, table: Any, frame: FrameType) -> None:
    """A number is looked up in a table; of a pair its parts."""
    parts = [x for x in (left if isinstance(left, tuple) else (left,)) if _counts(x)]
    for key in keys(table) if parts else ():
        if is_number(key):
            for place, part in enumerate(parts):
                _beside(part, key, frame, ("key", place, key))


def _int(frame: FrameType, *args: Any, **kwargs: Any) -> Any:
    number = args[0] if len(args) == 1 else None
    if type(number) is Size:
        return number
    if type(number) is not Quotient and type(number) is not NumpyNumber:
        return int(*args, **kwargs)
    whole(number, frame)
    return tracked(int(float(number)), number.smooth, curved=number.curved)


def _float(_: FrameType, *args: Any) -> Any:
    made = float(*args)
    if not args or not is_tracked(args[0]):
        return made
    return tracked(made, args[0].smooth, curved=args[0].curved)


def _len(_: FrameType, *args: Any) -> Any:
    made = len(*args)
    return args[0].shape[0] if isinstance(args[0], Tensor) else made


def _of_numpy(function: np.ufunc, number: Any, frame: FrameType) -> Any:
    """`np.log2(n)`, `np.ceil(n / 64)`: of a number that notes one of numpy's that remembers it."""
    if not is_tracked(number) and type(number) is not NumpyNumber:
        return function(number)
    made, smoothly = function(float(number)), number.smooth
    if function in (np.ceil, np.floor, np.rint):
        if not isinstance(number, Size):
            whole(number, frame)
        return NumpyNumber.of(made, smoothly, curved=number.curved)
    if not isinstance(made, np.floating):  # np.isnan, np.isfinite
        return made
    with np.errstate(all="ignore"):
        return NumpyNumber.of(made, float(function(smoothly)), curved=True)


def _chosen(function: Any) -> Any:
    """`min` and `max` of two plain numbers; sizes are compared by these functions themselves."""

    def choose(frame: FrameType, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 2 and is_number(args[0]) and is_number(args[1]):
            _beside(*args, frame)
        return function(*args, **kwargs)

    return choose


def _zip(frame: FrameType, *args: Any, **kwargs: Any) -> Any:
    sized = [len(a) for a in args if isinstance(a, _SIZED)]
    for place, length in enumerate(sized[1:]):
        _beside(sized[0], length, frame, place)
    return zip(*args, **kwargs)  # noqa: B905


def _range(frame: FrameType, *args: Any) -> Any:
    made = range(*args)
    if not any(map(is_tracked, args)):
        note(float(len(made)), frame, TURNS)
    return made


def _periodic(function: Any) -> Any:
    """Greatest common divisors and remainders: others at multiples."""

    def periodic(frame: FrameType, *args: Any) -> Any:
        made = function(*args)
        if len(args) != 2 or not any(map(is_tracked, args)):
            return made
        for one, other in (args, args[::-1]):
            if is_tracked(one):
                divided(one, other, frame)
        return tracked(made, float(made))

    return periodic


def _isclose(frame: FrameType, *args: Any, **kwargs: Any) -> Any:
    if len(args) == 2 and all(map(_counts, args)):
        _beside(*args, frame)
    return math.isclose(*args, **kwargs)


less, less_or_equal = _comparing(operator.lt), _comparing(operator.le)
greater, greater_or_equal = _comparing(operator.gt), _comparing(operator.ge)
equal, unequal = _comparing(operator.eq), _comparing(operator.ne)
within, without = _looking(found=True), _looking(found=False)
floor_divided, remainder = _dividing(operator.floordiv), _dividing(operator.mod)
_BUILTINS: dict[Any, Any] = {
    int: _int,
    float: _float,
    len: _len,
    min: _chosen(min),
    max: _chosen(max),
    zip: _zip,
    range: _range,
    math.gcd: _periodic(math.gcd),
    math.fmod: _periodic(math.fmod),
    math.isclose: _isclose,
}
