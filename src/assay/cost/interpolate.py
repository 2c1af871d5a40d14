"""Exact interpolation of many integer-valued functions at once, on an adaptive lower set.

All sizes live on lattices `x_i = start_i + step_i t_i`, `t_i = 0, 1, 2, …`. There a polynomial is a sum
of integer forward differences times binomials, `f = Σ_α c_α Π_i C(t_i, α_i)` (Newton). A set Λ of
multi-indices grows from 0: a neighbour joins when all the differences below it are there and alive
(nonzero for some function). No fraction is ever rounded, because there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from math import comb
from typing import Generic, TypeVar

Index = tuple[int, ...]
K = TypeVar("K", bound=Hashable)


class Interpolant(Generic[K]):
    """Integer-valued polynomials in lattice coordinates, one for each key, all on one lower set.

    Args:
        measure: `measure(t) -> {key: integer}` at lattice coordinates `t`; a missing key is 0.
        dimensions: Number of sizes.
        highest: No size gets a larger degree than this.
    """

    def __init__(
        self, measure: Callable[[Index], Mapping[K, int]], dimensions: int, highest: int = 4
    ) -> None:
        self._measure, self._highest = measure, highest
        self.coefficients: dict[Index, dict[K, int]] = {}
        self._dimensions = dimensions
        self._grow({(0,) * dimensions})

    def at(self, t: Index) -> dict[K, int]:
        """All functions at lattice coordinates `t`.

        Returns:
            The values, by key; a function that is zero there may be missing.
        """
        total: dict[K, int] = {}
        for index, values in self.coefficients.items():
            weight = 1
            for coordinate, order in zip(t, index, strict=True):
                weight *= _binomial(coordinate, order)
            if weight:
                for key, value in values.items():
                    total[key] = total.get(key, 0) + weight * value
        return total

    def widen(self) -> bool:
        """Add every neighbour of the set, alive or not: for functions whose low differences vanish.

        Returns:
            False where the highest degree is reached everywhere.
        """
        ring = {
            neighbour
            for index in self.coefficients
            for neighbour in self._above(index)
            if neighbour not in self.coefficients
            and all(below in self.coefficients for below in _below(neighbour))
        }
        if ring:
            self._grow(ring)
        return bool(ring)

    def _grow(self, front: set[Index]) -> None:
        while front:
            alive = {index for index in sorted(front) if self._add(index)}
            front = {
                neighbour
                for index in alive
                for neighbour in self._above(index)
                if neighbour not in self.coefficients
                and all(self.coefficients.get(below) for below in _below(neighbour))
            }

    def _add(self, index: Index) -> bool:
        """Measure at the node of `index` and keep what the differences below do not explain."""
        measured = self._measure(index)
        explained = self.at(index)
        self.coefficients[index] = {
            key: difference
            for key in {*measured, *explained}
            if (difference := measured.get(key, 0) - explained.get(key, 0))
        }
        return bool(self.coefficients[index])

    def _above(self, index: Index) -> list[Index]:
        return [
            (*index[:i], index[i] + 1, *index[i + 1 :])
            for i in range(self._dimensions)
            if index[i] < self._highest
        ]


def _below(index: Index) -> list[Index]:
    return [(*index[:i], k - 1, *index[i + 1 :]) for i, k in enumerate(index) if k]


def _binomial(t: int, k: int) -> int:
    """C(t, k) as a polynomial in t, so also below the start of the lattice (negative t)."""
    return comb(t, k) if t >= 0 else (-1) ** k * comb(k - t - 1, k)
