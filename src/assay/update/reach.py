"""How far a direction carries: the multiple of a step at which the loss falls most."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

_APART = 4.0  # a factor between what is tried: the answer is an order of magnitude, and each costs a forward
_FARTHEST = _APART**20


def best_multiple(
    decrease: Callable[[float], float],
    known: Mapping[float, float],
    resolution: float,
    *,
    far: bool = False,
) -> float | None:
    """The multiple of a step at which the loss falls most.

    Shorter ones than the known are tried where none of these lowers the loss, or the shortest lowers it most;
    longer ones where that is asked for.

    Args:
        decrease: Of a multiple, by how much the loss falls there; not finite where it has no value.
        known: Multiples for which that is known.
        resolution: Smaller decreases are round-off.
        far: Whether to look at longer ones than the known too.

    Returns:
        The multiple, one of those that were tried; None where none lowers the loss.

    Example:
        >>> parabola = lambda m: 16 * m - m * m  # falls most at 8
        >>> best_multiple(parabola, {1.0: 15.0, 2.0: 28.0}, 0.0, far=True)
        8.0
        >>> best_multiple(parabola, {32.0: -512.0}, 0.0)
        8.0
    """
    tried = dict(known)

    def best() -> float | None:
        falls = [
            (fall, m) for m, fall in tried.items() if math.isfinite(fall) and fall > resolution
        ]
        return max(falls)[1] if falls else None

    flat = 0  # one alone may be where a curve crosses zero
    while best() in (None, min(tried)) and min(tried) > 1 / _FARTHEST and flat < 2:
        shorter = min(tried) / _APART
        tried[shorter] = decrease(shorter)
        flat = flat + 1 if abs(tried[shorter]) <= resolution else 0
    while far and max(tried) < _FARTHEST and math.isfinite(tried[max(tried)]):
        longer = max(tried) * _APART
        tried[longer] = decrease(longer)
    return best()
