"""First order: Adagrad in standardised coordinates, at eight rates at once.

Weights are kept in standard units, `score = base + Σ v_j z_j` with `z = (x − mean) / deviation` of today. When the
statistics move, v stays, so the function of standardised features stays (that re-expresses the weights of the raw
ones). A step is `v_j ← v_j − ρ s g z_j / √Σ (g z_j)²` with g the gradient after the step (implicit) and s the deviation of
the targets: ρ is a pure number. Nobody has to choose it: all of `RATES` run, and forecasts are weighted by success.

The last axis has one entry for each rate; a processor does all eight in one instruction.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online.compiled import compiled
from assay.online.losses import implicit

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
    z: np.ndarray,
    E: np.ndarray,
    g: np.ndarray,
    loss: int,
    y: float,
    level: float,
    spread: float,
    unit: float,
    weight: float,
    growth: float,
) -> None:
    """One row. E `[K, 8]` are the scores, g `[K, 8]` the gradients there; of several outputs, steps are explicit."""
    outputs = E.shape[0]
    q = np.zeros((outputs, COUNT))
    step = np.zeros(COUNT)
    scale = RATES * (unit * weight * math.sqrt(growth))
    for j in range(len(z)):
        if z[j] != 0.0:
            for k in range(outputs):
                for r in range(COUNT):
                    u = g[k, r] * z[j]
                    Q[j, k, r] += weight * growth * u * u
                    root = math.sqrt(Q[j, k, r])
                    q[k, r] += scale[r] * z[j] * z[j] / root if root > 0.0 else 0.0
    if outputs == 1:
        for r in range(COUNT):
            if q[0, r] > 0.0:
                after = implicit(loss, E[0, r], q[0, r], y, level, spread)
                g[0, r] = (E[0, r] - after) / q[0, r]
    for j in range(len(z)):
        if z[j] != 0.0:
            for k in range(outputs):
                for r in range(COUNT):
                    root = math.sqrt(Q[j, k, r])
                    step[r] = scale[r] * g[k, r] * z[j] / root if root > 0.0 else 0.0
                    V[j, k, r] -= step[r]
