"""Where most bytes are alive: laws for the operators after which a peak may stand, and which to believe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from random import Random

from assay.cost.fit import Box
from assay.cost.interpolate import Interpolant, Point
from assay.cost.law import Law
from assay.cost.samples import Samples, put, steps_at
from assay.cost.tally import Key, Tally

_CLOSE = 0.01  # what the peak may be off by
_RIVAL = 0.5  # of the peak: a line after which so much is alive may have it at other sizes
_FURTHER = 4  # steps up from the low corner, where the smallest sizes hide which tensors weigh most
_BESIDE = 5  # times its value in use: a size that is large beside the others
_AT_RANDOM = 4  # points where several sizes are larger than in use
_STEPS = 8000  # more operators than this are not run for a peak alone


def with_peaks(box: Box, samples: Samples) -> Box | None:
    """The box with peaks that nothing contradicts, fitted at the nodes or a little further up.

    Args:
        box: What was fitted.
        samples: What was alive at points.

    Returns:
        The box, or None where there are none.
    """
    _look_around(box, samples)
    honest = _honest(box, box.peaks, samples)
    if honest is not None:
        return replace(box, peaks=honest)
    axes, spans = [], dict(box.spans)
    for axis in box.found.axes:
        span = spans.get(axis.size)
        if span is None or span.high is not None or not axis.adaptive:
            axes.append(axis)
            continue
        spans[axis.size] = replace(span, low=span.low + _FURTHER * span.step)
        law = Law(spans[axis.size])
        axes.append(law.axis(axis.size))
    peaks = box.found.replayed(samples.peaks, axes)
    honest = _honest(replace(box, spans=spans), peaks, samples)
    if honest is None:
        return None
    for name, span in box.spans.items():  # as far down as nothing contradicts them
        for low in range(span.low, spans[name].low, span.step):
            _look_down(box, samples, samples.names.index(name), low)
            lower = {**spans, name: replace(span, low=low)}
            kept = _honest(replace(box, spans=lower), honest, samples)
            if kept is not None and kept.keys == honest.keys:
                spans = lower
                break
    return replace(box, peaks=honest, peak_spans=spans)


def peak_is_off(claims: Mapping[Key, int | Fraction], tally: Tally) -> bool:
    """Whether claims are off where they were not fitted: in the peak, or a line that may have it elsewhere.

    Args:
        claims: What is said to be alive after each line.
        tally: What was counted.

    Returns:
        Whether by more than 1 %.
    """
    pairs = [(claimed, tally.counts.get(key, 0)) for key, claimed in claims.items()]
    pairs = [(claimed, counted) for claimed, counted in pairs if counted >= _RIVAL * tally.peak]
    pairs.append((max(claims.values(), default=0), tally.peak))
    return any(abs(float(claimed) - counted) > _CLOSE * counted for claimed, counted in pairs)


def _look_around(box: Box, samples: Samples) -> None:
    """Run the model where one size is large beside the others in use: there another line may peak."""
    base, spans = samples.base, tuple(box.spans.values())
    for i, span in enumerate(spans):
        _look(put(base, i, Law(span).nearest(_BESIDE * base[i])), box, samples)
    random = Random(0)
    for _ in range(_AT_RANDOM):
        _look(_grown(box, samples, lambda: random.choice((1, 2, _BESIDE))), box, samples)


def _look_down(box: Box, samples: Samples, i: int, low: int) -> None:
    """Run the model where one size is small beside the others, as they are in use and larger."""
    for point in (samples.base, _grown(box, samples, lambda: _BESIDE)):
        _look(put(point, i, low), box, samples)


def _grown(box: Box, samples: Samples, times: Callable[[], int]) -> Point:
    """The base with larger sizes; the depths of stacks stay."""
    pairs = zip(box.spans.values(), samples.base, strict=False)
    sizes = [Law(span).nearest(times() * x) for span, x in pairs]
    return (*sizes, *samples.base[len(sizes) :])


def _look(point: Point, box: Box, samples: Samples) -> None:
    few = steps_at(box.found, point) <= _STEPS
    if few and all(x in span for x, span in zip(point, box.spans.values(), strict=False)):
        samples.runs(point)


def _honest(box: Box, peaks: Interpolant[Key], samples: Samples) -> Interpolant[Key] | None:
    """The peaks that claim no more than was alive at any point of the box where the model ran.

    What is alive after the operators of a line may itself be the larger of two laws. Such a peak
    is wrong somewhere, and left out if it can be spared; it must be if it claims too much.

    Returns:
        The peaks, or None where what is left does not reach what was alive.
    """
    spans = tuple(box.spans.values())
    known = [
        (point, tally)
        for point, tally in samples.known
        if all(x in span for x, span in zip(point, spans, strict=False))
    ]
    nodes = [tally for point, tally in known if point in peaks.points]
    keys = {k for k in peaks.keys if all(k in tally.counts for tally in nodes)}
    claims = [(peaks.at(point), tally) for point, tally in known]
    exact = modest = keys
    for claimed, tally in claims:
        counts, most = tally.counts, int((1 + _CLOSE) * tally.peak)
        exact = {k for k in exact if k not in counts or claimed.get(k, 0) == counts[k]}
        modest = {k for k in modest if claimed.get(k, 0) <= most}
    for chosen in (exact & modest, modest):
        if all(
            any(claimed.get(k, 0) >= (1 - _CLOSE) * tally.peak for k in chosen)
            for claimed, tally in claims
        ):
            return peaks.only(chosen)
    return None
