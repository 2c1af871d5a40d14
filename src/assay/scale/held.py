"""Parameters that no step moves, found by moving all others."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from assay.errors import RAISED
from assay.scale.backward import ancestors
from assay.scale.rows import Row
from assay.scale.signs import random_signs
from assay.state import preserved, preserved_gradients, unfused
from assay.subject import Subject, first_floating, tensors

_STEP = 0.1  # of a parameter's size; of 1 where it is zero


class Held(NamedTuple):
    """Parameters that stay as they are, whatever steps the others take.

    Args:
        names: Their names.
        draw: Of these, the weights that are zero and have to be drawn for all to move.
    """

    names: tuple[str, ...] = ()
    draw: tuple[str, ...] = ()


def held(subject: Subject, rows: Sequence[Row], still: Sequence[str]) -> Held:
    """Find the parameters that zero weights keep from ever having a gradient.

    A gradient of zero alone says little: in a branch that begins at zero the first step brings it. So the
    parameters that have one are moved at random, and again those that have one then, until no more do.

    Args:
        subject: What was measured; its parameters come back as they were.
        rows: Its rows.
        still: Names of trainable parameters whose gradient is exactly zero.

    Returns:
        Nothing where no zero weight is among them.
    """
    zeros = [row for row in rows if row.weight_square == 0.0 and not row.frozen]
    if not any(row.parameters[0] in still for row in zeros):
        return Held()
    try:
        never = _never(subject, still, {})
        zeros = [row for row in zeros if row.parameters[0] in never]
        if not zeros:
            return Held()
        before = ancestors(rows)
        # the last of several zeros in a row may stay: it has a gradient once the others are drawn
        inner = [row for row in zeros if any(row.index in before[other.index] for other in zeros)]
        for chosen in (inner, zeros):
            draw = {row.parameters[0]: 1 / math.sqrt(row.fan_in or 1) for row in chosen}
            if draw and not _never(subject, still, draw):
                break
    except RAISED:  # with other values the model raises: nothing is known
        return Held()
    return Held(tuple(sorted(never)), tuple(draw))


def _never(subject: Subject, still: Collection[str], draw: Mapping[str, float]) -> set[str]:
    """The parameters that have no gradient however far the others are moved, once some are drawn."""
    model, left = subject.model, set(still) - draw.keys()
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    given = tensors((subject.inputs, subject.kwargs))
    with (
        preserved(model, parameters=True),
        preserved_gradients(given),
        unfused(),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        for name, std in draw.items():
            weights[name].data.normal_(std=std)
        while left:
            for name in weights.keys() - left:
                _move(weights[name].data)
            for p in weights.values():
                p.grad = None
            output = subject.forward()
            value = subject.objective(output)
            if subject.loss is None:
                first = first_floating(output)
                value = (first * random_signs(first)).sum()
            subject.differentiate(value)
            now = {name for name in left if not moves(weights[name].grad)}
            if now == left:
                break
            left = now
    return left


def _move(x: Tensor) -> None:
    size = float(x.abs().square().mean().sqrt())
    x.add_(torch.randn_like(x), alpha=_STEP * (size or 1.0))


def moves(gradient: Tensor | None) -> bool:
    """Whether there is a gradient and not all of it is exactly 0."""
    if gradient is None:
        return False
    return bool((gradient.coalesce().values() if gradient.is_sparse else gradient).any())
