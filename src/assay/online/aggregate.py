"""Forecasts of several experts, weighted by their success so far (exponential weights).

For losses that are logarithms of a probability the loss of the mixture is at most that of the best expert plus
ln(number of experts), over the whole stream (Vovk 1990). Squared errors are measured in the forecast's own running
mean error, as if normal, so the target's unit cancels. A small share of the weight is dealt out evenly after each row
(Herbster and Warmuth 1998), so that an expert that was bad can become good.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online.compiled import compiled
from assay.online.losses import HUBER, QUANTILE, SQUARED

SHARE = 1e-3


@compiled
def reweigh(
    shares: np.ndarray, costs: np.ndarray, loss: int, mean_cost: float, weight: float
) -> None:
    """Multiply each expert's share by its likelihood of the row, and deal out `SHARE`."""
    temper = weight
    if loss == SQUARED or loss == HUBER or loss == QUANTILE:
        if mean_cost <= 0.0:
            return
        temper = weight / mean_cost if loss == QUANTILE else 0.5 * weight / mean_cost
    best = costs.min()
    total = 0.0
    for i in range(len(shares)):
        shares[i] *= math.exp(-temper * (costs[i] - best))
        total += shares[i]
    for i in range(len(shares)):
        shares[i] = (1.0 - SHARE) * shares[i] / total + SHARE / len(shares)
