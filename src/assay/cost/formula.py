"""A cost as a function of sizes: what `derive_cost` hands out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from numbers import Integral
from typing import Any, Literal

from assay.cost.piece import Piece, Range
from assay.cost.polynomial import Monomial, Polynomial, add, powers_of
from assay.cost.quotient import sizes_in
from assay.errors import CannotMeasure, UsageError, say, verbatim

Status = Literal["exact", "exact on residues", "piecewise", "refused"]


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
        self.require_sizes(sizes)
        sizes = {name: int(value) for name, value in sizes.items()}  # numpy's would overflow
        for piece in self.pieces:
            if piece.covers(sizes):
                return piece(sizes)
        holds = "; or ".join(piece.condition or "all sizes" for piece in self.pieces)
        remedy = "At other sizes no law was found for what is counted, or the model does not run."
        if self.holds(**{name: max(value, 2) for name, value in sizes.items()}):
            ones = " and ".join(f"{name}=1" for name, value in sizes.items() if value == 1)
            remedy = (
                f"At 1 other operators run. Derive it with {ones} in use to have a law of its own."
            )
        raise CannotMeasure(
            "formula",
            verbatim(f"{self} at {say(sizes)}"),
            f"sizes for which it was derived: {holds}",
            remedy,
        )

    def solve(
        self, size: str, others: Mapping[str, int] | None = None, /, *, below: int, **at: int
    ) -> int:
        """The largest value of one size at which the cost is at most `below`.

        Args:
            size: The size to solve for.
            others: Values of other sizes, by name: one that is called `below` can only be given so.
            below: The budget: bytes or operations.
            **at: Values of all other sizes.

        Returns:
            The largest value that fits.
        """
        from assay.cost.budget import solve

        return solve(self, size, below, {**(others or {}), **at}).at

    def crossover(self, other: Formula | float, size: str, /, **at: int) -> int | None:
        """The least value of a size from which on this cost is more than another, wherever both hold.

        Args:
            other: A cost that it overtakes, or a number.
            size: The size that grows.
            **at: Values of all other sizes.

        Returns:
            The value, or None where it never overtakes for good, or is larger from the start.
        """
        from assay.cost.budget import crossover

        return crossover(self, other, size, at)

    def leading(self, /, *sizes: str) -> Formula:
        """The terms that no other dominates, as all sizes, or those named, grow.

        Args:
            *sizes: The sizes that grow; by default all.

        Returns:
            A formula; of a peak the largest of what is left of each of its laws.

        Raises:
            CannotMeasure: If the formula was refused.
        """
        if not self.pieces:
            self.require_sizes({})
        self._check_names(sizes)
        growing = sizes or self.sizes
        top = self.tail.leading(growing)

        def kept(p: Polynomial) -> Polynomial:
            return Polynomial({m: c for m, c in p.terms.items() if _powers(m, growing) in top})

        first, *rest = dict.fromkeys(filter(lambda p: p.terms, map(kept, self._tail.every))) or [
            Polynomial()
        ]
        everywhere = tuple((name, Range()) for name in self.sizes)
        return Formula(self.sizes, (Piece(everywhere, first, tuple(rest)),))

    def by_power(self, size: str, /) -> dict[int, Formula]:
        """The terms apart by their power of one size: what is linear in n, and what is quadratic.

        Args:
            size: The size; a floor of it counts as the size itself.

        Returns:
            Power to formula, the lowest first; their sum is this one. Of a maximum, and where the formula
            was refused, nothing.

        Example:
            >>> n = Polynomial.of("n")
            >>> parts = Formula.of(n * n * 4 + n * 24).by_power("n")
            >>> {power: str(part) for power, part in parts.items()}, parts[2].crossover(parts[1], "n")
            ({1: '24*n', 2: '4*n**2'}, 7)
        """
        self._check_names([size])
        if any(piece.rivals for piece in self.pieces):
            return {}

        def only(power: int) -> Callable[[Polynomial], Polynomial]:
            def kept(monomial: Monomial) -> bool:
                return _powers(monomial, [size]).get(size, 0) == power

            return lambda p: Polynomial({m: c for m, c in p.terms.items() if kept(m)})

        terms = [monomial for piece in self.pieces for monomial in piece.polynomial.terms]
        powers = sorted({_powers(monomial, [size]).get(size, 0) for monomial in terms})
        return {
            k: Formula(self.sizes, tuple(p.map(only(k)) for p in self.pieces), "", self.checked)
            for k in powers
        }

    def holds(self, /, **sizes: int) -> bool:
        """Whether the formula answers at these sizes.

        Args:
            **sizes: A value for every size.

        Returns:
            False where it was refused, or was derived for other sizes.

        Raises:
            UsageError: If a size is unknown, or not an integer of at least 1.
        """
        self._check_names(sizes)
        self._check_values(sizes, sizes)
        return any(piece.covers(sizes) for piece in self.pieces)

    def require_sizes(self, sizes: Mapping[str, int], /) -> None:
        """Refuse sizes at which the formula cannot be asked, as a call does.

        Args:
            sizes: A value for every size that it depends on.

        Raises:
            UsageError: If a size is unknown, missing, or not an integer of at least 1.
            CannotMeasure: If the formula was refused.
        """
        if not self.pieces:
            raise CannotMeasure(
                "formula",
                verbatim("refused"),
                "a cost that is a formula in the sizes",
                f"It was refused because {self.reason}.",
            )
        self._check_names(sizes)
        self._check_values(self.needed, sizes)

    def _check_values(self, names: Iterable[str], sizes: Mapping[str, int]) -> None:
        for name in names:
            value = sizes.get(name)
            if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
                raise UsageError(
                    f"size {name}",
                    verbatim("not given") if name not in sizes else value,
                    "an integer of at least 1",
                    f"Give every size of the formula: {', '.join(self.needed)}.",
                )

    def _check_names(self, names: Iterable[str]) -> None:
        unknown = [name for name in names if name not in self.sizes]
        if unknown:
            raise UsageError(
                "size",
                unknown[0],
                f"a size of this formula ({', '.join(self.sizes) or 'it has none'})",
                "Check the spelling.",
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
            used |= {n for name, found in spans.items() if len(found) > 1 for n in sizes_in(name)}
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

        Raises:
            UsageError: If a size is unknown.
        """
        self._check_names(sizes)
        if not self.pieces:
            return ""
        terms = [_product(powers) for powers in self.tail.leading(sizes)]
        return f"O({' + '.join(term or '1' for term in terms) or '0'})"

    @property
    def tail(self) -> Polynomial:
        """The polynomial for large sizes, zero where the formula was refused."""
        return add(self._tail.every) if self.pieces else Polynomial()

    @property
    def _tail(self) -> Piece:
        """The piece for large sizes: the last of those that end in the fewest, best of all in none."""

        def ends(piece: Piece) -> int:
            return sum((s.high is not None) + (s.low == s.high) for _, s in piece.where)

        return min(reversed(self.pieces), key=ends)

    def degree(self, size: str, /) -> int:
        """The highest power of `size` for large sizes."""
        self._check_names([size])
        return max((p.get(size, 0) for p in self.tail.leading([size])), default=0)

    @property
    def is_zero(self) -> bool:
        """Whether it is zero wherever it holds."""
        return bool(self.pieces) and not any(piece.polynomial.terms for piece in self.pieces)

    def __add__(self, other: Formula | int) -> Formula:
        return total((self, _formula(other))) if _is_summand(other) else NotImplemented

    def __sub__(self, other: Formula | int) -> Formula:
        return self + -other if _is_summand(other) else NotImplemented

    def __rsub__(self, other: int) -> Formula:
        return -self + other

    def __neg__(self) -> Formula:
        return self * -1

    def __mul__(self, factor: int) -> Formula:
        if not isinstance(factor, int):
            return NotImplemented
        if factor < 0 and any(p.rivals for p in self.pieces):
            raise CannotMeasure(
                "formula",
                verbatim("a peak, subtracted"),
                "a sum: the largest of several laws has no difference",
                "Compare its numbers at the sizes that matter.",
            )
        pieces = tuple(p.map(lambda q: q * factor) for p in self.pieces)
        return Formula(self.sizes, pieces, self.reason, self.checked)

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        if not self.pieces:
            return f"refused: {self.reason}"
        if len(self.pieces) == 1:
            piece = self.pieces[0]
            return f"{piece} for {piece.cut}" if piece.cut else str(piece)
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
            self.require_sizes({})
        if len(self.pieces) == 1:
            return self.pieces[0].sympy()
        cases = [(piece.sympy(), piece.sympy_condition()) for piece in self.pieces]
        return sympy.Piecewise(*cases)

    def latex(self) -> str:
        """The formula as LaTeX, factored like its text."""
        if not self.pieces:
            return r"\text{refused}"
        if len(self.pieces) == 1:
            return self.pieces[0].latex()
        rows = [rf"{p.latex()} & {p.latex_condition()}" for p in self.pieces]
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
                    "where": {
                        name: {"low": span.low, "high": span.high, "step": span.step}
                        for name, span in p.where
                    },
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
        Their sum: refused where one summand was or no sizes are common to all, and holding where all hold.
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
    pieces = summands[0].pieces
    for other in summands[1:]:
        met = _meet(pieces, other.pieces)
        if not met:
            return Formula(sizes, (), _apart(pieces, other.pieces), checked)
        pieces = met
    return Formula(sizes, pieces, "", checked)


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


def _apart(a: tuple[Piece, ...], b: tuple[Piece, ...]) -> str:
    """Why no piece of one meets any of another: the sizes along which none does, or all conditions."""

    def spans(pieces: tuple[Piece, ...], name: str) -> dict[Range, None]:
        return dict.fromkeys(dict(piece.where).get(name, Range()) for piece in pieces)

    names = dict.fromkeys(name for piece in a for name, _ in piece.where)
    for name in names:
        left, right = spans(a, name), spans(b, name)
        if not any(p.meet(q) for p in left for q in right):
            one, other = ("; or ".join(s.text(name) for s in some) for some in (left, right))
            break
    else:
        one, other = ("; or ".join(p.condition or "all sizes" for p in some) for some in (a, b))
    return f"one part of it holds for {one} alone, another for {other}, and no size is in both"


def _least(all_checked: list[tuple[tuple[str, int], ...]]) -> tuple[tuple[str, int], ...]:
    least: dict[str, int] = {}
    for name, value in (pair for checked in all_checked for pair in checked):
        least[name] = min(value, least.get(name, value))
    return tuple(least.items())


def _powers(monomial: Monomial, sizes: Collection[str]) -> dict[str, int]:
    return {name: power for name, power in powers_of(monomial).items() if name in sizes}


def _product(powers: Mapping[str, int]) -> str:
    """Powers of sizes as text: "b*n**2/h"."""

    def text(wanted: Mapping[str, int]) -> list[str]:
        return [f"{name}**{p}" if p > 1 else name for name, p in sorted(wanted.items())]

    over = text({name: p for name, p in powers.items() if p > 0})
    under = text({name: -p for name, p in powers.items() if p < 0})
    return "/".join(["*".join(over) or "1", *under]) if powers else ""


def _is_summand(value: object) -> bool:
    return isinstance(value, Formula | int)


def _formula(value: Formula | int) -> Formula:
    return value if isinstance(value, Formula) else Formula.of(Polynomial.constant(value))
