"""Where most bytes are alive: laws for the operators after which a peak may stand, and which to believe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from random import Random

import numpy as np

from assay.cost.axis import Axis
from assay.cost.fit import Box
from assay.cost.interpolate import Interpolant, Point
from assay.cost.law import Law
from assay.cost.piece import Range
from assay.cost.samples import Fails, Samples, TooMany, inside, put, steps_at
from assay.cost.tally import PEAK, Key, Tally

_CLOSE = 0.01  # what the peak may be off by
_RIVAL = 0.5  # of the peak: a line after which so much is alive may have it at other sizes
_FURTHER = 4  # steps up from the low corner, where the smallest sizes hide which tensors weigh most
_ROOM = 16  # steps that must be left above it, where the formula ends
_FAR = 1000  # a size that is very large beside the others
_BESIDE = 5  # times its value in use: a size that is large beside the others
_AT_RANDOM = 4  # points where several sizes are larger than in use
_RESIDUES = 8  # values beside that in use, of a size with floors
_STEPS = 8000  # more operators than this are not run for a peak alone


def with_peaks(box: Box, samples: Samples) -> list[Box]:
    """The box with peaks that nothing contradicts, fitted at the nodes or a little further up.

    Args:
        box: What was fitted.
        samples: What was alive at points.

    Returns:
        The box, in two where more lines may have the peak from some depth on; none where there are no peaks.
    """
    _look_around(box, samples)
    honest = _honest(box, box.peaks, samples)
    if honest is not None:
        return _late(replace(box, peaks=honest), box.peaks, samples)
    spans = _further(box, set(box.spans))
    _look_around(replace(box, spans=spans), samples)
    _look_far(replace(box, spans=spans), samples)
    further = replace(box, spans=spans)
    honest = _honest(further, _fitted(box, spans, samples), samples)
    if honest is None:
        own = _on_their_own(box, spans, samples)
        honest = None if own is None else _honest(further, own, samples)
    if honest is None:
        return []
    for name, span in box.spans.items():  # as far down as nothing contradicts them
        for low in range(span.low, spans[name].low, span.step):
            _look_down(box, samples, samples.names.index(name), low)
            lower = {**spans, name: replace(span, low=low)}
            kept = _honest(replace(box, spans=lower), honest, samples)
            if kept is not None and kept.keys == honest.keys:
                spans = lower
                break
    return [replace(box, peaks=honest, peak_spans=spans)]


def _further(box: Box, names: Collection[str]) -> dict[str, Range]:
    """The ranges, of these sizes from a little further up on where enough is left above."""
    spans = dict(box.spans)
    for axis in box.found.axes:
        span = spans.get(axis.size)
        if axis.size in names and span is not None and axis.adaptive:
            low = span.low + _FURTHER * span.step
            if span.high is None or span.high - low >= _ROOM * span.step:
                spans[axis.size] = replace(span, low=low)
    return spans


def _fitted(box: Box, spans: Mapping[str, Range], samples: Samples) -> Interpolant[Key]:
    """The peaks, fitted where these ranges begin."""
    return box.found.replayed(samples.peaks, _moved(box, spans))


def _moved(box: Box, spans: Mapping[str, Range]) -> list[Axis]:
    """The axes of a box, from where these ranges begin."""
    moved = {name: span for name, span in spans.items() if span != box.spans[name]}
    return [Law(moved[a.size]).axis(a.size) if a.size in moved else a for a in box.found.axes]


def _on_their_own(
    box: Box, spans: Mapping[str, Range], samples: Samples
) -> Interpolant[Key] | None:
    """The peaks, fitted on terms of their own.

    What is computed for all chunks of a sequence may be a plain product; what is alive for one of them has
    the length of a chunk, which is rounded.

    Returns:
        Those that may be the peak and are found at every run; None where that takes too many.
    """
    runs = [tally for _, tally in samples.within(spans)]
    rivals = {
        key
        for tally in runs
        for key, counted in tally.counts.items()
        if key.quantity == PEAK and counted >= _RIVAL * tally.peak
    }
    rivals = {key for key in rivals if all(key in tally.counts for tally in runs)}

    def alive(point: Point) -> dict[Key, int]:
        return {key: bytes_ for key, bytes_ in samples.peaks(point).items() if key in rivals}

    try:
        with samples.sparing():
            return Interpolant(alive, _moved(box, spans)) if rivals else None
    except (Fails, TooMany):
        return None


def _late(box: Box, fitted: Interpolant[Key], samples: Samples) -> list[Box]:
    """The box with more peaks, fitted further up along the sizes of loops and depths.

    The second of two layers is the last one too. So what is alive after a second layer has no law that begins
    at the least depth, and may have the peak above.

    Args:
        box: The box with the peaks that are honest.
        fitted: All that were fitted.
        samples: What was alive at points.

    Returns:
        The box, in two where there are such peaks.
    """
    loops = _bent(box, fitted, samples)
    spans = _further(box, loops)
    if spans == box.spans:
        return [box]
    try:
        peaks = _fitted(box, spans, samples)
    except Fails:
        return [box]
    except TooMany:  # then they hold as far as the model was run
        return [replace(box, peak_spans=_as_run(box, loops, samples))]
    alone = next(iter(loops)) if len(loops) == 1 else ""
    i = samples.names.index(alone) if alone else 0
    begins = dict.fromkeys(
        peaks.keys - box.peaks.keys, 0
    )  # from which depth on each can be believed
    for point, tally in samples.within(box.spans):
        claimed, most, above = peaks.at(point), (1 + _CLOSE) * tally.peak, inside(point, spans)
        for key in [*begins]:
            alive = claimed.get(key, 0)
            if above and alive != tally.counts.get(key, 0):
                del begins[key]
            elif alive > most and alone:
                begins[key] = max(begins[key], point[i] + box.spans[alone].step)
            elif alive > most:
                del begins[key]
    least = spans[alone].low if alone else 0
    begins = {key: low for key, low in begins.items() if low <= least}
    if not begins:
        return [box]
    start, found = max(begins.values()), replace(box, late=peaks.only({*begins}))
    if start == 0:
        return [found]
    span = box.spans[alone]
    below = replace(box, spans={**box.spans, alone: replace(span, high=start - span.step)})
    return [below, replace(found, spans={**box.spans, alone: replace(span, low=start)})]


def _as_run(box: Box, names: Collection[str], samples: Samples) -> dict[str, Range]:
    """The ranges, of these sizes up to the largest value at which the model was run."""
    runs = [point for point, _ in samples.within(box.spans)]
    spans = dict(box.spans)
    for i, name in enumerate(samples.names):
        if name in names:
            spans[name] = replace(spans[name], high=max(point[i] for point in runs))
    return spans


def _bent(box: Box, fitted: Interpolant[Key], samples: Samples) -> set[str]:
    """Sizes along which alone something that may have the peak does not follow its law."""
    low, found = [axis.nodes[0] for axis in box.found.axes], set[str]()
    for point, tally in samples.within(box.spans):
        moved = [i for i, (x, least) in enumerate(zip(point, low, strict=True)) if x != least]
        if len(moved) != 1 or moved[0] >= len(samples.names):
            continue
        claimed = fitted.at(point)
        if any(
            counted >= _RIVAL * tally.peak and claimed.get(key, 0) != counted
            for key, counted in tally.counts.items()
            if key.quantity == PEAK
        ):
            found.add(samples.names[moved[0]])
    return found


def peak_is_off(claims: Mapping[Key, int | Fraction], tally: Tally, close: float = _CLOSE) -> bool:
    """Whether claims are off where they were not fitted: in the peak, or a line that may have it elsewhere.

    Args:
        claims: What is said to be alive after each line.
        tally: What was counted.
        close: How much is nothing.

    Returns:
        Whether by more than that.
    """
    pairs = [(claimed, tally.counts.get(key, 0)) for key, claimed in claims.items()]
    pairs = [(claimed, counted) for claimed, counted in pairs if counted >= _RIVAL * tally.peak]
    pairs.append((max(claims.values(), default=0), tally.peak))
    return any(abs(float(claimed) - counted) > close * counted for claimed, counted in pairs)


def lawless(boxes: Sequence[Box], samples: Samples) -> str:
    """Where the first peaks that were fitted are off, as near to the sizes in use as any.

    Args:
        boxes: With the peaks as they were fitted.
        samples: What was alive at points.

    Returns:
        As in "is alive at n=4, in the forward pass, after `mm` at net.py:3".
    """
    off = (
        (sum(abs(x - y) / y for x, y in zip(point, samples.base, strict=True)), point, tally)
        for box in boxes
        for point, tally in samples.within(box.spans)
        if peak_is_off(box.alive(point), tally)
    )
    found = min(off, key=lambda each: each[0], default=None)
    return (
        "was alive" if found is None else f"is alive at {samples.say(found[1])}, {found[2].summit}"
    )


def _look_around(box: Box, samples: Samples) -> None:
    """Run the model where one size is large beside the others in use: there another line may peak."""
    spans = tuple(box.spans.values())
    inside = [Law(span).nearest(x) for span, x in zip(spans, samples.base, strict=False)]
    base = (*inside, *samples.base[len(spans) :])
    for i, (span, axis) in enumerate(zip(spans, box.found.axes, strict=False)):
        _look(put(base, i, Law(span).nearest(_BESIDE * base[i])), box, samples)
        for k in range(1, _RESIDUES * (not axis.adaptive)):  # floors: every residue, for most
            _look(put(base, i, base[i] + k * span.step), box, samples)
    random = Random(0)
    for _ in range(_AT_RANDOM):
        _look(_grown(box, samples, lambda: random.choice((1, 2, _BESIDE))), box, samples)


def _look_far(box: Box, samples: Samples) -> None:
    """Run the model where one size is very large beside the least of the others: it hides nothing there."""
    least = [span.low for span in box.spans.values()]
    least += [axis.nodes[0] for axis in box.found.axes[len(least) :]]
    for i, span in enumerate(box.spans.values()):
        _look(put(tuple(least), i, Law(span).nearest(_FAR)), box, samples)


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
    if few and inside(point, box.spans):
        samples.runs(point)


def _honest(box: Box, peaks: Interpolant[Key], samples: Samples) -> Interpolant[Key] | None:
    """The peaks that claim no more than was alive at any point of the box where the model ran.

    What is alive after the operators of a line may itself be the larger of two laws. Such a peak
    is wrong somewhere, and left out if it can be spared; it must be if it claims too much.

    Returns:
        The peaks, or None where what is left does not reach what was alive.
    """
    known = samples.within(box.spans)
    nodes = [tally for point, tally in known if point in peaks.points]
    keys = [k for k in peaks.keys if all(k in tally.counts for tally in nodes)]
    claimed = peaks.table(keys, [point for point, _ in known])
    counted = np.array([[tally.counts.get(key, -1) for key in keys] for _, tally in known])
    peak = np.array([[tally.peak] for _, tally in known])
    exact = ((counted < 0) | (claimed == counted)).all(axis=0)
    modest = (claimed <= (1 + _CLOSE) * peak).all(axis=0)
    for chosen in (exact & modest, modest):
        if (claimed[:, chosen] >= (1 - _CLOSE) * peak).any(axis=1).all():
            return peaks.only({keys[k] for k in np.flatnonzero(chosen)})
    return None
