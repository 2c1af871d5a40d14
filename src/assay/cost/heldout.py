"""Points that a formula is held against: those that it was not fitted on, chosen to be telling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

from assay.cost.hints import thresholds
from assay.cost.interpolate import Interpolant, Point
from assay.cost.law import Laws
from assay.cost.rounding import rounded
from assay.cost.samples import Samples, put, steps_at
from assay.cost.tally import BYTES, OPERATIONS, WEIGHTS, Key
from assay.cost.turns import largest_run, turns, unturned
from assay.cost.unforetold import curved

_BESIDE = 1  # points above the nodes of a size, as its own line has where it was straight
_FAR = (70, 1000)  # values up from the low corner: beyond `if n > 64`, and beyond what costs little
_NEARER = (128, 256)  # and beyond what is padded to these, where far ones take too long
_TOGETHER = (128, 512, 1024, 20_011)  # all sizes at once: values that code has a liking for
_RESIDUES = 8  # of floors with a period up to this every residue is tried far away
_SOME = 3  # and of others so many
_AFFORDABLE = 15_000  # steps that a far probe may take
_REAL = 258  # up to which one size alone is looked at for real, whatever the work is
_WORK = (OPERATIONS, BYTES, WEIGHTS)
_WORKED = 1e9  # operations and bytes of a probe that is run for real: less than a second
_LONG = 10.0  # seconds of a run for real that comparisons which sizes note can do without
_SOON = 1.0  # seconds of a run for real at a turn; else the formula ends before it
_SLOW, _NOTICED = 2.0, 0.02  # seconds of a run that is not made, and of one that foretells it
_STEEPEST = 3  # power of a size with which a builder's own work may grow
_DEEP = 10_000  # steps that may run with all layers where code branches
_TURNS = 12  # times the steps of any far probe where a comparison turns
_LEAST = 3  # but at least so many runs
_FIRST = 6  # integers up to this are strides and numbers of heads


def near(found: Interpolant[Key], laws: Laws, samples: Samples) -> Iterator[Point]:
    """Points around the nodes: beside them along each size, and between them.

    Args:
        found: What was fitted.
        laws: Where it should hold.
        samples: What was run.

    Yields:
        Points of the box and just outside.
    """
    low = laws.low
    tops = [
        max(axis.nodes[index[i]] for index in found.coefficients)
        for i, axis in enumerate(found.axes)
    ]
    deep = laws.hold(samples.base)  # then a stack runs with all of its layers anyway
    for i, (top, law) in enumerate(zip(tops, laws.all, strict=True)):
        if i >= laws.sizes and deep:
            continue
        above = sum(p[i] > top and put(low, i, p[i]) == p for p, _ in samples.known)
        if law.atoms or above < _BESIDE:
            yield put(low, i, top + law.span.step)
            yield put(low, i, law.nearest(top + 4 * law.span.step))
        if law.atoms:  # a quartic through three ticks is no parabola two ticks on
            for ticks in (1, 3):
                yield put(low, i, law.nearest(top + ticks * law.period * law.span.step))
        for mark in law.marks:
            period = range(mark.period * law.span.step)
            yield from (put(low, i, x) for k in period if (x := top + 1 + k) in mark)
        if law.guessed:  # every residue
            for k in range(2 * law.period):
                yield put(low, i, law.value(k + 3 * law.period))
    random = Random(0)
    for _ in range(6 if any(law.atoms for law in laws.all) else 3):
        yield tuple(
            law.value(random.randint(1, (top - law.span.low) // law.span.step + 3))
            for law, top in zip(laws.all, tops, strict=True)
        )


def far(found: Interpolant[Key], laws: Laws, samples: Samples) -> Iterator[Point]:
    """Points far from the nodes, at integers that the code compares with, and at the base.

    Args:
        found: What was fitted; it also tells how long a probe will take.
        laws: Where it should hold.
        samples: What is counted, and where the base is.

    Yields:
        Points of the box.
    """
    low, count = laws.low, laws.sizes
    largest: int | None = None
    with_data = samples.probe.way == "real"

    def affordable(point: Point, factor: int = 1, *, turn: bool = False) -> bool:
        if with_data:
            work = sum(v for k, v in found.at(point).items() if k.quantity in _WORK)
            if work > _WORKED:
                alone = sum(x > least for x, least in zip(point, low, strict=True)) <= 1
                if turn:  # beyond it another law may begin, to be looked at from there on
                    return alone and _takes(point, low, samples, 2) <= _SOON
                return alone and max(point) <= _REAL and _takes(point, low, samples) <= _LONG
        steps = steps_at(found, point)
        return steps <= factor * _AFFORDABLE and (largest is None or max(point) <= largest)

    for rungs in (range(count), reversed(range(count))):
        ladder = (law.value(17 + 6 * k) for law, k in zip(laws.all, rungs, strict=False))
        yield laws.inside((*ladder, *(3 for _ in low[count:])))
    for i, law in enumerate(laws.all):
        if i >= count and laws.hold(samples.base):  # with all layers, further down
            continue
        odd = sorted({x for a in law.atoms for x in rounded(a, law.span.low) if x in law.span})
        yield from filter(affordable, (put(low, i, x) for x in odd))
        if law.span.high is not None:
            yield put(low, i, law.nearest(law.span.high))
            continue
        for steps in (*_FAR, *_NEARER) if with_data else _FAR[::-1]:
            point = put(low, i, law.value(steps))
            if affordable(point) or (steps == _FAR[0] and _takes(point, low, samples) <= _LONG):
                yield point
                if not with_data:  # what turns before has turned here too
                    break
        residues = law.period if law.period <= _RESIDUES else _SOME
        for steps in range(_FAR[1] + 1, _FAR[1] + residues):
            if affordable(put(low, i, law.value(steps))):
                yield put(low, i, law.value(steps))
        yield from filter(affordable, _multiples(i, laws))
    together: list[Point] = []
    for x in _TOGETHER:
        point = laws.inside((*(x for _ in range(count)), *low[count:]))
        # as where a builder fills a table of positions in Python, or draws its inputs with numpy
        if _slow(point, together[-3:], samples):
            largest = max(together[-1])
        elif affordable(point) and samples.runs(point):
            together.append(point)
            yield point
        elif x == _TOGETHER[-1]:  # what is known of so many values at once may be too little
            alone = (put(low, i, law.nearest(x)) for i, law in enumerate(laws.all[:count]))
            yield from (point for point in alone if affordable(point) and samples.runs(point))
    marks, spelled_out = _pointed_at(found, laws, samples), samples.probe.constants
    beyond = max((max(point[:count]) for point in together if count), default=0)
    for x in marks:
        # what turns just above and stays so has turned where all sizes are larger, too
        if samples.probe.notes and x not in spelled_out and x < beyond:
            continue
        at_once = laws.inside((*(x for _ in range(count)), *low[count:]))
        if affordable(at_once):
            yield from _apart(at_once, laws, samples)
        else:
            yield from filter(
                affordable, (put(low, i, laws.all[i].nearest(x)) for i in range(count))
            )
    yield samples.base  # with all layers
    if low[count:] != samples.base[count:]:
        yield from _deep(marks, found, laws, samples, lambda point: affordable(point, 4))
    point = laws.inside((*(_FAR[0] for _ in range(count)), *samples.base[count:]))
    if affordable(point) and samples.runs(point):
        yield point
    at = laws.inside((*samples.base[:count], *low[count:]))
    if affordable(at, 4):
        yield at
        yield from _beside(at, laws, samples)
    largest, left = None, samples.room

    def worth(point: Point) -> bool:
        """Half of what may still run is left to what else is asked."""
        if not affordable(point, _TURNS, turn=True):
            return False
        spared = samples.room - steps_at(found, point) < left // 2
        samples.spared = samples.spared or spared
        return not spared

    yield from turns(laws, samples, worth)


def untried(found: Interpolant[Key], laws: Laws, samples: Samples) -> dict[int, int]:
    """Where it was too dear to look, at an integer that a loop's code spells out or at a turn, or has no end.

    How long a list is, or what a loop counts, nobody notes: a window `past[-128:]` may begin there. And a
    logarithm of a size turns further and further up.

    Args:
        found: What was fitted.
        laws: Where it was held against runs.
        samples: The counts.

    Returns:
        For each such size, by its index, the last value before.
    """
    marks, last_before = _pointed_at(found, laws, samples), unturned(laws, samples)
    largest = largest_run(laws, samples)
    for i in curved(laws, samples):
        last_before[i] = min(last_before.get(i, largest[i]), largest[i])
    for i, law in enumerate(laws.all[: laws.sizes]):
        some = put(laws.low, i, law.value(_FAR[0]))
        loops = law.span.high is None and steps_at(found, some) > steps_at(found, laws.low)
        later = [law.nearest(x - 1) for x in marks if x > largest[i]]
        ends = [*later[:1], *([largest[i]] if samples.spared else [])]
        if loops and ends:
            last_before[i] = min(last_before.get(i, ends[0]), *ends)
    return last_before


def _multiples(i: int, laws: Laws) -> Iterator[Point]:
    """Where a law begins further up, a size may have been cut there, and is again at multiples."""
    law, low = laws.all[i], laws.low
    if law.span.low - law.span.step > _FIRST and not law.atoms:
        for x in (law.span.low, law.span.low - law.span.step):
            for k in (2, 3):
                yield from (put(low, i, law.nearest(k * x + more)) for more in (0, 1))


def _apart(point: Point, laws: Laws, samples: Samples) -> list[Point]:
    """A point, or one size at a time where the model runs with each so large, but not with all at once."""
    # tensors have a largest number of bytes, which is no law of the model
    least = (*laws.low[: laws.sizes], *point[laws.sizes :])
    alone = [put(least, i, point[i]) for i in range(laws.sizes)]
    if samples.runs(point) or not all(samples.runs(one) for one in alone):
        return [point]
    return alone


def _deep(
    marks: list[int],
    found: Interpolant[Key],
    laws: Laws,
    samples: Samples,
    affordable: Callable[[Point], bool],
) -> Iterator[Point]:
    """Where the code may branch, once more with all layers: which of them run may depend on a size."""
    depths, count = samples.base[laws.sizes :], laws.sizes
    if samples.probe.notes:  # comparisons of all layers are known from the base
        values = [_FAR[1]]
    else:
        room = max(int(_DEEP / max(steps_at(found, (*laws.low[:count], *depths)), 1)), _LEAST)
        # the largest first: most branches stay as they are beyond
        values = sorted({*marks, _FAR[1]}, reverse=True)
        values = values[:: -(-len(values) // room)]
    for x in values:
        point = laws.inside((*(x for _ in range(count)), *depths))
        if affordable(point):
            yield from _apart(point, laws, samples)


def _takes(point: Point, low: Point, samples: Samples, power: int = 1) -> float:
    """Seconds of a run for real with one size alone, as the largest run along it foretells.

    Returns:
        Seconds; 0 where sizes do not note what they are compared with and divided by: padding and branches
        show in nothing but runs then.
    """
    if samples.probe.way != "real" or not samples.probe.notes:
        return 0.0
    i = max(range(len(point)), key=lambda i: point[i] - low[i])
    x = max((p[i] for p, _ in samples.known if put(low, i, p[i]) == p), default=low[i])
    if x == low[i]:
        return 0.0
    least, longest = samples.seconds(low), samples.seconds(put(low, i, x))
    return least + (longest - least) * ((point[i] - low[i]) / (x - low[i])) ** power


def _slow(point: Point, before: list[Point], samples: Samples) -> bool:
    """Whether a run would take long, as three runs foretell: by what the later ones took beyond the first."""
    if len(before) < 3 or max(before[1], default=0) == max(before[2], default=0):
        return False
    if not _foretold(point, before, samples):
        return False
    for one in before:
        samples.time_again(one)
    return _foretold(point, before, samples)


def _foretold(point: Point, before: list[Point], samples: Samples) -> bool:
    least, first, last = map(samples.seconds, before)
    if last - least < _NOTICED or first <= least:
        return False
    power = math.log((last - least) / (first - least)) / math.log(max(before[2]) / max(before[1]))
    return bool((last - least) * (max(point) / max(before[2])) ** min(power, _STEEPEST) > _SLOW)


def _beside(point: Point, laws: Laws, samples: Samples) -> Iterator[Point]:
    """All sizes a step less and a step more at once, or one by one where the model does not run there."""
    count = laws.sizes
    for sign in (-1, 1):
        moved = [
            put(point, i, point[i] + sign * law.span.step)
            for i, law in enumerate(laws.all[:count])
            if point[i] + sign * law.span.step in law.span
        ]
        at_once = tuple(next((m[i] for m in moved if m[i] != x), x) for i, x in enumerate(point))
        yield from [at_once] if samples.runs(at_once) else filter(samples.runs, moved)


def _pointed_at(found: Interpolant[Key], laws: Laws, samples: Samples) -> list[int]:
    """Where the code may branch: at an integer that it compares with, and just above."""
    top = max((axis.nodes[-1] for axis in found.axes[: laws.sizes]), default=0)
    probe, model = samples.probe, samples.probe.model
    assert model is not None
    # where comparisons are noted, it is counters of loops that are left, and lengths of lists; but how many
    # entries a mask selects is a number of tensors, which note nothing
    holders = () if probe.notes and not probe.assumed else model.modules()
    return thresholds(probe.constants, holders, min(top, _FIRST), samples.base)
