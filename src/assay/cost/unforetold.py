"""Comparisons whose two sides come closer in a way that no parabola foretells: by steps, roots, powers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

from assay.cost.interpolate import Point
from assay.cost.law import Laws
from assay.cost.notes import CURVED, LEAST, MOST, ONE_SIDED, PLAINLY, TURNS, Comparison, kind
from assay.cost.samples import Samples, put

Series = list[tuple[float, float]]  # values of a size, and by how much the two sides differ there
_CLOSE = 1e-6  # of a whole number
_SLOW = 0.75  # power of a size with which at least it grows, where it grows steadily
_FEW = 4  # points that a parabola must foretell


def curved(laws: Laws, samples: Samples) -> list[int]:
    """Sizes with which a comparison may turn anywhere beyond what was run.

    Of some a logarithm or a root is made a whole number, or compared; with others two sides come closer and
    closer, but nobody knows how fast.

    Args:
        laws: Where to look.
        samples: What was run.

    Returns:
        The sizes, by index; none whose root is a straight line, as of the patches of a square.
    """
    every = [_all_along(i, laws, samples) for i in range(laws.sizes)]
    return [i for i, at in enumerate(every) if any(_turns_on(c, s) for c, s in at.items())]


def halfway(made: Iterable[Comparison], laws: Laws, samples: Samples) -> Iterator[Point]:
    """Points between two runs in which a comparison turned out otherwise, until they are neighbours.

    Args:
        made: The comparisons.
        laws: Where to look.
        samples: What was run; more is as the points are asked for.

    Yields:
        Points along one size, the others at their least.
    """
    looked_at = {c for c in made if kind(c) not in (*ONE_SIDED, LEAST, MOST)}
    for i, law in enumerate(laws.all[: laws.sizes]):
        for comparison, series in _all_along(i, laws, samples).items():
            gap = _gap(series, law.span.step) if comparison in looked_at else None
            while gap is not None:
                yield put(laws.low, i, law.nearest((gap[0] + gap[1]) // 2))
                before, series = gap, _all_along(i, laws, samples).get(comparison, [])
                gap = _gap(series, law.span.step)
                gap = gap if gap != before else None


def parabolic(series: Series) -> bool:
    """Whether a parabola through the first three points goes through all."""
    if len(series) < _FEW or not all(math.isfinite(y) for _, y in series):
        return True
    (x0, y0), (x1, _) = series[:2]
    slope, bend = parabola(series)
    return all(
        abs(y0 + (x - x0) * (slope + bend * (x - x1)) - y) <= _CLOSE * max(abs(y), 1.0)
        for x, y in series
    )


def parabola(series: Series) -> tuple[float, float]:
    """The parabola through the first three points, or the line through the first two.

    Args:
        series: At least two points.

    Returns:
        slope, bend: y = y₀ + (x - x₀) (slope + bend (x - x₁)).
    """
    (x0, y0), (x1, y1) = series[:2]
    slope = (y1 - y0) / (x1 - x0)
    if len(series) == 2:
        return slope, 0.0
    x2, y2 = series[2]
    return slope, ((y2 - y1) / (x2 - x1) - slope) / (x2 - x0)


def _all_along(i: int, laws: Laws, samples: Samples) -> dict[Comparison, Series]:
    """How comparisons went along one size; without those that depend on others too."""
    found: dict[Comparison, dict[int, float]] = {}
    mixed: set[Comparison] = set()
    for point, tally in samples.known:
        if not laws.hold(point):
            continue
        for comparison, difference in tally.compared.items():
            if found.setdefault(comparison, {}).setdefault(point[i], difference) != difference:
                mixed.add(comparison)
    return {c: [(float(x), at[x]) for x in sorted(at)] for c, at in found.items() if c not in mixed}


def _gap(series: Series, step: int) -> tuple[int, int] | None:
    """The first two values, and not neighbours, between which a comparison turned unforetold."""
    if parabolic(series):
        return None
    for (x, y), (beyond, other) in pairwise(series):
        if _sign(y) != _sign(other) and beyond - x > step:
            return int(x), int(beyond)
    return None


def _sign(y: float) -> int:
    return (y > 0) - (y < 0)


def _turns_on(comparison: Comparison, series: Series) -> bool:
    if kind(comparison) == CURVED:
        return not _straight(series)
    if kind(comparison) == TURNS:
        return _slowing(series)
    return kind(comparison) in PLAINLY and _closing_in(series)


def _slowing(series: Series) -> bool:
    """Whether something grows as a root or a logarithm does; chunks of a length keep their pace."""
    if parabolic(series):
        return False
    x, y = series[-1]
    before = next(((u, v) for u, v in reversed(series) if 4 * u <= x), None)
    if before is None or not 0 < before[1] < y:
        return False
    return math.log(y / before[1]) < _SLOW * math.log(x / before[0])


def _closing_in(series: Series) -> bool:
    """Whether two sides come closer, as far as was looked, in a way that no parabola foretells."""
    if parabolic(series):
        return False
    sides = [y for _, y in series]
    same_side = min(sides[:-1]) > 0 <= sides[-1] or max(sides[:-1]) < 0 >= sides[-1]
    return same_side and all(abs(b) <= abs(a) for a, b in pairwise(sides)) and sides[0] != sides[-1]


def _straight(series: Series) -> bool:
    if len(series) < 3:
        return True
    (x0, y0), *_, (x1, y1) = series
    slope = (y1 - y0) / (x1 - x0)
    return all(abs(y0 + slope * (x - x0) - y) <= _CLOSE * max(abs(y), 1.0) for x, y in series)
