"""How a training step grows along one size: a line for each class, and where one overtakes another.

Matrix products are told apart by their power of the size: those of the linear layers grow with a length n,
those of attention with its square, and where these overtake the others is what users of long inputs ask for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.cost.budget import ranges
from assay.cost.convention import CONVOLUTION, ELEMENTWISE, NORMALISATION, PRODUCT, REDUCTION
from assay.cost.formula import Formula
from assay.errors import CannotMeasure
from assay.view.blocks import Lines, Paragraph, Series

if TYPE_CHECKING:
    from assay.cost.cost import Cost

_OCTAVES = 12  # of the picture, from the base up
_FARTHEST = 10**8  # a crossing beyond it is told, and not drawn
_TOLD = 6  # crossings in the text; the data has them all
_WHO = 2  # modules named beside a line
_NEAR = 8  # a crossing at less than the base over this is of no use to a reader
_NAMES = {
    PRODUCT: "matrix products",
    CONVOLUTION: "convolutions",
    ELEMENTWISE: "elementwise operators",
    REDUCTION: "reductions",
    NORMALISATION: "normalisations",
}
_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")  # a layer's number in a dotted path
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Line:
    """One line of the picture.

    Args:
        name: What it counts.
        formula: Operations of a training step.
        who: The modules that do most of it; empty where they are not told apart.
    """

    name: str
    formula: Formula
    who: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = [name if name == "…" else f"`{name}`" for name in self.who]
        return f"{self.name} ({', '.join(names)})" if names else self.name


@dataclass(frozen=True)
class Crossing:
    """Where the largest line becomes another.

    Args:
        size: The size that grows, the others at their base.
        at: The least value from which on `over` is more than `under`; there it is the largest.
        over: What overtakes.
        under: What is overtaken.
    """

    size: str
    at: int
    over: str
    under: str


def lines_along(cost: Cost, size: str) -> tuple[Line, ...]:
    """The operations of a training step by class, those of products by their power of a size too.

    Args:
        cost: The formulas.
        size: The size that grows.

    Returns:
        The lines that are positive at the base sizes.
    """
    found: list[Line] = []
    for kind, phases in cost.by_class.items():
        parts = _positive(phases.total, size, cost.base) if kind in (PRODUCT, CONVOLUTION) else {}
        if len(parts) < 2:
            found.append(Line(_NAMES.get(kind, kind), phases.total))
            continue
        found += [
            Line(f"{_NAMES[kind]} {_growing(size, power)}", part, _who(cost, size, power))
            for power, part in parts.items()
        ]
    return tuple(line for line in found if at_sizes(line.formula, cost.base) > 0)


def crossings(cost: Cost, size: str) -> tuple[Crossing, ...]:
    """Where, as one size grows, the largest line becomes another.

    Args:
        cost: The formulas.
        size: The size that grows; the others are at their base.

    Returns:
        The crossings, in order; none where one line is the largest all the way.
    """
    lines = lines_along(cost, size)
    others = {name: value for name, value in cost.base.items() if name != size}
    found = []
    for over, under in ((a, b) for a in lines for b in lines):
        if over.formula.degree(size) <= under.formula.degree(size):
            continue
        try:
            at = over.formula.crossover(under.formula, size, **others)
        except CannotMeasure:  # nothing holds at these sizes
            continue
        if at is None:
            continue
        sizes = {**others, size: at}
        top = at_sizes(over.formula, sizes)
        if all(at_sizes(line.formula, sizes) <= top for line in lines):
            found.append(Crossing(size, at, str(over), str(under)))
    return tuple(sorted(found, key=lambda crossing: crossing.at))


def all_crossings(cost: Cost) -> tuple[Crossing, ...]:
    """The crossings along every size."""
    if not cost.operations.total.pieces:
        return ()
    return tuple(found for size in cost.base for found in crossings(cost, size))


def growth(cost: Cost) -> list[Lines | Paragraph]:
    """The picture along the size in which a training step grows fastest, and where lines cross.

    Args:
        cost: The formulas.

    Returns:
        A chart, and a sentence for each crossing that is not far below the base sizes.
    """
    found = tuple(c for c in all_crossings(cost) if _NEAR * c.at >= cost.base[c.size])
    return [*_picture(cost, found), *(Paragraph(_sentence(c)) for c in found[:_TOLD])]


def _sentence(crossing: Crossing) -> str:
    return (
        f"From {crossing.size} = {crossing.at:,} on, {crossing.over} cost more than {crossing.under}; "
        "other sizes at their base."
    )


def _picture(cost: Cost, found: tuple[Crossing, ...]) -> list[Lines]:
    total = cost.operations.total
    names = sorted(total.needed, key=lambda name: -total.degree(name))
    if not names or not total.degree(names[0]):
        return []
    # a length, where there is one that the cost grows in: it is what users vary
    size = next((n for n in ("n", *names) if n in names and total.degree(n)), names[0])
    marks = [c for c in found if c.size == size and c.at <= _FARTHEST]
    points = _points(total, size, cost.base, [c.at for c in marks])
    if len(points) < 2:
        return []
    series = []
    for line in lines_along(cost, size):
        y = [at_sizes(line.formula, {**cost.base, size: x}) for x in points]
        if any(y):
            series.append(Series(line.name, points, y))
    moved = [at_sizes(cost.bytes.total, {**cost.base, size: x}) for x in points]
    if any(moved):
        series.append(Series("bytes moved", points, moved, "dashed"))
    return [
        Lines(
            tuple(series),
            size,
            "operations or bytes" if any(moved) else "operations",
            f"One training step against {size}, other sizes at their base",
            log_x=True,
            log_y=True,
            marks=tuple((c.at, f"they cross at {size} = {c.at:,}") for c in marks),
        )
    ]


def _points(total: Formula, size: str, base: Mapping[str, int], at: list[int]) -> list[int]:
    """Sizes an octave apart, from the base or well below the first crossing to beyond the last."""
    others = {name: value for name, value in base.items() if name != size}
    low = min([base[size], *(max(1, x // 4) for x in at)])
    high = max([base[size] << _OCTAVES, *(4 * x for x in at)])
    wanted = [low << k for k in range((high // low).bit_length())]
    return sorted({x for x in (on_grid(total, size, value, others) for value in wanted) if x})


def _positive(formula: Formula, size: str, base: Mapping[str, int]) -> dict[int, Formula]:
    """The parts by power; what is taken off (a state that starts at zero) goes with the next power."""
    found: dict[int, Formula] = {}
    owed: Formula | None = None
    for power, part in formula.by_power(size).items():
        part = part if owed is None else part + owed
        owed = None
        if at_sizes(part, base) > 0:
            found[power] = part
        else:
            owed = part
    return found if owed is None else {}


def _growing(size: str, power: int) -> str:
    if not power:
        return f"without {size}"
    return f"∝ {size}" + (str(power).translate(_SUPERSCRIPT) if power != 1 else "")


def _who(cost: Cost, size: str, power: int) -> tuple[str, ...]:
    """The modules that do most of the flops of one power; layers, which have numbers, together."""
    done: Counter[str] = Counter()
    for name, phases in cost.modules.items():
        part = phases.total.by_power(size).get(power)
        if part is not None:
            layers = _INDEX.sub("*", name)
            done[layers or "the model itself"] += at_sizes(part, cost.base)
    ranked = [name for name, flops in done.most_common() if flops > 0]
    return (*ranked[:_WHO], *(["…"] if len(ranked) > _WHO else []))


def at_sizes(formula: Formula, sizes: Mapping[str, int]) -> int:
    """The value at these sizes, 0 where the formula does not answer."""
    return formula(**sizes) if formula.holds(**sizes) else 0


def on_grid(formula: Formula, name: str, size: int, others: Mapping[str, int]) -> int:
    """The largest size up to this at which the formula holds, 0 where there is none."""
    spans = ranges(formula, name, others)
    tops = [(span, min(size, span.high) if span.high else size) for span in spans]
    fits = [x for span, top in tops if (x := top - (top - span.low) % span.step) in span]
    return max(fits, default=0)
