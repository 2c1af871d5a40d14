"""What norms divide by: an ε that is too large for it, or widths, which then do not matter (Theory S4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from assay.finding import Finding, Number
from assay.scale.backward import Ancestors, kept_of, remainder
from assay.scale.band import NOTE, distance, outside, severity
from assay.scale.norms import Divisor
from assay.scale.repairs import STANDARDISE
from assay.scale.rows import Row
from assay.view.prose import counted

_USUAL = 1e-3  # no norm of any library has a larger ε by default
_COMMON = 1e-5  # of most norms


Kept = Mapping[int, float]


def kept_before(rows: Sequence[Row], before: Ancestors) -> Kept:
    """What norms that divide by their ε leave of a signal, and of a gradient, where they would keep it.

    Args:
        rows: What was measured.
        before: Which rows each row depends on.

    Returns:
        What these leave together, in the square, of each row behind such norms.
    """
    off = {row.index: kept_of(row) for row in rows if kept_of(row) < 1}
    behind = {row.index: off.keys() & before[row.index] for row in rows}
    return {i: remainder(off[k] for k in found) for i, found in behind.items() if found}


def epsilon(rows: Sequence[Row], kept: Kept) -> Iterator[Finding]:
    """Norms that divide by their ε and not by the size of what they are given.

    Args:
        rows: What was measured.
        kept: What these norms leave together.

    Yields:
        At most one finding.
    """
    seen = [(row, row.divisor) for row in rows if row.divisor is not None and row.varies]
    off = [(row, found) for row, found in seen if kept_of(row) < 1]
    if not off:
        return
    row, first = off[0]  # what comes later may be small because of it
    worst = min(*(found.kept for _, found in off), *kept.values(), 1.0)
    norm = row.name if row.kind == "norm" else f"that reads {row.name}"
    yield Finding(
        rule="scale.epsilon",
        message=f"The norm {norm} divides by its ε = {first.epsilon:.3g}, not by the variance "
        f"{first.size:.3g} that it is given: what comes out has mean square {first.kept:.3g} before its "
        f"affine map; so at {len(off)} of {counted(len(seen), 'operator')} before norms.",
        expected=Number(1.0, "1", "formula", "mean square of what a norm divided"),
        measured=Number(first.kept, "1", "measured", "variance / (variance + ε)"),
        severity=severity(worst),
        repair=f"{_repair(row, first)}; then measure again",
        where=row.where,
        module=row.module,
        theory="S4",
        weight=abs(math.log10(worst)) if worst > 0 else 300.0,
    )


def _repair(row: Row, found: Divisor) -> str:
    """A smaller ε where it is larger than any by default; else something larger to divide by."""
    read = row.input_second_moment
    if row.kind == "norm" or (row.reads_input and read is not None and read < 1 / NOTE):
        larger = STANDARDISE
    else:
        larger = "wider weights in front of it: what a norm is given has to be well above its ε"
    if found.epsilon <= _USUAL:
        return larger
    if found.size / 100 < _COMMON:
        return f"a norm with `eps=1e-5`, and {larger}"
    return f"a norm with an ε of at most {found.size / 100:.1g}, as by `eps=1e-5`"


def no_effect(rows: Sequence[Row]) -> Iterator[Finding]:
    """Weights whose width looks wrong and does not matter.

    Args:
        rows: What was measured.

    Yields:
        At most one note.
    """
    kinds = [row for row in rows if row.kind in ("product", "lookup") and row.no_effect]
    off = [row for row in kinds if row.varies and outside(row.level) and not row.frozen]
    if not off:
        return
    worst = max(off, key=lambda row: distance(row.level))
    yield Finding(
        rule="scale.no-effect",
        message=f"The variance is {worst.level:.3g} at {worst.name}, but everything that reads it divides "
        f"by its size: a factor on these weights and their bias has no effect on the signal "
        f"({counted(len(off), 'such operator')}).",
        expected=Number("any", "", "formula"),
        measured=Number(worst.level, "1", "measured", "mean over units of their variance"),
        severity="note",
        repair="nothing to repair; the width still sets how large one step is beside the weights",
        where=worst.where,
        module=worst.module,
        theory="S4",
        weight=0.0,
    )
