"""The handful of running numbers that belong to no feature, in one array `[SCALARS]`."""

from __future__ import annotations

import math

import numpy as np

from assay.online import moments as m
from assay.online.compiled import compiled
from assay.online.losses import HUBER, POISSON, QUANTILE, SQUARED

COUNT = 0  # weights of all rows so far, in units of GROWTH
SINCE = 1  # of these, since the last refresh of the curvature
GROWTH = 2  # weight of a row of today; older rows keep theirs, so forgetting costs nothing
ROWS = 3  # rows so far, unweighted
ORIGIN = 4  # the first target: scores are kept relative to it, so that no target's zero matters
CENTRE = 5  # running mean of the targets; for robust losses of clipped ones
SQUARES = 6  # sum of squared deviations of the targets
DISPERSION = 7  # running median of |target − CENTRE|, for robust losses
SPREAD = 8  # running median of |residual|
LOSS = 9  # running mean loss of the forecast
JUDGED = 10  # weights of the rows that LOSS averages
LARGEST = 11  # the largest target
SCALARS = 12

FAR = 2.0**200  # a growth that is brought back to about 1

CLIP = 4.5  # medians of |target − CENTRE|: about three standard deviations of a normal distribution
TO_DEVIATION = 1.4826  # standard deviations in a median of absolute deviations, normal distribution


@compiled
def track_median(now: float, size: float, rows: float) -> float:
    """One step of a running median of sizes: up or down by a factor, so that it needs no unit."""
    if now == 0.0:
        return size
    step = max(0.02, 1.0 / math.sqrt(rows + 1.0))
    return now * math.exp(step if size > now else -step) if size != now else now


@compiled
def absorb_target(s: np.ndarray, loss: int, y: float, weight: float) -> None:
    """Count a target in; `s[COUNT]` has the row already."""
    d = y - s[CENTRE]
    s[LARGEST] = max(s[LARGEST], y)
    if s[ROWS] == 0.0:
        s[CENTRE] = y
        if loss in (SQUARED, HUBER, QUANTILE):
            s[ORIGIN] = y
        return
    if loss in (HUBER, QUANTILE):
        s[DISPERSION] = track_median(s[DISPERSION], abs(d), s[ROWS])
        limit = CLIP * s[DISPERSION]
        d = min(max(d, -limit), limit)
    move = d * weight / s[COUNT]
    s[CENTRE] += move
    s[SQUARES] += weight * d * (d - move)


@compiled
def base_of(s: np.ndarray, loss: int) -> float:
    """The score of a constant model: what is said without features; 0 before the first row."""
    if s[ROWS] == 0.0:
        return 0.0
    if loss == POISSON:
        return math.log((s[CENTRE] * s[COUNT] + 0.5 * s[GROWTH]) / (s[COUNT] + 0.5 * s[GROWTH]))
    if loss in (SQUARED, HUBER, QUANTILE):
        return float(s[CENTRE])
    return 0.0


@compiled
def highest(s: np.ndarray, loss: int) -> float:
    """No score is above this: a rate twice the largest count so far, lest an exponential run away."""
    if loss == POISSON and s[ROWS] > 0.0:
        return math.log(2.0 * s[LARGEST] + 1.0)
    return math.inf


@compiled
def unit_of_score(s: np.ndarray, loss: int) -> float:
    """The size of a first step: the deviation of the targets, or 1 where scores have no unit."""
    if loss == SQUARED:
        return math.sqrt(s[SQUARES] / s[COUNT])
    if loss in (HUBER, QUANTILE):
        return float(TO_DEVIATION * s[DISPERSION])
    return 1.0


@compiled
def rescale(
    s: np.ndarray, table: np.ndarray, G: np.ndarray, c: np.ndarray, P: np.ndarray, Q: np.ndarray
) -> None:
    """Count weights in `FAR` times heavier rows: powers of two, which round nothing."""
    by = 1.0 / FAR
    G *= by
    c *= by
    P *= FAR
    Q *= by
    for j in range(len(table)):
        table[j, m.COUNT] *= by
        table[j, m.M2] *= by
        table[j, m.M3] *= by
        table[j, m.M4] *= by
    for at in (COUNT, SINCE, SQUARES, JUDGED, GROWTH):
        s[at] *= by
