"""The way to the common weights: a warm-up that one optimizer leads, then one step of each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from assay.errors import AssayError, CannotMeasure, UserCodeError, verbatim
from assay.progress import Progress
from assay.update.contender import Contender
from assay.update.direction import Direction, is_finite, is_zero, length
from assay.update.failure import Failure
from assay.update.optimizer import needs_closure
from assay.update.probe import Probe

RUNAWAY = 10.0  # times the loss at the given weights: far from where training that works goes
RISE = 0.01  # of the loss: more than the last digits of it
HALVING = 10  # steps: weights that halve sooner forget faster than anything is learned


@dataclass
class Walk:
    """What came of it.

    Args:
        steps: The own step of each optimizer, by name.
        start: Weights and buffers that these were taken from.
        first: The objective at the given weights, with the random numbers of the last step.
        last: The same at the common weights.
        highest: The largest objective met at the weights between them; NaN without any.
        leader: Whose steps led there.
        norms: Of all weights, at the given ones and at the common ones.
    """

    steps: dict[str, list[Tensor]] = field(default_factory=dict)
    start: dict[str, Tensor] = field(default_factory=dict)
    first: float = math.nan
    last: float = math.nan
    highest: float = math.nan
    leader: str = ""
    norms: tuple[float, float] = (math.nan, math.nan)

    def shrunk(self, warmup: int) -> bool:
        """Whether the weights halved, and every ten steps again, without the loss having fallen to a half."""
        first, last = self.norms
        return last < first * 0.5 ** max(1.0, warmup / HALVING) and not self.last < self.first / 2

    @property
    def diverged(self) -> bool:
        """Whether the warm-up ran away: the objective has grown many times over, or out of all numbers."""
        if not math.isfinite(self.first):
            return False
        return not self.last - self.first <= (RUNAWAY - 1) * abs(self.first)

    @property
    def astray(self) -> bool:
        """Whether the objective is higher than before, on the inputs that the steps were taken for."""
        return self.diverged or self.last - self.first > RISE * abs(self.first)

    @property
    def strayed(self) -> bool:
        """Whether it was astray on the way: a loss that has doubled comes down at dead units."""
        return self.astray or self.highest - self.first > abs(self.first)

    @property
    def went(self) -> str:
        """From where to where, in words."""
        return f"from {self.first:.3g} to {self.last:.3g}"


def walk(
    contenders: list[Contender], failed: list[Failure], warmup: int, progress: Progress
) -> Walk:
    """Warm up along the leader's path, then one step of each from the common weights.

    Args:
        contenders: The first of them leads; where it fails, the next one does.
        failed: Those that could not step are added.
        warmup: Steps before.
        progress: Told about every step.

    Returns:
        The steps.

    Raises:
        UserCodeError: If the model or the loss raises: at the given weights, or where the warm-up leads.
        AssayError: If these or the gradients are nothing to go on.
    """
    alive = list(contenders)
    found = Walk()
    if warmup and alive:
        found.first = found.last = Probe(alive[0].subject, warmup, alive[0].seed).at()[0]
    for t in range(warmup + 1):
        progress("steps", t, warmup + 2, "warm-up" if t < warmup else "one step of each")
        if not alive:
            break
        found.start = alive[0].state()
        last = t == warmup
        for one in list(alive):
            if not last and one is not alive[0] and needs_closure(one.optimizer):
                continue  # its memory is about its own path and would be false along another's
            one.adopt(found.start)
            size = length([p.detach() for p in one.weights.values()])
            before = [p.detach().clone() for p in one.weights.values()] if last else []
            try:
                objective = one.step(t)
            except UserCodeError as error:
                if t == 0:
                    raise  # the user's model or loss: not the optimizer's fault
                astray = _led_astray(alive[0].name, t, error)
                raise astray from error.error
            except AssayError:
                raise
            except Exception as error:
                alive.remove(one)
                failed.append(Failure.of(one.name, UserCodeError("optimizer", one.name, error)))
                continue
            one.release()
            _require_gradient(one.gradient, t)
            if one is alive[0]:
                found.leader = one.name
                found.norms = (found.norms[0] if t else size, size)
                found.highest = objective if t == 0 else max(found.highest, objective)
            if last:
                found.last = objective
                _keep(one, before, found, failed)
    return found


def _keep(one: Contender, before: list[Tensor], found: Walk, failed: list[Failure]) -> None:
    taken = [p.detach() - old for p, old in zip(one.weights.values(), before, strict=True)]
    if is_finite(taken) and not is_zero(taken):
        found.steps[one.name] = taken
        return
    kinds = {p.dtype for p in one.weights.values()} & {torch.float16, torch.bfloat16}
    failed.append(Failure.unusable(one.name, is_finite(taken), next(iter(kinds), None)))


def _led_astray(leader: str, step: int, error: UserCodeError) -> UserCodeError:
    """An error that the given weights do not raise."""
    return UserCodeError(
        "warm-up",
        f"step {step} of {leader}, {error.argument}",
        error.error,
        f"It ran at the given weights, and raised at those that {leader} came to: lower the lr of the first "
        "optimizer, or give warmup=0.",
    )


def _require_gradient(gradient: Direction, step: int) -> None:
    """Refuse gradients that are not finite or all zero: no optimizer is to blame for these."""
    when = f"after {step} warm-up steps" if step else "at the given weights"
    if not is_finite(gradient):
        raise CannotMeasure(
            "warm-up" if step else "backward",
            verbatim(f"a gradient that is not finite {when}"),
            "finite gradients on the example inputs",
            "Lower the lr of the first optimizer, or give warmup=0."
            if step
            else "`assay scale` names the first operator.",
        )
    if is_zero(gradient):
        raise CannotMeasure(
            "backward",
            verbatim(f"a gradient of zero {when}"),
            "an objective that is not flat",
            "Give warmup=0, or a loss that does not run into a plateau (dead units, saturated outputs)."
            if step
            else "Look for dead units and saturated outputs with `assay scale`.",
        )


def refusal(found: Walk, warmup: int, failed: list[Failure]) -> CannotMeasure:
    """Why fewer than two optimizers are left.

    Args:
        found: What came of the walk.
        warmup: Steps of its warm-up.
        failed: Who could not step.

    Returns:
        The error, with the warm-up as its cause where that ran away.
    """
    if found.diverged:
        return CannotMeasure(
            "warm-up",
            verbatim(
                f"a loss of {found.last:.3g}, from {found.first:.3g}, after {warmup} steps of "
                f"{found.leader}"
            ),
            "a warm-up that leaves numbers in range",
            "Lower the lr of the first optimizer, or give warmup=0.",
        )
    reasons = "; ".join(f"{one.name}: {one.why}" for one in failed)
    remedies = dict.fromkeys(one.remedy for one in failed if one.remedy)
    return CannotMeasure(
        "optimizers",
        verbatim(reasons or "fewer than two"),
        "at least two optimizers that can step on this model",
        " ".join(remedies) or "Name others.",
    )
