"""First order: Adagrad in standardised coordinates, at eight rates at once.

Weights are kept in standard units, `score = base + Σ v_j z_j` with `z = (x − mean) / deviation` of today.
When the statistics move, v stays, so the function of standardised features stays (that re-expresses the
weights of the raw ones). A step is `v_j ← v_j − ρ s g z_j / √Σ (g z_j)²` with g the gradient after the step
(implicit) and s the deviation of the targets: ρ is a pure number. Nobody has to choose it: all of `RATES`
run, and forecasts are weighted by success.

The last axis has one entry for each rate; a processor does all eight in one instruction.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online import scalars as sc
from assay.online.compiled import compiled
from assay.online.losses import LOGISTIC, curvature, gradient, implicit_from
from assay.online.moments import NOTHING

RATES = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125])
COUNT = 8


@compiled
def scores(V: np.ndarray, z: np.ndarray, out: np.ndarray) -> None:
    """`out[k, r] = Σ_j V[j, k, r] z[j]`."""
    out[:] = 0.0
    for j in range(len(z)):
        if z[j] != 0.0:
            for k in range(out.shape[0]):
                for r in range(COUNT):
                    out[k, r] += V[j, k, r] * z[j]


@compiled
def learn(
    V: np.ndarray,
    Q: np.ndarray,
    inverse: np.ndarray,
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
    """One row. E `[K, 8]` are the scores; the base has `moved` since; F's last rows are the predictions.

    `inverse` is room for as many numbers as V has. Of several outputs, steps are explicit.
    """
    outputs = E.shape[0]
    g, q = np.zeros((outputs, COUNT)), np.zeros((outputs, COUNT))
    first = F.shape[0] - COUNT
    unit = sc.unit_of_score(s, loss)
    for k in range(outputs):
        for r in range(COUNT):
            E[k, r] += moved
            if outputs > 1:
                g[k, r] = F[first + r, k] - (1.0 if k == int(y) else 0.0)
            elif loss == LOGISTIC:
                g[k, r] = F[first + r, k] - y
            else:
                g[k, r] = gradient(loss, E[k, r], y, level, s[sc.SPREAD])
                if abs(g[k, r]) < NOTHING * unit:  # the sign of a rounding must not count
                    g[k, r] = 0.0
    heavy = weight * s[sc.GROWTH]
    scale = RATES * (unit * weight * math.sqrt(s[sc.GROWTH]))
    for j in range(len(z)):
        if z[j] != 0.0:
            for k in range(outputs):
                for r in range(COUNT):
                    u = g[k, r] * z[j]
                    squares = Q[j, k, r] + heavy * u * u
                    Q[j, k, r] = squares
                    inverse[j, k, r] = (
                        z[j] * scale[r] / math.sqrt(squares) if squares > 0.0 else 0.0
                    )
                    q[k, r] += inverse[j, k, r] * z[j]
    if outputs == 1:
        for r in range(COUNT):
            if q[0, r] > 0.0:
                p = F[first + r, 0]
                h = (
                    p * (1.0 - p)
                    if loss == LOGISTIC
                    else curvature(loss, E[0, r], y, level, s[sc.SPREAD])
                )
                after = implicit_from(loss, E[0, r], q[0, r], y, level, s[sc.SPREAD], g[0, r], h)
                g[0, r] = (E[0, r] - after) / q[0, r]
    for j in range(len(z)):
        if z[j] != 0.0:
            for k in range(outputs):
                for r in range(COUNT):
                    V[j, k, r] -= inverse[j, k, r] * g[k, r]
