"""The optimizers that a report asks about: what they are called, and how their steps compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from assay.errors import RAISED, CannotMeasure, UserCodeError, said
from assay.finding import Finding, Number
from assay.state import copied, preserved_random_state
from assay.subject import Subject

if TYPE_CHECKING:
    from assay.update.steps import Steps

OptimizerFactory = Callable[[nn.Module], torch.optim.Optimizer]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """What leads where no optimizer is named."""
    return torch.optim.SGD(model.parameters(), lr=0.01)


def rmsprop(model: nn.Module) -> torch.optim.Optimizer:
    """What it is compared with."""
    return torch.optim.RMSprop(model.parameters(), lr=0.01)


def made_for(make: OptimizerFactory, model: nn.Module) -> Any:
    """What `make` makes for a copy of `model`, which is as it was afterwards.

    Args:
        make: A function from a model, or from its parameters, to an optimizer.
        model: The model.

    Returns:
        The optimizer of the copy.

    Raises:
        Exception: Whatever `make` raises, or the copying of the model.
    """
    from assay.update.optimizer import make_for

    with preserved_random_state():
        return make_for(make, copied(model))


def optimizer_name(make: OptimizerFactory, model: nn.Module | None = None) -> str:
    """What to call the optimizers that `make` makes.

    Args:
        make: A function from a model to its optimizer.
        model: The model that it is meant for, where it asks for that one; it is given a copy.

    Returns:
        The class of one that it makes, else the function's own name.

    Example:
        >>> optimizer_name(lambda model: torch.optim.AdamW(model.parameters()))
        'AdamW'
    """
    with preserved_random_state():
        tiny = nn.Linear(2, 2)
    for given in (tiny, model):
        try:
            if given is not None:
                return type(made_for(make, given)).__name__
        except Exception:  # it asks for its own model; the section that uses it will say more
            continue
    return str(getattr(make, "__name__", type(make).__name__))


def entered(
    name: str, make: OptimizerFactory, others: dict[str, OptimizerFactory], model: nn.Module
) -> tuple[dict[str, OptimizerFactory], bool]:
    """The user's optimizer among those that assay chose: it leads, so that the warm-up tries it at its rate.

    Args:
        name: What it is called.
        make: Makes it.
        others: Those that assay chose; one of the same name gives way.
        model: The model that they are for.

    Returns:
        All by name, the leader first, and whether that is assay's: where the user's cannot be made, or
        needs a closure (L-BFGS), which goes its own path.
    """
    from assay.update.optimizer import needs_closure

    same = next((known for known in others if known.lower() == name.lower()), name)
    rest = {known: other for known, other in others.items() if known != same}
    try:
        leads = not needs_closure(made_for(make, model))
    except RAISED:  # the comparison says so
        leads = False
    return ({same: make, **rest}, False) if leads or not rest else ({**rest, same: make}, True)


def compared(
    makers: dict[str, OptimizerFactory], subject: Subject, *, ours: bool, **given: Any
) -> Steps:
    """A comparison of steps; of the first ones, where the warm-up leads to no weights worth comparing at.

    Args:
        makers: Optimizers by name, the leader first.
        subject: The model.
        ours: Whether assay chose the leader's rate: then it is no news that it does not suit.
        **given: Passed on to `compare_steps`.

    Returns:
        The steps.

    Raises:
        CannotMeasure: If the first steps cannot be compared either.
    """
    from assay.update.compare import compare_steps
    from assay.update.steps_findings import AWAY, LOW

    fallen: tuple[Finding, ...] = ()
    first = next(iter(makers))
    leader = f"{first} with lr=0.01" if ours else f"your {first}"
    try:
        found = compare_steps(makers, subject, **given)
        away = next((f for f in found.findings if f.rule in AWAY), None)
        if not ours:
            return found
        if away is None:  # nobody chose the rate, so that it is no news that it is too low
            return replace(found, findings=tuple(f for f in found.findings if f.rule not in LOW))
        came = f"a loss of {away.measured}, from {away.expected}"
        remedy = away.repair
    except CannotMeasure as error:
        if error.argument not in ("backward", "warm-up"):
            raise
        remedy = error.remedy
        came = said(error.error) if isinstance(error, UserCodeError) else str(error.value)
        if error.argument == "warm-up" and not ours and subject.loss is not None:
            fallen = (_fallen(first, came, remedy),)
    steps = compare_steps(makers, subject, **{**given, "warmup": 0})
    # it names a rate that was tried over many steps: another one, for the first alone, confuses
    if fallen:
        long = ("step.overshoot", f" step of {first} ")
        others = (f for f in steps.findings if f.rule != long[0] or long[1] not in f.message)
        steps = replace(steps, findings=tuple(others))
    remark = f"The first steps are compared: from them {leader} came to {came}. {remedy}"
    return replace(steps, remarks=(*steps.remarks, remark), findings=(*fallen, *steps.findings))


def _fallen(leader: str, came: str, remedy: str) -> Finding:
    return Finding(
        "step.diverged",
        f"The warm-up diverged: steps of {leader} came to {came}. The first steps are compared.",
        Number("finite", "1", "formula", "loss and gradient after the warm-up"),
        Number("none", "1", "measured"),
        "warning",
        repair=remedy,
        theory="U1",
    )
