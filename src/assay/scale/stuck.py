"""Weights that no step moves, or moves alike, and weights that no optimizer is given."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from assay.finding import Finding, Number
from assay.scale.repairs import repair_one
from assay.scale.rows import Row
from assay.where import Location

_TOLD = 4  # names in a sentence


def stuck(rows: Sequence[Row], still: Collection[str]) -> Iterator[Finding]:
    """Zero weights whose gradient is exactly zero, now and after every step.

    One of two factors may be zero, as in a branch that begins at zero: its gradient is that of what
    enters it. Two in a row hold each other, and one in front of a ReLU is held by the slope of 0 at 0.

    Args:
        rows: What was measured.
        still: Names of trainable parameters whose gradient is exactly zero.

    Yields:
        At most one warning.
    """
    by = {row.index: row for row in rows}
    zeros = [row for row in rows if row.weight_square == 0.0 and not row.frozen]
    held: dict[str, None] = {}
    told: tuple[Row, str] | None = None
    for row in zeros:
        before = _feeders(row, by)
        why, redraw, names = "", row, set(row.parameters)
        slope = next((r for r in rows if _stops(r, row)), None)
        if slope is not None:
            why = f"and the slope of {slope.operator} at 0 is 0"
        elif row.input_second_moment == 0.0 and row.gradient_energy and before:
            why = "and so is all that enters them"
            redraw = next((r for r in before if r in zeros), row)
            names = {row.parameters[0]}.union(*(r.parameters for r in before))
        if why and names <= set(still):
            held |= dict.fromkeys(sorted(names))
            told = told or (redraw, f"The weights of {row.name} are zero, {why}")
    if told is not None:
        first, what = told
        names_of = ", ".join(list(held)[:_TOLD]) + (", …" if len(held) > _TOLD else "")
        yield Finding(
            "scale.stuck",
            f"{what}: the gradients are exactly 0, and no step moves them ({names_of}).",
            Number(len(held), "parameters that move", "formula"),
            Number(0, "parameters", "measured"),
            "warning",
            repair=f"{repair_one(first)}: one of two factors may begin at zero, not both, and none in front "
            "of a ReLU",
            where=first.where,
            module=first.module,
            theory="S4",
            weight=1e6,
        )


def _stops(activation: Row, row: Row) -> bool:
    """Whether an activation has a gradient and passes none of it on to the zeros that it alone reads."""
    return (
        activation.kind == "activation"
        and row.index in activation.follows
        and activation.input_second_moment == 0.0
        and bool(activation.gradient_energy)
        and row.second_moment == 0.0
        and row.gradient_energy == 0.0
    )


def _feeders(row: Row, by: Mapping[int, Row]) -> list[Row]:
    """The nearest rows before one that have parameters."""
    found: list[Row] = []
    seen: set[int] = set()
    ahead = list(row.follows)
    while ahead:
        i = ahead.pop()
        if i in seen or i not in by:
            continue
        seen.add(i)
        if by[i].parameters:
            found.append(by[i])
        else:
            ahead += by[i].follows
    return found


def symmetric(rows: Sequence[Row]) -> Iterator[Finding]:
    """Units with equal values and equal gradients: steps keep them equal, and they count as one.

    Args:
        rows: What was measured.

    Yields:
        At most one warning.
    """
    off = [row for row in rows if row.alike and row.gradient_energy and not row.frozen]
    if not off:
        return
    worst = max(off, key=lambda row: row.units)
    more = f" (so at {len(off) - 1} more)" if len(off) > 1 else ""
    yield Finding(
        "scale.symmetric",
        f"All {worst.units} units of {worst.name} have the same values and the same gradients: every step "
        f"keeps them equal, and together they are one unit{more}.",
        Number(worst.units, "different units", "formula"),
        Number(1, "units", "measured"),
        "warning",
        repair=f"draw the weights at random: {repair_one(worst)}",
        where=worst.where,
        module=worst.module,
        theory="S1",
        weight=1e6,
    )


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
