"""The units card: which changes of units leave an optimizer's trajectory alone (Theory U3–U8)."""

from __future__ import annotations

from dataclasses import replace

import torch

from assay.errors import UsageError, UserCodeError, verbatim
from assay.progress import Progress, silent
from assay.subject import Subject
from assay.update.base import prepare
from assay.update.card import findings_of
from assay.update.change import changes
from assay.update.law import unit_of_rate
from assay.update.optimizer import Make, name_of
from assay.update.own_audit import audit_own
from assay.update.rows import audit_row
from assay.update.units_card import Feature, UnitsCard
from assay.update.world import Problem

__all__ = ["Feature", "UnitsCard", "audit_units"]

_ON_REFERENCE = (
    "The traceback above is from your code, which was given the small reference network and not your model. "
    "Where it asks for parts of yours, audit it on that: `--on FILE:BUILDER`, or audit_units(make, subject)."
)


def audit_units(
    make_optimizer: Make,
    problem: Problem | Subject | None = None,
    *,
    name: str | None = None,
    steps: int = 20,
    dtype: torch.dtype = torch.float64,
    progress: Progress = silent,
) -> UnitsCard:
    """Train one function in different units with the same optimizer, and compare in function space.

    For every row a twin of the training is made that starts as exactly the same function written
    in other units (`x̃ = c x` with `W̃ = W / c`), both are trained on the same batches, and their outputs
    are compared after every step. A control run, whose first weights differ by round-off, says which
    difference means nothing; where round-off itself grows too large the verdict is "undetermined".

    Without a `problem`, the training is that of a small reference network: the card is about the optimizer.
    With a subject it is your own model on its example inputs, which is copied and not changed: the card says
    which of your choices of units matter (features of the inputs one by one, the loss), and by how much.

    Args:
        make_optimizer: `make_optimizer(model) -> optimizer`: a function of the model; or a class such as
            `torch.optim.Adam` or a `functools.partial` of one, which get `model.parameters()`. An
            optimizer that needs a closure, sparse gradients, gradients of gradients or 2-D parameters is
            given them.
        problem: Your own subject, or sizes and precision of the reference problem.
        name: What to call the optimizer.
        steps: Steps of training, where `problem` does not say.
        dtype: Precision of the training, where `problem` does not say.
        progress: Told about every row.

    Returns:
        The card.

    Raises:
        UsageError: If `make_optimizer` cannot be called, or returns something that cannot step, torch refuses
            its arguments, or `problem` is of another kind.
        UserCodeError: If `make_optimizer` or the optimizer's step raises.
        CannotMeasure: If the optimizer moves nothing, training diverges at every rate, or a model of yours
            has nothing to train.
        AssayError: If `make_optimizer` raises one itself; it is passed on.

    Example:
        >>> card = audit_units(torch.optim.Adam)
        >>> card["loss unit"].verdict, card["loss unit"].law[:9]
        ('invariant', 'up to ε: ')
    """
    label = name or name_of(make_optimizer)
    if isinstance(problem, Subject):
        return audit_own(make_optimizer, label, problem, steps, dtype, progress)
    if problem is None:
        problem = Problem(steps=steps, dtype=dtype)
    if not isinstance(problem, Problem):
        raise UsageError(
            "problem",
            verbatim(type(problem).__name__),
            "an assay.Subject, an assay.update.world.Problem, or nothing for the reference problem",
            "Wrap your model: assay.Subject(model, inputs, loss=…).",
        )
    try:
        ready = prepare(make_optimizer, label, problem, problem.world(), fold=True)
    except UserCodeError as error:
        raise UserCodeError(error.argument, label, error.error, _ON_REFERENCE) from error.error
    verdicts, laws = {}, {}
    rows = changes(problem)
    for done, (row, variants) in enumerate(rows.items()):
        progress("units", done, len(rows), row)
        verdict, laws[row] = audit_row(ready.lab, ready.base, ready.limits, row, variants)
        verdicts[row] = replace(verdict, control=ready.control)
    progress("units", len(rows), len(rows))
    return UnitsCard(
        label,
        verdicts,
        unit_of_rate(laws),
        ready.base.losses,
        replace(problem, steps=ready.lab.setting.problem.steps),
        ready.remarks,
        findings=findings_of(label, verdicts, reference=True),
    )
