"""How the units card reads: table, overlaid trajectories, findings with their repairs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from assay.finding import Finding, Number
from assay.update.change import ROWS
from assay.update.verdict import Verdict
from assay.update.world import Problem
from assay.view.blocks import Block, Cell, Column, Formulas, Lines, Mark, Series, Table, View

_MARKS: Mapping[str, Mark] = {
    "invariant": "good",
    "not invariant": "bad",
    "undetermined": "unknown",
}
# Axes are seldom arbitrary: rotations and bases stand in the table, not among the notes.
_REPAIRS = {
    "input scale": "Standardise each feature before the first layer: `x = (x - mean) / std`.",
    "input shift": "Centre each feature before the first layer: `x = x - mean`.",
    "hidden scale": "Keep layers at one scale from the start, as `assay scale` measures it.",
    "loss unit": "State the unit of the loss with lr; from nats to bits use `lr * math.log(2)`.",
    "target unit": "Standardise the targets: `y = (y - mean) / std`, and undo it on the outputs.",
    "hidden permutation": "Look for a parameter that the optimizer treats by its position.",
    "batch split": "Tune lr again when gradients are accumulated.",
}
_THEORY = {
    "input scale": "U3",
    "input shift": "U8",
    "hidden scale": "U8",
    "loss unit": "U6",
}


def findings_of(label: str, verdicts: Mapping[str, Verdict]) -> tuple[Finding, ...]:
    """A note for every change of units on which the optimizer depends.

    An optimizer that depends on units is no defect of a model by itself, so none of these makes a
    command fail.

    Args:
        label: The optimizer.
        verdicts: The card.

    Returns:
        The notes, the largest deviation first in weight.
    """
    found = []
    for row, verdict in verdicts.items():
        if verdict.verdict != "not invariant" or row not in _REPAIRS:
            continue
        repair = _REPAIRS[row]
        if verdict.law:
            repair += f" By its law, training {verdict.law}." if "becomes" in verdict.law else ""
        found.append(
            Finding(
                f"units.{row.replace(' ', '_')}",
                f"What {label} learns depends on the {row}: the same function in other units drifts apart by "
                f"{share(verdict.deviation)}{_than(verdict.deviation)} how far training moves the outputs.",
                Number(0.0, "1", "formula", "RMS difference of outputs over RMS movement"),
                Number(
                    verdict.deviation, "1", "measured", "reference problem, mildest change tried"
                ),
                "note",
                repair=repair,
                theory=_THEORY.get(row, "U8"),
                weight=min(verdict.deviation, 1e6),
            )
        )
    return tuple(found)


def view_of(
    name: str,
    verdicts: Mapping[str, Verdict],
    lr_unit: str,
    losses: tuple[float, ...],
    problem: Problem,
    remarks: tuple[str, ...],
) -> View:
    """The card as a reader sees it.

    Returns:
        The view.
    """
    rows = tuple(
        (
            row,
            Cell(v.verdict, _MARKS[v.verdict]),
            number(v.deviation) + (" (bitwise)" if v.bitwise and v.verdict == "invariant" else ""),
            number(v.control),
            v.law or v.reason,
        )
        for row, v in verdicts.items()
    )
    table = Table(
        (
            Column("change of units"),
            Column("trajectory"),
            Column("deviation", align="right"),
            Column("round-off", align="right"),
            Column("law"),
        ),
        rows,
        "Deviation: largest RMS difference of outputs between twins that start as the same function, as a "
        "share of how far training moved the outputs. Round-off: the same for first weights jittered by "
        "1e-15.",
    )
    changes = Formulas(tuple((row, ROWS[row]) for row in verdicts), "The changes of units")
    blocks: tuple[Block, ...] = (table, *_overlay(name, verdicts, losses), changes)
    exact = str(problem.dtype).removeprefix("torch.")
    notes = (
        f"Measured: {problem.steps} steps of a {problem.features}–{problem.hidden}–{problem.outputs} ReLU "
        f"network on batches of {problem.batch} of {problem.examples} examples, squared loss, {exact}.",
        *remarks,
    )
    return View(
        "Units",
        f"Which units does training with {name} depend on?",
        _answer(name, verdicts, lr_unit),
        blocks,
        notes,
    )


def _answer(name: str, verdicts: Mapping[str, Verdict], lr_unit: str) -> str:
    kept, lost, open_ = [], [], []
    for row, v in verdicts.items():
        if v.verdict == "invariant":
            kept.append(
                f"{row} (up to ε, {v.deviation:.0e})" if v.law.startswith("up to ε") else row
            )
        elif v.verdict == "not invariant":
            lost.append(f"{row} ({share(v.deviation)})")
        else:
            open_.append(row)
    parts = []
    if lost:
        parts.append(
            f"With {name}, training the same function in other units goes elsewhere when one changes "
            f"{_listed(lost)}; the share is of how far training moved the outputs."
        )
    if kept:
        parts.append(f"It is the same under {_listed(kept)}.")
    if open_:
        reason = verdicts[open_[0]].reason
        parts.append(f"Undetermined: {_listed(open_)} ({reason}).")
    return " ".join((*parts, lr_unit)).strip()


def _overlay(
    name: str, verdicts: Mapping[str, Verdict], losses: tuple[float, ...]
) -> tuple[Lines, ...]:
    """The loss in the reference's units and in those of the first row that changes it."""
    for row, v in verdicts.items():
        if v.verdict == "not invariant" and losses and all(map(math.isfinite, v.losses)):
            steps = tuple(float(t) for t in range(len(losses)))
            return (
                Lines(
                    (
                        Series("in the reference's units", steps, losses),
                        Series(
                            f"same function, other {row}",
                            steps[: len(v.losses)],
                            v.losses,
                            "dashed",
                        ),
                    ),
                    "step",
                    "loss, in the reference's unit",
                    f"{name}: one function, one sequence of batches, two choices of {row}",
                ),
            )
    return ()


def share(deviation: float) -> str:
    """A deviation in words: per cent, a multiple, or that it is not finite.

    Returns:
        As in "33 %", "4.7 times" or "without bound".

    Example:
        >>> share(0.33), share(4.7), share(float("inf"))
        ('33 %', '4.7 times', 'without bound')
    """
    if not math.isfinite(deviation):
        return "without bound"
    if deviation >= 1:
        return f"{deviation:.2g} times"
    return f"{100 * deviation:.2g} %"


def _than(deviation: float) -> str:
    """The word between a share and what it is a share of."""
    return " of" if deviation < 1 else "" if math.isfinite(deviation) else ", beside"


def number(value: float) -> str:
    """A deviation for a table cell: two digits, "–" where there is none.

    Returns:
        As in "3.3e-01".
    """
    if math.isnan(value):
        return "–"
    return "0" if value == 0 else f"{value:.1e}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
