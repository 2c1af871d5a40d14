"""The reference's own run, which all others are compared with: it has to stay finite and to move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from assay.errors import AssayError, CannotMeasure, UserCodeError, verbatim
from assay.update.optimizer import Make, make_for, scale_options
from assay.update.trajectory import Setting, Trajectory, train
from assay.update.world import Network, World

SLOWEST = (
    4.0**-20
)  # where training diverges at the given rate, smaller ones are tried, down to this share


def run(setting: Setting, world: World) -> Trajectory:
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


def run_base(setting: Setting, reference: World) -> tuple[Setting, Trajectory, tuple[str, ...]]:
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
    base = run(setting, reference)
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
                f"At its own lr, training the reference problem diverges after {after} steps; this is its "
                f"card at {share:.1g} of that lr."
            )
            return slower, base, (how,)
    raise CannotMeasure(
        "optimizer",
        verbatim(setting.name),
        f"training that stays finite on the reference problem, but it diverges after {after} steps, also "
        "at much smaller rates",
        "Give a smaller lr.",
    )


def _require_movement(setting: Setting, reference: World, base: Trajectory) -> None:
    model: nn.Module = Network(reference.weights, setting.feeding.folded)
    if base.unmoved == tuple(name for name, _ in model.named_parameters()):
        raise CannotMeasure(
            "optimizer",
            verbatim(setting.name),
            "steps, but it did not move any parameter of the reference problem",
            "Check its lr, and that it is given the parameters of the model that it is made for.",
        )


def _slowed(make: Make, share: float) -> Make:
    def slower(model: nn.Module) -> Any:
        optimizer = make_for(make, model)
        scale_options(optimizer, {"lr": share})
        return optimizer

    return slower
