"""The section "Scale" as a reader sees it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.scale.backward import ancestors, backward
from assay.scale.band import NOTE, WARNING, outside, severity
from assay.scale.rows import Row, products
from assay.view.blocks import Block, Cell, Column, Lines, Mark, Paragraph, Series, Table, View
from assay.view.prose import counted, listed

if TYPE_CHECKING:
    from assay.scale.measure import Scale

_QUESTION = "Does every unit start with zero mean and unit variance, forward and backward?"
_IN_NUMBERS = ("scale.forward-variance", "scale.backward-variance")
_COLUMNS = (
    Column("operator", code=True),
    Column("line", code=True),
    Column("σ√fan-in", align="right"),
    Column("mean", unit="0", align="right"),
    Column("variance", unit="1", align="right"),
    Column("E u²", unit="S1", align="right"),
    Column("E g²", unit="S4", align="right"),
    Column("read by"),
)


def show(scale: Scale) -> View:
    """Describe a measurement.

    Args:
        scale: The measurement.

    Returns:
        The view.
    """
    blocks: list[Block] = []
    if scale.rows:
        blocks = [_picture(scale), _table(scale)]
    else:
        blocks = [Paragraph("No operator reads a parameter of this model.")]
    return View("Scale", _QUESTION, _answer(scale), tuple(blocks), _notes(scale))


def _answer(scale: Scale) -> str:
    if not scale.rows:
        return f"{scale.name} has no operator that a parameter feeds: there is nothing to measure."
    broken = next((f for f in scale.findings if f.rule == "scale.non-finite"), None)
    if broken is not None:
        return f"No. {broken.message}"
    weighed = [row for row in scale.rows if row.kind in ("product", "lookup")]
    chain = products(scale.rows)
    worst = max((f for f in scale.findings if f.fails), key=lambda f: f.weight, default=None)
    if not chain and worst is not None:
        return f"No. {worst.message}"
    if not chain:
        return f"Nothing to set: the {_operators(weighed)} in {scale.name} {_reasons(weighed)}."
    low, high = min(chain, key=_level), max(chain, key=_level)
    inside = sum(1 for row in chain if not outside(row.level))
    of = f"of {_operators(weighed)}, {len(chain)} {'sets' if len(chain) == 1 else 'set'} the scale of the "
    of += f"signal{_others(weighed, chain)}; {_within(inside, len(chain))} [0.1, 10] of the expected 1"
    if low is high:
        of += f": {low.level:.3g} at {low.name}."
    else:
        of += f", from {low.level:.3g} at {low.name} to {high.level:.3g} at {high.name}."
    judged = [row for row in chain if row.gradient_energy and not row.score]
    found = backward(judged, scale.rows, ancestors(scale.rows))
    if found:
        of += f" Back from {found[0].end.name} to {found[0].row.name} the gradient's square changes by "
        of += f"{found[0].factor:.3g} (expected 1)."
    if any(f.rule == "scale.no-gradient" for f in scale.findings):
        return f"No: {of} No trainable parameter gets a gradient."
    if worst is None:
        return f"{'Nothing to warn of' if scale.findings else 'Yes'}: {of}"
    factors = [low.level, high.level, *(back.factor for back in found[:1])]
    if worst.rule in _IN_NUMBERS and any(outside(x, WARNING) for x in factors):
        return f"No: {of}"
    return f"No. {worst.message} {of[0].upper()}{of[1:]}"  # what it is about is not in the numbers


def _within(inside: int, whole: int) -> str:
    if whole == 1:
        return f"its variance is {'' if inside else 'not '}within"
    return f"{inside or 'none'} of these {'has' if inside < 2 else 'have'} variance within"


def _operators(rows: Sequence[Row]) -> str:
    return counted(len(rows), "operator with weights", "operators with weights")


def _others(weighed: Sequence[Row], chain: Sequence[Row]) -> str:
    """Why some operators with weights do not count, in brackets; "" where all do."""
    counted = {row.index for row in chain}
    left = [row for row in weighed if row.index not in counted]
    return f" (the others {_reasons(left)})" if left else ""


def _reasons(left: Sequence[Row]) -> str:
    why = (
        ("are normalised right after", [row.normalised for row in left]),
        ("stand beside a larger signal", [row.beside_larger for row in left]),
        ("are gates or factors of another signal", [row.gate for row in left]),
        ("are frozen", [row.frozen for row in left]),
        ("do not vary between samples", [not row.varies for row in left]),
        ("are zero", [row.weight_square == 0.0 for row in left]),
    )
    told = [text for text, found in why if any(found)]
    return listed(told, "or") or "do not count"


def _level(row: Row) -> float:
    return row.level


def _picture(scale: Scale) -> Lines:
    """Variances over the operators, on a logarithmic axis; what is zero cannot be drawn there."""
    rows = [row for row in scale.rows if row.kind != "other"]

    def series(name: str, values: list[float | None], dashed: bool = False) -> Series:
        points = [(i + 1, y) for i, y in enumerate(values) if y and y > 0 and math.isfinite(y)]
        x, y = tuple(float(p[0]) for p in points), tuple(float(p[1]) for p in points)
        return Series(name, x, y, "dashed" if dashed else "solid")

    lines = [
        series("forward variance", [row.level for row in rows]),
        series("mean square of the gradient", [row.gradient for row in rows]),
        series("expected forward", [1.0] * len(rows), dashed=True),
    ]
    return Lines(
        series=tuple(line for line in lines if line.x),
        x_label="operator, in order",
        y_label="variance per unit",
        title="Signal and gradient by operator",
        log_y=True,
        band=(1 / NOTE, NOTE),
    )


def _table(scale: Scale) -> Table:
    chain = {row.index for row in products(scale.rows)}
    return Table(
        columns=_COLUMNS,
        rows=tuple(_cells(row, row.index in chain) for row in scale.rows),
        caption="Moments of each unit over examples, positions and calls, averaged over units; expected are "
        "mean 0 and variance 1. Before an arrow stands what the weights as they are predict: "
        "E u² = σ² Σ E x² + E b² (S1); E g² = E φ'² · fan-out · σ² · E g² of the next product (S4).",
    )


def _cells(row: Row, counts: bool) -> tuple[str | Cell, ...]:
    mark: Mark = ""
    if not row.finite:
        mark = "bad"
    elif counts:
        bad = outside(row.level) and severity(row.level) == "warning"
        mark = "bad" if bad else "" if outside(row.level) else "good"
    reader = row.activation
    if row.normalised:
        reader = "norm: no effect" if row.no_effect else "norm"
    elif row.frozen:
        reader = f"{reader}, frozen" if reader else "frozen"
    elif row.beside_larger and row.kind in ("product", "lookup"):
        reader = reader or "sum with larger"
    elif row.gate:
        reader = f"{reader}, a gate" if reader else "a factor of another signal"
    elif row.score:
        reader = reader or "attention scores"
    path = row.parameters[0] if row.parameters else row.module or "model"
    gain = None
    if row.weight_std is not None and row.fan_in is not None:
        gain = row.weight_std * math.sqrt(row.fan_in) * abs(row.factor)
    times = f" ×{row.calls.count}" if row.calls else ""
    return (
        f"{path} {row.operator}{times}",
        f"{Path(row.where.file).name}:{row.where.line}" if row.where else "",
        _short(gain),
        _short(row.mean),
        Cell(f"{row.level:.3g}", mark),
        _pair(row.predicted, row.second_moment),
        _pair(row.gradient_predicted, row.gradient),
        reader,
    )


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _pair(predicted: float | None, measured: float | None) -> str:
    if measured is None:
        return ""
    return f"{measured:.3g}" if predicted is None else f"{predicted:.3g} → {measured:.3g}"


def _notes(scale: Scale) -> tuple[str, ...]:
    start = {
        "loss": "The backward pass starts from the loss.",
        "random signs": "There is no loss: the backward pass starts from the output's first tensor, added "
        "up with fixed random signs, so that E g² = 1 there.",
        "none": "Nothing requires a gradient: the backward pass was not measured.",
    }
    notes = [
        f"Measured in {'training' if scale.training else 'evaluation'} mode, on the example inputs, at "
        "operator dispatch; fused encoder layers and fused RNN kernels were switched off.",
        start[scale.objective],
        "Gradients have expected mean 0; g² is their mean square about 0. Findings compare sums of squares, "
        "which unit-variance weights keep whatever the widths are.",
    ]
    single = [row for row in scale.rows if row.variance is None]
    if single:
        notes.append(
            f"{counted(len(single), 'operator')} saw one sample of each unit, which has no variance: the "
            "mean square over units stands in its place. Give a batch of two or more."
        )
    still = [row for row in scale.rows if row.variance is not None and not row.varies]
    if still:
        notes.append(
            f"{counted(len(still), 'operator does', 'operators do')} not vary between samples (equal "
            "examples, a zero initial state, or zero weights) and "
            f"{'is' if len(still) == 1 else 'are'} not judged."
        )
    if scale.unmeasured:
        names = ", ".join(scale.unmeasured)
        notes.append(f"Not measured, no floating-point output or an empty one: {names}.")
    return tuple(notes)
