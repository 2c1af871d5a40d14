"""Where a comparison of two sizes turns: along a line, as `3 * h == 2 * w` at (2, 3) and (4, 6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import combinations, islice

from assay.cost.interpolate import Point
from assay.cost.law import Laws
from assay.cost.notes import ONE_SIDED, Comparison, kind
from assay.cost.samples import Samples, put

_DENOMINATOR = 64  # of the slope of a line: at most so much
_CLOSE = 1e-9  # of a fraction
_SOME = 2  # points of a line that are tried
_STEPS = 200  # values of a size among which they are looked for


def aslant(made: Iterable[Comparison], laws: Laws, samples: Samples) -> Iterator[Point]:
    """Points at which the two sides of a comparison are equal, whatever the other sizes.

    Args:
        made: The comparisons.
        laws: Where to look.
        samples: What was run; of each pair of sizes that are compared one point more is.

    Yields:
        Points in which two sizes are not at their least values.
    """
    of_numbers = [c for c in made if kind(c) not in ONE_SIDED]
    if not of_numbers:
        return
    for i, j in combinations(range(laws.sizes), 2):
        low, step_i, step_j = laws.low, laws.all[i].span.step, laws.all[j].span.step
        square = [
            put(put(low, i, low[i] + a * step_i), j, low[j] + b * step_j)
            for b in (0, 1)
            for a in (0, 1)
        ]
        if not all(map(laws.hold, square)) or not all(map(samples.runs, square[:3])):
            continue
        noted = [samples.tally(point).compared for point in square[:3]]
        both = [
            c
            for c in of_numbers
            if all(c in at for at in noted) and noted[0][c] not in (noted[1][c], noted[2][c])
        ]
        if not both or not samples.runs(square[3]):
            continue
        last = samples.tally(square[3]).compared
        lines = {
            line
            for c in both
            if c in last
            and (line := _line([at[c] for at in (*noted, last)], low[i], low[j], step_i, step_j))
        }
        for line in sorted(lines):
            yield from islice(_on(line, i, j, laws), _SOME)


def _line(
    differences: list[float], low_i: int, low_j: int, step_i: int, step_j: int
) -> tuple[Fraction, Fraction] | None:
    """X = start + slope y, from the differences at the corners of a square; None where that is no line."""
    roots = []
    for one, other in (differences[:2], differences[2:]):
        if one == other:
            return None
        roots.append(low_i - one * step_i / (other - one))
    slope = Fraction((roots[1] - roots[0]) / step_j).limit_denominator(_DENOMINATOR)
    start = roots[0] - float(slope) * low_j
    if slope <= 0 or abs(float(slope) * step_j - (roots[1] - roots[0])) > _CLOSE * abs(roots[1]):
        return None
    return Fraction(start).limit_denominator(_DENOMINATOR), slope


def _on(line: tuple[Fraction, Fraction], i: int, j: int, laws: Laws) -> Iterator[Point]:
    start, slope = line
    law = laws.all[j]
    for y in (law.value(k) for k in range(1, _STEPS)):
        x = start + slope * y
        if x.denominator == 1 and x > laws.low[i] and x == laws.all[i].nearest(int(x)):
            yield put(put(laws.low, i, int(x)), j, y)
