"""Where a size is 1, a model often takes a path of its own: broadcasts, copies that are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from assay.cost.fit import Box
from assay.cost.interpolate import Point
from assay.cost.law import Law, Laws
from assay.cost.peaks import peak_is_off
from assay.cost.piece import Range
from assay.cost.samples import Samples, differing, put, steps_at
from assay.cost.tally import PEAK
from assay.cost.turns import turns

_LARGE, _MIDDLING = 72, 20  # another size, where one is 1
_CLOSE = 0.001  # of a peak at three points: what is a little off there is more so elsewhere
_STEPS = 4000  # more operators than this make a size large enough


def from_one(boxes: list[Box], samples: Samples) -> dict[str, frozenset[str]]:
    """Quantities that the formula also has right at size 1, which often takes a path of its own.

    Each size is taken alone first, then together with those before it.

    Returns:
        The quantities, by size.
    """
    names = samples.names
    quantities = {k.quantity for box in boxes for k in box.polynomials} | {PEAK}
    one: dict[str, frozenset[str]] = {}
    for i, name in enumerate(names):
        others = [j for j in range(i) if one[names[j]]]
        together = [(), *((j,) for j in others), tuple(others)]
        wrong: set[str] = set()
        for box in boxes:
            if _from_two(box, name):
                for chosen in dict.fromkeys(together):
                    ones = [k for k in (*chosen, i) if _from_two(box, names[k])]
                    wrong |= _wrong_at_ones(box, ones, samples, alone=not chosen)
        from_two = any(_from_two(box, name) for box in boxes)
        one[name] = frozenset(quantities - wrong) if from_two else frozenset()
    return one


def odd_ones(
    laws: Laws, boxes: list[Box], one: Mapping[str, frozenset[str]], samples: Samples
) -> list[int]:
    """Which sizes are 1 in use, although the formula does not have all right there."""
    quantities = {k.quantity for b in boxes for k in b.polynomials} | {PEAK}
    return [
        i
        for i, name in enumerate(samples.names)
        if samples.base[i] == 1 and laws.all[i].span.low == 2 and not quantities <= one[name]
    ]


def _wrong_at_ones(box: Box, ones: list[int], samples: Samples, *, alone: bool) -> set[str]:
    """The quantities that a box has wrong where some sizes are 1."""
    nodes = [axis.nodes for axis in box.found.axes]
    least, count = tuple(at[0] for at in nodes), len(box.spans)
    points = [least]
    if alone:
        others = [j for j in range(count) if j not in ones]
        depths = [at[:2][-1] for at in nodes[count:]]
        pairs = zip(samples.base, box.spans.values(), strict=False)
        in_use = (*(x if x in span else span.low for x, span in pairs), *depths)
        dear = steps_at(box.found, in_use) > _STEPS
        if not dear:
            points.append(in_use)
        if dear or max((in_use[j] for j in others), default=0) < _MIDDLING:
            large, middling = (
                (*(Law(span).nearest(size) for span in box.spans.values()), *depths)
                for size in (_LARGE, _MIDDLING)
            )
            points.append(large if steps_at(box.found, large) <= _STEPS else middling)
    for i in ones:
        points = [put(point, i, 1) for point in points]
    # one row of one pixel may be too few for a statistic
    if alone and not any(map(samples.runs, points)):
        return {key.quantity for key in box.polynomials} | {PEAK}
    wrong: set[str] = set()
    for point in filter(samples.runs, chain(points, _turns_at_ones(box, ones, samples))):
        wrong |= differing(box.found.at(point), samples.counts(point))
        held = enumerate((box.peak_spans or box.spans).values())
        if not box.peakless and all(i in ones or point[i] in span for i, span in held):
            off = peak_is_off(box.alive(point), samples.tally(point), _CLOSE)
            wrong |= {PEAK} if off else set()
    return wrong


def _turns_at_ones(box: Box, ones: list[int], samples: Samples) -> Iterator[Point]:
    """Where a comparison turns that is made where some sizes are 1: `if n == 1 and m > 256`."""
    least = [axis.nodes[0] for axis in box.found.axes]
    spans = [Range(1, 1) if i in ones else span for i, span in enumerate(box.spans.values())]
    depths = [Range(depth, depth) for depth in least[len(spans) :]]
    laws = Laws(tuple(Law(span) for span in (*spans, *depths)), len(spans))

    def affordable(point: Point) -> bool:
        return steps_at(box.found, point) <= _STEPS

    def two(point: Point) -> Point:  # what was compared there has been followed from there
        return tuple(least[i] if i in ones else x for i, x in enumerate(point))

    return turns(laws, samples, affordable, two)


def _from_two(box: Box, name: str) -> bool:
    return box.spans[name].low == 2 and box.spans[name].step == 1
