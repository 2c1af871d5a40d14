"""Weights that no step moves, or moves alike, and weights that no optimizer is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from assay.finding import Finding, Number
from assay.scale.backward import Ancestors
from assay.scale.held import Held
from assay.scale.once import Advised
from assay.scale.repairs import Repair, draw_one, repair_one, weights
from assay.scale.rows import Row
from assay.scale.widths import and_more
from assay.where import Location

_TOLD = 4  # shapes in a sentence
_NAMED = 12  # names in a sentence
_DRAWN = 6  # weights in a repair


def stuck(rows: Sequence[Row], still: Held, before: Ancestors) -> Iterator[Finding]:
    """Zero weights that keep parameters, and themselves, from ever having a gradient.

    One of two factors may be zero, as in a branch that begins at zero: its gradient is that of what
    enters it. Two in a row hold each other, and one in front of a ReLU is held by the slope of 0 at 0.

    Args:
        rows: What was measured.
        still: What no step moves.
        before: Which rows each row depends on.

    Yields:
        At most one warning.
    """
    zeros = [row for row in rows if row.parameters[:1] and row.parameters[0] in still.draw]
    drawn = list({row.parameters[0]: row for row in reversed(zeros)}.values())[::-1]
    if not drawn:
        return
    first = drawn[0]
    told = list(map(draw_one, drawn[:_DRAWN]))
    rest = and_more(drawn[_DRAWN - 1 :])
    yield Finding(
        "scale.stuck",
        f"The weights of {first.name} are zero, {_why(first, rows, still, before)}: the gradients are "
        f"exactly 0, and no step moves them ({_named(still.names)}).",
        Number(len(still.names), "parameters that move", "formula"),
        Number(0, "parameters", "measured"),
        "warning",
        repair=f"{', '.join(told)}{rest}: one of two factors may begin at zero, not both, and none in "
        "front of a ReLU",
        where=first.where,
        module=first.module,
        theory="S4",
        weight=1e6,
    )


def _why(zero: Row, rows: Sequence[Row], still: Held, before: Ancestors) -> str:
    """What holds zero weights."""
    after = [row for row in rows if zero.index in before[row.index]]
    slope = next((row for row in after if _stops(row, rows)), None)
    if slope is not None:
        return f"and the slope of {slope.operator} at 0 is 0"
    other = next(
        (r for r in after if r.weight_square == 0.0 and r.parameters[0] in still.names), None
    )
    if other is not None:
        return f"and so are those of {other.name} behind them"
    return "and so is what comes of them, or what enters them"


def _stops(activation: Row, rows: Sequence[Row]) -> bool:
    """Whether an activation of zeros has a gradient and passes none of it on."""
    if activation.kind != "activation" or activation.input_second_moment != 0.0:
        return False
    given = [row for row in rows if row.index in activation.follows]
    return bool(activation.gradient_energy) and all(row.gradient_energy == 0.0 for row in given)


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (
        f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    )


def symmetric(rows: Sequence[Row]) -> Iterator[Advised]:
    """Units with equal values and equal gradients: steps keep them equal, and they count as one.

    Args:
        rows: What was measured.

    Yields:
        At most one warning, with its repair.
    """
    off = [row for row in rows if row.alike and row.gradient_energy and not row.frozen]
    if not off:
        return
    worst = max(off, key=lambda row: row.units)
    more = f" (so at {len(off) - 1} more)" if len(off) > 1 else ""
    text = f"draw the weights at random: {repair_one(worst).text}{and_more([worst, *off])}"
    finding = Finding(
        "scale.symmetric",
        f"All {worst.units} units of {worst.name} have the same values and the same gradients: every step "
        f"keeps them equal, and together they are one unit{more}.",
        Number(worst.units, "different units", "formula"),
        Number(1, "units", "measured"),
        "warning",
        repair=text,
        where=worst.where,
        module=worst.module,
        theory="S1",
        weight=1e6,
    )
    yield finding, Repair(text, weights(off))


def unregistered(shapes: Sequence[Sequence[int]], where: Location | None) -> Iterator[Finding]:
    """Parameters that the forward pass uses and the model does not have.

    Args:
        shapes: Their shapes.
        where: Where the first one was used.

    Yields:
        At most one warning.
    """
    if not shapes:
        return
    one = len(shapes) == 1
    told = ", ".join(str(list(shape)) for shape in shapes[:_TOLD])
    yield Finding(
        "scale.unregistered",
        f"{len(shapes)} parameter{'' if one else 's'} of shape{'' if one else 's'} {told}"
        f"{', …' if len(shapes) > _TOLD else ''} {'is' if one else 'are'} used, and `model.parameters()` "
        f"does not have {'it' if one else 'them'}: no optimizer is given {'it' if one else 'them'}.",
        Number(0, "parameters outside the model", "formula"),
        Number(len(shapes), "parameters", "measured"),
        "warning",
        repair="put layers into `nn.ModuleList` or `nn.ModuleDict`, not into a list or a dictionary; what is "
        "not to be trained gets requires_grad_(False)",
        where=where,
        theory="S4",
        weight=1e6,
    )
