"""Rows of which most features are zero: compressed rows, first order, at a cost of the entries that are there.

Zero means "absent" here, so nothing is centred: a feature's unit is its root mean square over the rows that have it.
That is 1 for an indicator, however rare.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online import moments as m
from assay.online import rates
from assay.online import scalars as sc
from assay.online.compiled import compiled
from assay.online.losses import HUBER, LOGISTIC, POISSON, QUANTILE
from assay.online.rows import (
    FOLLOWERS,
    add_followers,
    follow,
    judge,
    mean_scores,
    mixed,
    rate_gradients,
    rate_scores,
)

# Columns of the table that a sparse stream uses: the weight of the rows that have the feature, the sum of its squares.
COUNT, SQUARES, UNIT = m.COUNT, m.M2, m.UNIT


@compiled
def sparse(
    pointers: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    table: np.ndarray,
    V: np.ndarray,
    Q: np.ndarray,
    B: np.ndarray,
    shares: np.ndarray,
    s: np.ndarray,
    loss: int,
    level: float,
    keep: float,
    learning: bool,
    out: np.ndarray,
) -> None:
    """Forecast rows into `out` `[N, K]`, and, if learning, learn each before the next.

    Row t has `values[i]` in `columns[i]` for i from `pointers[t]` to `pointers[t + 1]`. V and Q are
    `[D + 1, K, 8]`, the intercept first. The columns of a row are distinct.
    """
    outputs = V.shape[1]
    longest = 0
    for t in range(len(pointers) - 1):
        longest = max(longest, pointers[t + 1] - pointers[t])
    z, at = np.zeros(longest + 1), np.zeros(longest + 1, np.int64)
    v, u = np.zeros((longest + 1, outputs, rates.COUNT)), np.zeros((longest + 1, outputs, rates.COUNT))
    E, g = np.zeros((outputs, rates.COUNT)), np.zeros((outputs, rates.COUNT))
    T = np.zeros((FOLLOWERS + rates.COUNT, outputs))
    none = np.zeros((0, 0, 0))
    z[0] = 1.0
    for t in range(len(pointers) - 1):
        weight = weights[t]
        if learning and weight == 0.0:
            continue
        heavy = weight * s[sc.GROWTH] / keep
        size = 1
        for i in range(pointers[t], pointers[t + 1]):
            x, j = values[i], columns[i]
            if x == 0.0 or np.isnan(x):
                continue
            unit = table[j, UNIT]
            if unit == 0.0:
                unit = m.unit_of(x)
                if learning:
                    table[j, UNIT] = unit
            x *= unit
            mean = (table[j, SQUARES] + heavy * x * x) / (table[j, COUNT] + heavy)
            if learning:
                table[j, COUNT] += heavy
                table[j, SQUARES] += heavy * x * x
            z[size] = x / math.sqrt(mean)
            at[size] = j + 1
            size += 1
        base = sc.base_of(s, loss) if s[sc.ROWS] > 0.0 else 0.0
        for i in range(size):
            v[i] = V[at[i]]
        rates.scores(v[:size], z[:size], E)
        rate_scores(E, base, T)
        mean_scores(shares, T)
        add_followers(B, T, sc.highest(s, loss))
        mixed(T, shares, loss, out[t])
        if not learning:
            continue
        s[sc.GROWTH] /= keep
        if s[sc.ROWS] > 0.0 or loss == LOGISTIC or loss == POISSON:
            if loss == HUBER or loss == QUANTILE:
                s[sc.SPREAD] = sc.track_median(s[sc.SPREAD], abs(y[t] - out[t, 0]), s[sc.ROWS])
            judge(T, shares, s, loss, y[t], level, weight)
        s[sc.COUNT] += heavy
        sc.absorb_target(s, loss, y[t], heavy)
        if s[sc.ROWS] > 0.0:
            follow(B, T, s, loss, y[t], level, weight)
        if s[sc.ROWS] > 0.0 or loss == LOGISTIC:
            moved = sc.base_of(s, loss) - base
            for k in range(outputs):
                for r in range(rates.COUNT):
                    E[k, r] += moved
            rate_gradients(E, g, loss, y[t], level, s[sc.SPREAD])
            for i in range(size):
                u[i] = Q[at[i]]
            rates.learn(
                v[:size],
                u[:size],
                z[:size],
                E,
                g,
                loss,
                y[t],
                level,
                s[sc.SPREAD],
                sc.unit_of_score(s, loss),
                weight,
                s[sc.GROWTH],
            )
            for i in range(size):
                V[at[i]] = v[i]
                Q[at[i]] = u[i]
        s[sc.ROWS] += 1.0
        if s[sc.GROWTH] > sc.FAR:
            sc.rescale(s, table, none, none[:, 0], none, Q)
