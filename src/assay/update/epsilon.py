"""An ε that outweighs the roots that it is added to: then an adaptive optimizer is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import RAISED
from assay.finding import Finding, Number
from assay.progress import silent
from assay.update.contender import Contender
from assay.update.direction import length, real
from assay.update.steps import Step
from assay.update.walk import Walk, walk

USUAL = (
    1e-8  # torch's default for all of these (Adagrad's is smaller); below it gradients are to blame
)
MOST = 0.5  # of the weights with a gradient
FASTER = 2.0  # times the fall of the loss, for a smaller ε to be worth a warning


def outweighed(one: Contender) -> float:
    """The share of weights, of those with a gradient, for which ε is more than the root beside it.

    Known are Adam, AdamW, NAdam, RAdam, Adamax, RMSprop and Adagrad, by what they keep.

    Args:
        one: An optimizer that has stepped.

    Returns:
        0 to 1; 0 of optimizers without such a root, and where every ε is the usual one.
    """
    judged = larger = 0
    for group, p, gradient in _held(one):
        root = _root(group, one.optimizer.state.get(p, {}))
        # one that no gradient has reached (a rare token's embedding) has a root of zero by design
        has = real(gradient) != 0
        if root is None or root.shape != has.shape:
            continue
        judged += int(has.sum())
        larger += int((root < group["eps"])[has].sum()) if group["eps"] > USUAL else 0
    return larger / judged if judged else 0.0


def _held(one: Contender) -> Iterator[tuple[dict[str, Any], nn.Parameter, Tensor]]:
    """Groups, their parameters and the latest gradients; of torch's own optimizers alone."""
    gradients = {id(p): g for p, g in zip(one.weights.values(), one.gradient, strict=True)}
    if not isinstance(one.optimizer, torch.optim.Optimizer):
        return
    for group in one.optimizer.param_groups:
        if isinstance(group.get("eps"), float | int):
            for p in group["params"]:
                if id(p) in gradients:
                    yield group, p, gradients[id(p)]


def _root(group: dict[str, Any], state: dict[str, Any]) -> Tensor | None:
    """What ε is added to, by what the optimizer keeps of a parameter.

    Running means start at zero and are taken as what they come to: else every ε is large in first steps.

    Returns:
        The root; None where that is not known.
    """
    steps = max(float(state.get("step", 1)), 1.0)
    found: Tensor | None = None
    if "exp_avg_sq" in state and "betas" in group:
        mean = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
        found = (mean / (1 - group["betas"][1] ** steps)).sqrt()
    elif "exp_inf" in state:  # Adamax adds ε to |g| before it takes the maximum
        found = state["exp_inf"] - group["eps"]
    elif "square_avg" in state and "alpha" in group:
        mean = state["square_avg"]
        mean = mean - state["grad_avg"].square() if group.get("centered") else mean
        found = (mean / (1 - group["alpha"] ** steps)).sqrt()
    elif "sum" in state and "lr_decay" in group:
        found = state["sum"].sqrt()
    return found


def epsilon(
    one: Contender, row: Step, entrant: Callable[[], Contender], warmup: int, found: Walk
) -> Finding | None:
    """What to say of an ε that is too large: a warning where the same steps with a usual one learn faster.

    Args:
        one: The leader, after its steps.
        row: Its step.
        entrant: Makes it anew, with its own copy of the given weights.
        warmup: Steps of the warm-up.
        found: Where these led.

    Returns:
        The finding; None where ε does not outweigh most roots.
    """
    share = outweighed(one)
    if share <= MOST:
        return None
    eps = max(float(group["eps"]) for group in one.optimizer.param_groups if "eps" in group)
    repair, faster = _repaired(entrant, warmup, row, found)
    angle = "" if row.to_gradient is None else f" (its step lies {row.to_gradient:.1f}° from −g)"
    groups = one.optimizer.param_groups
    remembers = any(g.get("betas", (0.0,))[0] or g.get("momentum") for g in groups)
    kind = "SGD with momentum" if remembers else "SGD"
    return Finding(
        "step.epsilon",
        f"{row.name} with eps={eps:g} is {kind} at lr/eps for {share:.0%} of the weights with a gradient"
        f"{angle}: there ε outweighs √v, and their own scale is not divided out.",
        Number(MOST, "1", "bound", "share of weights with ε above √v, at most"),
        Number(share, "1", "measured", "share of weights with ε above √v"),
        "warning" if faster else "note",
        repair=repair,
        theory="U1",
    )


def _repaired(
    entrant: Callable[[], Contender], warmup: int, row: Step, found: Walk
) -> tuple[str, bool]:
    """The usual ε, at the same rate or at one that takes steps as long as now; and whether it is faster."""
    fallen = found.first - found.last
    factor = 1.0
    for _ in range(2 if warmup else 0):
        tried = _with_usual(entrant, warmup, factor)
        if tried is None:
            break
        if tried.first - tried.last > FASTER * fallen and not tried.strayed:
            rate = "" if factor == 1 else f" and {factor:.2g} of the lr"
            took = f"{tried.first - tried.last:.2g} and not {fallen:.2g}"
            return (
                f"Set eps={USUAL:g}{rate}: the same {warmup} steps then lower the loss by {took}.",
                True,
            )
        taken = length(tried.steps[row.name])
        factor *= row.own_norm / taken if taken > 0 else math.inf
    return f"Set eps={USUAL:g}, with a lower lr, if it is not meant.", False


def _with_usual(entrant: Callable[[], Contender], warmup: int, factor: float) -> Walk | None:
    try:
        one = entrant()
        for group in one.optimizer.param_groups:
            group["eps"] = min(group["eps"], USUAL)
            group["lr"] = group["lr"] * factor
        tried = walk([one], [], warmup, silent)
    except RAISED:
        return None
    return tried if one.name in tried.steps else None
