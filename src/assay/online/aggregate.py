"""Forecasts of several experts, weighted by their success so far (exponential weights).

Where the loss is the logarithm of a probability, the loss of the mixture is at most that of the best expert
plus ln(number of experts), over the whole stream (Vovk 1990). Squared errors become likelihoods by
Student's t with four degrees of freedom, in units of the forecast's own running mean error: the target's
unit cancels, and neither one outlier nor a stream whose errors grow decides for ever. A small share of the
weight is dealt out evenly after each row (Herbster and Warmuth 1998), so that an expert that was bad can
become good.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online.compiled import compiled
from assay.online.losses import POISSON, QUANTILE

SHARE = 3e-3
FREEDOM = 4.0


@compiled
def likelihoods_(costs: np.ndarray, loss: int, mean_cost: float, weight: float) -> None:
    """Losses of a row to likelihoods relative to the best, in place."""
    best = costs.min()
    scale = FREEDOM * mean_cost
    for i in range(len(costs)):
        worse = costs[i] - best
        if loss == POISSON:
            costs[i] = math.exp(-weight * worse)
        elif loss == QUANTILE:
            costs[i] = math.exp(-weight * worse / mean_cost)
        else:
            ratio = (scale + best) / (scale + costs[i])
            if weight == 1.0:  # FREEDOM is four
                costs[i] = ratio * ratio * math.sqrt(ratio)
            else:
                costs[i] = math.pow(ratio, 0.5 * (FREEDOM + 1.0) * weight)


@compiled
def reweigh(shares: np.ndarray, likelihoods: np.ndarray) -> None:
    """Multiply each expert's share by its likelihood of the row, and deal out `SHARE`."""
    total = 0.0
    for i in range(len(shares)):
        shares[i] *= likelihoods[i]
        total += shares[i]
    keep, deal = (1.0 - SHARE) / total, SHARE / len(shares)
    for i in range(len(shares)):
        shares[i] = keep * shares[i] + deal
