"""What a derivation found: polynomials for every key, each with the sizes for which they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from assay.cost.formula import Formula
from assay.cost.groups import Group
from assay.cost.halves import with_products
from assay.cost.interpolate import Interpolant, Point
from assay.cost.largest import upper
from assay.cost.piece import Piece, Range
from assay.cost.polynomial import Polynomial, add
from assay.cost.quotient import whole_of, wholes
from assay.cost.tally import PEAK, Key

Sizes = dict[str, int]


@dataclass(frozen=True)
class Box:
    """Polynomials for the sizes in one range each.

    Args:
        spans: The range of every size.
        found: The interpolant over all axes, the sizes first.
        peaks: The same for how much is alive after each operator, which is not a sum.
        depths: Values of the axes behind the sizes: the depths of stacks of equal layers.
        peak_spans: The ranges in which the peaks hold, where they differ.
        late: More of the peaks, whose law begins a few layers or turns of a loop further up.
        peakless: Whether the peaks are none that could be believed.
    """

    spans: Mapping[str, Range]
    found: Interpolant[Key]
    peaks: Interpolant[Key]
    depths: tuple[int, ...] = ()
    peak_spans: Mapping[str, Range] | None = None
    late: Interpolant[Key] | None = None
    peakless: bool = False

    @cached_property
    def polynomials(self) -> dict[Key, Polynomial]:
        """One polynomial in the sizes for each key."""
        return self.found.polynomials(self._fixed)

    @cached_property
    def rivals(self) -> tuple[Polynomial, ...]:
        """Polynomials of how much is alive, of which the largest is the peak."""
        found = [p.polynomials(self._fixed) for p in (self.peaks, self.late) if p is not None]
        return tuple(dict.fromkeys(law for laws in found for law in laws.values()))

    def alive(self, point: Point) -> dict[Key, int | Fraction]:
        """What is said to be alive at a point after each operator that may have the peak."""
        return self.peaks.at(point) | (self.late.at(point) if self.late is not None else {})

    @property
    def _fixed(self) -> dict[int, int]:
        return dict(enumerate(self.depths, start=len(self.spans)))


@dataclass(frozen=True)
class Fit:
    """Where every polynomial holds, and what it was held against.

    Args:
        names: The sizes.
        boxes: The polynomials; none where there is no formula.
        checked: The held-out sizes, at which every polynomial is exact.
        refused: Quantities without a formula, with the reason; "" stands for all.
        from_one: Quantities that hold at size 1 too, by size.
        blamed: The size along which no law was found, where there is no formula and one size is to blame.
        lawless: Groups of counts without a formula where others have one, with the reason.
    """

    names: tuple[str, ...]
    boxes: tuple[Box, ...] = ()
    checked: tuple[Sizes, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    from_one: Mapping[str, frozenset[str]] = field(default_factory=dict)
    blamed: str = ""
    lawless: Mapping[Group, str] = field(default_factory=dict)

    @property
    def keys(self) -> set[Key]:
        """Every key that is not zero everywhere."""
        return {key for box in self.boxes for key in box.polynomials}

    def formula(self, quantity: str, wanted: Callable[[Key], bool]) -> Formula:
        """The sum of the polynomials of all wanted keys of one quantity.

        Args:
            quantity: Which quantity.
            wanted: Which of its keys to sum.

        Returns:
            The formula.
        """
        reason = self.refused.get("") or self.refused.get(quantity)
        reason = reason or next(
            (
                why
                for group, why in self.lawless.items()
                if group.quantity == quantity and wanted(Key(quantity, group.phase, "", group.kind))
            ),
            "",
        )
        if reason:
            return Formula.refused(self.names, reason)
        pieces = [
            Piece(
                self._where(box, quantity),
                with_products(
                    add(
                        p
                        for k, p in box.polynomials.items()
                        if k.quantity == quantity and wanted(k)
                    )
                ),
            )
            for box in self.boxes
        ]
        return Formula(self.names, _merged(pieces), "", self._largest)

    def peak(self, base: Mapping[str, int], counted: int | None) -> Formula:
        """The peak: the largest of what is alive after each operator.

        Args:
            base: The sizes in use.
            counted: The peak there, which is a piece of its own where the law begins further up.

        Returns:
            The formula.
        """
        reason = self.refused.get("") or self.refused.get(PEAK)
        if reason:
            return Formula.refused(self.names, reason)
        pieces = [
            Piece(where, *upper(box.rivals, dict(where), self.checked))
            for box in self.boxes
            if not box.peakless
            for where in [self._where(box, PEAK)]
        ]
        if counted is not None and not any(piece.covers(base) for piece in pieces):
            point = tuple((name, Range(value, value)) for name, value in base.items())
            pieces.insert(0, Piece(point, Polynomial.constant(counted)))
        return Formula(self.names, _merged(pieces), "", self._largest)

    def _where(self, box: Box, quantity: str) -> tuple[tuple[str, Range], ...]:
        def span(name: str, found: Range) -> Range:
            if found.low == 2 and found.step == 1 and quantity in self.from_one.get(name, ()):
                return Range(1, found.high)
            return found

        spans = box.peak_spans if quantity == PEAK and box.peak_spans else box.spans
        return tuple((name, span(name, found)) for name, found in spans.items())

    @cached_property
    def _largest(self) -> tuple[tuple[str, int], ...]:
        every = [wholes(sizes) for sizes in self.checked]
        return tuple(
            (name, max(sizes[whole_of(name)] for sizes in every)) for name in self.names if every
        )


def _merged(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Pieces of one polynomial that meet along one size, as one: others turned there, not this quantity."""
    merged: list[Piece] = []
    # the first that covers counts, so what an earlier one covers is never asked
    for piece in pieces:
        if not any(earlier.includes(piece) for earlier in merged):
            merged.append(piece)
    for i, piece in enumerate(merged):
        for j in range(i + 1, len(merged)):
            joined = piece.joined(merged[j]) or merged[j].joined(piece)
            if joined is not None:
                return _merged([*merged[:i], joined, *merged[i + 1 : j], *merged[j + 1 :]])
    return tuple(merged)
