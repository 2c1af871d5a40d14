"""Gradients of operators against those of the ends that they lead to (Theory S4)."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay.scale.band import outside
from assay.scale.rows import Row

Ancestors = Mapping[int, set[int]]  # of each row, by index, the rows that it depends on


@dataclass(frozen=True)
class Back:
    """How much of the gradient of the ends arrives at an operator.

    Args:
        row: The operator.
        end: Of the last operators that it leads to, the one with the largest gradient; where something goes
            past these and is joined to them again, the last operator that everything goes through.
        factor: Its gradient energy, as a multiple of that of all these ends together, of each in those calls
            that the operator leads to.
        averages: Of how many values what lies between takes means: a mean divides the gradient by that.
        depth: How many operators of the chain later the end is.
        operators: How many operators with weights later, of the chain or not.
        readout: What the width of readouts at the ends accounts for, where it is off: their own finding
            judges it.
        kept: What norms on the way that divide by their ε leave of the gradient's square.
    """

    row: Row
    end: Row
    factor: float
    averages: float
    depth: int
    operators: int
    readout: float
    kept: float

    @property
    def unexplained(self) -> float:
        """The factor, without what readouts, means and norms on the way account for."""
        if self.factor > 1:
            return max(1.0, self.factor / max(1.0, self.readout))
        return min(1.0, self.factor * self.averages / min(1.0, self.readout) / self.kept)


def energy(row: Row) -> float:
    """The sum of squares of the gradient, where a norm follows times what it is of; 0 without one.

    The sum (not the mean) is what unit-variance weights keep, whatever the widths and resolutions are.

    Returns:
        The energy.
    """
    return (row.gradient_relative if row.normalised else row.gradient_energy) or 0.0


def backward(chain: Sequence[Row], rows: Sequence[Row], before: Ancestors) -> list[Back]:
    """Every operator of a chain against the ends of that chain that depend on it.

    Two heads beside each other are both ends, and neither is measured against the other. Nor is a trunk
    measured against a branch that is joined to it again: most of its gradient never was in the branch.

    Args:
        chain: Operators with a gradient, in order.
        rows: All rows.
        before: Which rows each of these depends on.

    Returns:
        One for each operator that leads to another of the chain, past which nothing goes.
    """
    readers: dict[int, list[int]] = {}
    for other in rows:
        for i in other.reads:
            readers.setdefault(i, []).append(other.index)
    found = []
    for row in chain:
        after = [other for other in chain if row.index in before[other.index]]
        inner = set[int]().union(*(before[other.index] for other in after))
        ends = [other for other in after if other.index not in inner]
        if not ends or row.index in before[row.index]:
            continue
        if _bypassed(row.index, {other.index for other in ends}, readers, before):
            through = (
                other
                for other in reversed(after)
                if not _bypassed(row.index, {other.index}, readers, before)
            )
            last = next(through, None)
            if last is None:
                continue
            inside = before[last.index] | {last.index}
            ends, after = [last], [other for other in after if other.index in inside]
        parts = {other.index: energy(other) * other.share(row.index) for other in ends}
        end = max(ends, key=lambda other: parts[other.index])
        path = before[end.index] | {end.index}
        averages = math.prod(
            other.averaged
            for other in rows
            if other.index in path and row.index in before[other.index] and not other.gate
        )
        depth = sum(other.index in path for other in after)
        operators = sum(
            other.kind in ("product", "lookup")
            and other.index in path
            and row.index in before[other.index]
            for other in rows
        )
        kept = remainder(
            kept_of(other)
            for other in rows
            if other.index in path and row.index in {other.index, *before[other.index]}
        )
        whole = sum(parts.values())
        if not whole > 0:
            continue
        readout = sum(parts[other.index] * _own(other) for other in ends) / whole
        found.append(Back(row, end, energy(row) / whole, averages, depth, operators, readout, kept))
    return found


def kept_of(row: Row) -> float:
    """What the norm that reads an operator leaves of its size, where it divides by its ε; else 1."""
    found = row.divisor
    return found.kept if found is not None and row.varies and outside(found.kept) else 1.0


def remainder(parts: Iterable[float]) -> float:
    """What is left of something by several that leave a part of it: never nothing, by underflow."""
    return max(math.prod(parts), sys.float_info.min)


def _bypassed(
    start: int,
    ends: set[int],
    readers: Mapping[int, Sequence[int]],
    before: Ancestors,
) -> bool:
    """Whether something gets from an operator past some others to what depends on these."""
    seen, to_see = set(ends), [start]
    while to_see:
        for i in readers.get(to_see.pop(), ()):
            if i in seen:
                continue
            if not ends.isdisjoint(before[i]):
                return True
            seen.add(i)
            to_see.append(i)
    return False


def _own(row: Row) -> float:
    """By what the width of a readout multiplies the gradient's energy, where it is off by ten: σ² fan-in.

    A head that starts small is a choice, and a note of the forward pass.

    Returns:
        The factor; 1 of everything else.
    """
    if not row.readout or row.normalised or not (row.fan_in and row.weight_square):
        return 1.0
    size = row.fan_in * row.weight_square * row.factor**2
    return size if not 0.1 <= size <= 10 else 1.0


def ancestors(rows: Sequence[Row], *, sized: bool = False) -> Ancestors:
    """The indices of all rows that each row depends on.

    Args:
        rows: All rows.
        sized: Only those whose size reaches it, past no norm.

    Returns:
        Sets by index.
    """
    found: dict[int, set[int]] = {}
    for row in rows:
        direct = row.sized_by if sized else row.follows
        found[row.index] = set(direct).union(*(found.get(i, set()) for i in direct))
    return found
