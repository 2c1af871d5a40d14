"""Which part of the seconds goes with which cost: a sum of derived costs, each at its own price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

_LEAST = 5  # points, of which each is left out once


@dataclass(frozen=True)
class Part:
    """A share of the seconds at the largest size.

    Args:
        share: Between 0 and 1.
        low: The least that comes out where any one point is left out.
        high: The most.
    """

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.share:.0f} % ({100 * self.low:.0f}–{100 * self.high:.0f})"


def blend(seconds: Sequence[float], amounts: Mapping[str, Sequence[float]]) -> dict[str, Part]:
    """Fit seconds by a sum of amounts, each with a price that is not negative; relative errors count.

    Between amounts that grow alike nothing can be told apart: look only at the share of one that grows
    otherwise than all others.

    Args:
        seconds: Positive numbers, the one of the largest size last.
        amounts: As many amounts of each cost.

    Returns:
        The shares at the last point; none where there are too few points.

    Example:
        >>> n = [1.0, 2.0, 4.0, 8.0, 16.0]
        >>> parts = blend([8 * x + x * x for x in n], {"linear": n, "square": [x * x for x in n]})
        >>> str(parts["square"])
        '67 % (67–67)'
    """
    if len(seconds) < _LEAST:
        return {}
    wanted = np.asarray(seconds, dtype=float)
    table = np.array([np.asarray(a, dtype=float) / max(a) for a in amounts.values()]).T
    rows = range(len(seconds))
    found = _shares(table, wanted, list(rows))
    others = np.array([_shares(table, wanted, [i for i in rows if i != out]) for out in rows])
    return {
        name: Part(float(share), float(column.min()), float(column.max()))
        for name, share, column in zip(amounts, found, others.T, strict=True)
    }


def _shares(table: np.ndarray, seconds: np.ndarray, rows: list[int]) -> np.ndarray:
    prices, _ = nnls(table[rows] / seconds[rows, None], np.ones(len(rows)))
    last = table[-1] * prices
    return np.asarray(last / (last.sum() or 1.0))
