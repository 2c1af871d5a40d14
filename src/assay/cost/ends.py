"""Where a law ends, or the model: by halving."""

from __future__ import annotations

from dataclasses import replace

from assay.cost.interpolate import Interpolant, Point
from assay.cost.law import Laws
from assay.cost.piece import Range
from assay.cost.samples import Fails, Samples, equal, put
from assay.cost.tally import Key


def explained(point: Point, laws: Laws, samples: Samples) -> bool:
    """Whether a law explains what is counted at a point."""
    try:
        return _holds(samples.interpolant(laws), point, samples)
    except Fails:
        return False


def last_explained(i: int, least: int, bad: int, laws: Laws, samples: Samples) -> int | None:
    """Of values of a size that were run anyway the last below `bad` that the law explains."""
    low, span = laws.low, laws.all[i].span
    run = {p[i] for p, _ in samples.known if p == put(low, i, p[i])}
    tried = sorted((x for x in run if least <= x < bad and x in span), reverse=True)
    try:
        found = samples.interpolant(laws)
    except Fails:
        return None
    return next((x for x in tried if _holds(found, put(low, i, x), samples)), None)


def turn(i: int, bad: int, laws: Laws, samples: Samples) -> int | None:
    """The first value along a size at which the law of the low corner no longer holds."""
    step, low, found = laws.all[i].span.step, laws.low, samples.interpolant(laws)
    good = found.axes[i].nodes[max(index[i] for index in found.coefficients)]
    good = last_explained(i, good + 1, bad, laws, samples) or good
    if good >= bad or _holds(found, put(low, i, bad), samples):
        return None
    while bad - good > step:
        middle = good + max((bad - good) // (2 * step), 1) * step
        good, bad = (middle, bad) if _holds(found, put(low, i, middle), samples) else (good, middle)
    return bad


def returns(i: int, turn: int, laws: Laws, samples: Samples) -> bool:
    """Whether the law breaks at one value alone: `if n == 100`."""
    span, found = laws.all[i].span, samples.interpolant(laws)
    after = [turn + span.step * k for k in (1, 2, 3)]
    return all(x in span and _holds(found, put(laws.low, i, x), samples) for x in after)


def last_that_runs(i: int, bad: int, laws: Laws, samples: Samples) -> Range | None:
    """The range of a size up to the last value below `bad` at which the model runs; None without any."""
    span, low = laws.all[i].span, laws.low
    good = span.low
    while bad - good > span.step:
        middle = good + max((bad - good) // (2 * span.step), 1) * span.step
        good, bad = (middle, bad) if samples.runs(put(low, i, middle)) else (good, middle)
    return replace(span, high=good) if good > span.low else None


def _holds(found: Interpolant[Key], point: Point, samples: Samples) -> bool:
    return samples.runs(point) and equal(found.at(point), samples.counts(point))
