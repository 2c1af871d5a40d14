"""Gradients of operators against those of the ends that they lead to (Theory S4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.scale.rows import Row


@dataclass(frozen=True)
class Back:
    """How much of the gradient of the ends arrives at an operator.

    Args:
        row: The operator.
        end: Of the last operators that it leads to, the one with the largest gradient.
        factor: Its gradient energy, as a multiple of that of all these ends together.
        averages: Of how many values what lies between takes means: a mean divides the gradient by that.
        depth: How many operators later the end is.
    """

    row: Row
    end: Row
    factor: float
    averages: float
    depth: int

    @property
    def unexplained(self) -> float:
        """The factor, without what means on the way make it smaller by."""
        return self.factor if self.factor > 1 else min(1.0, self.factor * self.averages)


def energy(row: Row) -> float:
    """The sum of squares of the gradient, where a norm follows times what it is of; 0 without one.

    The sum (not the mean) is what unit-variance weights keep, whatever the widths and resolutions are.

    Returns:
        The energy.
    """
    return (row.gradient_relative if row.normalised else row.gradient_energy) or 0.0


def backward(chain: Sequence[Row], rows: Sequence[Row]) -> list[Back]:
    """Every operator of a chain against the ends of that chain that depend on it.

    Two heads beside each other are both ends, and neither is measured against the other.

    Args:
        chain: Operators with a gradient, in order.
        rows: All rows.

    Returns:
        One for each operator that leads to another of the chain.
    """
    before = ancestors(rows)
    found = []
    for row in chain:
        after = [other for other in chain if row.index in before[other.index]]
        inner = set[int]().union(*(before[other.index] for other in after))
        ends = [other for other in after if other.index not in inner]
        if not ends or row.index in before[row.index]:
            continue
        end = max(ends, key=energy)
        path = before[end.index] | {end.index}
        averages = math.prod(
            other.averaged
            for other in rows
            if other.index in path and row.index in before[other.index] and not other.gate
        )
        depth = sum(other.index in path for other in after)
        factor = energy(row) / sum(map(energy, ends))
        found.append(Back(row, end, factor, averages, depth))
    return found


def ancestors(rows: Sequence[Row]) -> Mapping[int, set[int]]:
    """The indices of all rows that each row depends on."""
    found: dict[int, set[int]] = {}
    for row in rows:
        found[row.index] = set(row.follows)
        for i in row.follows:
            found[row.index] |= found.get(i, set())
    return found
