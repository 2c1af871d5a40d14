"""The same steps in other units of the inputs, where parameter norm is another and function norm is not.

Written in other units (`x̃ = c x`, `W̃ = W / c`) a step is `ΔW̃ = ΔW / c`: the same change of the same
function, but its length and its angles are others. What is made equal by parameter norm
depends on a choice that nobody meant, and what is made equal by function norm does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.subject import Subject
from assay.update.contender import Contender
from assay.update.direction import Direction, degrees, length
from assay.update.own import Input, OwnTraining
from assay.update.own_changes import find_inputs
from assay.update.probe import Probe, scale_to_function_norm

MIXED = (
    4.0,
    0.25,
    1.0,
)  # factors of the features, taken in turn; powers of two, so that nothing is rounded


@dataclass(frozen=True)
class InUnits:
    """The steps, seen in one choice of units of the inputs.

    Args:
        units: Which, in words.
        degrees: Between the step of the first optimizer and that of each other one, by name.
        parameter: Loss decrease of each at equal parameter norm in these units.
        function: Loss decrease of each at equal function norm.
    """

    units: str
    degrees: Mapping[str, float | None]
    parameter: Mapping[str, float]
    function: Mapping[str, float]


def in_other_units(
    leader: Contender, steps: Mapping[str, Direction], warmup: int
) -> tuple[InUnits, ...]:
    """Rewrite model, inputs and steps in other units, and measure them there.

    Args:
        leader: The first optimizer, its copy of the model at the common weights.
        steps: Own step of each optimizer, the leader's first.
        warmup: Which random numbers forward passes draw.

    Returns:
        As they are, standardised, and mixed; nothing where no input has units.
    """
    inputs, _ = find_inputs(OwnTraining(leader.subject, leader.seed))
    if not inputs:
        return ()
    scales: dict[str, float] = {}
    probe = Probe(leader.subject, warmup, leader.seed)
    start = probe.at()[1]
    radius = probe.change(steps[leader.name], 1.0, start)
    for name, step in steps.items():
        found = scale_to_function_norm(probe, step, start, radius) if radius > 0 else None
        scales[name] = float("nan") if found is None else found
    seen = []
    for units, subject, ratios in _choices(leader.subject, inputs):
        weights = subject.model.named_parameters()
        kept = [r for (_, p), r in zip(weights, ratios, strict=True) if p.requires_grad]
        rewritten = {
            # most parameters read no input, and a step may be as large as the model
            name: [d * r.to(d.dtype) if r.dim() else d for d, r in zip(step, kept, strict=True)]
            for name, step in steps.items()
        }
        seen.append(_measure(Probe(subject, warmup, leader.seed), units, rewritten, scales))
    return tuple(seen)


def _choices(
    subject: Subject, inputs: tuple[Input, ...]
) -> Iterator[tuple[str, Subject, list[Tensor]]]:
    nearest = [
        torch.exp2(-torch.log2(torch.where(one.std > 0, one.std, 1.0)).round()) for one in inputs
    ]
    mixed = [
        torch.tensor(MIXED * len(one.std), dtype=torch.float64)[: len(one.std)] for one in inputs
    ]
    choices = {
        "as they are": [torch.ones_like(one.std) for one in inputs],
        "standardised, to a power of two": nearest,
        "features times 4, ¼, 1, …": mixed,
    }
    for units, factors in choices.items():
        other, weights = subject, subject.model.parameters()
        ratios = [torch.ones((), dtype=torch.float64, device=p.device) for p in weights]
        for one, scale in zip(inputs, factors, strict=True):
            other = one.rewritten(other, scale, torch.zeros_like(scale))
            mine = one.ratio(subject.model, scale).packed(False)
            ratios = [a * b for a, b in zip(ratios, mine, strict=True)]
        yield units, other, ratios


def _measure(
    probe: Probe, units: str, steps: Mapping[str, Direction], scales: Mapping[str, float]
) -> InUnits:
    first, *_ = steps
    loss = probe.at()[0]
    by_parameter, by_function = {}, {}
    for name, step in steps.items():
        by_parameter[name] = loss - probe.at(step, length(steps[first]) / length(step))[0]
        by_function[name] = loss - probe.at(step, scales[name])[0]
    angles = {name: degrees(steps[first], step) for name, step in steps.items() if name != first}
    return InUnits(units, angles, by_parameter, by_function)
