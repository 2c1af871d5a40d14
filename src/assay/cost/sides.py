"""On which side of another a formula lies along one size, at every value and not at those that are tried.

Pieces begin and end, floors step, peaks are the largest of several laws: a search that doubles and halves
takes one side for granted where the cost has changed it twice. Between the ends of pieces, and at values a
common period of all floors and grids apart, every law is a polynomial. A polynomial changes its sign at most
once between two turns of it, and these are where its differences change theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil, comb, lcm
from typing import NamedTuple

from assay.cost.budget import FARTHEST, last_that
from assay.cost.formula import Formula
from assay.cost.multiples import pieces_along
from assay.cost.piece import Piece, Range
from assay.cost.polynomial import Atom, Monomial, Polynomial, add
from assay.errors import CannotMeasure, verbatim

_PATIENCE = 1 << 14  # values of a period that are still gone through


class Last(NamedTuple):
    """The last value of a size on one side.

    Args:
        at: The value.
        after: The next at which both formulas hold; None where there is none.
    """

    at: int
    after: int | None


class _Law(NamedTuple):
    """A piece as a function of one size alone."""

    span: Range
    every: tuple[Polynomial, ...]  # of which it is the largest
    period: int  # at values so far apart it is a polynomial
    degree: int


def last_side(
    one: Formula, other: Formula, size: str, others: Mapping[str, int], *, over: bool
) -> Last | None:
    """The last value of a size at which one formula is more than another, or is not.

    Args:
        one: The one.
        other: The other.
        size: The size.
        others: Values of all other sizes of both.
        over: Whether `one` is to be more there.

    Returns:
        The value; None where there is none among those at which both hold.

    Raises:
        CannotMeasure: If the floors and grids repeat too late to be gone through.

    Example:
        >>> n = Polynomial.of("n")
        >>> last_side(Formula.of(n * n), Formula.of(n * 768), "n", {}, over=False)
        Last(at=768, after=769)
    """
    # what is rounded up is more than an integer where the fraction is: `one` need not be rounded
    laws = [_laws(one, size, others, rounded=False), _laws(other, size, others, rounded=True)]
    every = [law for some in laws for law in some]
    period = lcm(*(law.period for law in every))
    if period > _PATIENCE:
        raise CannotMeasure(
            f"size {size}",
            verbatim(f"floors that repeat every {period:,} values"),
            f"{_PATIENCE:,} values or fewer",
            "Compare the formulas at the values that matter.",
        )
    starts = {law.span.low for law in every} | {law.span.high + 1 for law in every if law.span.high}
    after = None
    for low, beyond in reversed([*pairwise(sorted(starts | {FARTHEST}))]):
        high = beyond - 1
        both: list[int] = []  # the first of each class of values that are a period apart
        found: list[int] = []
        for x in range(low, min(high, low + period - 1) + 1):
            mine, theirs = (next((law for law in some if x in law.span), None) for some in laws)
            if mine is None or theirs is None:
                continue
            both.append(x)
            steps = _last_step(mine, theirs, {**others, size: x}, size, period, high, over=over)
            if steps is not None:
                found.append(x + steps * period)
        if found:
            at = max(found)
            later = [x + max(0, (at - x) // period + 1) * period for x in both]
            return Last(at, min((x for x in later if x <= high), default=after))
        after = min(both, default=after)
    return None


def _laws(formula: Formula, size: str, others: Mapping[str, int], *, rounded: bool) -> list[_Law]:
    pieces = pieces_along(formula, size, others)
    return [_law(piece, size, others, rounded=rounded) for piece in pieces]


def _law(piece: Piece, size: str, others: Mapping[str, int], *, rounded: bool) -> _Law:
    span = dict(piece.where).get(size, Range())
    every = tuple(_alone(polynomial, size, others) for polynomial in piece.every)
    monomials = [monomial for p in every for monomial in p.terms]
    periods = [atom.period for monomial in monomials for atom, _ in monomial]
    if (
        rounded and piece.rivals
    ):  # what is rounded up is a polynomial where it always has the same remainder
        periods += [coefficient.denominator for p in every for coefficient in p.terms.values()]
    degree = max((sum(_power(a, size) * k for a, k in m) for m in monomials), default=0)
    return _Law(span, every, lcm(span.step, *periods), degree)


def _alone(polynomial: Polynomial, size: str, others: Mapping[str, int]) -> Polynomial:
    """The polynomial with numbers for all atoms that do not depend on the size."""
    terms: dict[Monomial, list[Polynomial]] = {}
    for monomial, coefficient in polynomial.terms.items():
        mine = tuple((atom, power) for atom, power in monomial if size in atom.names)
        rest = tuple((atom, power) for atom, power in monomial if size not in atom.names)
        terms.setdefault(mine, []).append(Polynomial({rest: coefficient}))
    values = {mine: add(rest).fraction(others) for mine, rest in terms.items()}
    return Polynomial({mine: value for mine, value in values.items() if value})


def _power(atom: Atom, size: str) -> int:
    return max(names.count(size) for _, names in atom.summands)


def _last_step(
    one: _Law,
    other: _Law,
    start: Mapping[str, int],
    size: str,
    period: int,
    high: int,
    *,
    over: bool,
) -> int | None:
    """After how many periods one law is last on a side of another; None where it never is."""
    most = (high - start[size]) // period
    points = [
        {**start, size: start[size] + k * period} for k in range(max(one.degree, other.degree) + 1)
    ]
    mine = [[p.fraction(at) for at in points] for p in one.every]
    theirs = [[Fraction(ceil(p.fraction(at))) for at in points] for p in other.every]
    turns = {0, *(t for p in mine for q in theirs for t in _turns(_less(p, q), most))}
    ones, those = ([_differences(values) for values in some] for some in (mine, theirs))
    for turn, following in reversed([*pairwise((*sorted(turns), most + 1))]):
        if (max(_at(p, turn) for p in ones) > max(_at(q, turn) for q in those)) == over:
            return following - 1
    return None


def _less(p: Sequence[Fraction], q: Sequence[Fraction]) -> list[Fraction]:
    return _differences([a - b for a, b in zip(p, q, strict=True)])


def _differences(values: list[Fraction]) -> list[Fraction]:
    """The first value, the first difference, the second, …: the coefficients of Newton's form."""
    found = []
    while values:
        found.append(values[0])
        values = [b - a for a, b in pairwise(values)]
    return found


def _at(differences: Sequence[Fraction], k: int) -> Fraction:
    return sum((d * comb(k, power) for power, d in enumerate(differences)), Fraction(0))


def _turns(differences: Sequence[Fraction], most: int) -> list[int]:
    """Where a polynomial becomes positive or ceases to be, from 1 to `most`."""
    if len(differences) < 2:
        return []
    found = []
    ends = sorted({0, *_turns(differences[1:], most), most})
    for low, high in pairwise(ends):  # between these it only rises, or only falls
        if (_at(differences, low) > 0) != (_at(differences, high) > 0):
            found.append(_first_unlike(differences, low, high))
    return found


def _first_unlike(differences: Sequence[Fraction], low: int, high: int) -> int:
    before = _at(differences, low) > 0
    return 1 + last_that(lambda k: (_at(differences, k) > 0) == before, low, high)
