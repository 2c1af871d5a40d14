"""Units of an activation that never move (Theory S2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from assay.finding import Finding, Number
from assay.scale.backward import Ancestors
from assay.scale.band import ENOUGH, WARNING
from assay.scale.divisors import Kept
from assay.scale.rows import Row


def dead_units(rows: Sequence[Row], before: Ancestors, kept: Kept) -> Iterator[Finding]:
    """Activations of which many units have one value, behind weights that are trained.

    Args:
        rows: What was measured.
        before: Which rows each row depends on.
        kept: What norms that divide by their ε leave of the signal: of what varies, not of biases.

    Yields:
        At most one finding.
    """
    varying = {row.index for row in rows if row.varies}
    trained = {row.index for row in rows if row.fan_in and not row.frozen}
    seen = [
        row
        for row in rows
        if row.kind == "activation"
        and row.samples >= ENOUGH
        and kept.get(row.index, 1.0) > 1 / WARNING
        and (row.varies or varying.intersection(row.follows))  # all of them, by its own doing
        and trained.intersection(before[row.index])
    ]
    off = [row for row in seen if _dead(row) >= max(2, 0.05 * row.units)]
    if not off:
        return
    worst = max(off, key=lambda row: _dead(row) / row.units)
    dead, share = _dead(worst), _dead(worst) / worst.units
    what = "they carry nothing and learn nothing."
    if dead == worst.units:
        what = "nothing gets past them, and what is before them learns nothing by them."
    yield Finding(
        rule="scale.dead-units",
        message=f"{dead} of {worst.units} units after {worst.name} have the same value for all "
        f"{worst.samples} samples: {what}",
        expected=Number(0, "units", "formula"),
        measured=Number(dead, "units", "measured"),
        severity="warning" if share >= 0.5 else "note",
        repair=f"centre what enters {worst.operator}: a zero bias, and inputs with zero mean",
        where=worst.where,
        module=worst.module,
        theory="S2",
        weight=share,
    )


def _dead(row: Row) -> int:
    return row.dead if row.varies else row.units
