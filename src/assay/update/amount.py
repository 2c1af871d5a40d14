"""Deviations in words and in table cells."""

from __future__ import annotations

import math


def share(deviation: float) -> str:
    """A deviation in words: per cent, a multiple, or that it is not finite.

    Returns:
        As in "33 %", "47 times" or "without bound".

    Example:
        >>> share(0.33), share(1.13), share(47.0), share(float("inf"))
        ('33 %', '110 %', '47 times', 'without bound')
    """
    if not math.isfinite(deviation):
        return "without bound"
    if deviation >= 10:
        return f"{deviation:.2g} times"
    return f"{float(f'{100 * deviation:.2g}'):g} %"


def by(deviation: float) -> str:
    """How far something goes, up to what that is a share of.

    Returns:
        As in "by 33 % of", to be followed by "how far …".

    Example:
        >>> by(0.33), by(47.0), by(float("inf"))
        ('by 33 % of', 'by 47 times', 'without bound, beside')
    """
    if not math.isfinite(deviation):
        return "without bound, beside"
    return f"by {share(deviation)}{' of' if deviation < 10 else ''}"


def number(value: float) -> str:
    """A deviation for a table cell: two digits, "–" where there is none.

    Returns:
        As in "3.3e-01".
    """
    if math.isnan(value):
        return "–"
    return "0" if value == 0 else f"{value:.1e}"
