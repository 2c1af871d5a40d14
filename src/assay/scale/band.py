"""Which factors are off, and how badly."""

from __future__ import annotations

import math

from assay.finding import Severity

NOTE = 10.0  # a factor within [1/10, 10] is nothing to speak of
WARNING = 1e3  # a factor outside [1/1000, 1000] stops layers from learning together
ENOUGH = 32  # samples: fewer leave a ReLU dark by chance, 2⁻³² is no chance


def severity(factor: float) -> Severity:
    """How bad a factor is that should be 1.

    Returns:
        "warning" outside [1/1000, 1000], else "note".
    """
    return "warning" if not 1 / WARNING <= factor <= WARNING else "note"


def outside(factor: float, band: float = NOTE) -> bool:
    """Whether a factor is outside [1/band, band].

    Returns:
        False also for what is not positive: there is nothing to compare.
    """
    return factor > 0 and math.isfinite(factor) and not 1 / band <= factor <= band


def distance(factor: float) -> float:
    """How far a factor is from 1, up or down.

    Returns:
        The size of its natural logarithm.
    """
    return abs(math.log(factor))
