"""Laws in a quotient of two sizes as laws in the sizes, where the one is a multiple of the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import isqrt, prod

from assay.cost.formula import Formula
from assay.cost.piece import Piece, Range, Where
from assay.cost.polynomial import Atom, Monomial, Polynomial, add
from assay.cost.quotient import sizes_in, split, whole_of


def in_sizes(formula: Formula) -> Formula:
    """A formula in sizes, of one in quotients: `h * (d/h)` is `d`, and holds where `d` is a multiple of `h`.

    Args:
        formula: The formula.

    Returns:
        It, or the same where there are no quotients.

    Example:
        >>> heads, width = Polynomial.of("h"), Polynomial.of("d/h")
        >>> told = in_sizes(Formula.of(heads * heads * width * width + heads * 5, ["d/h", "h"]))
        >>> str(told), told(d=64, h=4), told.holds(d=64, h=3)
        ('d**2 + 5*h for d a multiple of h', 4116, False)
    """
    if not any(split(name) for name in formula.sizes):
        return formula
    quotients = [name for name in formula.sizes if split(name)]

    def told(polynomial: Polynomial) -> Polynomial:
        for name in quotients * len(quotients):  # a part may be a quotient itself, and whole later
            polynomial = _reduced(polynomial, name)
        return polynomial

    pieces = tuple(replace(piece.map(told), where=_where(piece.where)) for piece in formula.pieces)
    checked = tuple((whole_of(name), value) for name, value in formula.checked)
    return Formula(tuple(map(whole_of, formula.sizes)), pieces, formula.reason, checked)


def _where(where: Where) -> Where:
    quotients = tuple((name, span) for name, span in where if split(name))
    every = ((whole_of(name), Range() if split(name) else span) for name, span in where)
    return (*every, *quotients)


def _reduced(polynomial: Polynomial, name: str) -> Polynomial:
    """Without products of a quotient and what it is divided by."""
    whole, *parts = sizes_in(name)
    quotient, divisors = Atom(name), [Atom(part) for part in parts]

    def product(names: tuple[str, ...]) -> tuple[str, ...]:
        rest = list(names)
        while name in rest and all(part in rest for part in parts):
            for part in parts:
                rest.remove(part)
            rest[rest.index(name)] = whole
        return tuple(sorted(rest))

    def atom(old: Atom) -> Atom:
        if not old.products:
            return old
        products = tuple((factor, product(names)) for factor, names in old.products)
        if len(products) == 1 and len(products[0][1]) == 1:
            factor, (size,) = products[0]
            return Atom(size, old.offset, old.period, factor)
        return replace(old, products=products)

    def monomial(old: Monomial) -> Monomial:
        powers: dict[Atom, int] = {}
        for factor, power in old:
            powers[atom(factor)] = powers.get(atom(factor), 0) + power
        common = min(powers.get(factor, 0) for factor in (quotient, *divisors))
        for factor in (quotient, *divisors):
            powers[factor] = powers.get(factor, 0) - common
        powers[Atom(whole)] = powers.get(Atom(whole), 0) + common
        return tuple(sorted((factor, power) for factor, power in powers.items() if power))

    return add(Polynomial({monomial(m): c}) for m, c in polynomial.terms.items())


def pieces_along(formula: Formula, size: str, others: Mapping[str, int]) -> list[Piece]:
    """The pieces of a formula as laws of one size, as `along` has them."""
    return [law for piece in formula.pieces for law in along(piece, size, others)]


def along(piece: Piece, size: str, others: Mapping[str, int]) -> Iterator[Piece]:
    """A piece as a law of one size, without conditions that are on two.

    Args:
        piece: The piece.
        size: The size.
        others: Values of all other sizes.

    Yields:
        It where it holds at these values; one for each divisor, where the size must divide another.

    Example:
        >>> law = Polynomial.of("d") * 3 + Polynomial.of("d/h")
        >>> piece = Piece((("d", Range()), ("h", Range()), ("d/h", Range(2, None, 2))), law)
        >>> [(str(p), p.condition) for p in along(piece, "d", {"h": 4})]
        [('3*d + (d//4)', 'd a multiple of 8')]
        >>> [(str(p), p.condition) for p in along(piece, "h", {"d": 12})]
        [('48', 'h = 1'), ('42', 'h = 2'), ('40', 'h = 3'), ('38', 'h = 6')]
    """
    if not piece.covers(others):
        return
    wanted = [name for name, _ in piece.where if split(name) and size in sizes_in(name)]
    known = [others[whole] for name in wanted if (whole := whole_of(name)) in others]
    if known:
        for value in _divisors(min(known)):
            at = {**others, size: value}
            if piece.covers(at):
                yield replace(piece.map(_constant(at)), where=((size, Range(value, value)),))
        return
    spans = dict(piece.where)
    for name in wanted:
        parts = sizes_in(name)[1:]
        if whole_of(name) == size and all(part in others for part in parts):
            span, width = spans.pop(name), prod(others[part] for part in parts)
            high = None if span.high is None else span.high * width
            met = spans[size].meet(Range(span.low * width, high, span.step * width))
            if met is None:
                return
            spans[size] = met
    yield replace(piece.map(_held(size, others)), where=tuple(spans.items()))


def _constant(at: Mapping[str, int]) -> Callable[[Polynomial], Polynomial]:
    return lambda polynomial: Polynomial.constant(polynomial.fraction(at))


def _held(size: str, others: Mapping[str, int]) -> Callable[[Polynomial], Polynomial]:
    """Quotients of a size by another that is known, as floors of the size."""

    def atom(old: Atom) -> Atom:
        both = split(old.size)
        if both is None or both[0] != size or not all(part in others for part in both[1]):
            return old
        width = prod(others[part] for part in both[1])
        return Atom(size, old.offset * width, old.period * width, old.factor)

    def held(polynomial: Polynomial) -> Polynomial:
        out = (
            Polynomial({tuple(sorted((atom(a), p) for a, p in monomial)): c})
            for monomial, c in polynomial.terms.items()
        )
        return add(out)

    return held


def _divisors(value: int) -> list[int]:
    small = [x for x in range(1, isqrt(value) + 1) if value % x == 0]
    return sorted({*small, *(value // x for x in small)})
