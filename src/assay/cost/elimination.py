"""Exact interpolation on monomials that are given: floors of several sizes at once lie on no grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.cost.axis import Axis, whole
from assay.cost.interpolate import Index, Interpolant, K, Point
from assay.cost.polynomial import Monomial, Polynomial

_PRIME = (1 << 521) - 1  # what is solved modulo it is known exactly: numbers here are much shorter
Around = Callable[[Point], Iterable[Point]]  # points not far up from a corner, in no order


class Solved(Interpolant[K]):
    """One function of the sizes for each key, a sum of the same monomials for all.

    Of monomials that no points tell apart the later ones are left out.

    Args:
        measure: As for `Interpolant`.
        axes: The sizes; their first nodes are the corner from which points are looked for.
        monomials: The monomials.
        around: Points to choose from.
    """

    def __init__(
        self,
        measure: Callable[[Point], Mapping[K, int]],
        axes: Sequence[Axis],
        monomials: Sequence[Monomial],
        around: Around,
    ) -> None:
        super().__init__(measure, axes, grow=False)
        self._monomials, self._around = tuple(monomials), around
        corner = tuple(axis.nodes[0] for axis in self.axes)
        points, kept = independent(around(corner), self._row, len(self._monomials))
        self._monomials = tuple(self._monomials[k] for k in kept)
        self.points = set(points)
        measured = [measure(point) for point in points]
        keys = list(dict.fromkeys(key for counts in measured for key in counts))
        sides = [[counts.get(key, 0) for key in keys] for counts in measured]
        for k, row in enumerate(solve([self._row(point) for point in points], sides)):
            pairs = zip(keys, row, strict=True)
            self.coefficients[(k,)] = {key: whole(value) for key, value in pairs if value}

    def __getstate__(self) -> dict[str, Any]:
        """As of any interpolant."""
        return {**super().__getstate__(), "_around": None}

    def replayed(
        self, measure: Callable[[Point], Mapping[K, int]], axes: Sequence[Axis] | None = None
    ) -> Interpolant[K]:
        """As of any interpolant.

        Returns:
            Other functions, at the same points or at such that begin where other axes do.
        """
        if axes is None or [a.nodes[0] for a in axes] == [a.nodes[0] for a in self.axes]:
            return Solved(measure, self.axes, self._monomials, lambda _: sorted(self.points))
        return Solved(measure, axes, self._monomials, self._around)

    def _row(self, point: Point) -> list[int]:
        sizes = {axis.size: x for axis, x in zip(self.axes, point, strict=True)}
        return [prod(atom.value(sizes) ** power for atom, power in m) for m in self._monomials]

    def _product(self, index: Index, fixed: Mapping[int, int]) -> Mapping[Monomial, Fraction]:
        numbers = {self.axes[i].size: value for i, value in fixed.items()}
        monomial = self._monomials[index[0]]
        number = prod(numbers[a.size] ** power for a, power in monomial if a.size in numbers)
        rest = tuple((a, power) for a, power in monomial if a.size not in numbers)
        return Polynomial({rest: Fraction(number)}).terms


def independent(
    points: Iterable[Point], row: Callable[[Point], list[int]], wanted: int
) -> tuple[list[Point], list[int]]:
    """The first points whose rows are linearly independent, and as many columns that are.

    Args:
        points: Points, in the order in which they are preferred.
        row: The row of a point.
        wanted: How many points are enough.

    Returns:
        The points, and the columns of a submatrix of full rank, in order.

    Example:
        >>> independent([(1,), (2,), (3,)], lambda point: [1, point[0], 2 * point[0]], 3)
        ([(1,), (2,)], [0, 1])
    """
    chosen: list[Point] = []
    reduced: list[tuple[int, NDArray[np.object_]]] = []  # where a row has its 1, and the row
    for point in points:
        left = np.array(row(point), object) % _PRIME
        for at, other in reduced:
            if left[at]:
                left = (left - left[at] * other) % _PRIME
        if (alive := np.flatnonzero(left)).size:
            at = int(alive[0])
            reduced.append((at, left * pow(left[at], -1, _PRIME) % _PRIME))
            chosen.append(point)
            if len(chosen) == wanted:
                break
    return chosen, sorted(at for at, _ in reduced)


def solve(rows: Sequence[Sequence[int]], sides: Sequence[Sequence[int]]) -> list[list[Fraction]]:
    """The solutions of linear equations with small rational solutions, exact.

    Args:
        rows: The matrix, square and of full rank.
        sides: Right sides, one row for each row of the matrix and one column for each solution.

    Returns:
        The solutions, one row for each column of the matrix.

    Example:
        >>> solve([[2, 0], [1, 3]], [[1, 4], [0, 5]])
        [[Fraction(1, 2), Fraction(2, 1)], [Fraction(-1, 6), Fraction(1, 1)]]
    """
    size = len(rows)
    table = np.array([[*row, *side] for row, side in zip(rows, sides, strict=True)], object)
    table %= _PRIME
    for k in range(size):
        pivot = next(i for i in range(k, size) if table[i, k])
        table[[k, pivot]] = table[[pivot, k]]
        table[k] = table[k] * pow(table[k, k], -1, _PRIME) % _PRIME
        for i in range(size):
            if i != k and table[i, k]:
                table[i] = (table[i] - table[i, k] * table[k]) % _PRIME
    return [[_rational(value) for value in row] for row in table[:, size:]]


def _rational(residue: int) -> Fraction:
    """The fraction with the smallest terms that has this residue, by Euclid's algorithm."""
    above, rest, before, factor = _PRIME, residue, 0, 1
    while rest * rest > _PRIME:
        quotient = above // rest
        above, rest = rest, above - quotient * rest
        before, factor = factor, before - quotient * factor
    return Fraction(rest, factor)
