"""What a pass will take, from passes at smaller sizes: memory with data, or operators without a law."""

from __future__ import annotations

import math
from collections.abc import Mapping

from assay.cost.interpolate import Point

_STEEPEST = 4  # attention among the patches of an image, in its side


def foretold(point: Point, peaks: Mapping[Point, int]) -> int:
    """An amount, as bytes alive at the peak: a product of powers of the sizes, through points below.

    Args:
        point: Where the model is to be run.
        peaks: The amounts at points where it was run.

    Returns:
        The least that any point below foretells, with the power of each size as it is between the last two
        points on a line; 0 where there is no such point.
    """
    powers = [_power(i, x, peaks) for i, x in enumerate(point)]
    below = [other for other in peaks if all(a <= b for a, b in zip(other, point, strict=True))]
    return int(
        min(
            (
                peaks[other]
                * math.prod((x / y) ** e for x, y, e in zip(point, other, powers, strict=True))
                for other in below
            ),
            default=0,
        )
    )


def _power(i: int, x: int, peaks: Mapping[Point, int]) -> float:
    """With which power of one size an amount grows, between the last two values below x."""
    lines: dict[Point, list[tuple[int, int]]] = {}
    for other, peak in peaks.items():
        if other[i] < x:
            lines.setdefault((*other[:i], *other[i + 1 :]), []).append((other[i], peak))
    ends = [sorted(line)[-2:] for line in lines.values() if len(line) > 1]
    if not ends:
        return 0.0
    (a, before), (b, peak) = max(ends, key=lambda end: end[-1])
    return min(max(math.log(peak / before) / math.log(b / a), 0.0), _STEEPEST)
