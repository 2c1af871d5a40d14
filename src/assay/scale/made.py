"""Weights that are made of parameters: whose size is theirs, and whose is divided out on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from assay.errors import RAISED
from assay.scale.operators import wide
from assay.scale.signs import random_signs

_SET = 0.1  # how near the power is to 0 or to 1; an ε under a root leaves a little


class Made(NamedTuple):
    """What a factor on a parameter does to the weights that are made of it.

    Args:
        scaled: Names of parameters a factor on which is one on the weights: gains.
        divided: Names of parameters a factor on which has no effect, though their values have one: they are
            divided by their own size, as in weight standardisation and weight normalisation.
    """

    scaled: tuple[str, ...] = ()
    divided: tuple[str, ...] = ()


def made_of(weight: Tensor, parameters: Mapping[str, Tensor]) -> Made:
    """Ask autograd, by Euler's theorem: where w(t p) = tᵏ w(p), the power k is ⟨p, Jᵀ w⟩ / ⟨w, w⟩.

    Args:
        weight: The weights, with the graph that made them; it is kept.
        parameters: What they are made of, by name.

    Returns:
        The names; none where the weights are zero or have no graph.
    """
    size = float(wide(weight).abs().square().sum())
    used = {name: p for name, p in parameters.items() if p.requires_grad}
    if weight.grad_fn is None or not used or not size > 0:
        return Made()
    try:
        along = _pulled_back(weight, used, weight.detach())
        across = _pulled_back(weight, used, random_signs(weight))
    except RAISED:  # something on the way has no derivative, or its graph is gone
        return Made()
    scaled, divided = [], []
    for name, p in used.items():
        power = float((wide(along[name]) * wide(p).conj()).real.sum()) / size
        effect = float(wide(across[name]).abs().square().sum() * wide(p).abs().square().sum())
        if abs(power - 1) <= _SET:
            scaled.append(name)
        elif abs(power) <= _SET and effect > _SET**2 * size * weight.numel():
            divided.append(name)
    return Made(tuple(scaled), tuple(divided))


def _pulled_back(
    weight: Tensor, parameters: Mapping[str, Tensor], onto: Tensor
) -> dict[str, Tensor]:
    found = torch.autograd.grad(
        weight, list(parameters.values()), onto, retain_graph=True, allow_unused=True
    )
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(parameters.items(), found, strict=True)
    }
