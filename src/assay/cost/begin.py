"""Where to look: the range of each size, and what its own line tells of its law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

from assay.cost.floors import unexplained, with_floors
from assay.cost.law import Law, Laws
from assay.cost.piece import Range
from assay.cost.reach import reach
from assay.cost.samples import Fails, Samples, put

_FAR = (7, 12, 50)  # steps up at which a spacing must run too
_ROOM = (9, 3)  # steps up at which a size runs beside the least of the others, if it is free
_LATER = (1, 2)  # of the least values, so many may be left out
_FURTHER = (4, 8, 16)  # and so many where there is no formula else


def ranges(samples: Samples, grids: Mapping[str, int]) -> Laws:
    """Where the model runs, along each size."""
    count = len(samples.names)
    depths = tuple(Law(Range(2, depth)) for depth in samples.depths)
    asked = [grids.get(name) for name in samples.names]
    free = Laws((*(Law(Range(step or 2, None, step or 1)) for step in asked), *depths), count)
    if all(
        samples.runs(put(free.low, i, free.all[i].value(k)))
        for i in range(count)
        for k in (0, 1, 3)
    ):
        return free
    base = (*samples.base[:count], *(2 for _ in depths))

    def along(i: int) -> Range:
        if asked[i]:
            return free.all[i].span
        return reach(base[i], lambda x: samples.runs(put(base, i, x)))

    laws = Laws((*(Law(along(i)) for i in range(count)), *depths), count)
    if not samples.runs(laws.low):  # each can be small alone, but not all together
        for i in range(count):
            laws = laws.having(i, Law(replace(laws.all[i].span, low=base[i])))
        return laws
    return _with_room(laws, samples)


def _with_room(laws: Laws, samples: Samples) -> Laws:
    """The ranges, of some sizes from their values in use on, where others have no room beside the least.

    A kernel is at most as long as what it goes over, and no more than `n` are the largest `k` of them.

    Returns:
        The ranges.
    """
    for i, room in product(range(laws.sizes), _ROOM):
        up = put(laws.low, i, laws.all[i].value(room))
        if laws.all[i].span.high is not None or samples.runs(up):
            continue
        for j in range(laws.sizes):
            law, in_use = laws.all[j], samples.base[j]
            larger = j != i and in_use in law.span and in_use > law.span.low
            if larger and samples.runs(put(up, j, in_use)):
                laws = laws.having(j, law.since(in_use))
                break
    return laws


def spaced(i: int, laws: Laws, samples: Samples) -> Law | None:
    """A law of values around the one in use, where the smallest all run and larger ones do not.

    A width of `64 * heads`, of which one head takes any, runs at multiples of 64 from there on.

    Args:
        i: Which size.
        laws: Where each size ranged.
        samples: The counts.

    Returns:
        A law of multiples; None where there is no such spacing.
    """
    base = (*samples.base[: laws.sizes], *laws.low[laws.sizes :])
    span = reach(base[i], lambda x: samples.runs(put(base, i, x)), far=_FAR)
    wider = laws.all[i].span
    if span.step == wider.step or span.low == span.high or span.step % wider.step:
        return None
    return Law(span)


def begun(laws: Laws, samples: Samples) -> Laws:
    """Floors of a size, and where its law begins, as far as its own line tells: that costs least.

    Returns:
        The laws, some of them with floors or from a little further up.
    """
    for i in range(laws.sizes):
        if laws.all[i].span.high is None and not straight(i, laws.all[i], laws, samples):
            better = with_floors(i, laws, samples, guess=False)
            if better is not None and better.span.low == laws.all[i].span.low:
                laws = laws.having(i, better)
            else:
                laws = laws.having(i, later(i, laws, samples))
    return laws


def further(size: str, laws: Laws, samples: Samples) -> Laws | None:
    """The laws without some of the least values of a size: pieces of four rows, of which some are none.

    Returns:
        The laws; None where that does not help either.
    """
    if size not in samples.names:
        return None
    i = samples.names.index(size)
    found = later(i, laws, samples, _FURTHER)
    return None if found is laws.all[i] else laws.having(i, found)


def later(i: int, laws: Laws, samples: Samples, skips: tuple[int, ...] = _LATER) -> Law:
    """The law without the least values of a size, where they alone take a path of their own.

    A width of 4 for four heads is one number a head. Who asks for such a size?

    Returns:
        The law, or the one that there was.
    """
    law = laws.all[i]
    for skipped in skips:
        above = law.since(law.value(skipped))
        if samples.base[i] >= above.span.low and straight(i, above, laws, samples):
            return above
    return law


def straight(i: int, law: Law, laws: Laws, samples: Samples) -> bool:
    """Whether a law explains the counts along one size near its least values.

    Args:
        i: The size.
        law: Its law.
        laws: Those of the others.
        samples: The counts.

    Returns:
        Whether.
    """
    axis, tried = law.axis(samples.names[i]), [law.value(k) for k in (3, 9)]
    try:
        return not unexplained(i, axis, tried, laws, samples)
    except Fails:
        return False
