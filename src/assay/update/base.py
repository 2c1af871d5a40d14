"""The reference's own run, which all others are compared with: it has to stay finite and to move."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from assay.errors import AssayError, CannotMeasure, UsageError, UserCodeError, verbatim
from assay.state import preserved_random_state
from assay.update.feeding import Fed, find_feeding
from assay.update.law import Laboratory
from assay.update.optimizer import Make, build_optimizer, is_refusal, make_for, scale_options
from assay.update.training import Plan, Training
from assay.update.trajectory import Setting, Trajectory, train
from assay.update.verdict import compare, thresholds

# where training diverges at the given rate, smaller ones are tried, down to this share
SLOWEST = 4.0**-20
CONTROLS = 3  # runs whose first weights are jittered by round-off
CLOSURE_STEPS = 4  # where a step calls its closure many times (L-BFGS 20), it is long and chaotic


@dataclass(frozen=True)
class Prepared:
    """A reference's run, and what counts as the same.

    Args:
        lab: Runs variants of the training.
        base: The reference's run.
        limits: Deviation after every step up to which two trajectories count as the same.
        control: The largest deviation of a jittered run.
        remarks: How the optimizer had to be fed, and what it did that a reader should know.
    """

    lab: Laboratory
    base: Trajectory
    limits: tuple[float, ...]
    control: float
    remarks: tuple[str, ...]


def prepare(make: Make, label: str, plan: Plan, reference: Training, *, fold: bool) -> Prepared:
    """Find out how the optimizer wants its gradients, train the reference, and how far round-off carries.

    Args:
        make: Makes the optimizer.
        label: Its name.
        plan: Steps, batches and precision.
        reference: What is trained.
        fold: Whether the model can be written with 2-D parameters only.

    Returns:
        What the rows are judged by.

    Raises:
        UsageError: If `make` makes no optimizer, or torch refuses its arguments.
        UserCodeError: If the optimizer raises.
        CannotMeasure: If it moves nothing, or training diverges at every rate.
        AssayError: If `make` raises one itself; it is passed on.
    """
    setting = Setting(make, label, plan)
    fed = _feed(setting, reference, fold)
    if fed.long:
        plan = plan.lasting(min(plan.steps, CLOSURE_STEPS))
    setting = replace(setting, feeding=fed.feeding, problem=plan, wide=fed.narrow is not None)
    setting, base, slowed = run_base(setting, reference)
    remarks = (*_remarks(setting, fed), *slowed)
    if base.rebuilt:
        remarks += ("Making it changed which parameters the model has.",)
    if base.unmoved:
        remarks += (f"It never moved {', '.join(base.unmoved)}, which had gradients.",)
    draw = torch.Generator().manual_seed(plan.seed + 3)
    controls = [run(setting, reference.jittered(draw)) for _ in range(CONTROLS)]
    reseeded = run(replace(setting, seed=setting.seed + 1), reference)
    if not torch.equal(reseeded.outputs, base.outputs):
        controls.append(reseeded)
        remarks += ("It draws random numbers; all runs use the same seed, one control another.",)
    comparisons = [compare(base, one) for one in controls]
    lab = Laboratory(setting, reference, _options(setting, reference))
    limits = thresholds(base, comparisons)
    return Prepared(lab, base, limits, max(c.last for c in comparisons), remarks)


def _feed(setting: Setting, reference: Training, fold: bool) -> Fed:
    try:
        return find_feeding(setting, reference, fold=fold)
    except UserCodeError as error:
        if not is_refusal(error.error):
            raise
        raise UsageError(
            "optimizer",
            verbatim(setting.name),
            f"arguments that it takes, but it raised {type(error.error).__name__}: {error.error}",
            "Change its arguments.",
        ) from error
    except AssayError:
        raise
    except Exception as error:
        raise UserCodeError("optimizer", setting.name, error) from error


def run(setting: Setting, world: Training) -> Trajectory:
    """Train where raising is no verdict about a row: it is the optimizer that cannot run.

    Args:
        setting: Optimizer and problem.
        world: The units.

    Returns:
        The trajectory.

    Raises:
        AssayError: What `train` raises itself.
        UserCodeError: If the optimizer raises.
    """
    try:
        return train(setting, world)
    except AssayError:
        raise
    except Exception as error:
        raise UserCodeError("optimizer", setting.name, error) from error


def run_base(setting: Setting, reference: Training) -> tuple[Setting, Trajectory, tuple[str, ...]]:
    """The reference's run, at a smaller rate where training diverges at the given one.

    A rate that suits the user's model may be too large for the reference problem; which units an update
    depends on is the same at every rate.

    Args:
        setting: Optimizer and problem.
        reference: The reference world.

    Returns:
        The setting that was run, its trajectory, and a remark if the rate is another one.

    Raises:
        CannotMeasure: If the optimizer moves nothing, or training diverges at every rate.
    """
    base, named = run(setting, reference), setting.problem.named
    if base.finite:
        _require_movement(setting, reference, base)
        return setting, base, ()
    after, share = len(base.outputs) - 1, 1.0
    while share > SLOWEST:
        share /= 4
        slower = replace(setting, make=_slowed(setting.make, share))
        base = run(slower, reference)
        if base.finite and base.losses[-1] < base.losses[0]:
            how = (
                f"At its own lr, training {named} diverges after {after} steps; this is its "
                f"card at {share:.1g} of that lr."
            )
            return slower, base, (how,)
    raise CannotMeasure(
        "optimizer",
        verbatim(setting.name),
        f"training of {named} that stays finite, but it diverges after {after} steps, also at much smaller "
        "rates",
        "Give a smaller lr.",
    )


def _require_movement(setting: Setting, reference: Training, base: Trajectory) -> None:
    model = reference.network(setting.feeding.folded)
    if base.unmoved == tuple(name for name, _ in model.named_parameters()):
        raise CannotMeasure(
            "optimizer",
            verbatim(setting.name),
            f"steps, but it did not move any parameter of {setting.problem.named}",
            "Check its lr, and that it is given the parameters of the model that it is made for.",
        )


def _slowed(make: Make, share: float) -> Make:
    def slower(model: Any) -> Any:
        optimizer = make_for(make, model)
        scale_options(optimizer, {"lr": share})
        return optimizer

    return slower


def _options(setting: Setting, reference: Training) -> dict[str, Any]:
    """The optimizer's options as they are: its first parameter group without the parameters."""
    with preserved_random_state(setting.seed):
        model = reference.network(setting.feeding.folded)
        optimizer = build_optimizer(setting.make, model, setting.name)
    groups = getattr(optimizer, "param_groups", None) or [{}]
    return {key: value for key, value in groups[0].items() if key != "params"}


def _remarks(setting: Setting, fed: Fed) -> tuple[str, ...]:
    feeding, narrow = fed.feeding, fed.narrow
    found = []
    if feeding.folded:
        found.append("It takes 2-D parameters only: biases stand as weights of a constant input 1.")
    if feeding.closure:
        found.append("It is given a closure, which it calls as often as it likes.")
    if feeding.sparse:
        found.append("It is given sparse gradients, without any entry left out.")
    if feeding.graph:
        found.append("It is given gradients that can be differentiated once more.")
    if narrow is not None:
        dtype = str(setting.problem.dtype).removeprefix("torch.")
        found.append(
            f"Its step casts to {str(narrow).removeprefix('torch.')}; the card is about the algorithm, so "
            f"such casts were kept in {dtype}."
        )
    return tuple(found)
