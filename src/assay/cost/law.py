"""How one size enters a cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from assay.cost.axis import Axis
from assay.cost.interpolate import Point
from assay.cost.piece import Range
from assay.cost.polynomial import Atom, Mark


@dataclass(frozen=True)
class Law:
    """Where one size ranges, and which functions of it a cost is made of: powers, or floors too.

    Args:
        span: Its range.
        atoms: The floors of it.
        degree: The highest power of a floor.
        mixed: Whether products of two different floors occur.
        marks: Residues at which costs are others.
        guessed: Whether the floors were guessed, and not read off shapes: then they are held against
            whole periods.
    """

    span: Range
    atoms: tuple[Atom, ...] = ()
    degree: int = 2
    mixed: bool = False
    marks: tuple[Mark, ...] = ()
    guessed: bool = False

    def value(self, k: int) -> int:
        """The k-th value of the range."""
        return self.span.low + self.span.step * k

    def since(self, low: int) -> Law:
        """The law from another least value on."""
        return replace(self, span=replace(self.span, low=low))

    def until(self, high: int) -> Law:
        """The law up to another value."""
        return replace(self, span=replace(self.span, high=high))

    @property
    def period(self) -> int:
        """The longest period of a floor, 1 where there is none."""
        return max((atom.period for atom in self.atoms), default=1)

    def axis(self, name: str) -> Axis:
        """Nodes and functions for interpolation."""
        values = (x for x in map(self.value, range(12 * self.period + 12)) if x in self.span)
        if self.atoms:
            # first where there is something of everything: no power of another size shows in no attention
            whole = sorted(values, key=lambda x: any(a.value({name: x}) < 1 for a in self.atoms))
            return Axis.floors(
                name,
                whole,
                self.atoms,
                degree=self.degree,
                mixed=self.mixed,
                marks=self.marks,
            )
        return Axis.powers(name, values)

    def nearest(self, value: int) -> int:
        """The value of the range next below another, or the least."""
        span = self.span
        value = max(span.low, value if span.high is None else min(value, span.high))
        return value - (value - span.low) % span.step


class Laws(NamedTuple):
    """The laws of all sizes, and of the depths of stacks behind them: a box of points.

    Args:
        all: The laws.
        sizes: How many of them belong to sizes.
    """

    all: tuple[Law, ...]
    sizes: int

    @property
    def low(self) -> Point:
        """The corner of the least sizes."""
        return tuple(law.span.low for law in self.all)

    def axes(self, names: Sequence[str]) -> list[Axis]:
        """Nodes and functions for interpolation along every size and stack, by their names."""
        return [law.axis(name) for law, name in zip(self.all, names, strict=True)]

    def having(self, i: int, law: Law) -> Laws:
        """The same with another law for one size."""
        return Laws((*self.all[:i], law, *self.all[i + 1 :]), self.sizes)

    def inside(self, point: Point) -> Point:
        """The nearest point in the box."""
        return tuple(law.nearest(x) for law, x in zip(self.all, point, strict=True))

    def hold(self, point: Point) -> bool:
        """Whether a point is in the box."""
        return all(x in law.span for x, law in zip(point, self.all, strict=True))
