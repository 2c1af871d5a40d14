"""Running moments of every feature: count, mean, and central sums up to the fourth power.

`TABLE[j]` is one row for each feature. They are Welford's and Pébay's recurrences (Pébay 2008): a constant
feature leaves its sums at exactly 0, and two tables merge into the one that all rows together would have
given. Features are multiplied by `UNIT`, the power of two that brings their first value to about 1, so that
no fourth power overflows; multiplying by powers of two rounds nothing.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online.compiled import compiled

COUNT, MEAN, M2, M3, M4, REFERENCE, UNIT = range(7)
COLUMNS = 7
ROUND_OFF = 2.0**-49  # a spread below this part of the mean is rounding of the values themselves
NOTHING = (
    2.0**-36
)  # a standard score that is the rounding of "at the mean"; its sign must not count


@compiled
def unit_of(value: float) -> float:
    """The power of two that brings a value into [½, 1); 1 for 0."""
    if value == 0.0:
        return 1.0
    return math.ldexp(1.0, -math.frexp(value)[1])


@compiled
def absorb(row: np.ndarray, x: float, weight: float) -> None:
    """Count one value of weight `weight` into a row of the table."""
    a = row[COUNT]
    n = a + weight
    new = weight / n
    old = 1.0 - new
    d = x - row[MEAN]
    s = d * new
    row[M4] += (
        d * d * (d * s) * a * (old * old - old * new + new * new)
        + 6.0 * s * s * row[M2]
        - 4.0 * s * row[M3]
    )
    row[M3] += d * (d * s) * a * (old - new) - 3.0 * s * row[M2]
    row[M2] += d * s * a
    row[MEAN] += s
    row[COUNT] = n


@compiled
def varies(row: np.ndarray) -> bool:
    """Whether the feature has been seen to take two values that are more than rounding apart."""
    floor = ROUND_OFF * row[MEAN]
    return bool(row[M2] > floor * floor * row[COUNT])


@compiled
def standard(row: np.ndarray, x: float, weight: float) -> float:
    """(x − mean) / deviation, both with this value counted in; 0 for a feature that does not vary."""
    # Counted in, the result is at most the square root of the count: a value a million times too large
    # becomes one large standard score, not a million of them.
    a = row[COUNT]
    n = a + weight
    new = weight / n
    d = x - row[MEAN]
    squares = row[M2] + d * d * new * a
    floor = ROUND_OFF * (row[MEAN] + d * new)
    if not squares > floor * floor * n:
        return 0.0
    z = d * (1.0 - new) * math.sqrt(n / squares)
    return z if abs(z) > NOTHING else 0.0


def merge_moments(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The table of all rows from the tables of two parts, in the same units.

    Args:
        a: Table `[D, COLUMNS]`.
        b: Table `[D, COLUMNS]`.

    Returns:
        The merged table; reference points and units are those of `a`.
    """
    out = a.copy()
    na, nb = a[:, COUNT], b[:, COUNT]
    n = na + nb
    some = n > 0
    safe = np.where(some, n, 1.0)
    d = b[:, MEAN] - a[:, MEAN]
    s, t = d * nb / safe, d * na / safe
    out[:, COUNT] = n
    out[:, MEAN] = a[:, MEAN] + s
    out[:, M2] = a[:, M2] + b[:, M2] + d * s * na
    out[:, M3] = (
        a[:, M3]
        + b[:, M3]
        + d * d * s * na * (na - nb) / safe
        + 3.0 * (t * b[:, M2] - s * a[:, M2])
    )
    out[:, M4] = (
        a[:, M4]
        + b[:, M4]
        + d**3 * s * na * (na * na - na * nb + nb * nb) / safe**2
        + 6.0 * (t * t * b[:, M2] + s * s * a[:, M2])
        + 4.0 * (t * b[:, M3] - s * a[:, M3])
    )
    return out
