"""Forecasts of several experts, weighted by their success so far (exponential weights).

Where the loss is the logarithm of a probability, the loss of the mixture is at most that of the best expert plus
ln(number of experts), over the whole stream (Vovk 1990). Squared errors become likelihoods by Student's t with four
degrees of freedom, in units of the forecast's own running mean error: the target's unit cancels, and neither one
outlier nor a stream whose errors grow decides for ever. A small share of the weight is dealt out evenly after each
row (Herbster and Warmuth 1998), so that an expert that was bad can become good.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online.compiled import compiled
from assay.online.losses import HUBER, QUANTILE, SQUARED

SHARE = 3e-3
FREEDOM = 4.0


@compiled
def reweigh(
    shares: np.ndarray, costs: np.ndarray, loss: int, mean_cost: float, weight: float
) -> None:
    """Multiply each expert's share by its likelihood of the row, and deal out `SHARE`."""
    has_unit = loss == SQUARED or loss == HUBER or loss == QUANTILE
    if has_unit and not mean_cost > 0.0:
        return
    best = costs.min()
    total = 0.0
    for i in range(len(shares)):
        if loss == SQUARED or loss == HUBER:
            worse = (FREEDOM * mean_cost + costs[i]) / (FREEDOM * mean_cost + best)
            shares[i] *= math.pow(worse, -0.5 * (FREEDOM + 1.0) * weight)
        elif loss == QUANTILE:
            shares[i] *= math.exp(-weight * (costs[i] - best) / mean_cost)
        else:
            shares[i] *= math.exp(-weight * (costs[i] - best))
        total += shares[i]
    for i in range(len(shares)):
        shares[i] = (1.0 - SHARE) * shares[i] / total + SHARE / len(shares)
