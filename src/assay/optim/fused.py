"""The arithmetic of `assay.optim.rows` for plain matrices, compiled: every number is read from memory once.

`torch.compile` needs a C++ compiler on a CPU, and Triton on a GPU; it compiles once for all shapes, which
takes some tens of seconds in a process whose cache is cold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from assay.errors import CannotMeasure, verbatim
from assay.optim import rows
from assay.optim.whiten import Whitening

SMALLEST = 2**16  # entries; below, eager code is as fast
LEAST, MOST = 1e-33, 1e33  # between which squares in float32 can be trusted


def _squares(gradient: Tensor, bias: Tensor, inverse: Tensor, offset: Tensor) -> Tensor:
    white = gradient * inverse - bias * offset
    return (white * white).sum(1)


def _sizes(weight: Tensor, scale: Tensor) -> Tensor:
    white = weight * scale
    return (white * white).sum(1)


def _step(
    weight: Tensor,
    running: Tensor,
    gradient: Tensor,
    bias: Tensor,
    inverse: Tensor,
    offset: Tensor,
    rate: Tensor,
    keep: Tensor,
    decay: Tensor,
) -> Tensor:
    now = gradient + keep * running
    white = (now * inverse - bias * offset) * rate
    shift = (white * offset).sum(1)
    running.copy_(now)
    weight.copy_(weight - white * inverse - weight * decay)
    return shift


@cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    made: Callable[..., Tensor] = torch.compile(function, dynamic=True, fullgraph=True)
    return made


def _run(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    try:
        return _compiled(function)(*arguments)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise CannotMeasure(
            "fused",
            verbatim("True"),
            f"a compiler that torch.compile can use, but it raised {type(error).__name__}",
            "Install g++ (CPU) or Triton (GPU), or leave fused out: the same steps, not compiled.",
        ) from error


def fits(weight: Tensor, view: Tensor, dtype: torch.dtype) -> bool:
    """Whether a weight is a plain matrix that is worth it.

    Args:
        weight: The parameter, this rank's.
        view: The same as `[g, o, i, k]`.
        dtype: The precision of the work.

    Returns:
        True for a large contiguous matrix in that precision, whose outputs are its rows.
    """
    plain = weight.dim() == 2 and view.shape == (1, *weight.shape, 1) and view.is_contiguous()
    return plain and weight.dtype == dtype and weight.numel() >= SMALLEST


def gradient_norms(white: Whitening, gradient: Tensor | None, bias: Tensor | None) -> Tensor:
    """As `rows.gradient_norms`; where squares leave the exponents of float32, that is asked instead."""
    assert gradient is not None
    inverse, offset = _rows(white)
    found = _run(_squares, _matrix(gradient), _column(bias, gradient), inverse, offset).double()
    outside = _outside(found)
    if len(outside):
        some = None if bias is None else bias[:, outside]
        found[outside] = rows.norms(white.gradient(gradient[:, outside], some))[0].square()
    return found[None] if bias is None else found[None] + bias[:, :, 0, 0].double().square()


def weight_norms(white: Whitening, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """As `rows.weight_norms`, likewise."""
    found = _run(_sizes, _matrix(weight), white.scale.view(1, -1)).double().sqrt()
    outside = _outside(found.square())
    if len(outside):
        found[outside] = rows.norms(weight[:, outside].to(dtype) * white.scale)[0]
    return found[None]


def _outside(squares: Tensor) -> Tensor:
    """Which sums of squares float32 has no digits for."""
    return (~((squares > LEAST) & (squares < MOST))).nonzero()[:, 0]


def step_rows(
    white: Whitening,
    weight: Tensor,
    running: Tensor,
    gradient: Tensor,
    bias: Tensor | None,
    rate: Tensor,
    bias_rate: Tensor,
    keep: float,
    decay: float,
) -> Tensor | None:
    """Add the gradient to the running sum and step, both in place.

    Args:
        white: The units.
        weight: `[1, o, i, 1]`.
        running: The running sum of gradients before this one, likewise.
        gradient: Likewise.
        bias: The running sum of the bias's with this one, `[1, o, 1, 1]`, or None.
        rate: As in `rows.step_rows`, `[1, o, 1, 1]`.
        bias_rate: Likewise.
        keep: Momentum.
        decay: By which share weights shrink.

    Returns:
        What is to be added to the bias; None where there is none.
    """
    inverse, offset = _rows(white)
    scale = white.scale.view(1, -1)
    shrunk = decay * scale * inverse  # constant features stay
    # outside of the kernel, whose loops it would double
    taken = _matrix(weight) @ (shrunk * offset * scale)[0] if decay and bias is not None else 0.0
    shift = _run(
        _step,
        _matrix(weight),
        _matrix(running),
        _matrix(gradient),
        _column(bias, weight),
        inverse,
        offset,
        rate.view(-1, 1),
        weight.new_tensor(keep),
        shrunk,
    )
    return None if bias is None else (shift + taken).view_as(bias) - bias_rate * bias


def _matrix(view: Tensor) -> Tensor:
    return view[0, :, :, 0]


def _rows(white: Whitening) -> tuple[Tensor, Tensor]:
    inverse = white.inverse.view(1, -1)
    return inverse, torch.zeros_like(inverse) if white.offset is None else white.offset.view(1, -1)


def _column(bias: Tensor | None, like: Tensor) -> Tensor:
    return like.new_zeros(like.shape[1], 1) if bias is None else bias.view(-1, 1)
