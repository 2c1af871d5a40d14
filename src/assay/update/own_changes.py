"""Changes of units of the user's own training, each one seen to be the same function before it is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from assay.update.change import Change, loss_units
from assay.update.own import Input, OwnTraining
from assay.update.readers import find_readers

SAME = (
    1e-6  # of the outputs' size: two subjects that differ by more are two functions (float64: 1e-9)
)
OWN_ROWS = {
    "input scale": "x̃[j] = c[j] x[j], and the weights that read feature j divided by c[j]",
    "input shift": "x̃[j] = x[j] + a[j], and the biases behind them less W a; a in standard deviations",
    "standard units": "x̃[j] = (x[j] − μ[j]) / σ[j]: every feature standardised, weights and biases to match",
    "loss unit": "loss̃ = loss / ln 2  (bits for nats)",
}
MOST = 24  # features that are looked at one by one


@dataclass(frozen=True)
class Found:
    """The changes of units that this model admits.

    Args:
        changes: Row to changes, mildest first; "loss unit" is always there.
        closed: Row to the reason why there is no twin.
        inputs: Inputs whose features can be written in other units.
    """

    changes: dict[str, tuple[Change, ...]]
    closed: dict[str, str]
    inputs: tuple[Input, ...]


def find_changes(training: OwnTraining) -> Found:
    """Find what reads the inputs, and the changes of units under which the function stays.

    Args:
        training: The user's.

    Returns:
        Changes that were seen to leave the outputs alone, and why the others were not.
    """
    inputs, why = find_inputs(training)
    changes: dict[str, tuple[Change, ...]] = {}
    closed: dict[str, str] = {}
    if not inputs:
        closed = dict.fromkeys(("input scale", "input shift", "standard units"), why)
    else:
        kinds = (("dyadic", (2.0, 0.5, 4.0, 1.0)), ("plain", (3.7, 0.3, 1.0, 0.61)))
        changes["input scale"] = tuple(
            rescaling("input scale", training, inputs, factors, kind) for kind, factors in kinds
        )
        for row, make in (("input shift", _shifting), ("standard units", _standard)):
            change = make(training, inputs)
            distance = _distance(training, change.apply(training))
            if distance <= SAME:
                changes[row] = (change,)
            else:
                closed[row] = (
                    "no biases take a shift of the inputs up: the outputs would differ by "
                    f"{distance:.1e} of their size (a reader without a bias, or padding with zeros)"
                )
    changes["loss unit"] = loss_units()
    return Found(changes, closed, inputs)


def find_inputs(training: OwnTraining) -> tuple[tuple[Input, ...], str]:
    """Every input whose features can be rescaled.

    Args:
        training: The user's.

    Returns:
        The inputs, and the reason why there is none.
    """
    found, why = [], "no input is a floating-point tensor with features: tokens have no unit"
    for place, tensor in _floating(training):
        why = "no weight was found that reads an input as it is (a norm or a function stands before it)"
        for axis in (tensor.dim() - 1, 1) if tensor.dim() > 2 else (1,):
            readers = find_readers(training.subject, tensor, axis)
            if not readers:
                continue
            rest = tensor.cpu().double().movedim(axis, 0).flatten(1)
            one = Input(place, axis, rest.mean(1), rest.std(1, correction=0), readers)
            scale = _factors(len(one.mean), 2.0, 0.5, 4.0, 1.0)
            subject = one.rewritten(training.subject, scale, torch.zeros_like(scale))
            distance = _distance(training, replace(training, subject=subject))
            if distance <= SAME:
                found.append(one)
                break
            why = (
                f"{', '.join(r.weight for r in readers)} read an input, but something else does too: with "
                f"them rescaled against it the outputs differ by {distance:.1e} of their size"
            )
    return tuple(found), why


def _floating(training: OwnTraining) -> Iterator[tuple[int | str, Tensor]]:
    subject = training.subject
    named: dict[int | str, Any] = dict(enumerate(subject.inputs))
    named.update((subject.kwargs or {}).items())
    for place, value in named.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2:
            yield place, value


def _distance(one: OwnTraining, other: OwnTraining) -> float:
    """RMS difference of outputs as a share of their size; infinite where the other is not finite."""
    a, b = (t.observe(t.network(False))[0].double() for t in (one, other))
    size = float(a.square().mean().sqrt())
    difference = float((a - b).square().mean().sqrt())
    return difference / size if size > 0 and math.isfinite(difference) else math.inf


def rescaling(
    row: str,
    training: OwnTraining,
    inputs: tuple[Input, ...],
    factors: tuple[float, ...],
    kind: str,
) -> Change:
    """Every input with its features in other units, the factors taken in turn."""
    scales = [_factors(len(one.mean), *factors) for one in inputs]
    zeros = [torch.zeros_like(scale) for scale in scales]
    ratios = [
        one.ratio(training.subject.model, scale) for one, scale in zip(inputs, scales, strict=True)
    ]
    ratio = ratios[0]
    for other in ratios[1:]:
        pairs = zip(ratio.ratios, other.ratios, strict=True)
        ratio = replace(ratio, ratios=tuple(a * b for a, b in pairs))
    listed = "c = " + ", ".join(f"{value:g}" for value in scales[0][:4].tolist())
    return Change(row, listed, _rewriting(inputs, scales, zeros), kind, ratio)


def of_feature(inputs: tuple[Input, ...], which: int, j: int) -> dict[str, Change]:
    """Feature `j` of one input alone: its unit halved, its zero moved by σ, and both made standard."""
    one = inputs[which]
    ones, zeros = torch.ones_like(one.mean), torch.zeros_like(one.mean)
    hot = zeros.clone()
    hot[j] = 1.0
    sigma = float(one.std[j])
    whole = {
        "scale": (ones + hot, zeros),
        "shift": (ones, hot * (sigma or 1.0)),
    }
    if sigma > 0:
        whole["standard"] = (ones + hot * (1 / sigma - 1), -hot * (one.mean[j] / sigma))
    return {
        name: Change(name, f"feature {j}", _rewriting((one,), [scale], [shift]))
        for name, (scale, shift) in whole.items()
    }


def _shifting(training: OwnTraining, inputs: tuple[Input, ...]) -> Change:
    shifts = [one.std * _factors(len(one.std), 1.0, -2.0, 0.5) for one in inputs]
    ones = [torch.ones_like(shift) for shift in shifts]
    return Change("input shift", "a = σ, −2σ, σ/2, …", _rewriting(inputs, ones, shifts))


def _standard(training: OwnTraining, inputs: tuple[Input, ...]) -> Change:
    scales = [1 / torch.where(one.std > 0, one.std, 1.0) for one in inputs]
    shifts = [-one.mean * scale for one, scale in zip(inputs, scales, strict=True)]
    return Change("standard units", "(x − μ) / σ", _rewriting(inputs, scales, shifts))


def _rewriting(
    inputs: tuple[Input, ...], scales: list[Tensor], shifts: list[Tensor]
) -> Callable[[OwnTraining], OwnTraining]:
    """The function from the user's training to its twin."""

    def apply(training: OwnTraining) -> OwnTraining:
        subject = training.subject
        for one, scale, shift in zip(inputs, scales, shifts, strict=True):
            subject = one.rewritten(subject, scale, shift)
        return replace(training, subject=subject)

    return apply


def _factors(n: int, *values: float) -> Tensor:
    return torch.tensor([values[j % len(values)] for j in range(n)], dtype=torch.float64)
