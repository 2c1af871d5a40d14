"""A few of many laws, of which the largest is as good as the largest of all: a peak that can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from random import Random

import numpy as np
from numpy.typing import NDArray

from assay.cost.piece import Range
from assay.cost.polynomial import Monomial, Polynomial

_GRID = 4000  # sizes at which the laws are compared in a round
_ROUNDS = 4
_SMALL = 8  # so many of the least values of a size are all looked at
_DOUBLINGS = 19
_CLOSE = 0.9975  # a law that is this near to the largest needs no larger one beside it


def upper(
    rivals: Sequence[Polynomial],
    spans: Mapping[str, Range],
    known: Sequence[Mapping[str, int]] = (),
) -> tuple[Polynomial, tuple[Polynomial, ...]]:
    """A few of the laws of which the largest is that of all, to a quarter of a percent.

    They are chosen at small sizes, at sizes a factor of about two apart, and where the model was run; what
    was chosen is then held against other sizes, drawn at random.

    Args:
        rivals: The laws.
        spans: Where they hold.
        known: More sizes to look at.

    Returns:
        The commonest of them, and the others.
    """
    alive, chosen = _undominated(rivals), list[int]()
    for round_ in range(_ROUNDS):
        grid = _grid(spans, Random(round_), known if round_ == 0 else (), at_random=round_ > 0)
        table = _table(alive, list(spans), grid)
        tops = table.max(axis=1)
        while True:
            best = table[:, chosen].max(axis=1) if chosen else np.zeros_like(tops)
            short = best < _CLOSE * tops
            if chosen and not short.any():
                break
            rows = short if short.any() else ~short
            wins = (table[rows] >= _CLOSE * tops[rows, None]).sum(axis=0)
            chosen.append(int(wins.argmax()))
    first, *others = (alive[i] for i in chosen)
    return first, tuple(others)


def _grid(
    spans: Mapping[str, Range],
    random: Random,
    known: Sequence[Mapping[str, int]],
    *,
    at_random: bool,
) -> NDArray[np.int64]:
    """Sizes `[points, sizes]` in these ranges: all combinations of some values, or some drawn at random."""
    values: list[list[int]] = []
    for span in spans.values():
        steps = {int(2 ** (k / 2) - 1) for k in range(2 * _DOUBLINGS)} | set(range(_SMALL))
        if at_random:
            steps = {int(2 ** random.uniform(0, _DOUBLINGS)) for _ in steps} | set(range(_SMALL))
        every = sorted(span.low + span.step * step for step in steps)
        values.append([value for value in every if value in span])
    combinations: list[tuple[int, ...]]
    if prod(map(len, values)) <= _GRID:
        combinations = list(product(*values))
    else:
        combinations = [*zip(*(random.choices(v, k=_GRID) for v in values), strict=True)]
    inside = [
        tuple(sizes[name] for name in spans)
        for sizes in known
        if all(sizes.get(name, 0) in span for name, span in spans.items())
    ]
    points = [*combinations, *inside]
    return np.array(points, dtype=np.int64).reshape(len(points), len(spans))


def _table(
    polynomials: list[Polynomial], names: list[str], grid: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The values `[points, polynomials]`, in floating point."""
    monomials, weights = _coefficients(polynomials)
    columns = {}
    for atom in {atom for monomial in monomials for atom, _ in monomial}:
        own = sorted(atom.variables)
        sizes, places = np.unique(
            grid[:, [names.index(n) for n in own]], axis=0, return_inverse=True
        )
        found = [float(atom.value(dict(zip(own, map(int, at), strict=True)))) for at in sizes]
        columns[atom] = np.array(found)[places.reshape(-1)]
    table = np.ones((len(grid), len(monomials)))
    for column, monomial in enumerate(monomials):
        for atom, power in monomial:
            table[:, column] *= columns[atom] ** power
    product_: NDArray[np.float64] = table @ weights
    return product_


def _undominated(rivals: Sequence[Polynomial]) -> list[Polynomial]:
    """Without those that another exceeds term by term; sizes and floors of them are not negative."""
    ranked = sorted(rivals, key=lambda p: -sum(p.terms.values()))
    _, weights = _coefficients(ranked)
    kept: list[int] = []
    for one in range(len(ranked)):
        above = weights[:, kept] >= weights[:, one, None]
        if not above.all(axis=0).any():
            kept.append(one)
    return [ranked[k] for k in kept] or [Polynomial()]


def _coefficients(polynomials: list[Polynomial]) -> tuple[list[Monomial], NDArray[np.float64]]:
    """All monomials, and the coefficients `[monomials, polynomials]` in floating point."""
    monomials = sorted({monomial for p in polynomials for monomial in p.terms})
    at = {monomial: k for k, monomial in enumerate(monomials)}
    weights = np.zeros((len(at), len(polynomials)))
    for column, polynomial in enumerate(polynomials):
        for monomial, coefficient in polynomial.terms.items():
            weights[at[monomial], column] = coefficient
    return monomials, weights
