"""What sets a gradient behind an operator: not its own width, but what stands between it and the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.scale.backward import Ancestors, Back, energy
from assay.scale.band import distance, outside
from assay.scale.repairs import Repair, repair_all, weights
from assay.scale.rows import Row
from assay.scale.widths import constant, constants, has_width, width_of

_NEAR = 1.1  # times: setting a width again that is as near changes nothing
_USUAL = (0.5, 2.0)  # mean squares of an input that a width takes as 1


def is_idle(repair: Repair, back: Back, rows: Sequence[Row]) -> bool:
    """Whether a repair that sets the weights of one operator alone leaves the gradient as it is.

    How wide the operator's own weights are is in what comes out of it; the gradient that arrives there is
    made by what stands behind it, as long as its activation is not driven to where it is flat. And a width
    that is there already is none to set.

    Args:
        repair: The repair of a gradient that is off.
        back: The operator, with its end.
        rows: All rows.

    Returns:
        Whether.
    """
    if len(repair.sets) != 1 or outside(back.row.level):
        return False
    if repair.sets == weights([back.row]):
        return True
    read = [row for row in rows if weights([row]) == repair.sets]
    return not any(_would_change(row, grows=back.factor < 1) for row in read)


def repair_behind(
    back: Back, chain: Sequence[Row], rows: Sequence[Row], before: Ancestors
) -> Repair:
    """The widths of the operators between an operator and its end, the end included.

    Args:
        back: The operator, with its end.
        chain: Operators with a gradient, in order.
        rows: All rows.
        before: Which rows each of these depends on.

    Returns:
        The repair; where these have their widths already, where it happens.
    """
    path = {back.end.index, *before[back.end.index]}
    after = [r for r in chain if r.index in path and back.row.index in before[r.index]]
    narrow = [r for r in after if _would_change(r, grows=back.factor < 1)]
    if narrow:
        return repair_all(narrow, rows)
    told = "no other width of the weights behind it would help"
    if all(_has_width(r) for r in after if r.fan_in):
        told = "nothing to draw again: the weights behind it have their width"
    return Repair(told + _where(back, rows, path, before))


def _would_change(row: Row, *, grows: bool) -> bool:
    """Whether weights that are drawn with unit variance for their input let the gradient grow, or shrink."""
    if row.kind == "lookup" or not row.fan_in:
        return False
    c, size = constants(row)[0], row.input_variance or row.input_second_moment or 1.0
    size = 1.0 if _USUAL[0] <= size <= _USUAL[1] else size
    if has_width(row, c / size) or _has_width(row):
        return False
    wider = c / (row.fan_in * size) / ((row.weight_std or math.inf) * (constant(row) or 1.0)) ** 2
    return not 1 / _NEAR**2 < wider < _NEAR**2 and (wider > 1) is grows


def _has_width(row: Row) -> bool:
    return any(has_width(row, width_of(row, square)) for square in (False, True))


def _where(back: Back, rows: Sequence[Row], path: set[int], before: Ancestors) -> str:
    """Between which two operators on the way most of it happens."""
    inside = [
        r
        for r in rows
        if r.index in path and back.row.index in {r.index, *before[r.index]} and energy(r)
    ]
    by = {r.index: r for r in inside}
    steps = [
        (energy(by[i]) / energy(r), by[i], r)
        for r in inside
        for i in {*r.follows, *r.reads}
        if i in by and i < r.index
    ]
    steps = [step for step in steps if (step[0] < 1) is (back.factor < 1)]
    if not steps:
        return ""
    factor, first, last = max(steps, key=lambda step: distance(step[0]))
    return (
        f"; most of it is from {last.name} back to {first.name}, where the gradient's square goes times "
        f"{factor:.3g}"
    )
