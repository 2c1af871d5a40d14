"""The arithmetic of one weight whose outputs are stepped row by row: norms first, then the step, in blocks.

Blocks of rows are small enough for their temporaries to stay in a core's cache, so that a step reads weights,
gradient and momentum from memory about as often as a fused kernel would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from assay.optim.whiten import Whitening

BLOCK = 2**17  # entries
SMALLEST = 3e-17  # of a norm in float32; below, its squares lose digits


def is_fresh(step: int) -> bool:
    """Whether the sizes of weights are measured in this step: in the first 32 ones, and then in every eighth.

    A row's size changes by a small share of itself in a step, and measuring it reads all weights.

    Args:
        step: Which step this is, from 1.

    Returns:
        True where they are.
    """
    return step <= 32 or step % 8 == 0


def blocks(shape: torch.Size, most: int = BLOCK) -> Iterator[slice]:
    """Slices of the axis of outputs of `[g, o, i, k]`, each of about `most` entries.

    Yields:
        Slices that together are the whole axis.
    """
    g, o, i, k = shape
    rows = max(1, most // max(1, g * i * k))
    for start in range(0, o, rows):
        yield slice(start, min(o, start + rows))


def norms(rows: Tensor) -> Tensor:
    """The norm of every row of `[g, o, i, k]`: float64 `[g, o]`, also where squares leave float32."""
    found: Tensor = torch.linalg.vector_norm(rows, dim=(2, 3))
    if rows.dtype != torch.float64 and rows.device.type == "cpu":
        outside = ~torch.isfinite(found) | (found < SMALLEST)
        if bool(outside.any()):
            exact = torch.linalg.vector_norm(rows[outside].double(), dim=(1, 2))
            return found.double().masked_scatter(outside, exact)
    return found.double()


def gradient_norms(white: Whitening, gradient: Tensor | None, bias: Tensor | None) -> Tensor:
    """Squared norms of the whitened gradient of every output, its bias included: float64 `[g, o]`.

    Args:
        white: The units.
        gradient: `[g, o, i, k]`, or None.
        bias: `[g, o, 1, 1]`, or None.

    Returns:
        Squares.
    """
    found = None if bias is None else bias[:, :, 0, 0].double().square()
    if gradient is not None:
        parts = [
            norms(white.gradient(gradient[:, rows], None if bias is None else bias[:, rows]))
            for rows in blocks(gradient.shape)
        ]
        squares = torch.cat(parts, 1).square()
        found = squares if found is None else found + squares
    assert found is not None
    return found


def weight_norms(white: Whitening, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Norms of the rows of W in white units, `‖W[i] s‖`: float64 `[g, o]`."""
    parts = [norms(weight[:, rows].to(dtype) * white.scale) for rows in blocks(weight.shape)]
    return torch.cat(parts, 1)


def step_rows(
    white: Whitening,
    weight: Tensor | None,
    direction: Callable[[slice], Tensor] | None,
    bias_direction: Tensor | None,
    rate: Tensor,
    bias_rate: Tensor,
    decay: float,
) -> Tensor | None:
    """Step the weight in place, and say how its bias has to move.

    Args:
        white: The units.
        weight: `[g, o, i, k]`; None where only the bias is trained.
        direction: Against which white weights go, of some outputs: a new tensor `[g, o, i, k]`.
        bias_direction: Likewise for the bias `[g, o, 1, 1]`, or None.
        rate: By which each output's direction is multiplied, `[g, o, 1, 1]` or one for all.
        bias_rate: Likewise for the bias.
        decay: By which share weights shrink.

    Returns:
        What is to be added to the bias, `[g, o, 1, 1]`; None where there is none.
    """
    shift = None if bias_direction is None else -(bias_rate * bias_direction)
    if weight is None or direction is None:
        return shift
    offset = white.offset if shift is not None else None
    for rows in blocks(weight.shape):
        block = weight[:, rows]
        wide = block.to(white.scale.dtype)
        if decay:
            shrunk = wide * (white.scale * (decay * white.inverse))  # constant features stay
            if shift is not None and offset is not None:
                shift[:, rows] += _along(shrunk, offset * white.scale)
        step = direction(rows).mul_(rate if rate.numel() == 1 else rate[:, rows])
        if shift is not None and offset is not None:
            shift[:, rows] += _along(step, offset)
        if wide is block:
            wide.addcmul_(step, white.inverse, value=-1)
            if decay:
                wide -= shrunk
        else:
            moved = torch.addcmul(wide, step, white.inverse, value=-1)
            block.copy_(moved - shrunk if decay else moved)
    return shift


def _along(rows: Tensor, vector: Tensor) -> Tensor:
    """`Σ rows[g, o, i, k] vector[g, 0, i, 0]`, `[g, o, 1, 1]`."""
    flat = rows.sum(3) if rows.shape[3] != 1 else rows.squeeze(3)
    return (flat @ vector[:, 0]).unsqueeze(-1)
