"""The exponential function without a branch or a call, so that loops over it run in vectors.

`exp x = 2^k exp r` with k whole and |r| at most ½ ln 2, where thirteen terms of the series are enough: the
result is within two units in the last place.
"""

from __future__ import annotations

import numpy as np

from assay.online.compiled import in_order

LEAST, MOST = -745.0, 709.0  # beyond them the result is 0, or the largest power
TO_WHOLE = 1.5 * 2.0**52  # added and taken away, it rounds to a whole number
PER_POWER = 1.4426950408889634  # 1 / ln 2
HIGH, LOW = (
    0.6931471803691238,
    1.9082149292705877e-10,
)  # ln 2; HIGH times a whole number rounds nothing
POWERS = np.ldexp(1.0, np.arange(-1076, 1025).clip(-1074, 1023))
ZEROTH = 1076


@in_order
def exp(x: float) -> float:
    """E to the power of x."""
    x = x if x > LEAST else LEAST  # so that no NaN, either, reads beyond the table
    x = x if x < MOST else MOST
    k = (x * PER_POWER + TO_WHOLE) - TO_WHOLE
    r = (x - k * HIGH) - k * LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return float(p * POWERS[int(k) + ZEROTH])


@in_order
def exps_(a: np.ndarray) -> None:
    """The same of a vector, in place."""
    for i in range(len(a)):
        a[i] = exp(a[i])
