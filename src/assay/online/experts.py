"""Fifteen experts: one score with intercepts that follow residuals at seven speeds, and one score a rate.

`T` `[15, K]` are their scores, `F` `[15, K]` what they predict (probability, rate, or the score itself).
"""

from __future__ import annotations

import math

import numpy as np

from assay.online import rates
from assay.online import scalars as sc
from assay.online.aggregate import likelihoods_, reweigh
from assay.online.compiled import compiled
from assay.online.exponential import exps_
from assay.online.losses import (
    HUBER,
    LOGISTIC,
    POISSON,
    QUANTILE,
    cost,
    gradient,
    implicit,
    largest,
    mean_of,
    sigmoids,
)

FOLLOW = np.array([0.0, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0])
FOLLOWERS = 7
EXPERTS = FOLLOWERS + rates.COUNT
LEAST = 1e-300  # of a likelihood


@compiled
def room(outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Empty E `[K, 8]`, T and F `[15, K]`."""
    return (
        np.zeros((outputs, rates.COUNT)),
        np.zeros((EXPERTS, outputs)),
        np.zeros((EXPERTS, outputs)),
    )


@compiled
def fill_rates(E: np.ndarray, base: float, T: np.ndarray) -> None:
    """Add the base to the first order's scores `[K, 8]`, and copy them to the last rows of T."""
    for k in range(E.shape[0]):
        for r in range(rates.COUNT):
            E[k, r] += base
            T[FOLLOWERS + r, k] = E[k, r]


@compiled
def fill_mean(shares: np.ndarray, T: np.ndarray) -> None:
    """Where there is no second order, T[0] is the mean of the first order's scores by their shares."""
    total = 0.0
    for r in range(rates.COUNT):
        total += shares[FOLLOWERS + r]
    for k in range(T.shape[1]):
        mean = 0.0
        for r in range(rates.COUNT):
            mean += shares[FOLLOWERS + r] / total * T[FOLLOWERS + r, k]
        T[0, k] = mean


@compiled
def fill_followers(B: np.ndarray, T: np.ndarray, highest: float) -> None:
    """T[0] again, with each of the following intercepts B `[7, K]`; and no score above the highest."""
    for i in range(1, FOLLOWERS):
        for k in range(T.shape[1]):
            T[i, k] = T[0, k] + B[i, k]
    if highest < math.inf:
        for i in range(EXPERTS):
            for k in range(T.shape[1]):
                T[i, k] = min(T[i, k], highest)


@compiled
def forecast(T: np.ndarray, F: np.ndarray, shares: np.ndarray, loss: int, out: np.ndarray) -> None:
    """Fill F, and mix it by the shares into `out` `[K]`."""
    outputs = T.shape[1]
    if outputs > 1:
        softmaxes(T, F)
    elif loss == LOGISTIC:
        sigmoids(T.reshape(-1), 1.0, F.reshape(-1))
    else:
        for i in range(EXPERTS):
            F[i, 0] = mean_of(loss, T[i, 0])
    for k in range(outputs):
        out[k] = 0.0
    for i in range(EXPERTS):
        for k in range(outputs):
            out[k] += shares[i] * F[i, k]


@compiled
def softmaxes(T: np.ndarray, F: np.ndarray) -> None:
    """Scores T to probabilities F, row by row; the exponentials in one go."""
    for i in range(EXPERTS):
        top = largest(T[i])
        for k in range(T.shape[1]):
            F[i, k] = T[i, k] - top
    exps_(F.reshape(-1))
    for i in range(EXPERTS):
        total = 0.0
        for k in range(T.shape[1]):
            total += F[i, k]
        part = 1.0 / total
        for k in range(T.shape[1]):
            F[i, k] *= part


@compiled
def judge(
    T: np.ndarray,
    F: np.ndarray,
    shares: np.ndarray,
    s: np.ndarray,
    loss: int,
    y: float,
    forecast: np.ndarray,
    level: float,
    weight: float,
) -> None:
    """Every expert's loss on the row, and its share by that; the row was forecast as `[K]`."""
    if s[sc.ROWS] == 0.0 and loss not in (LOGISTIC, POISSON):
        return  # nothing was known of the target's unit
    if loss in (HUBER, QUANTILE):
        s[sc.SPREAD] = sc.track_median(s[sc.SPREAD], abs(y - forecast[0]), s[sc.ROWS])
    costs = np.empty(EXPERTS)
    if loss == LOGISTIC:
        if T.shape[1] == 1:
            sigmoids(T.reshape(-1), 1.0 if y > 0.5 else -1.0, costs)
        for i in range(EXPERTS):
            if T.shape[1] > 1:
                costs[i] = F[i, int(y)]
            costs[i] = max(costs[i], LEAST)
            if weight != 1.0:
                costs[i] = math.pow(costs[i], weight)
        reweigh(shares, costs)
        return
    mean = 0.0
    for i in range(EXPERTS):
        costs[i] = cost(loss, T[i, 0], y, level, s[sc.SPREAD])
        mean += shares[i] * costs[i]
    if math.isfinite(mean):
        s[sc.JUDGED] += weight * s[sc.GROWTH]
        s[sc.LOSS] += (mean - s[sc.LOSS]) * weight * s[sc.GROWTH] / s[sc.JUDGED]
    if loss == POISSON or s[sc.LOSS] > 0.0:
        likelihoods_(costs, loss, s[sc.LOSS], weight)
        reweigh(shares, costs)


@compiled
def follow(
    B: np.ndarray,
    T: np.ndarray,
    F: np.ndarray,
    s: np.ndarray,
    loss: int,
    y: float,
    level: float,
    weight: float,
) -> None:
    """Move the following intercepts B `[7, K]` against the gradient of their own forecasts."""
    outputs = B.shape[1]
    for i in range(1, FOLLOWERS):
        speed = min(1.0, FOLLOW[i] * weight)
        if outputs > 1:
            for k in range(outputs):
                B[i, k] -= 2.0 * speed * (F[i, k] - (1.0 if k == int(y) else 0.0))
        elif loss == LOGISTIC:
            B[i, 0] -= 4.0 * speed * (F[i, 0] - y)
        elif loss == POISSON:
            if s[sc.CENTRE] > 0.0:
                after = implicit(loss, T[i, 0], speed / s[sc.CENTRE], y, level, 0.0)
                B[i, 0] += after - T[i, 0]
        else:
            B[i, 0] -= speed * gradient(loss, T[i, 0], y, level, s[sc.SPREAD])
