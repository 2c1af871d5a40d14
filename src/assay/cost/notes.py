"""Notes of what a run compares numbers with: where a cost may turn from one law to another.

A branch `if n > 384` is invisible at small sizes, wherever the 384 comes from: a configuration, a property,
an environment variable, a quotient. But the comparison is made at every size, and by how much its two sides
differ grows with the size: so it can be told from small sizes where they will meet.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

Comparison = tuple[CodeType, int, Hashable]  # the code, where in it, and which of those made there
_TIMES = 16  # that a comparison is told apart in one run: once for each layer
_VALUES = 64  # and so many more with what it was not compared with before
LAST = "last"  # in place of which time: the last one of a loop
PERIOD = "period"  # in place of which time: a division by a number
TRIED = "tried"  # a division that may fail, and is caught
CURVED = "curved"  # in place of which time: a logarithm or a root that is made a whole number, or compared
PLAIN = "plain"  # numbers that are no sizes, as counters of loops: the last time
TURNS = "turns"  # of a loop, where its range is no size
NUMBER = "number"  # of a tensor whose numbers are known: which of them
LEAST, MOST = "least", "most"  # and where their sides were closest, and furthest apart
ONE_SIDED = (PERIOD, TRIED, TURNS, CURVED)  # kinds that do not tell by how much two sides differ
PLAINLY = (PLAIN, LEAST, MOST)
_HOOKS = "assay.cost.hooks"  # stands in for operations of the user's code
_INNER = ("assay.", "torch.")  # whose own comparisons turn nothing that depends on large sizes

_noted: dict[Comparison, float] | None = None
_times: dict[tuple[CodeType, int], int] = {}
_values: dict[tuple[CodeType, int], set[float]] = {}
_plain: dict[tuple[int, int, Hashable], _Plainly] = {}


@contextmanager
def noting_down() -> Iterator[dict[Comparison, float]]:
    """Note what numbers are compared with.

    Yields:
        For every comparison that was made by how much its two sides differed, filled in by the end.
    """
    global _noted
    before, _noted = _noted, {}
    noted = _noted
    _times.clear()
    _values.clear()
    _plain.clear()
    try:
        yield noted
    finally:
        _noted = before
        for plainly in _plain.values():
            noted |= plainly.notes()
        _plain.clear()


def on() -> bool:
    """Whether notes are taken."""
    return _noted is not None


def kind(comparison: Comparison) -> Hashable:
    """What kind of comparison: one of the words of this module, or else which time or with which key."""
    which = comparison[-1]
    return which[0] if isinstance(which, tuple) else which


def note(difference: float, frame: FrameType, which: Hashable = None) -> None:
    """Note a comparison.

    Args:
        difference: Of its two sides; of a division, what is divided less what it is divided by.
        frame: The code that makes it.
        which: Which of those made at this place; by default the time in this run.
    """
    place = _place(frame)
    if _noted is None or place is None:
        return
    if which is None:
        _noted[(*place, LAST)] = difference
        time = _times[place] = _times.get(place, -1) + 1
        if time >= _TIMES:
            seen = _values.setdefault(place, set())
            if difference in seen or len(seen) >= _VALUES:
                return
            seen.add(difference)
        which = time
    _noted[(*place, which)] = difference


def note_plainly(difference: float, frame: FrameType, key: Hashable = None) -> None:
    """Note a comparison of numbers that are no sizes, but may grow with one.

    Args:
        difference: Of its two sides; of a loop the last one is kept, the smallest and the largest.
        frame: The code that makes it.
        key: What it is compared with, where one place compares with several things; `PERIOD` for a division.
    """
    code = frame.f_code
    which = id(code), frame.f_lasti, key
    seen = _plain.get(which)
    if seen is None:  # loops come here often
        _plain[which] = _Plainly(code, frame.f_lasti, key, difference)
        return
    seen.last = difference
    if abs(difference) < abs(seen.least):
        seen.least = difference
    if abs(difference) > abs(seen.most):
        seen.most = difference


class _Plainly:
    """How a comparison of plain numbers went in one run; it keeps the code alive whose address it goes by."""

    __slots__ = ("code", "instruction", "key", "last", "least", "most")

    def __init__(self, code: CodeType, instruction: int, key: Hashable, difference: float) -> None:
        self.code, self.instruction, self.key = code, instruction, key
        self.last = self.least = self.most = difference

    def notes(self) -> dict[Comparison, float]:
        """As comparisons: the last one, and where the two sides were closest and furthest apart."""
        if self.key == PERIOD:
            return {(self.code, self.instruction, PERIOD): self.last}
        words = ((PLAIN, self.last), (LEAST, self.least), (MOST, self.most))
        return {(self.code, self.instruction, (word, self.key)): d for word, d in words}


def _place(frame: FrameType) -> tuple[CodeType, int] | None:
    user = asking(frame)
    return user and (user.f_code, user.f_lasti)


def is_inner(frame: FrameType) -> bool:
    """Whether code is torch's or assay's own."""
    return _module(frame).startswith(_INNER)


def asking(frame: FrameType) -> FrameType | None:
    """The user's code that asks: the frame, or the one that called hooks; None where it is torch's."""
    while _module(frame) == _HOOKS and frame.f_back is not None:
        frame = frame.f_back
    return None if is_inner(frame) else frame


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
