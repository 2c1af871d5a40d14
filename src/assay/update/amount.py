"""Deviations in words and in table cells."""

from __future__ import annotations

import math


def share(deviation: float) -> str:
    """A deviation in words: per cent, a multiple, or that it is not finite.

    Returns:
        As in "33 %", "4.7 times" or "without bound".

    Example:
        >>> share(0.33), share(4.7), share(float("inf"))
        ('33 %', '4.7 times', 'without bound')
    """
    if not math.isfinite(deviation):
        return "without bound"
    if deviation >= 1:
        return f"{deviation:.2g} times"
    return f"{100 * deviation:.2g} %"


def than(deviation: float) -> str:
    """The word between a share and what it is a share of."""
    return " of" if deviation < 1 else "" if math.isfinite(deviation) else ", beside"


def number(value: float) -> str:
    """A deviation for a table cell: two digits, "–" where there is none.

    Returns:
        As in "3.3e-01".
    """
    if math.isnan(value):
        return "–"
    return "0" if value == 0 else f"{value:.1e}"
