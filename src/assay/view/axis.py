"""Axes: from numbers to positions, and the ticks that a reader can read off.

A linear axis has ticks at 1, 2 or 5 times a power of ten; a logarithmic one at decades, or at 1, 2 and 5 of
each decade where there are few. Numbers that an axis cannot place (NaN, an infinity, zero on a logarithm)
are never guessed at: `Axis.place` names the edge that they fall off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Edge = Literal["below", "above", "nowhere"]

_HUGE = 1e250  # beyond it sums and padding overflow, and no picture is read at that scale
_TINY = 1e-250
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def short(value: float) -> str:
    """A number in at most four significant digits, powers of ten set as people write them.

    Args:
        value: Any float.

    Returns:
        The text; "not a number" and "infinite" in words.

    Example:
        >>> short(0.683332), short(12000.0), short(1.8e-21), short(float("inf"))
        ('0.6833', '12000', '1.8·10⁻²¹', 'infinite')
    """
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "−infinite"
    size = abs(value)
    if size == 0:
        return "0"
    if 1e-3 <= size < 1e6:
        text = f"{value:.4g}" if size < 1e4 else f"{value:.0f}"
        return text.replace("-", "−")
    digits, exponent = f"{size:.2e}".split("e")
    digits = digits.rstrip("0").rstrip(".")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return ("−" if value < 0 else "") + (power if digits == "1" else f"{digits}·{power}")


@dataclass(frozen=True)
class Axis:
    """A mapping from numbers in `[low, high]` to positions in `[start, stop]`.

    Make one with `Axis.of`, which chooses the limits from the data.

    Args:
        low: The number at `start`; positive where `log`.
        high: The number at `stop`; larger than `low`.
        start: A position, in pixels.
        stop: Another position; smaller than `start` for an axis that points up.
        log: Whether equal ratios take equal room.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    @classmethod
    def of(
        cls,
        values: Iterable[float],
        start: float,
        stop: float,
        *,
        log: bool = False,
        pad: float = 0.0,
        limits: tuple[float, float] | None = None,
    ) -> Axis:
        """Choose limits that hold every value that can be placed, and are never empty.

        Args:
            values: The numbers to show; those that cannot be placed are left out of account.
            start: The position of the smallest.
            stop: The position of the largest.
            log: Whether the axis is logarithmic.
            pad: Room to leave on either side, as a share of the range.
            limits: Limits to use instead, where they are usable.

        Returns:
            The axis.

        Example:
            >>> axis = Axis.of([0.0, 10.0, float("nan")], 0, 100)
            >>> axis.place(5.0), axis.place(float("inf")), axis.place(float("nan"))
            (50.0, 'above', 'nowhere')
        """
        usable = [float(v) for v in (limits or values) if _usable(float(v), log)]
        if limits is not None and (len(usable) < 2 or usable[0] >= usable[1]):
            usable = [float(v) for v in values if _usable(float(v), log)]
        low, high = (min(usable), max(usable)) if usable else (0.1, 1.0)
        if log:
            if high < 1.01 * low:
                low, high = low / 3, high * 3
            room = pad * (math.log10(high) - math.log10(low))
            return cls(low / 10**room, high * 10**room, start, stop, log=True)
        if high - low <= max(1e-9 * max(abs(low), abs(high)), _TINY):
            room = abs(high) / 2 or 1.0
        else:
            room = pad * (high - low)
        return cls(low - room, high + room, start, stop)

    def place(self, value: float) -> float | Edge:
        """Where `value` stands.

        Args:
            value: Any float.

        Returns:
            A position in pixels; or the edge that the value falls off; or "nowhere" for NaN.
        """
        if math.isnan(value):
            return "nowhere"
        if value > _HUGE:
            return "above"
        if value < -_HUGE or (self.log and value < _TINY):
            return "below"
        share = self._share(value)
        return self.start + min(max(share, -1.0), 2.0) * (self.stop - self.start)

    def at(self, value: float) -> float:
        """Where `value` stands, held inside the axis; the start for what has no place.

        Args:
            value: Any float.

        Returns:
            A position between `start` and `stop`.
        """
        spot = self.place(value)
        if isinstance(spot, str):
            return self.stop if spot == "above" else self.start
        near, far = sorted((self.start, self.stop))
        return min(max(spot, near), far)

    def _share(self, value: float) -> float:
        if self.log:
            low = math.log10(self.low)
            return (math.log10(value) - low) / (math.log10(self.high) - low)
        return (value - self.low) / (self.high - self.low)

    @cached_property
    def exponent(self) -> int:
        """The power of ten, a multiple of three, that is taken out of the tick labels of a linear axis."""
        size = max(abs(self.low), abs(self.high))
        power = math.floor(math.log10(size)) if size > _TINY else 0
        return 0 if self.log or -3 <= power < 5 else 3 * (power // 3)

    @property
    def factor(self) -> str:
        """What to write beside the axis label: "" or " (×10⁹)"."""
        return f" (×10{str(self.exponent).translate(_SUPERSCRIPT)})" if self.exponent else ""

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Round numbers inside the limits.

        Args:
            most: About how many there may be.

        Returns:
            Position and label of each, in increasing order of the number.

        Example:
            >>> [label for _, label in Axis(0, 10, 0, 100).ticks(5)]
            ['0', '2', '4', '6', '8', '10']
            >>> [label for _, label in Axis(1e-4, 1e4, 0, 100, log=True).ticks(5)]
            ['10⁻⁴', '10⁻²', '1', '10²', '10⁴']
        """
        numbers = self._decades(most) if self.log else self._round(most)
        return [(self.at(number), label) for number, label in numbers]

    def _round(self, most: int) -> list[tuple[float, str]]:
        unit = 10.0**self.exponent
        low, high = self.low / unit, self.high / unit
        raw = (high - low) / max(most, 1)
        power = math.floor(math.log10(raw))
        base = 10.0**power
        step = next(m * base for m in (1, 2, 5, 10) if m * base >= raw * 0.999)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
        return [
            (k * step * unit, f"{k * step:.{min(digits, 9)}f}".replace("-", "−") if k else "0")
            for k in range(first, last + 1)
        ]

    def _decades(self, most: int) -> list[tuple[float, str]]:
        low, high = math.log10(self.low), math.log10(self.high)
        first, last = math.ceil(low - 1e-6), math.floor(high + 1e-6)
        if last - first >= 2:
            step = max(1, math.ceil((last - first + 1) / max(most, 2)))
            start = -(-first // step) * step  # a multiple of it, so that 1 is among the labels
            plain = first >= -2 and last <= 3
            return [(10.0**k, _decade(k, plain)) for k in range(start, last + 1, step)]
        numbers = [
            m * 10.0**k
            for k in range(first - 1, last + 1)
            for m in ((1, 2, 5) if high - low > 0.5 else range(1, 10))
            if low - 1e-6 <= math.log10(m) + k <= high + 1e-6
        ]
        if len(numbers) < 3:  # less than half a decade: a logarithm is nearly straight here
            return Axis(self.low, self.high, 0, 1)._round(most)
        return [(number, short(number)) for number in numbers]


def _usable(value: float, log: bool) -> bool:
    return math.isfinite(value) and abs(value) <= _HUGE and (not log or value >= _TINY)


def _decade(power: int, plain: bool) -> str:
    if plain or power in (0, 1):
        return f"{10.0**power:g}"
    return f"10{str(power).translate(_SUPERSCRIPT)}"
