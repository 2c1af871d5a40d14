"""Squares of halves that are rounded, written as the products that a model computes.

A layer of `d` times `d//2` weights costs their product. Squares tell the same: what `d` leaves over is its
own square, so that `d*(d//2)` is a sum of `d**2`, `(d//2)**2`, `d` and `d//2`; squares are what is fitted.
"""

from __future__ import annotations

from fractions import Fraction

from assay.cost.polynomial import Atom, Polynomial


def with_products(law: Polynomial) -> Polynomial:
    """A polynomial with products of a size and its half in place of squares, where that is shorter.

    Args:
        law: Any polynomial.

    Returns:
        The same function.

    Example:
        >>> d, half = Polynomial.of("d"), Polynomial.of("d", 0, 2)
        >>> squares = half * half * 4 + d * d - d + half * 2
        >>> str(squares), str(with_products(squares))
        ('d**2 + 4*(d//2)**2 + 2*(d//2) - d', '4*d*(d//2)')
    """
    halves = {atom for monomial in law.terms for atom, k in monomial if k == 2 and _is_half(atom)}
    for half in sorted(halves):
        shorter = _replaced(law, half)
        if len(shorter.terms) < len(law.terms):
            law = shorter
    return law


def _is_half(atom: Atom) -> bool:
    return atom.period == 2 and not atom.products


def _replaced(law: Polynomial, half: Atom) -> Polynomial:
    """With `y = 2a + r` and `r² = r`: `a² = (4·y·a + y − 2·a − y²)/4`."""
    a = Polynomial({((half, 1),): Fraction(1)})
    y = Polynomial.of(half.size) * half.factor + Polynomial.constant(half.offset)
    square = (y * a * 4 + y + a * -2 + y * y * -1) * Fraction(1, 4)
    found = Polynomial()
    for monomial, c in law.terms.items():
        rest = tuple(part for part in monomial if part != (half, 2))
        term = Polynomial({rest: c})
        found = found + (term if rest == monomial else term * square)
    return found
