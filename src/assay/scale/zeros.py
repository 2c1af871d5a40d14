"""Zero weights one behind the other, of which biases alone get anything out (Theory S4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from assay.finding import Finding, Number
from assay.scale.backward import Ancestors
from assay.scale.repairs import draw_one
from assay.scale.rows import Row
from assay.scale.widths import and_more
from assay.view.prose import counted

_STILL = 1e-14  # of a mean square: rounding


def zeros(rows: Sequence[Row], before: Ancestors) -> Iterator[Finding]:
    """Zero weights behind zero weights, past which no signal goes, and no gradient back.

    One zero weight is a choice: the last of a branch, a head, one of two factors. Nothing of the input gets
    past it, or no gradient, but not neither. Behind another one, with biases that keep it from being stuck, a
    step moves the last one alone, the next step the one before it, and none of it by what the input is.

    Args:
        rows: What was measured.
        before: Which rows each row depends on.

    Yields:
        At most one warning.
    """
    zero = [row for row in rows if row.kind == "product" and row.weight_square == 0.0]
    zero = [row for row in zero if not row.frozen and row.parameters]
    # a skip past either of two lets the gradient through, or the signal
    dark = [row for row in zero if _input_varies(row) and row.gradient_energy == 0.0]
    behind = [
        row
        for row in zero
        if _input_varies(row) is False and any(other.index in before[row.index] for other in dark)
    ]
    if not behind:
        return
    last, first = behind[-1], next(row for row in dark if row.index in before[behind[-1].index])
    chain = [first, *behind]
    drawn = chain[:-1] if last.readout else chain
    yield Finding(
        "scale.zeros",
        f"The weights of {first.name} are zero, and so are those of "
        f"{counted(len(behind), 'operator')} behind, up to {last.name}: nothing of the input gets past "
        "them, and the gradient of everything before the last one is exactly 0.",
        Number(1, "zero weight on the way", "formula"),
        Number(len(chain), "zero weights, one behind the other", "measured"),
        "warning",
        repair=f"{draw_one(first)}{and_more(drawn)}: one may begin at zero: a head, or the last of a branch",
        where=first.where,
        module=first.module,
        theory="S4",
        weight=1e6,
    )


def _input_varies(row: Row) -> bool | None:
    """Whether what enters a product differs between samples; None where it is not known."""
    if row.input_variance is None or row.input_second_moment is None:
        return None
    return row.input_variance > _STILL * row.input_second_moment
