"""What a comparison of steps finds."""

from __future__ import annotations

import math

from assay.finding import Finding, Number
from assay.update.contender import Contender
from assay.update.failure import Failure
from assay.update.steps import Norm, Step
from assay.update.walk import Walk

HARDLY = 0.1  # of the decrease that the gradient predicts: on a parabola a step that is nearly twice too long
NAMED = 6  # parameters that are listed


def findings_of(
    rows: list[Step],
    failed: list[Failure],
    kind: Norm,
    resolution: float,
    found: Walk,
    contenders: list[Contender],
    warmup: int,
) -> tuple[Finding, ...]:
    """A warning where the warm-up went nowhere; else notes: which step is better is no defect of the model.

    Args:
        rows: What was compared.
        failed: What could not be.
        kind: What was made equal.
        resolution: Differences of the loss below this are round-off.
        found: The way to the common weights.
        contenders: The optimizers, the leader first.
        warmup: Steps on that way.

    Returns:
        The findings.
    """
    steps = [one for row in rows if (one := _of_step(row, kind, resolution)) is not None]
    away = []
    if found.leader == contenders[0].name:  # else another one stood in for it
        if found.diverged:
            away = [_diverged(found)]
        elif warmup and found.shrunk(warmup):
            away = [_shrunk(found, warmup)]
    unheld = [_unheld(c.name, c.unheld) for c in contenders if c.name in found.steps and c.unheld]
    return (*away, *unheld, *steps, *map(_failed, failed))


def _of_step(row: Step, kind: Norm, resolution: float) -> Finding | None:
    repair = f"Steps of this {kind} norm are too long here: multiply lr by 0.5 or less."
    rule = "step.overshoot"
    if row.predicted <= 0:
        rule, said = "step.ascent", "points uphill: the gradient predicts that the loss rises"
        repair = "Its state is of another time: lower the momentum, or take more warm-up steps."
    elif not math.isfinite(row.decrease):
        said = "leads to where the loss is no finite number"
    elif row.decrease < -resolution:
        said = f"raises the loss by {-row.decrease:.3g} where the gradient predicts a decrease"
    elif row.decrease < HARDLY * row.predicted and row.predicted > resolution:
        said = f"lowers the loss by {row.decrease:.3g}, not a tenth of the {row.predicted:.3g} predicted"
    else:
        return None
    decrease = row.decrease if math.isfinite(row.decrease) else "no finite number"
    return Finding(
        rule,
        f"At equal {kind} norm the step of {row.name} {said}.",
        Number(row.predicted, "1", "formula", "loss decrease −g·ΔΦ"),
        Number(decrease, "1", "measured", "loss decrease on the example inputs"),
        "note",
        repair=repair,
        theory="U1",
    )


def _shrunk(found: Walk, warmup: int) -> Finding:
    first, last = found.norms
    return Finding(
        "step.shrunk",
        f"{warmup} steps of {found.leader} shrink the weights from a norm of {first:.3g} to {last:.3g}, and "
        f"take the loss {found.went}: what is learned is forgotten within as many steps.",
        Number(first, "1", "measured", "norm of all weights as given"),
        Number(last, "1", "measured", "after the warm-up"),
        "warning",
        repair=f"Lower the weight decay of {found.leader}, or its lr: each step takes lr times the decay.",
        theory="U1",
    )


def _diverged(found: Walk) -> Finding:
    leader = found.leader
    return Finding(
        "step.diverged",
        f"The warm-up diverged: steps of {leader} took the loss {found.went}. What is compared are steps "
        "from weights that no training means to reach.",
        Number(found.first, "1", "measured", "loss at the given weights"),
        Number(found.last, "1", "measured", "loss after the warm-up"),
        "warning",
        repair=f"Lower the lr of {leader}; warmup=0 (`--warmup 0`) compares first steps.",
        theory="U1",
    )


def _unheld(name: str, names: tuple[str, ...]) -> Finding:
    more = len(names) - NAMED
    listed = ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
    return Finding(
        "step.unheld",
        f"{name} does not hold {listed}: they have gradients, and it never moves them.",
        Number(0, "parameters", "formula", "trainable, with a gradient, and not held"),
        Number(len(names), "parameters", "measured"),
        "note",
        repair="Hand them to the optimizer, or say that they are meant to stay: `requires_grad_(False)`.",
    )


def _failed(one: Failure) -> Finding:
    return Finding(
        "step.failed",
        f"{one.name} could not be compared: {one.why}",
        Number("a finite step", "1", "formula"),
        Number("none", "1", "measured"),
        "note",
        repair=one.remedy,
    )
