"""The arithmetic of an embedding: each token has a running size of its own, each coordinate a unit.

A coordinate d of all embeddings can be rescaled against the weights that read it, so its step is a share of
the root mean square `τ[d]` of the coordinate over tokens, and gradients count in units of theirs, `q[d]`.
A token's gradient is divided by its own running size `r[t]`, which only moves when the token occurs:

    ΔE[t,d] = −lr τ[d] m[t,d] / (q[d] √r[t])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from assay.optim.distributed import total
from assay.optim.rows import is_fresh


def measure_tokens(
    grad: Tensor,
    weight: Tensor,
    parameter: Tensor,
    state: Mapping[str, Any],
    step: int,
    keep: float,
) -> dict[str, Tensor]:
    """New running sizes of coordinates and tokens.

    Args:
        grad: Dense or coalesced sparse, `[tokens, d]`, this rank's.
        weight: `[tokens, d]`, this rank's.
        parameter: The parameter that they are of.
        state: What was known.
        step: Which step this is, from 1.
        keep: Share of what was known that stays.

    Returns:
        "row" `[1, d]`: q²; "token" and "seen" `[tokens]`: r and how often it counts; "size" `[1, d]`: τ;
        float64 where squares have units.
    """
    tokens, d = weight.shape
    if grad.is_sparse:
        index, values = grad.indices()[0], grad.values()
    else:
        index, values = torch.arange(tokens, device=weight.device), grad
    values = values.double()
    squares = values.square()
    here = squares.sum(1) > 0
    count = total(here.sum().double(), parameter)
    now = total(squares.sum(0), parameter)
    found = {}
    old = torch.zeros(1, d, dtype=torch.float64, device=weight.device)
    if "row" in state:
        old = state["row"].double().square()
    # a step that saw no token, or NaN, which `here` does not see
    now = torch.where(count > 0, now / count, now)
    share = 1 / geometric(step, keep)
    found["row"] = torch.where(now.sum() != 0, torch.lerp(old, now[None], share), old)
    unit = torch.where(found["row"] > 0, 1 / found["row"], 0.0)
    relative = (squares * unit).mean(1)
    seen = state.get("seen", torch.zeros(tokens, dtype=torch.float32, device=weight.device)).clone()
    size = state.get("token", torch.zeros_like(seen)).clone()
    which = index[here]
    seen[which] = seen[which] * keep + 1
    size[which] += (relative[here].to(size.dtype) - size[which]) / seen[which]
    found["seen"], found["token"] = seen, size
    if is_fresh(step) or "size" not in state:
        sums = total(weight.double().square().sum(0), parameter)
        rows = total(sums.new_tensor(float(tokens)), parameter)
        found["size"] = (sums / rows).sqrt()[None]
    else:
        found["size"] = state["size"].double()
    return found


def step_tokens(
    weight: Tensor,
    running: Tensor,
    index: Tensor | None,
    measured: Mapping[str, Tensor],
    rate: float,
) -> None:
    """Step the table in place.

    Args:
        weight: `[tokens, d]`.
        running: The running gradient `[tokens, d]`, or of the tokens in `index`.
        index: Which tokens; None for all of them.
        measured: From `measure_tokens`.
        rate: By which whitened gradients are multiplied.
    """
    row, token = measured["row"][0], measured["token"]
    token = token if index is None else token[index]
    coordinates = torch.where(row > 0, measured["size"][0] * rate / row.sqrt(), 0.0)
    tokens = torch.where(token > 0, token.rsqrt(), 0.0)
    step = running * coordinates.to(running.dtype) * tokens.to(running.dtype)[:, None]
    if index is None:
        weight.copy_(weight.to(running.dtype) - step)
    else:
        weight.index_add_(0, index, -step.to(weight.dtype))


def step_plainly(weight: Tensor, gradient: Tensor, index: Tensor | None, lr: float) -> None:
    """`E ← E − lr G`, of all tokens or those in `index`."""
    if index is None:
        weight.sub_(gradient.to(weight.dtype), alpha=lr)
    else:
        weight.index_add_(0, index, gradient.to(weight.dtype), alpha=-lr)


def geometric(steps: int, keep: float) -> float:
    """`1 + keep + … + keep^(steps − 1)`: how much a running mean of so many steps counts."""
    return (1 - keep**steps) / (1 - keep) if keep < 1 else float(steps)
