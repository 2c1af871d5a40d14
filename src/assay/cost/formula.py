"""A cost as a function of sizes: what `derive_cost` hands out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from math import ceil, gcd
from typing import Any, Literal

from assay.cost.polynomial import Polynomial, add
from assay.errors import CannotMeasure, UsageError, verbatim

Status = Literal["exact", "exact on residues", "piecewise", "refused"]


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
        if (self.polynomial, self.rivals) != (other.polynomial, other.rivals):
            return None
        pairs = zip(self.where, other.where, strict=True)
        differing = [(name, a, b) for (name, a), (_, b) in pairs if a != b]
        if len(differing) != 1:
            return None
        name, a, b = differing[0]
        if a.high is None or a.high + a.step != b.low or a.step != b.step:
            return None
        span = Range(a.low, b.high, a.step)
        where = tuple((n, span if n == name else s) for n, s in self.where)
        return Piece(where, self.polynomial, self.rivals)

    def includes(self, other: Piece) -> bool:
        """Whether every size of another piece is one of this."""
        pairs = zip(self.where, other.where, strict=True)
        return all(a.meet(b) == b for (_, a), (_, b) in pairs)

    def covers(self, sizes: Mapping[str, int]) -> bool:
        """Whether the piece speaks about `sizes`; a size that is not given fits."""
        return all(name not in sizes or sizes[name] in span for name, span in self.where)

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
    def condition(self) -> str:
        """The sizes for which it holds, in words; "" for all."""
        return ", ".join(text for name, span in self.where if (text := span.text(name)))


@dataclass(frozen=True, repr=False)
class Formula:
    """An exact function of named sizes (Theory C3).

    Args:
        sizes: The names of the sizes, in the builder's order.
        pieces: Polynomials, each with the sizes for which it holds; one for most models. The first
            that covers the sizes counts.
        reason: Why there is no formula; "" where there is one.
        checked: For each size, the largest value at which the formula was compared with a run.

    Example:
        >>> n = Formula.of(Polynomial.of("n") * Polynomial.of("n") * 3 + Polynomial.of("n"))
        >>> n(n=10), n.order, str(n), n.status
        (310, 'O(n**2)', 'n*(3*n + 1)', 'exact')
        >>> str(n - n * 2)
        '-n*(3*n + 1)'
    """

    sizes: tuple[str, ...]
    pieces: tuple[Piece, ...] = ()
    reason: str = ""
    checked: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, polynomial: Polynomial, sizes: Iterable[str] | None = None) -> Formula:
        """A formula that holds at all sizes.

        Args:
            polynomial: What it is.
            sizes: Names of sizes; by default those in the polynomial.

        Returns:
            The formula.
        """
        names = tuple(sizes) if sizes is not None else tuple(sorted(polynomial.names))
        return cls(names, (Piece(tuple((name, Range()) for name in names), polynomial),))

    @classmethod
    def refused(cls, sizes: Iterable[str], reason: str) -> Formula:
        """The formula that could not be derived.

        Args:
            sizes: Names of sizes.
            reason: Why; completes "refused: …".

        Returns:
            A formula whose status is "refused" and whose call raises.
        """
        return cls(tuple(sizes), (), reason)

    @property
    def status(self) -> Status:
        """How much is claimed: see `docs/cost.md`."""
        if not self.pieces:
            return "refused"
        if len(self.pieces) > 1 or self.pieces[0].rivals:
            return "piecewise"
        return "exact on residues" if self.pieces[0].polynomial.has_floors else "exact"

    def __call__(self, /, **sizes: int) -> int:
        """The cost at these sizes.

        Args:
            **sizes: A value for every size that the formula depends on.

        Returns:
            The exact integer.

        Raises:
            UsageError: If a size is unknown, missing, or not an integer of at least 1.
            CannotMeasure: If the formula was refused, or does not hold at these sizes.
        """
        self._check(sizes)
        for piece in self.pieces:
            if piece.covers(sizes):
                return piece(sizes)
        holds = "; or ".join(piece.condition or "all sizes" for piece in self.pieces)
        at = ", ".join(f"{name}={value}" for name, value in sizes.items())
        raise CannotMeasure(
            "formula",
            verbatim(f"{self} at {at}"),
            f"sizes for which it was derived: {holds}",
            "At other sizes the model does not run, or costs something else that was not derived.",
        )

    def holds(self, /, **sizes: int) -> bool:
        """Whether the formula answers at these sizes.

        Args:
            **sizes: A value for every size.

        Returns:
            False where it was refused, or was derived for other sizes.
        """
        return any(piece.covers(sizes) for piece in self.pieces)

    def _check(self, sizes: Mapping[str, int]) -> None:
        if not self.pieces:
            raise CannotMeasure(
                "formula",
                verbatim("refused"),
                "a cost that is a formula in the sizes",
                f"It was refused because {self.reason}.",
            )
        unknown = [name for name in sizes if name not in self.sizes]
        if unknown:
            raise UsageError(
                "size",
                unknown[0],
                f"a size of this formula ({', '.join(self.sizes) or 'it has none'})",
                "Check the spelling.",
            )
        for name in self.needed:
            value = sizes.get(name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(
                    f"size {name}",
                    verbatim("not given") if name not in sizes else value,
                    "an integer of at least 1",
                    f"Give every size of the formula: {', '.join(self.needed)}.",
                )

    @property
    def needed(self) -> tuple[str, ...]:
        """The sizes that a call has to give."""
        used = {name for piece in self.pieces for name in piece.names}
        if len(self.pieces) > 1:
            spans: dict[str, set[Range]] = {}
            for piece in self.pieces:
                for name, span in piece.where:
                    spans.setdefault(name, set()).add(span)
            used |= {name for name, found in spans.items() if len(found) > 1}
        return tuple(name for name in self.sizes if name in used)

    @property
    def order(self) -> str:
        """How it grows in all its sizes, as in "O(m*n)" (Theory C1); "" where it was refused."""
        return self.order_in(*self.sizes)

    def order_in(self, /, *sizes: str) -> str:
        """How it grows in some sizes while the others are held: "O(m + n)".

        Args:
            *sizes: The sizes that grow.

        Returns:
            The order; of a piecewise formula that of the piece for large sizes; "" where refused.
        """
        if not self.pieces:
            return ""
        terms = [
            "*".join(f"{n}**{p}" if p > 1 else n for n, p in sorted(powers.items()))
            for powers in self.tail.leading(sizes)
        ]
        return f"O({' + '.join(term or '1' for term in terms) or '0'})"

    @property
    def tail(self) -> Polynomial:
        """The polynomial for large sizes, zero where the formula was refused."""
        ends = [p for p in self.pieces if all(span.high is None for _, span in p.where)]
        pieces = ends or list(self.pieces)
        return add(pieces[-1].every) if pieces else Polynomial()

    def degree(self, size: str) -> int:
        """The highest power of `size` for large sizes."""
        return max((p.get(size, 0) for p in self.tail.leading([size])), default=0)

    @property
    def is_zero(self) -> bool:
        """Whether it is zero wherever it holds."""
        return bool(self.pieces) and not any(piece.polynomial.terms for piece in self.pieces)

    def __add__(self, other: Formula | int) -> Formula:
        return total((self, _formula(other)))

    def __sub__(self, other: Formula | int) -> Formula:
        return total((self, _formula(other) * -1))

    def __mul__(self, factor: int) -> Formula:
        if factor < 0 and any(p.rivals for p in self.pieces):
            raise ValueError("a peak is a maximum, and cannot be subtracted")
        pieces = tuple(p.map(lambda q: q * factor) for p in self.pieces)
        return Formula(self.sizes, pieces, self.reason, self.checked)

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        if not self.pieces:
            return f"refused: {self.reason}"
        if len(self.pieces) == 1:
            return str(self.pieces[0])
        return "; ".join(f"{p} for {p.condition or 'the rest'}" for p in self.pieces)

    def __repr__(self) -> str:
        return f"Formula({self}, {self.status})"

    def sympy(self) -> Any:
        """The formula as a sympy expression over positive integer symbols.

        Returns:
            An expression, a `Piecewise` where there is more than one piece.

        Raises:
            CannotMeasure: If the formula was refused.
        """
        import sympy

        if not self.pieces:
            self._check({})
        if len(self.pieces) == 1:
            return _sympy(self.pieces[0])
        cases = []
        for piece in self.pieces:
            condition = sympy.true
            for name, span in piece.where:
                symbol = sympy.Symbol(name, integer=True, positive=True)
                if span.low > 1:
                    condition &= symbol >= span.low
                if span.high is not None:
                    condition &= symbol <= span.high
                if span.step > 1:
                    condition &= sympy.Eq(sympy.Mod(symbol - span.low, span.step), 0)
            cases.append((_sympy(piece), condition))
        return sympy.Piecewise(*cases)

    def latex(self) -> str:
        """The formula as LaTeX, factored like its text."""
        if not self.pieces:
            return r"\text{refused}"
        if len(self.pieces) == 1:
            return _latex(self.pieces[0])
        rows = [rf"{_latex(p)} & {_latex_condition(p)}" for p in self.pieces]
        return r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON.

        Returns:
            Status, text, order, reason, sizes, the largest sizes checked, and every piece with its terms.
        """
        return {
            "status": self.status,
            "text": str(self),
            "order": self.order,
            "reason": self.reason,
            "sizes": list(self.sizes),
            "checked": dict(self.checked),
            "pieces": [
                {
                    "condition": p.condition,
                    "text": str(p),
                    "terms": p.polynomial.to_dict(),
                    "rivals": [rival.to_dict() for rival in p.rivals],
                }
                for p in self.pieces
            ],
        }


def total(formulas: Iterable[Formula]) -> Formula:
    """The sum of any number of formulas.

    Args:
        formulas: The summands; their sizes may differ.

    Returns:
        Their sum: refused where one summand was, and holding where all of them hold.
    """
    summands = list(formulas)
    if not summands:
        return Formula.of(Polynomial())
    sizes = tuple(dict.fromkeys(name for f in summands for name in f.sizes))
    checked = _least([f.checked for f in summands if f.checked])
    reasons = list(dict.fromkeys(f.reason for f in summands if not f.pieces))
    if reasons:
        return Formula(sizes, (), reasons[0], checked)
    shapes = {tuple(p.where for p in f.pieces) for f in summands}
    if len(shapes) == 1:  # formulas of one derivation: add piece by piece
        pieces = tuple(
            reduce(lambda a, b: a.plus(b, a.where), (f.pieces[i] for f in summands))
            for i in range(len(summands[0].pieces))
        )
        return Formula(sizes, pieces, "", checked)
    return Formula(sizes, reduce(_meet, (f.pieces for f in summands)), "", checked)


def _meet(a: tuple[Piece, ...], b: tuple[Piece, ...]) -> tuple[Piece, ...]:
    pieces = []
    for p, q in ((p, q) for p in a for q in b):
        left, right = dict(p.where), dict(q.where)
        spans = {
            name: left.get(name, Range()).meet(right.get(name, Range()))
            for name in dict.fromkeys((*left, *right))
        }
        kept = tuple((name, span) for name, span in spans.items() if span is not None)
        if len(kept) == len(spans):
            pieces.append(p.plus(q, kept))
    return tuple(pieces)


def _least(all_checked: list[tuple[tuple[str, int], ...]]) -> tuple[tuple[str, int], ...]:
    least: dict[str, int] = {}
    for name, value in (pair for checked in all_checked for pair in checked):
        least[name] = min(value, least.get(name, value))
    return tuple(least.items())


def _formula(value: Formula | int) -> Formula:
    return value if isinstance(value, Formula) else Formula.of(Polynomial.constant(value))


def _sympy(piece: Piece) -> Any:
    import sympy

    every = [p.sympy() for p in piece.every]
    return sympy.Max(*every) if piece.rivals else every[0]


def _latex(piece: Piece) -> str:
    every = [p.latex() for p in piece.every]
    return rf"\max\left({', '.join(every)}\right)" if piece.rivals else every[0]


def _latex_condition(piece: Piece) -> str:
    text = (piece.condition or "otherwise").replace("_", r"\_")
    for sign, command in (("≥", r"$\ge$"), ("≤", r"$\le$")):
        text = text.replace(sign, command)
    return rf"\text{{{text}}}"
