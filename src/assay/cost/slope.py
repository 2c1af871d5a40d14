"""The exponent of a power law that goes through a few points, with how far it may be off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

_LEVEL = 0.95


@dataclass(frozen=True)
class Slope:
    """An exponent with its 95 % confidence interval.

    Args:
        exponent: The slope of log y against log x.
        low: The lower end of the interval.
        high: The upper end.
    """

    exponent: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.exponent:.2f} ± {(self.high - self.low) / 2:.2f}"


def fit_slope(x: Sequence[float], y: Sequence[float]) -> Slope:
    """Least squares through the logarithms; what is not straight widens the interval, as noise does.

    The interval is Student's, with two degrees of freedom less than there are points. It speaks of points
    that scatter independently around a power law; where they bend it is a warning more than a probability.

    Args:
        x: Two or more different positive numbers.
        y: As many positive numbers.

    Returns:
        The slope; through two points alone, of unbounded interval.

    Example:
        >>> str(fit_slope([1, 2, 4, 8], [3, 12, 48, 192]))
        '2.00 ± 0.00'
    """
    across, up = [math.log(v) for v in x], [math.log(v) for v in y]
    count = len(across)
    centre, height = sum(across) / count, sum(up) / count
    spread = sum((a - centre) ** 2 for a in across)
    slope = sum((a - centre) * (b - height) for a, b in zip(across, up, strict=True)) / spread
    if count < 3:
        return Slope(slope, -math.inf, math.inf)
    left = (b - height - slope * (a - centre) for a, b in zip(across, up, strict=True))
    error = math.sqrt(sum(r * r for r in left) / (count - 2) / spread)
    room = float(stdtrit(count - 2, (1 + _LEVEL) / 2)) * error
    return Slope(slope, slope - room, slope + room)
