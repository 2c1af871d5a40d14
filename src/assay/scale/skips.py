"""What goes past operators on the way back from an end, and which part of a gradient's growth is there."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from assay.scale.backward import Ancestors, Back
from assay.scale.band import NOTE
from assay.scale.rows import Row

_CHI = math.pi / (math.pi - 1)  # of a ReLU


@dataclass(frozen=True)
class Skips:
    """The skips on a path, added or concatenated.

    Args:
        sums: By how much the gradient's energy times mean square grows, back from the sums to what they add.
        joined: The same, back from what reads a concatenation to the earliest that stands in it.
        alone: How many operators with weights on the path have no skip past them.
        projected: How many have one that is an operator itself, as where the width changes in a ResNet.
        operators: How many there are.
        fits: The same growth over those of them that a skip would fit around: of one width and resolution.
        fitting: How many these are.
    """

    sums: float
    joined: float
    alone: int
    projected: int
    operators: int
    fits: float
    fitting: int

    @property
    def any(self) -> bool:
        """Whether there is a skip."""
        return self.alone < self.operators

    def would_fit(self, factor: float) -> bool:
        """Whether most of a gradient's growth is where skips would fit that are not there."""
        most = math.sqrt(factor)
        return self.fits > most if factor > 1 else self.fits < most

    def complete(self, factor: float) -> bool:
        """Whether skips are wherever one fits, and a gradient grows by the price of norms in between alone.

        Where the width or the resolution changes, a norm and a ReLU let it grow by χ, as unit variance does.

        Returns:
            True where most of the growth is there, and most operators have a skip.
        """
        left = factor / max(1.0, self.sums * self.joined)
        without = self.alone + self.projected
        there = 2 * without <= self.operators and not self.would_fit(factor)
        return there and math.sqrt(factor) < left < NOTE * _CHI**without


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
    projected = (_projected(rows, by, before) & fed) - past
    alone = fed - past - projected
    fits, fitting = _fits([by[i] for i in sorted(ends)], alone, before, back.factor > 1)
    return Skips(growth["sum"], growth[""], len(alone), len(projected), len(fed), fits, fitting)


def _projected(rows: Sequence[Row], by: Mapping[int, Row], before: Ancestors) -> set[int]:
    """The operators of two summands, of which the one is a shorter way from what both are made of."""
    found = set[int]()
    for row in rows:
        if row.kind != "sum" or len(row.follows) != 2:
            continue
        a, b = ({i, *before[i]} for i in row.follows)
        if not a & b:
            continue
        ways = [[i for i in way if by[i].kind == "product"] for way in (a - b, b - a)]
        if 0 < min(map(len, ways)) < max(map(len, ways)):
            found.update(*ways)
    return found


def _fits(
    path: Sequence[Row], alone: Collection[int], before: Ancestors, grows: bool
) -> tuple[float, int]:
    """Where skips would fit that are not there: from an output to a later one of the same shape.

    Of all ways to place them side by side the one is taken that most of the growth is in.

    Args:
        path: The rows, in order.
        alone: Which of them have no skip past them.
        before: Which rows each row depends on.
        grows: Whether the gradient grows, going back; else it shrinks.

    Returns:
        By how much it does so around these, and how many operators that is.
    """
    rows = [r for r in path if r.kind in ("product", "lookup", "sum")]
    best = [(0.0, 0)]  # of the first so many rows: the logarithm of the growth, and the operators
    for j, end in enumerate(rows):
        found, count = [best[-1]], 0
        for i in reversed(range(j)):
            start, after = rows[i], rows[i + 1]
            if after.kind != "sum" and after.index not in alone:
                break  # this one has a skip already
            count += after.index in alone
            fits = (start.units, start.samples) == (end.units, end.samples)
            inside = i > 0 and start.kind != "sum" and start.index not in alone  # of a branch
            sizes = _size(start), _size(end)
            if (
                fits
                and count
                and not inside
                and min(sizes) > 0
                and start.index in before[end.index]
            ):
                log = math.log(sizes[0] / sizes[1])
                found.append((best[i + 1][0] + (log if grows else -log), best[i + 1][1] + count))
        best.append(max(found))
    log, count = best[-1]
    return math.exp(log if grows else -log), count


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
