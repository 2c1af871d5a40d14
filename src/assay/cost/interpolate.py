"""Exact interpolation of many functions at once, on an adaptive lower set.

Every size is an `Axis` of hierarchical functions. What is counted is a sum over multi-indices α of
`c_α Π_i h_{i,α_i}(x_i)`. The set of indices grows from 0: a neighbour joins when everything below it is
there and alive: not zero, along powers for one and the same function. Arithmetic is in fractions, so nothing
is rounded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from assay.cost.axis import Axis, whole
from assay.cost.polynomial import Monomial, Polynomial

Index = tuple[int, ...]
Point = tuple[int, ...]
_WIDEST = 2**62  # in 64 bits, with room for how floating point rounds
K = TypeVar("K", bound=Hashable)


class Interpolant(Generic[K]):
    """One function of the sizes for each key, all on one lower set of indices.

    Args:
        measure: `measure(point) -> {key: integer}`; a missing key is 0.
        axes: The sizes, in the order of the coordinates of a point.
        grow: Whether to measure right away.
        sums: Functions that are sums of others: alive wherever one of these is, they tell nothing.

    Attributes:
        points: Where was measured.
        foretell: Functions that are not fitted, and what is thought of each of them anywhere.
    """

    def __init__(
        self,
        measure: Callable[[Point], Mapping[K, int]],
        axes: Sequence[Axis],
        *,
        grow: bool = True,
        sums: Container[K] = (),
    ) -> None:
        self._measure, self.axes = measure, tuple(axes)
        self._sums: Container[K] | None = sums
        self.points: set[Point] = set()
        self.foretell: Mapping[K, Callable[[Point], int]] = {}
        self.coefficients: dict[Index, dict[K, int | Fraction]] = {}
        if grow:
            self._grow({(0,) * len(self.axes)})

    def __getstate__(self) -> dict[str, Any]:
        """What was fitted; how it was measured belongs to a search that is over."""
        return {**vars(self), "_measure": None, "_sums": None, "foretell": {}}

    def at(self, point: Point) -> dict[K, int | Fraction]:
        """All functions at a point.

        Returns:
            The values, by key; a function that is zero there may be missing.
        """
        total: dict[K, int | Fraction] = {}
        for factor, values in self._weighted(point):
            for key, value in values.items():
                total[key] = total.get(key, 0) + factor * value
        return total

    def one(self, key: K, point: Point) -> int | Fraction:
        """One function at a point."""
        if key in self.foretell:
            return self.foretell[key](point)
        return sum(factor * values.get(key, 0) for factor, values in self._weighted(point))

    def _weighted(
        self, point: Point
    ) -> Iterator[tuple[int | Fraction, Mapping[K, int | Fraction]]]:
        pairs = zip(self._row(point), self.coefficients.values(), strict=True)
        return (pair for pair in pairs if pair[0])

    def _row(self, point: Point) -> Sequence[int | Fraction]:
        """By what each coefficient counts at a point."""
        return [self._weight(index, point) for index in self.coefficients]

    def _weight(self, index: Index, point: Point) -> int | Fraction:
        weight: int | Fraction = 1
        for axis, order, x in zip(self.axes, index, point, strict=True):
            if order:
                weight *= axis.weight(order, x)
        return whole(weight)

    def widen(self) -> bool:
        """Add what lies above functions that are alive one here, another there; then every next power.

        For functions whose low differences vanish.

        Returns:
            False where every axis is used up.
        """
        known = len(self.coefficients)
        self._sums = None
        self._grow({*self.coefficients})
        if len(self.coefficients) > known:
            return True
        ring = {
            above
            for index in self.coefficients
            for above in self._above(index)
            if above not in self.coefficients
            and all(below in self.coefficients for below in self._below(above))
            and all(k == 0 for k, axis in zip(above, self.axes, strict=True) if not axis.adaptive)
        }
        if ring:
            self._grow(ring)
        return bool(ring)

    def replayed(
        self, measure: Callable[[Point], Mapping[K, int]], axes: Sequence[Axis] | None = None
    ) -> Interpolant[K]:
        """Other functions on the same set of indices.

        Args:
            measure: As for the class.
            axes: Other axes, with as many nodes; by default the same.

        Returns:
            Their interpolant, which no longer grows.
        """
        other: Interpolant[K] = Interpolant(measure, axes or self.axes, grow=False)
        other.foretell = self.foretell
        for index in self.coefficients:  # in the order of growth: what is below comes first
            other._add(index)
        return other

    def only(self, keys: set[K]) -> Interpolant[K]:
        """The same for some of the functions.

        Returns:
            An interpolant that no longer grows.
        """
        other = copy.copy(self)
        other.coefficients = {
            index: {key: value for key, value in values.items() if key in keys}
            for index, values in self.coefficients.items()
        }
        return other

    def table(self, keys: Sequence[K], points: Sequence[Point]) -> NDArray[Any]:
        """Some of the functions at some points.

        Returns:
            Their values, `[points, keys]`: integers of 64 bits, or Python's numbers where these are too few.
        """
        rows = [self._row(point) for point in points]
        return _product_of(_matrix(rows, len(self.coefficients)), self._columns(keys))

    def _columns(self, keys: Sequence[K]) -> NDArray[np.object_]:
        """The coefficients of some of the functions, `[indices, keys]`."""
        rows = [[found.get(key, 0) for key in keys] for found in self.coefficients.values()]
        return _matrix(rows, len(keys))

    @property
    def keys(self) -> set[K]:
        """The functions that are not zero everywhere."""
        return {key for values in self.coefficients.values() for key in values}

    def polynomials(self, fixed: Mapping[int, int]) -> dict[K, Polynomial]:
        """The functions as polynomials in sizes and floors.

        Args:
            fixed: Values of axes that should not be sizes of the result, by their positions.

        Returns:
            One polynomial for each key that is not zero everywhere.
        """
        # integers over one denominator: sums of fractions take many times as long
        products = [self._product(index, fixed) for index in self.coefficients]
        common = lcm(*(c.denominator for terms in products for c in terms.values()))
        monomials = [*dict.fromkeys(monomial for terms in products for monomial in terms)]
        rows = [
            [whole(terms.get(m, Fraction(0)) * common) for terms in products] for m in monomials
        ]
        keys = [*dict.fromkeys(key for values in self.coefficients.values() for key in values)]
        found = _product_of(_matrix(rows, len(products)), self._columns(keys)).T.tolist()
        return {
            key: Polynomial(
                {m: Fraction(c) / common for m, c in zip(monomials, column, strict=True) if c}
            )
            for key, column in zip(keys, found, strict=True)
            if any(column)
        }

    def _product(self, index: Index, fixed: Mapping[int, int]) -> Mapping[Monomial, Fraction]:
        product = Polynomial.constant(1)
        for i, (axis, order) in enumerate(zip(self.axes, index, strict=True)):
            if order and i in fixed:
                product = product * axis.weight(order, fixed[i])
            elif order:
                product = product * axis.functions[order]
        return product.terms

    def _grow(self, front: set[Index]) -> None:
        while front:
            for index in sorted(front - self.coefficients.keys()):
                self._add(index)
            front = {
                above
                for index in front
                for above in self._above(index)
                if above not in self.coefficients and self._wanted(above)
            }

    def _wanted(self, index: Index) -> bool:
        """Whether everything below is there and alive."""
        below = [self.coefficients.get(one, {}) for one in self._below(index)]
        powers = all(axis.adaptive for k, axis in zip(index, self.axes, strict=True) if k)
        sums = self._sums
        if sums is None or not powers:
            return all(below)
        return any(key not in sums and all(key in alive for alive in below) for key in below[0])

    def _below(self, index: Index) -> list[Index]:
        """The indices that must be alive for this one to be measured.

        Below a power is the power before it. Along floors any function may be zero and the next one not,
        so below each of them is the constant.

        Returns:
            The indices, one for each size that the function depends on.
        """
        return [
            (*index[:i], order - 1 if axis.adaptive else 0, *index[i + 1 :])
            for i, (order, axis) in enumerate(zip(index, self.axes, strict=True))
            if order
        ]

    def _add(self, index: Index) -> None:
        """Measure at the node of `index` and keep what the indices below do not explain."""
        node = tuple(axis.nodes[order] for axis, order in zip(self.axes, index, strict=True))
        measured, explained = self._measure(node), self.at(node)
        self.points.add(node)
        self.coefficients[index] = {
            key: whole(difference)
            for key in {**measured, **explained}
            if (difference := measured.get(key, 0) - explained.get(key, 0))
        }

    def _above(self, index: Index) -> list[Index]:
        """The indices that this one is below, along one axis."""
        found: list[Index] = []
        for i, (order, axis) in enumerate(zip(index, self.axes, strict=True)):
            if axis.adaptive:
                higher = range(order + 1, min(order + 2, len(axis.nodes)))
            else:
                higher = range(1, len(axis.nodes) if order == 0 else 0)
            found += [(*index[:i], k, *index[i + 1 :]) for k in higher]
        return found


def _matrix(rows: Sequence[Sequence[int | Fraction]], width: int) -> NDArray[np.object_]:
    return np.array(rows, dtype=object).reshape(len(rows), width)


def _product_of(left: NDArray[np.object_], right: NDArray[np.object_]) -> NDArray[Any]:
    """The product of two matrices, exact: in integers of 64 bits where they last."""
    sizes = [np.abs(each.astype(float)) for each in (left, right)]
    largest = max(each.max(initial=0) for each in (*sizes, sizes[0] @ sizes[1]))
    if largest < _WIDEST and all(isinstance(x, int) for x in (*left.flat, *right.flat)):
        left, right = left.astype(np.int64), right.astype(np.int64)
    product: NDArray[Any] = left @ right
    return product
