"""Which values a size can take at all: where the model runs."""

from __future__ import annotations

from collections.abc import Callable

from assay.cost.piece import Range

_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)


def reach(value: int, runs: Callable[[int], bool], *, far: tuple[int, ...] = ()) -> Range:
    """The evenly spaced values around `value` at which the model runs, as far as a few tries tell.

    Args:
        value: One at which it runs.
        runs: Whether it runs at another.
        far: How many steps up it must run too, beside the next three.

    Returns:
        From the least value above 1; a range of one value where no even spacing is found.
    """
    # what the base is a multiple of comes last: a width of 64 with 4 heads moves in fours
    steps = sorted({*_STEPS, value, *(g for g in range(2, value) if value % g == 0)})
    for step in steps:
        if all(runs(value + step * k) for k in (1, 2, 3, *far)):
            return Range(_least(value, step, runs), None, step)
    for step in steps:  # the base is the largest value, or nearly so
        below = [value - step * k for k in (1, 2, 3) if value - step * k > 1]
        if len(below) == 3 and all(runs(x) for x in below):
            return Range(_least(value, step, runs), value, step)
    return Range(value, value)


def _least(value: int, step: int, runs: Callable[[int], bool]) -> int:
    lowest = value % step or step
    lowest += step if lowest == 1 else 0
    if lowest >= value or (runs(lowest) and runs(lowest + step)):
        return min(lowest, value) if value > 1 else lowest
    bad, good = lowest, value
    while good - bad > step:
        middle = bad + (good - bad) // (2 * step) * step
        if middle != bad and runs(middle):
            good = middle
        else:
            bad = middle if middle != bad else good - step
    return good
