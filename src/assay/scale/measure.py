"""Moments of signals and gradients at every operator that a parameter feeds (Theory S1, S2, S4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from assay.builder import as_builder
from assay.errors import CannotMeasure, verbatim
from assay.finding import Result
from assay.progress import Progress, silent
from assay.scale.dropout import dropout
from assay.scale.held import Held, held, moves
from assay.scale.logits import not_logits
from assay.scale.nonfinite import FirstNonFinite, Origin
from assay.scale.recorder import Recorder
from assay.scale.rows import Row
from assay.scale.rules import find
from assay.scale.saturated import saturated
from assay.scale.show import show
from assay.scale.signs import random_signs
from assay.scale.stuck import unregistered
from assay.scale.table import to_rows
from assay.scale.twice import SquashedAgain
from assay.state import preserved, preserved_gradients, unfused
from assay.subject import Subject, first_floating, for_an_output, tensors
from assay.view.blocks import View

Objective = Literal["loss", "random signs", "none"]


@dataclass(frozen=True, repr=False)
class Scale(Result):
    """How large signals and gradients are at every operator, expected beside measured.

    Args:
        name: The model's class.
        rows: The operators, in the order of first execution.
        training: Whether the model was in training mode.
        objective: What the backward pass started from: the subject's loss; a sum of the output with
            random signs where it has no loss; or "none" where nothing requires a gradient.
        unmeasured: Names of operators that a parameter feeds and whose output is empty or no floating-point
            tensor.
    """

    name: str
    rows: tuple[Row, ...]
    training: bool
    objective: Objective
    unmeasured: tuple[str, ...] = ()

    def view(self) -> View:
        """The picture of variances by operator, and the table."""
        return show(self)


def measure_scale(subject: Any, *, progress: Progress = silent) -> Scale:
    """Mean and variance of every unit, forward and backward, by one run of each (Theory S1, S2, S4).

    Every operator that a parameter feeds is intercepted at dispatch, together with the activations and
    residual sums after it. The model runs in the mode that it is in. A loop over time gives one row.

    Without a loss the backward pass starts from the output's first floating-point tensor times random
    signs, not from its plain sum: the sum over what a layer norm or a softmax returns is a constant, whose
    gradient is zero whatever the model is. The signs make the gradient's mean square 1 at the output.

    Args:
        subject: A `Subject`, or anything that `assay.Builder` takes: a module, `(model, inputs)`, a builder.
        progress: Told after the forward and after the backward pass.

    Returns:
        The rows and findings.

    Raises:
        CannotMeasure: If the model has weights without values (meta device, lazy modules), its output is
            empty, or the loss is not a scalar.
        UserCodeError: If the forward pass, the loss or the backward pass raises.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8))
        >>> scale = measure_scale((model, torch.randn(64, 256)))
        >>> [(row.operator, row.fan_in, round(row.variance, 1)) for row in scale.rows]
        [('addmm', 256, 0.3), ('ReLU', None, 0.1), ('addmm', 256, 0.0)]
    """
    if not isinstance(subject, Subject):
        subject = as_builder(subject)()
    model = subject.model
    _require_values(model)
    recorder = Recorder(model, (subject.inputs, subject.kwargs))
    try:
        with (
            preserved(model),
            preserved_gradients(tensors((subject.inputs, subject.kwargs))),
            unfused(),
        ):
            objective, finite, whole, watch = _run(subject, recorder, progress)
            trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
            left_out = [name for name, p in trainable.items() if p.grad is None]
            still = [n for n, p in trainable.items() if p.grad is not None and not moves(p.grad)]
    finally:
        recorder.gradients.release()
    rows = to_rows(recorder.records)
    finite = finite and all(row.finite for row in rows)
    origin = None if finite else _first_non_finite(subject)
    dropped = tuple(dropout(list(recorder.dropouts.seen.values())))
    first = "scale.unregistered" if recorder.strangers else "scale.dropout" * bool(dropped)
    cut_off = len(trainable) if objective == "none" else 0
    return Scale(
        name=subject.name,
        rows=rows,
        training=model.training,
        objective=objective,
        unmeasured=tuple(sorted(recorder.unmeasured)),
        findings=(
            *find(
                rows,
                origin,
                cut_off,
                left_out if whole else (),
                held(subject, rows, still) if finite else Held(),
                first,
            ),
            *dropped,
            *saturated(recorder.attentions if finite else (), rows),
            *not_logits(watch.found, watch.across),
            *watch.targets.findings(),
            *unregistered([p.shape for p in recorder.strangers.values()], recorder.stranger_at),
        ),
    )


def _require_values(model: nn.Module) -> None:
    weights = (*model.parameters(), *model.buffers())
    if any(nn.parameter.is_lazy(x) for x in weights):
        raise CannotMeasure(
            "model",
            verbatim("parameters of a lazy module that has not run"),
            "weights with values",
            "Run the model once in the builder.",
        )
    if any(x.is_meta for x in weights):
        raise CannotMeasure(
            "model",
            verbatim("parameters on the meta device"),
            "weights with values",
            "Build it on a real device.",
        )


def _run(
    subject: Subject, recorder: Recorder, progress: Progress
) -> tuple[Objective, bool, bool, SquashedAgain]:
    """Forward and backward.

    Returns:
        What the backward pass started from, whether it began finite, and whether from all outputs; and what
        the loss took for logits.

    Raises:
        CannotMeasure: If the output has no elements.
    """
    with torch.inference_mode(False), torch.enable_grad():
        watch = SquashedAgain()
        with recorder.watching(), watch.watching():
            output = subject.forward()
        progress("scale", 1, 2)
        found = [x for x in tensors(output) if x.is_floating_point()]
        if found and not any(x.numel() for x in found):
            raise CannotMeasure(
                "forward",
                verbatim(f"an output of shape {list(found[0].shape)}"),
                "an output with elements",
                for_an_output(subject),
            )
        recorder.returned(list(tensors(output)))
        watch.returned(recorder.squashed(found))
        if subject.loss is not None:
            with watch.watching():
                value = subject.objective(output)
        else:
            first = first_floating(output)
            value = (first * random_signs(first)).sum()  # E g² = 1 where it starts
        finite = all(bool(torch.isfinite(x).all()) for x in (*found, value))
        if not value.requires_grad:
            return "none", finite, False, watch
        recorder.gradients.wanted = True
        subject.differentiate(value)
    progress("scale", 2, 2)
    if subject.loss is not None:
        return "loss", finite, True, watch
    return "random signs", finite, sum(x.requires_grad for x in found) < 2, watch


def _first_non_finite(subject: Subject) -> Origin | None:
    """Run once more, from the same random state, and look at every operator."""
    search = FirstNonFinite(subject.model)
    model = subject.model
    with (
        preserved(model),
        preserved_gradients(tensors((subject.inputs, subject.kwargs))),
        unfused(),
        search.modules.following(),
        search,
    ):
        output = subject.forward()
        if subject.loss is not None:
            subject.objective(output)
    return search.origin
