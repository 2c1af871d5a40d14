"""Equal norm, different direction: the steps of several optimizers from the same weights (Theory U1)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from assay.errors import (
    AssayError,
    CannotMeasure,
    UsageError,
    UserCodeError,
    require_seed,
    verbatim,
)
from assay.finding import Finding
from assay.progress import Progress, silent
from assay.state import preserved, preserved_gradients
from assay.subject import Subject, first_floating, for_an_output, tensors
from assay.update.aim import STANDARDISE, aim
from assay.update.broadcast import broadcast
from assay.update.contender import Contender, enter, is_plain_sgd, require_trainable
from assay.update.direction import (
    Direction,
    closed_form_degrees,
    degrees,
    dot,
    length,
    rms,
)
from assay.update.epsilon import epsilon
from assay.update.failure import Failure
from assay.update.optimizer import Make, needs_closure
from assay.update.probe import Probe, scale_to_function_norm
from assay.update.reach import best_multiple
from assay.update.slower import at_a_rate, slower
from assay.update.steps import MULTIPLES, Norm, Pair, Step, Steps
from assay.update.steps_findings import SLOW, findings_of
from assay.update.steps_units import in_other_units
from assay.update.walk import Walk, refusal, walk

__all__ = ["Pair", "Step", "Steps", "compare_steps"]


def compare_steps(
    optimizers: Mapping[str, Make],
    subject: Subject,
    norm: Norm = "parameter",
    *,
    warmup: int = 10,
    seed: int = 0,
    progress: Progress = silent,
) -> Steps:
    """Let optimizers step from the same weights, and compare at equal norm.

    Warm-up: the first optimizer trains a copy of the model for `warmup` steps on the example inputs. All
    others follow the same path: before each step their copies are set to the same weights, so that their
    states (running means, momenta) have seen the same gradients. Then each takes one step from the common
    weights Φ. The norm that is made equal is that of the first optimizer's own step.

    Equal parameter norm depends on the units of inputs and hidden units; equal function norm does not.

    Args:
        optimizers: Name to `make_optimizer(model)`, as in `audit_units`; at least two. The first leads.
        subject: Model, example inputs and loss. The model is copied, not changed.
        norm: "parameter" (‖ΔΦ‖), "function" (RMS change of the first floating-point output of more than one
            number) or "loss" (the decrease that the gradient predicts).
        warmup: Steps before the comparison; 0 compares first steps.
        seed: Of random numbers in forward passes; every forward of one step uses the same ones.
        progress: Told about every step.

    Returns:
        The steps, their angles, and the loss decrease of each.

    Raises:
        UsageError: If `optimizers`, `norm`, `warmup` or `seed` is not as described.
        CannotMeasure: If the model has nothing to train, its outputs or gradients are not finite, it cannot
            be copied, or fewer than two optimizers can step.

    Example:
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch...>
        >>> subject = Subject(torch.nn.Linear(3, 2), torch.randn(8, 3), loss=lambda y: y.square().mean())
        >>> steps = compare_steps({"SGD": torch.optim.SGD, "RMSProp": torch.optim.RMSprop}, subject)
        >>> abs(steps.angle("SGD", "RMSProp") - steps.pairs[0].closed_form) < 0.1
        True
    """
    _check(optimizers, subject, norm, warmup, seed)
    with preserved(subject.model), preserved_gradients(tensors((subject.inputs, subject.kwargs))):
        _require_finite(subject)
        paired = broadcast(subject)
        contenders, failed = _enter_all(optimizers, subject, seed)

        def anew() -> Contender:
            first = contenders[0].name
            return enter(first, optimizers[first], subject, seed)

        def lower() -> str:
            rate = at_a_rate(contenders[0].name, slower(anew, warmup))
            aimed = None if subject.loss is None else aim(subject, seed)
            far = aimed is not None and aimed.far
            return f"{STANDARDISE}; or {rate[0].lower()}{rate[1:]}" if far else rate

        try:
            found = walk(contenders, failed, warmup, progress)
            if len(found.steps) < 2:
                why = refusal(found, warmup, failed)
                raise why
        except CannotMeasure as error:
            if error.argument != "warm-up" or isinstance(error, UserCodeError):
                raise
            remedy = f"{lower()}; or give warmup=0."
            raise CannotMeasure("warm-up", error.value, error.expected, remedy) from error
        steps = found.steps
        progress("steps", warmup + 1, warmup + 2, "equal norm")
        leader = next(c for c in contenders if c.name in steps)
        leader.adopt(found.start)
        repair = lower() if found.leader == contenders[0].name and found.astray else ""
        result = _measure(leader, contenders, found, failed, norm, warmup, subject.name, repair)
        mine = {
            leader.name: steps[leader.name],
            **{row.name: steps[row.name] for row in result.rows},
        }
        units = in_other_units(leader, mine, warmup)
        findings = _with_epsilon(result, contenders[0], anew, warmup, found)
        said = () if paired is None else (paired,)
        result = replace(result, units=units, findings=(*said, *findings))
        progress("steps", warmup + 2, warmup + 2)
    return result


def _check(
    optimizers: Mapping[str, Make], subject: Subject, norm: str, warmup: int, seed: int
) -> None:
    if not isinstance(optimizers, Mapping) or len(optimizers) < 2:
        raise UsageError(
            "optimizers",
            optimizers,
            "a dict of at least two named optimizers",
            'Give {"SGD": torch.optim.SGD, "RMSProp": torch.optim.RMSprop}.',
        )
    if not isinstance(subject, Subject):
        raise UsageError(
            "subject", subject, "an assay.Subject", "Wrap it: assay.Subject(model, inputs, loss=…)."
        )
    if norm not in get_args(Norm):
        raise UsageError("norm", norm, f"one of {get_args(Norm)}", 'Use norm="function".')
    if not isinstance(warmup, int) or isinstance(warmup, bool) or warmup < 0:
        raise UsageError("warmup", warmup, "an integer of at least 0", "Use warmup=10.")
    require_seed(seed)
    require_trainable(subject)


def _require_finite(subject: Subject) -> None:
    """Refuse outputs without elements, and outputs that are not finite."""
    with preserved(subject.model), torch.enable_grad():
        value = first_floating(subject.forward()).detach()
    bad = int((~torch.isfinite(value)).sum()) if not value.is_meta else value.numel()
    if value.is_meta or not value.numel():
        raise CannotMeasure(
            "forward",
            verbatim(f"an output of shape {list(value.shape)} on {value.device}"),
            "an output with elements and values",
            "Build it on a real device." if value.is_meta else for_an_output(subject),
        )
    if bad:
        raise CannotMeasure(
            "forward",
            verbatim(f"{bad} of {value.numel()} outputs are NaN or infinite"),
            "finite outputs on the example inputs",
            "Check the inputs and the initial weights; `assay scale` names the first operator.",
        )


def _enter_all(
    optimizers: Mapping[str, Make], subject: Subject, seed: int
) -> tuple[list[Contender], list[Failure]]:
    contenders: list[Contender] = []
    failed: list[Failure] = []
    for name, make in optimizers.items():
        try:
            contenders.append(enter(name, make, subject, seed))
        except UsageError:
            raise
        except AssayError as error:
            if error.argument == "model":
                raise
            failed.append(Failure.of(name, error))
    return contenders, failed


def _measure(
    leader: Contender,
    contenders: list[Contender],
    found: Walk,
    failed: list[Failure],
    kind: Norm,
    warmup: int,
    model: str,
    repair: str,
) -> Steps:
    steps = found.steps
    probe = Probe(leader.subject, warmup, leader.seed)
    loss, start = probe.at()
    gradient = leader.gradient
    descent = [-g for g in gradient]
    first = steps[leader.name]
    radius = {
        "parameter": lambda: length(first),
        "function": lambda: probe.change(first, 1.0, start),
        "loss": lambda: dot(descent, first),
    }[kind]()
    dtype = next(iter(leader.weights.values())).dtype
    resolution = 4 * torch.finfo(dtype).eps * abs(loss)
    spacing = torch.finfo(dtype).eps * length(list(leader.weights.values()))
    rows, moved = [], {}
    for name, step in list(steps.items()):
        scale = _scale(kind, probe, step, start, descent, radius)
        if scale is None or not math.isfinite(scale) or scale <= 0:
            failed.append(Failure(name, _why_no_scale(kind)))
            continue
        there, output = probe.at(step, scale)
        moved[name] = [output - start]
        predicted = scale * dot(descent, step)

        def decrease(multiple: float, step: Direction = step, scale: float = scale) -> float:
            return loss - probe.at(step, scale * multiple)[0]

        curve = {m: loss - there if m == 1 else decrease(m) for m in MULTIPLES}
        short = name == leader.name and 0 < predicted < SLOW * abs(loss)
        best = best_multiple(decrease, curve, resolution, far=short)
        rows.append(
            Step(
                name,
                length(step),
                scale,
                scale * length(step),
                rms(output - start),
                predicted,
                loss - there,
                degrees(step, descent),
                tuple(curve.values()),
                best,
                0.0 if best is None else curve[best] if best in curve else decrease(best),
                spacing / length(step),
            )
        )
    pairs = tuple(
        _pair(a.name, b.name, steps, moved, contenders) for a, b in itertools.combinations(rows, 2)
    )
    return Steps(
        model,
        kind,
        radius,
        warmup,
        loss,
        length(gradient),
        tuple(rows),
        pairs,
        tuple((one.name, one.why) for one in failed),
        MULTIPLES,
        resolution,
        _remarks(rows, contenders, dtype, warmup),
        tuple((one.name, one.traceback) for one in failed if one.traceback),
        objective="loss" if leader.subject.loss is not None else "sum of the outputs",
        findings=findings_of(rows, failed, kind, resolution, found, contenders, warmup, repair),
    )


def _with_epsilon(
    result: Steps, leader: Contender, anew: Callable[[], Contender], warmup: int, found: Walk
) -> tuple[Finding, ...]:
    """The findings, and what the leader's ε does; where that is a warning, its steps are short for it."""
    row = next((row for row in result.rows if row.name == leader.name), None)
    if row is None or leader.subject.loss is None or found.astray:
        return result.findings
    said = epsilon(leader, row, anew, warmup, found)
    if said is None:
        return result.findings
    return (said, *(f for f in result.findings if not said.fails or f.rule != "step.short"))


def _remarks(
    rows: list[Step], contenders: list[Contender], dtype: torch.dtype, warmup: int
) -> tuple[str, ...]:
    leader, *others = contenders
    fresh = [c.name for c in others if warmup and needs_closure(c.optimizer)]
    dense = [c.name for c in contenders if c.dense]
    coarse = [row.name for row in rows if row.rounding > 0.01]
    remarks = []
    if fresh:
        remarks.append(
            f"{', '.join(fresh)} steps without warm-up: what it remembers is about its own path only."
        )
    if dense:
        remarks.append(f"{', '.join(dense)} takes no sparse gradients: it was given dense ones.")
    if coarse:
        remarks.append(
            f"The own step of {', '.join(coarse)} is so short that {str(dtype).removeprefix('torch.')} "
            "weights round off more than 1 % of it; a larger lr gives the same angle more precisely."
        )
    if leader.subject.loss is None:
        remarks.append(
            "The subject has no loss: the objective is the sum of the output's first tensor, which may "
            "fall without bound."
        )
    return tuple(remarks)


def _scale(
    kind: Norm, probe: Probe, step: Direction, start: Tensor, descent: Direction, radius: float
) -> float | None:
    if kind == "parameter":
        return radius / length(step)
    if kind == "function":
        return scale_to_function_norm(probe, step, start, radius) if radius > 0 else None
    predicted = dot(descent, step)
    return radius / predicted if predicted > 0 else None


def _why_no_scale(kind: Norm) -> str:
    if kind == "loss":
        return "the gradient predicts no decrease along its step, or none along the first one's"
    return "no multiple of its step changes the outputs as much as the first one's"


def _pair(
    a: str,
    b: str,
    steps: Mapping[str, Direction],
    moved: Mapping[str, Direction],
    contenders: list[Contender],
) -> Pair:
    by_name = {c.name: c for c in contenders}
    names = list(by_name[a].weights)
    layers = {name: degrees([x], [y]) for name, x, y in zip(names, steps[a], steps[b], strict=True)}
    return Pair(
        a,
        b,
        degrees(steps[a], steps[b]) or 0.0,
        # of one number the change has a sign and no direction
        degrees(moved[a], moved[b]) if moved[a][0].numel() > 1 else None,
        _closed_form(by_name[a], by_name[b]) or _closed_form(by_name[b], by_name[a]),
        layers,
    )


def _closed_form(sgd: Contender, rmsprop: Contender) -> float | None:
    if not is_plain_sgd(sgd) or rmsprop.squares is None:
        return None
    eps = rmsprop.optimizer.param_groups[0]["eps"]
    return closed_form_degrees(rmsprop.gradient, rmsprop.squares, eps)
