"""A law and where it holds: a range for every size, and a polynomial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, gcd, inf, prod
from typing import Any

from assay.cost.polynomial import Polynomial, symbol
from assay.cost.quotient import split


@dataclass(frozen=True, order=True)
class Range:
    """The integers of one size for which a piece holds: `low, low + step, …` up to `high`.

    Args:
        low: The least size.
        high: The greatest size, or None where there is no end.
        step: The distance between sizes at which the model can be built (`d` a multiple of its heads).
    """

    low: int = 1
    high: int | None = None
    step: int = 1

    def __contains__(self, size: int) -> bool:
        fits = self.low <= size and (self.high is None or size <= self.high)
        return fits and (size - self.low) % self.step == 0

    def meet(self, other: Range) -> Range | None:
        """The sizes in both, or None where there are none."""
        highs = [r.high for r in (self, other) if r.high is not None]
        high = min(highs) if highs else None
        if (self.low - other.low) % gcd(self.step, other.step):
            return None
        step = self.step * other.step // gcd(self.step, other.step)
        start = max(self.low, other.low)
        low = next(x for x in range(start, start + step) if self._grid(x) and other._grid(x))
        return None if high is not None and low > high else Range(low, high, step)

    def values(self) -> range:
        """All its sizes; of a range without an end there is no such list.

        Returns:
            The sizes.
        """
        assert self.high is not None
        return range(self.low, self.high + 1, self.step)

    def _grid(self, size: int) -> bool:
        return (size - self.low) % self.step == 0

    def text(self, name: str) -> str:
        """The condition in words, "" where every size from 1 on fits."""
        if self.low == self.high:
            return f"{name} = {self.low}"
        if self.step > 1:
            rest = self.low % self.step
            grid = f"{name} a multiple of {self.step}" + (f" plus {rest}" if rest else "")
            above = f"{name} ≥ {self.low}" if self.low > self.step else ""
            below = f"{name} ≤ {self.high}" if self.high is not None else ""
            return ", ".join(part for part in (grid, above, below) if part)
        if self.high is not None:
            return f"{self.low} ≤ {name} ≤ {self.high}" if self.low > 1 else f"{name} ≤ {self.high}"
        return f"{name} ≥ {self.low}" if self.low > 1 else ""


# by the name of a size, or of a quotient `d/h`: then `h` divides `d`
Where = tuple[tuple[str, Range], ...]


@dataclass(frozen=True)
class Piece:
    """A polynomial, and the sizes for which it holds.

    Args:
        where: The range of each size.
        polynomial: The value.
        rivals: Other polynomials; with them the value is the largest of all (a peak).
    """

    where: Where
    polynomial: Polynomial
    rivals: tuple[Polynomial, ...] = ()

    def __call__(self, sizes: Mapping[str, int]) -> int:
        """The value at sizes that it covers."""
        if self.rivals:
            return max(ceil(p.fraction(sizes)) for p in self.every)
        return self.polynomial(sizes)

    def __str__(self) -> str:
        if self.rivals:
            return f"max({', '.join(str(p) for p in self.every)})"
        return str(self.polynomial)

    @property
    def names(self) -> frozenset[str]:
        """Every size that occurs."""
        return frozenset().union(*(p.names for p in self.every))

    def joined(self, other: Piece) -> Piece | None:
        """This piece and one that goes on where it ends.

        Returns:
            One piece, or None where they are not of one law.
        """
        if self.rivals != other.rivals:
            return None
        pairs = zip(self.where, other.where, strict=True)
        differing = [(name, a, b) for (name, a), (_, b) in pairs if a != b]
        if len(differing) != 1:
            return None
        name, a, b = differing[0]
        if a.high is None or a.high + a.step != b.low or a.step != b.step:
            return None
        difference = self.polynomial - other.polynomial
        if difference.vanishes(name, a.values()):  # where the upper law holds below its range too
            law = other
        elif b.high is not None and difference.vanishes(name, b.values()):
            law = self
        else:
            return None
        span = Range(a.low, b.high, a.step)
        where = tuple((n, span if n == name else s) for n, s in self.where)
        return Piece(where, law.polynomial, law.rivals)

    def includes(self, other: Piece) -> bool:
        """Whether every size of another piece is one of this."""
        pairs = zip(self.where, other.where, strict=True)
        return all(a.meet(b) == b for (_, a), (_, b) in pairs)

    def fixes(self, name: str, value: int) -> bool:
        """Whether it holds at one value of a size, or at 1 and 2."""
        span = dict(self.where).get(name)
        return span is not None and span.high == value and value - span.low < 2

    def covers(self, sizes: Mapping[str, int]) -> bool:
        """Whether the piece speaks about `sizes`; a size that is not given fits."""
        return all(_fits(name, span, sizes) for name, span in self.where)

    @property
    def every(self) -> tuple[Polynomial, ...]:
        """The polynomial and its rivals."""
        return (self.polynomial, *self.rivals)

    def map(self, change: Callable[[Polynomial], Polynomial]) -> Piece:
        """The piece with something done to every polynomial.

        Returns:
            A new piece.
        """
        return Piece(self.where, change(self.polynomial), tuple(map(change, self.rivals)))

    def plus(self, other: Piece, where: Where) -> Piece:
        """The sum where both hold: the largest of all sums.

        Returns:
            A new piece.
        """
        first, *rest = dict.fromkeys(p + q for p in self.every for q in other.every)
        return Piece(where, first, tuple(rest))

    @property
    def cut(self) -> str:
        """Of the condition what leaves large sizes out, or values between; not where it begins."""
        cuts = [
            (name, span)
            for name, span in self.where
            if span.high is not None or span.step > 1 or split(name)
        ]
        return ", ".join(_text(name, span) for name, span in cuts)

    @property
    def condition(self) -> str:
        """The sizes for which it holds, in words; "" for all."""
        return ", ".join(text for name, span in self.where if (text := _text(name, span)))

    def sympy(self) -> Any:
        """The value as a sympy expression."""
        import sympy

        every = [p.sympy() for p in self.every]
        return sympy.Max(*every) if self.rivals else every[0]

    def sympy_condition(self) -> Any:
        """Where it holds, as a sympy condition."""
        import sympy

        condition = sympy.true
        for name, span in self.where:
            value = symbol(name)
            if span.low > 1:
                condition &= value >= span.low
            if span.high is not None:
                condition &= value <= span.high
            if span.step > 1 or split(name):
                condition &= sympy.Eq(sympy.Mod(value - span.low, span.step), 0)
        return condition

    def latex(self) -> str:
        """The value as LaTeX."""
        every = [p.latex() for p in self.every]
        return rf"\max\left({', '.join(every)}\right)" if self.rivals else every[0]

    def latex_condition(self) -> str:
        """Where it holds, as LaTeX."""
        text = (self.condition or "otherwise").replace("_", r"\_")
        for sign, command in (("≥", r"$\ge$"), ("≤", r"$\le$")):
            text = text.replace(sign, command)
        return rf"\text{{{text}}}"


def _fits(name: str, span: Range, sizes: Mapping[str, int]) -> bool:
    """Whether a size is in a range, or not given; a quotient whether it is an integer in it."""
    both = split(name)
    if both is None or name in sizes:
        return name not in sizes or sizes[name] in span
    whole, parts = both
    if any(size not in sizes for size in (whole, *parts)):
        return True
    quotient, rest = divmod(sizes[whole], prod(sizes[part] for part in parts))
    return not rest and quotient in span


def _text(name: str, span: Range) -> str:
    """The condition in words; of a quotient first that there is one."""
    both = split(name)
    if both is None:
        return span.text(name)
    whole, parts = both
    divides = f"{whole} a multiple of {'*'.join(parts)}"
    quotient = f"{whole}/({'*'.join(parts)})" if len(parts) > 1 else name
    return ", ".join(filter(None, (divides, span.text(quotient))))


def beyond(pieces: Sequence[Piece]) -> dict[str, int]:
    """The first value of each size at which all pieces have ended, where they hold at several.

    Args:
        pieces: The pieces of a formula, at least one.

    Returns:
        By size; without those that have no end.
    """
    found: dict[str, int] = {}
    for name in dict(pieces[0].where):
        spans = [dict(piece.where)[name] for piece in pieces]
        last = max(spans, key=lambda span: inf if span.high is None else span.high)
        if last.high is not None and last.high > min(span.low for span in spans):
            found[name] = last.high + last.step
    return found
