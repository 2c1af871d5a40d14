"""What a comparison of steps finds."""

from __future__ import annotations

import math

from assay.finding import Finding, Number
from assay.update.aim import STANDARDISE, aim
from assay.update.contender import Contender
from assay.update.failure import Failure
from assay.update.steps import Norm, Step
from assay.update.walk import Walk

SLOW = 1e-4  # of the loss, predicted for one step: a step that may be far too short
SHORT = 1e4  # times as long, and the loss falls most: no schedule makes up for that
STILL = 1e-5  # of the loss, for one step: 50,000 do not halve it, and most trainings are no longer
LONGER = 256.0  # times as long, and the loss falls most, where training stands still (healthy: 2 to 1024)
MUCH = 0.1  # of the loss, that the longer step takes off: it does not stand at what no weights can better
HARDLY = 0.1  # of the decrease that the gradient predicts: on a parabola a step that is nearly twice too long
AWAY = ("step.diverged", "step.rose")  # from where training means to go
LOW = ("step.short", "step.rounded", "step.zero")  # a rate that moves nothing
NAMED = 6  # parameters that are listed


def findings_of(
    rows: list[Step],
    failed: list[Failure],
    kind: Norm,
    resolution: float,
    found: Walk,
    contenders: list[Contender],
    warmup: int,
    repair: str,
) -> tuple[Finding, ...]:
    """Warnings where the leader's rate does not train; else notes: which step is better is no defect.

    Args:
        rows: What was compared.
        failed: What could not be.
        kind: What was made equal.
        resolution: Differences of the loss below this are round-off.
        found: The way to the common weights.
        contenders: The optimizers, the leader first.
        warmup: Steps on that way.
        repair: What to do about it, where the way leads astray.

    Returns:
        The findings.
    """
    astray = found.astray and found.leader == contenders[0].name
    steps = [
        one
        for row in rows  # of a leader that went astray one rate is told, that which was tried
        if not (astray and row.name == found.leader)
        and (one := _of_step(row, kind, resolution)) is not None
    ]
    unheld = [_unheld(c.name, c.unheld) for c in contenders if c.name in found.steps and c.unheld]
    mine: list[Finding] = []
    if found.leader == contenders[0].name:  # else another one stood in for it
        own = next((row for row in rows if row.name == found.leader), None)
        mine = _of_leader(own, found, warmup, repair, contenders[0])
    still = next((one for one in failed if one.still and one.name == contenders[0].name), None)
    if still is not None and contenders[0].subject.loss is not None:
        mine.append(_zero(still, contenders[0]))
        failed = [one for one in failed if one is not still]
    return (*mine, *unheld, *steps, *map(_failed, failed))


def _of_leader(
    row: Step | None, found: Walk, warmup: int, repair: str, leader: Contender
) -> list[Finding]:
    """What its steps say of its rate."""
    if found.astray:
        return [_astray(found, warmup, repair)]
    if warmup and found.shrunk(warmup):
        return [_shrunk(found, warmup)]
    if row is None or leader.subject.loss is None:
        return []
    if _is_short(row, found, warmup):
        return [_short(row, found.last, leader)]
    return [_rounded(row)] if row.rounding > 1 else []


def _of_step(row: Step, kind: Norm, resolution: float) -> Finding | None:
    repair = f"Steps of this {kind} norm are too long here{_better(row)}."
    rule = "step.overshoot"
    if row.predicted <= 0:
        rule, said = "step.ascent", "points uphill: the gradient predicts that the loss rises"
        repair = "Its state is of another place: lower the lr, so that weights stay near it, or the momentum."
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


def _better(row: Step) -> str:
    """What length would do, as the end of a sentence."""
    if row.best is None:
        return ", and no shorter one lowers the loss by more than round-off"
    factor = row.best * row.scale
    return f": the loss falls most at {row.best:.2g} of it, which {row.name} steps at {factor:.2g} of its lr"


def _is_short(row: Step, found: Walk, warmup: int) -> bool:
    """Whether one step, and all of the warm-up, is next to nothing of what its direction offers."""
    if row.best is None:
        return False
    loss = abs(found.last)
    stands = row.predicted < STILL * loss and not found.first - found.last > warmup * STILL * loss
    return row.best >= SHORT or (stands and row.best >= LONGER and row.most > MUCH * loss)


def _short(row: Step, loss: float, leader: Contender) -> Finding:
    best = row.best or 1.0
    factor = 10 ** math.floor(math.log10(best / 10))
    many = abs(loss) / 2 / row.predicted
    aimed = aim(leader.subject, leader.seed)
    why, repair = "", f"Raise the lr of {row.name}: multiply it by {factor:g} to begin with."
    if aimed is not None and aimed.far:  # then a rate that fits now is far too high near the target
        why = (
            f" The outputs, of size {aimed.size:.2g}, have to move by {aimed.distance:.1g} for that: "
            "the targets are in other units than a network's outputs start in."
        )
        repair = f"{STANDARDISE}."
    return Finding(
        "step.short",
        f"A step of {row.name} lowers the loss of {loss:.3g} by {row.predicted:.2g}, so that {many:.2g} "
        f"would halve it; one that is {best:.2g} times as long lowers it most.{why}",
        Number(best, "1", "measured", "of its own step, where the loss falls most"),
        Number(1.0, "1", "measured", "its own step"),
        "warning",
        repair=repair,
        theory="U1",
    )


def _rounded(row: Step) -> Finding:
    return Finding(
        "step.rounded",
        f"The weights are stored too coarsely for the steps of {row.name}: neighbouring numbers of their "
        f"type lie {row.rounding:.2g} times as far apart as a step is long, so that most of it is lost.",
        Number(1.0, "1", "bound", "spacing of the weights' numbers ε‖Φ‖ over ‖ΔΦ‖, at most"),
        Number(row.rounding, "1", "measured"),
        "warning",
        repair="Keep the weights in float32 and compute in less with `torch.autocast`, or raise the lr.",
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


def _zero(still: Failure, leader: Contender) -> Finding:
    groups = getattr(leader.optimizer, "param_groups", None) or ()
    no_rate = bool(groups) and all(float(group.get("lr", 1.0)) == 0 for group in groups)
    why = ": its lr is 0" if no_rate else ""
    return Finding(
        "step.zero",
        f"A step of {still.name} moves no weight, although they have gradients{why}.",
        Number("a step above 0", "1", "formula", "‖ΔΦ‖"),
        Number(0.0, "1", "measured", "‖ΔΦ‖"),
        "warning",
        repair="Give it the lr that it trains at; a schedule that begins at 0 wastes its first steps."
        if no_rate
        else still.remedy,
        theory="U1",
    )


def _astray(found: Walk, warmup: int, repair: str) -> Finding:
    away = "diverged" if found.diverged else "went the wrong way"
    return Finding(
        "step.diverged" if found.diverged else "step.rose",
        f"The warm-up {away}: {warmup} steps of {found.leader} took the loss {found.went}. What is compared "
        "are steps from weights that no training means to reach.",
        Number(found.first, "1", "measured", "loss at the given weights"),
        Number(found.last, "1", "measured", "loss after the warm-up, on the same inputs"),
        "warning",
        repair=f"{repair}; warmup=0 (`--warmup 0`) compares first steps.",
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
