"""Who does what: the sums of a cost split by module, by operator, by class or by line.

The derivation interpolates one function for each module and class. Operators and lines would be many times
as many, so they wait until somebody asks: then what was counted at the same points is added up under other
names, interpolated on the same exponents, and held against every point that was counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.cost.fit import Box, Fit
from assay.cost.formula import Formula
from assay.cost.interpolate import Interpolant, Point
from assay.cost.multiples import in_sizes
from assay.cost.phases import Phases
from assay.cost.piece import Piece, Range
from assay.cost.polynomial import Polynomial
from assay.cost.probe import Probe
from assay.cost.tables import Reach
from assay.cost.tally import (
    BACKWARD,
    BYTES,
    FLOPS,
    FORWARD,
    OPERATIONS,
    Amount,
    Key,
    Part,
    Peak,
    Tally,
)
from assay.errors import AssayError

CALLS = "calls"
_QUANTITIES = (FLOPS, OPERATIONS, BYTES, CALLS)

At = tuple[tuple[int, ...], frozenset[tuple[str, int]]]  # sizes, and depths of stacks that are cut
Sums = Mapping[Key, int]
Label = Callable[[Part], str]
LABELS: Mapping[str, Label] = {
    "module": lambda part: part.module,
    "operator": lambda part: part.operator,
    "class": lambda part: part.kind,
    "line": lambda part: part.line,
}


class Recording(Probe):
    """A probe that keeps, for each point, who did what, and how far it went into tables."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parts: dict[At, Mapping[Part, Amount]] = {}
        self.summits: dict[At, Peak] = {}
        self.reached: list[tuple[Mapping[str, int], Mapping[str, Reach]]] = []
        self.failed: list[tuple[int, ...]] = []
        self._named_together = self.together

    def __call__(
        self, sizes: Mapping[str, int], depths: Mapping[str, int] | None = None, seed: int = 0
    ) -> Tally:
        """As `Probe`.

        Returns:
            The tally.

        Raises:
            AssayError: As `Probe`.
        """
        try:
            tally = super().__call__(sizes, depths, seed)
        except AssayError:
            self.failed.append(tuple(sizes.values()))
            raise
        if self.together != self._named_together:  # what was kept has other names for the modules
            self.parts.clear()
            self._named_together = self.together
        full = {stack.path: stack.depth for stack in self.stacks}
        cut = {path: depth for path, depth in (depths or {}).items() if depth != full.get(path)}
        at = tuple(sizes.values()), frozenset(cut.items())
        self.parts[at], self.summits[at] = tally.parts, tally.summit
        self.reached.append((sizes, tally.tables))
        return tally

    def stops(self, i: int, value: int) -> bool:
        """Whether the model does not run at a value of the i-th size, others as where it does."""
        ran = {values[:i] + values[i + 1 :] for values, _ in self.parts}
        return any(at[i] == value and at[:i] + at[i + 1 :] in ran for at in self.failed)


@dataclass(frozen=True)
class Share:
    """What one module, operator, class or line does in a training step.

    Args:
        flops: Matrix products and convolutions.
        operations: All arithmetic.
        bytes: Bytes moved.
        calls: How many times operators were called.
        base: The same four at the base sizes, forward and backward together, as they were counted.
    """

    flops: Phases
    operations: Phases
    bytes: Phases
    calls: Phases
    base: Amount

    def to_dict(self) -> dict[str, Any]:
        """Plain data.

        Returns:
            The formulas of both phases, and the numbers at the base sizes.
        """
        names = ("flops", "operations", "bytes", "calls")
        at_base = dict(zip(names, self.base, strict=True))
        return {**{name: getattr(self, name).to_dict() for name in names}, "at base": at_base}


class Parts:
    """What was counted at all points, to be split in any way.

    Args:
        fit: What was derived from it.
        base: The base sizes.
        counted: Who did what at each point; stacks that are not named are whole.
        depths: The depths of all stacks.
    """

    def __init__(
        self,
        fit: Fit,
        base: Mapping[str, int],
        counted: Mapping[At, Mapping[Part, Amount]],
        depths: Mapping[str, int],
    ) -> None:
        self._fit, self._counted, self._depths = fit, counted, depths
        self._at_base: At = (tuple(base.values()), frozenset())

    @property
    def base(self) -> Mapping[Part, Amount]:
        """Who did what at the base sizes."""
        return self._counted.get(self._at_base, {})

    def split(self, label: Label) -> dict[str, Share]:
        """Everything that was done, under names.

        Args:
            label: The name under which a part goes.

        Returns:
            What goes under each name. A sum may have a law where a part of it has none, as one operator
            takes over from another: then the formula of the part is refused.
        """
        sums = {at: _sums(parts, label) for at, parts in self._counted.items()}
        boxes = [replace(box, found=_replayed(box, sums, self._depths)) for box in self._fit.boxes]
        split = _Split(replace(self._fit, boxes=tuple(boxes)), sums, self._depths)
        base = sums.get(self._at_base, {})
        names = dict.fromkeys(key.module for found in (base, *sums.values()) for key in found)
        return {name: split.share(name, base) for name in names}


class _Split:
    """One way to split, interpolated anew."""

    def __init__(self, fit: Fit, sums: Mapping[At, Sums], depths: Mapping[str, int]) -> None:
        self._fit, self._sums, self._depths = fit, sums, depths
        self._broken = {
            (key.quantity, key.module): sizes
            for box in fit.boxes
            for sizes, key in self._contradictions(box)
        }

    def share(self, name: str, base: Sums) -> Share:
        def phases(quantity: str) -> Phases:
            forward, backward = (self._formula(quantity, p, name) for p in (FORWARD, BACKWARD))
            return Phases(in_sizes(forward), in_sizes(backward))

        both = [[base.get(Key(q, p, name), 0) for p in (FORWARD, BACKWARD)] for q in _QUANTITIES]
        return Share(
            phases(FLOPS), phases(OPERATIONS), phases(BYTES), phases(CALLS), Amount(*map(sum, both))
        )

    def _formula(self, quantity: str, phase: str, name: str) -> Formula:
        fit, key = self._fit, Key(quantity, phase, name)
        found = fit.formula(quantity, lambda other: other == key)
        at = self._broken.get((quantity, name))
        if at is None:
            return self._from_two(found, key)
        return self._refused(at) if found.pieces else found

    def _refused(self, at: tuple[int, ...]) -> Formula:
        names = self._fit.names
        where = ", ".join(f"{name}={value}" for name, value in zip(names, at, strict=True))
        return Formula.refused(
            names, f"its share of the whole has no law: it is another at {where}"
        )

    def _from_two(self, found: Formula, key: Key) -> Formula:
        """A formula that begins at 2 where it is wrong at 1: there another operator may take over.

        Sizes of 1 are in no box; the whole may have the same law there, and the part none.

        Returns:
            The formula; refused where nothing is left of it.
        """
        for (values, cut), counted in self._sums.items():
            sizes = dict(zip(self._fit.names, values, strict=True))
            if 1 not in values or cut or not found.holds(**sizes):
                continue
            if found(**sizes) != counted.get(key, 0):
                where = tuple((name, Range(2 if x == 1 else 1)) for name, x in sizes.items())
                found += Formula(found.sizes, (Piece(where, Polynomial()),), "", found.checked)
                if not found.pieces:
                    return self._refused(values)
        return found

    def _contradictions(self, box: Box) -> Iterator[tuple[tuple[int, ...], Key]]:
        """Counts that an interpolant gets wrong, inside of its box."""
        stacks = _stacks(box)
        for (values, cut), counted in self._sums.items():
            depths = {**self._depths, **dict(cut)}
            inside = all(x in span for x, span in zip(values, box.spans.values(), strict=True))
            if inside and {path for path, _ in cut} <= {*stacks}:
                said = box.found.at((*values, *(depths[path] for path in stacks)))
                for key in {*said, *counted}:
                    if said.get(key, 0) != counted.get(key, 0):
                        yield values, key


def _stacks(box: Box) -> list[str]:
    return [axis.size for axis in box.found.axes[len(box.spans) :]]


def _replayed(box: Box, sums: Mapping[At, Sums], depths: Mapping[str, int]) -> Interpolant[Key]:
    count, stacks = len(box.spans), _stacks(box)

    def measure(point: Point) -> Sums:
        pairs = zip(stacks, point[count:], strict=True)
        return sums[point[:count], frozenset((p, x) for p, x in pairs if depths[p] != x)]

    return box.found.replayed(measure)


def _sums(parts: Mapping[Part, Amount], label: Label) -> dict[Key, int]:
    found: dict[Key, int] = {}
    for part, amount in parts.items():
        name = label(part)
        for quantity, value in zip(_QUANTITIES, amount, strict=True):
            if value:
                key = Key(quantity, part.phase, name)
                found[key] = found.get(key, 0) + value
    return found
