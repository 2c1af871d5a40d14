"""What goes past operators on the way back from an end, and which part of a gradient's growth is there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from assay.scale.backward import Ancestors, Back
from assay.scale.rows import Row


@dataclass(frozen=True)
class Skips:
    """The skips on a path, added or concatenated.

    Args:
        sums: By how much the gradient's energy times mean square grows, back from the sums to what they add.
        joined: The same, back from what reads a concatenation to the earliest that stands in it.
        alone: How many operators with weights on the path have no skip past them.
        operators: How many there are.
    """

    sums: float
    joined: float
    alone: int
    operators: int

    @property
    def any(self) -> bool:
        """Whether there is a skip."""
        return self.alone < self.operators


def skips(back: Back, rows: Sequence[Row], before: Ancestors) -> Skips:
    """Find the skips between an operator and its end.

    Of skips inside others the outer one counts: what is past it is past all of them.

    Args:
        back: The operator, with its end.
        rows: All rows.
        before: Which rows each of these depends on.

    Returns:
        The skips, and what they carry.
    """
    by = {row.index: row for row in rows}
    path = {
        row.index
        for row in rows
        if row.index in before[back.end.index] and back.row.index in before[row.index]
    }
    ends = path | {back.row.index, back.end.index}
    found = [pair for pair in _pairs(rows, by, before) if ends.issuperset(pair)]
    # the outer ones, one after the other
    found.sort(key=lambda pair: (pair[0], -pair[1]))
    growth, last, past = {"sum": 1.0, "": 1.0}, -1, set[int]()
    for start, end in found:
        past |= {i for i in path if start in before[i] and i in before[end]}
        if start >= last:
            kind, last = "sum" if by[end].skip == start else "", end
            growth[kind] *= _size(by[start]) / (_size(by[end]) or math.inf) or 1.0
    fed = {i for i in path | {back.end.index} if by[i].kind in ("product", "lookup")}
    return Skips(growth["sum"], growth[""], len(fed - past), len(fed))


def _pairs(
    rows: Sequence[Row], by: Mapping[int, Row], before: Ancestors
) -> Iterator[tuple[int, int]]:
    """Where a skip starts and ends: what is read beside something that is made of it; gates are none."""
    for row in rows:
        if row.skip is not None:
            yield row.skip, row.index
        through = [i for i in row.reads if i in by and not by[i].gate]
        for i in through:
            if any(i in before[j] and j not in before[i] for j in through):
                yield i, row.index


def _size(row: Row) -> float:
    return (row.gradient_energy or 0.0) * row.second_moment
