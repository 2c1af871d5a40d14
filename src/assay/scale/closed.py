"""Gates that start closed: what lets them begin open (Theory S4)."""

from __future__ import annotations

from collections.abc import Sequence

from assay.scale.backward import Ancestors
from assay.scale.rows import Row
from assay.scale.widths import expression

_CLOSED = 1e-2  # mean square of a gate that lets less than a tenth through


def closed_gate(row: Row, rows: Sequence[Row], before: Ancestors) -> Row | None:
    """The gate on the way to a row that lets hardly anything through; None where there is none.

    Args:
        row: A row with a small signal.
        rows: All rows.
        before: Which rows each of these depends on.

    Returns:
        The activation that is multiplied with the signal.
    """
    by = {r.index: r for r in rows}
    gates = [
        r
        for i in sorted(before[row.index])
        if (r := by.get(i)) is not None
        and r.kind == "activation"
        and r.gate
        and r.second_moment < _CLOSED * min(1.0, r.input_second_moment or 0.0)
    ]
    return min(gates, key=lambda r: r.second_moment, default=None)


def open_gate(gate: Row, rows: Sequence[Row]) -> str:
    """What lets a gate begin open: the bias in front of it.

    Args:
        gate: The activation.
        rows: All rows.

    Returns:
        Python to write.
    """
    source = [r for r in rows if r.index in gate.follows and r.parameters]
    names = source[-1].parameters if source else ()
    if len(names) < 2:
        return f"let {gate.name} begin open: what enters it should be near 0, not far below"
    return f"let the gate begin open: `nn.init.zeros_({expression(names[1])})`"
