"""First order: Adagrad in standardised coordinates, at eight rates at once.

Weights are kept in standard units, `score = base + Σ v_j z_j` with `z = (x − mean) / deviation` of today.
When the statistics move, v stays, so the function of standardised features stays (that re-expresses the
weights of the raw ones). A step is `v_j ← v_j − ρ s g z_j / √Σ (g z_j)²` with g the gradient after the step
(implicit) and s the deviation of the targets: ρ is a pure number. Nobody has to choose it: all of `RATES`
run, and forecasts are weighted by success.

The last axis has one entry for each rate, see `lanes`.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online import scalars as sc
from assay.online.compiled import compiled
from assay.online.lanes import LANES, NONE, Eight, add, each, load, product, store
from assay.online.losses import LOGISTIC, gradient, implicit, implicit_logistic
from assay.online.moments import NOTHING

RATES: Eight = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125)
COUNT = LANES
LEAST = 2.0**-1022  # the smallest number with all its digits
SMALL = 2.0**-480  # a gradient whose square times the square of a standard score is hardly one


@compiled
def scores(V: np.ndarray, at: np.ndarray, z: np.ndarray, out: np.ndarray) -> None:
    """`out[k, r] = Σ_i V[at[i], k, r] z[i]`."""
    even = len(z) // 2 * 2
    for k in range(out.shape[0]):
        a = b = NONE
        for i in range(0, even, 2):
            a, b = add(a, z[i], load(V[at[i], k])), add(b, z[i + 1], load(V[at[i + 1], k]))
        if even < len(z):
            a = add(a, z[even], load(V[at[even], k]))
        store(out[k], add(a, 1.0, b))


@compiled
def quotient(u: float, squares: float) -> float:
    """`u / √squares`; 0 where nothing was summed."""
    return (squares > 0.0) * u / math.sqrt(max(squares, LEAST))


@compiled
def learn(
    V: np.ndarray,
    Q: np.ndarray,
    at: np.ndarray,
    z: np.ndarray,
    E: np.ndarray,
    F: np.ndarray,
    s: np.ndarray,
    loss: int,
    y: float,
    level: float,
    weight: float,
    moved: float,
) -> None:
    """One row, with z[i] in entry at[i]. E `[K, 8]` are the scores; the base has `moved` since.

    F's last rows are the predictions. Of several outputs, steps are explicit.
    """
    unit = sc.unit_of_score(s, loss)
    g = np.empty(E.shape)
    gradients(E, F, s, loss, y, level, moved, unit, g)
    heavy = weight * s[sc.GROWTH]
    steps = add(NONE, unit * weight * math.sqrt(s[sc.GROWTH]), RATES)
    if E.shape[0] > 1:
        for k in range(E.shape[0]):
            slope = load(g[k])
            squares, step = each(product, slope, slope), each(product, steps, slope)
            for i in range(len(z)):
                if z[i] != 0.0:
                    v, q = V[at[i], k], Q[at[i], k]
                    sums = add(load(q), heavy * z[i] * z[i], squares)
                    weights = add(load(v), -z[i], each(quotient, step, sums))
                    store(q, sums)
                    store(v, weights)
        return
    slope, size = load(g[0]), NONE
    squares = each(product, slope, slope)
    for i in range(len(z)):
        if z[i] != 0.0:
            q = Q[at[i], 0]
            sums = add(load(q), heavy * z[i] * z[i], squares)
            store(q, sums)
            size = add(size, z[i] * z[i], each(quotient, steps, sums))
    if loss == LOGISTIC:
        store(g[0], implicit_logistic(load(E[0]), size, y))
    else:
        implicit_gradients(E[0], s, loss, y, level, size, g[0])
    step = each(product, steps, load(g[0]))
    for i in range(len(z)):
        if z[i] != 0.0:
            v = V[at[i], 0]
            store(v, add(load(v), -z[i], each(quotient, step, load(Q[at[i], 0]))))


@compiled
def gradients(
    E: np.ndarray,
    F: np.ndarray,
    s: np.ndarray,
    loss: int,
    y: float,
    level: float,
    moved: float,
    unit: float,
    out: np.ndarray,
) -> None:
    """Move E `[K, 8]` with the base, and fill the gradients there."""
    outputs = E.shape[0]
    first = F.shape[0] - COUNT
    for k in range(outputs):
        for r in range(COUNT):
            E[k, r] += moved
            if outputs > 1:
                g, least = F[first + r, k] - (1.0 if k == int(y) else 0.0), SMALL
            elif loss == LOGISTIC:
                g, least = F[first + r, k] - y, SMALL
            else:  # the sign of a rounding must not count
                g, least = gradient(loss, E[k, r], y, level, s[sc.SPREAD]), NOTHING * unit
            out[k, r] = g if abs(g) >= least else 0.0


@compiled
def implicit_gradients(
    e: np.ndarray,
    s: np.ndarray,
    loss: int,
    y: float,
    level: float,
    q: Eight,
    g: np.ndarray,
) -> None:
    """Gradients `[8]` at the scores e to those where a step of size q each ends."""
    for r in range(COUNT):
        if q[r] > 0.0:
            after = implicit(loss, e[r], q[r], y, level, s[sc.SPREAD])
            g[r] = (e[r] - after) / q[r]
