"""How the units card reads: table, overlaid trajectories, findings with their repairs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from assay.finding import Finding, Number
from assay.update.amount import by, number, share
from assay.update.change import ROWS
from assay.update.features import LITTLE, feature_blocks, feature_findings, worst
from assay.update.own import OwnPlan
from assay.update.own_changes import OWN_ROWS
from assay.update.units_card import Feature, UnitsCard
from assay.update.verdict import Verdict
from assay.update.world import Problem
from assay.view.blocks import Block, Cell, Column, Formulas, Lines, Mark, Series, Table, View
from assay.view.prose import listed

MARKS: Mapping[str, Mark] = {
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
    "standard units": "Standardise the inputs before the first layer: `x = (x - mean) / std`.",
}
_PHRASES = {"standard units": "whether the inputs are standardised"}
_SMALLER = "Make ε smaller, or gradients larger: `eps=1e-12`, or a sum for a mean in the loss."
UNIT_OF_RATE = (
    "Why lr has a unit: weights have one, and the loss has one; the gradient then has loss / weight, and a "
    "step has to come out in weights. SGD's step is lr times the gradient, so lr carries weight² / loss; "
    "Adam's is lr times a pure number, so lr carries the weights' unit. Change a unit, and lr has to follow."
)
_THEORY = {
    "input scale": "U3",
    "input shift": "U8",
    "hidden scale": "U8",
    "loss unit": "U6",
}


def findings_of(
    label: str,
    verdicts: Mapping[str, Verdict],
    features: tuple[Feature, ...] = (),
    *,
    reference: bool = False,
) -> tuple[Finding, ...]:
    """A note for every change of units on which the optimizer depends by more than a small ε.

    An optimizer that depends on units is no defect of a model by itself, so none of these makes a
    command fail.

    Args:
        label: The optimizer.
        verdicts: The card.
        features: Of the user's own inputs.
        reference: Whether it was the reference network that was trained, and no model of the user's.

    Returns:
        The notes, the largest deviation first in weight.
    """
    found = []
    where = ", on the reference network" if reference else ""
    for row, verdict in verdicts.items():
        if verdict.verdict != "not invariant" or row not in _REPAIRS:
            continue
        if "comes from ε" in verdict.law and verdict.deviation < LITTLE:
            continue  # it stands in the table; nobody would change anything for it
        repair = _SMALLER if "comes from ε" in verdict.law else _REPAIRS[row]
        if verdict.law:
            repair += f" By its law, training {verdict.law}." if "becomes" in verdict.law else ""
        found.append(
            Finding(
                f"units.{row.replace(' ', '_')}",
                f"What {label} learns depends on {_PHRASES.get(row, f'the {row}')}: the same function in "
                f"other units drifts apart {by(verdict.deviation)} how far training moves the "
                f"outputs{where}.",
                Number(0.0, "1", "formula", "RMS difference of outputs over RMS movement"),
                Number(verdict.deviation, "1", "measured", "mildest change tried"),
                "note",
                repair=repair,
                theory=_THEORY.get(row, "U8"),
                weight=min(verdict.deviation, 1e6),
            )
        )
    return (*found, *feature_findings(label, features))


def view_of(card: UnitsCard) -> View:
    """The card as a reader sees it.

    Args:
        card: The card.

    Returns:
        The view.
    """
    name, verdicts = card.name, card.verdicts
    rows = tuple(
        (
            row,
            Cell(v.verdict, MARKS[v.verdict]),
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
        "round-off.",
    )
    own = isinstance(card.problem, OwnPlan)
    said = OWN_ROWS if own else ROWS
    changes = Formulas(tuple((row, said[row]) for row in verdicts), "The changes of units")
    overlay = _overlay(name, verdicts, card.losses)
    blocks: tuple[Block, ...] = (table, *feature_blocks(card.features), *overlay, changes)
    question = f"Which units does training with {name} depend on?"
    if isinstance(card.problem, OwnPlan):
        question = f"Which of its units does training {card.problem.named} with {name} depend on?"
    answer = " ".join(
        filter(None, (_answer(name, verdicts, card.lr_unit, own=own), worst(card.features)))
    )
    notes = (_setup(card.problem), UNIT_OF_RATE, *card.remarks)
    return View("Units", question, answer, blocks, notes)


def _setup(problem: Problem | OwnPlan) -> str:
    exact = str(problem.dtype).removeprefix("torch.")
    if isinstance(problem, OwnPlan):
        return (
            f"Measured: {problem.steps} steps of copies of {problem.named} on the example inputs, {exact}. "
            "The model is as it was."
        )
    return (
        f"Measured: {problem.steps} steps of a {problem.features}–{problem.hidden}–{problem.outputs} ReLU "
        f"network on batches of {problem.batch} of {problem.examples} examples, squared loss, {exact}."
    )


def _answer(name: str, verdicts: Mapping[str, Verdict], lr_unit: str, *, own: bool) -> str:
    kept, lost, open_ = [], [], []
    for row, v in verdicts.items():
        if v.verdict == "invariant":
            kept.append(f"{row} (up to {upto}, {v.deviation:.0e})" if (upto := leak(v)) else row)
        elif v.verdict == "not invariant":
            lost.append(f"{row} ({share(v.deviation)})")
        else:
            open_.append(row)
    parts = []
    what = "the same function" if own else "one function of a small reference network"
    if lost:
        parts.append(
            f"With {name}, training {what} in other units goes elsewhere when one changes "
            f"{listed(lost)}; the share is of how far training moved the outputs."
        )
    if kept:
        parts.append(f"It is the same under {listed(kept)}.")
    if open_:
        reason = verdicts[open_[0]].reason
        parts.append(f"Undetermined: {listed(open_)} ({reason}).")
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


def leak(verdict: Verdict) -> str:
    """What a verdict holds up to: "ε", "a constant" (an ε that is no option), or "" where it is exact."""
    if not verdict.law.startswith("up to "):
        return ""
    return "ε" if verdict.law.startswith("up to ε") else "a constant"
