"""Rows of which most features are zero: compressed rows, first order, at a cost of what is there.

Zero means "absent" here, so nothing is centred: a feature's unit is its root mean square over the rows that
have it. That is 1 for an indicator, however rare.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online import experts, layout, rates
from assay.online import moments as m
from assay.online import scalars as sc
from assay.online.compiled import compiled
from assay.online.losses import LOGISTIC

# # Columns of the table that a sparse stream uses: the weight of the rows that have the feature, the sum of
# its squares.
COUNT, SQUARES, UNIT = m.COUNT, m.M2, m.UNIT


@compiled
def sparse(
    pointers: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    flat: np.ndarray,
    setup: np.ndarray,
    learning: bool,
    out: np.ndarray,
) -> None:
    """Forecast rows into `out` `[N, K]`, and, if learning, learn each before the next.

    Row t has `values[i]` in `columns[i]` for i from `pointers[t]` to `pointers[t + 1]`; its columns are
    distinct. `flat` is the state and `setup` says what it is of, as `layout` has them.
    """
    loss, level, keep = int(setup[layout.LOSS]), setup[layout.LEVEL], setup[layout.KEEP]
    table, V, Q, B, shares, s = layout.first_part(flat, setup)
    outputs = V.shape[1]
    longest = 0
    for t in range(len(pointers) - 1):
        longest = max(longest, pointers[t + 1] - pointers[t])
    z, at = np.zeros(longest + 1), np.zeros(longest + 1, np.int64)
    E, T, F = experts.room(outputs)
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
        base = sc.base_of(s, loss)
        rates.scores(V, at, z[:size], E)
        experts.fill_rates(E, base, T)
        experts.fill_mean(shares, T)
        experts.fill_followers(B, T, sc.highest(s, loss))
        experts.forecast(T, F, shares, loss, out[t])
        if not learning:
            continue
        s[sc.GROWTH] /= keep
        experts.judge(T, F, shares, s, loss, y[t], out[t], level, weight)
        s[sc.COUNT] += heavy
        sc.absorb_target(s, loss, y[t], heavy)
        if s[sc.ROWS] > 0.0:
            experts.follow(B, T, F, s, loss, y[t], level, weight)
        if s[sc.ROWS] > 0.0 or loss == LOGISTIC:
            moved = sc.base_of(s, loss) - base
            rates.learn(V, Q, at, z[:size], E, F, s, loss, y[t], level, weight, moved)
        s[sc.ROWS] += 1.0
        if s[sc.GROWTH] > sc.FAR:
            sc.rescale(s, table, none, none[:, 0], none, Q)
