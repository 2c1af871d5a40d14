"""The arithmetic of `assay.optim.fused` as loops, compiled by numba: one pass over memory, on every core.

`torch.compile` sums a row in one chain of additions, which takes a processor twice as long as reading it.
numba may reorder sums; that leaves powers of two bit by bit, and NaN stays NaN.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor


@cache
def available() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None


LEAST, MOST = 1e-33, 1e33  # between which squares in float32 can be trusted


def squares(gradient: Any, bias: Any, inverse: Any, offset: Any, found: Any) -> None:
    """Squared norms of the rows of `[(G − g_b μᵀ) / s, g_b]`; four at once, which read the constants once.

    Rows whose squares leave the exponents of float32 are summed again in float64.
    """
    rows, columns = gradient.shape
    even = rows - rows % 4
    for i in range(0, even, 4):
        b0, b1, b2, b3 = bias[i], bias[i + 1], bias[i + 2], bias[i + 3]
        s0, s1, s2, s3 = b0 * b0, b1 * b1, b2 * b2, b3 * b3
        for j in range(columns):
            scale, shift = inverse[j], offset[j]
            w0 = gradient[i, j] * scale - b0 * shift
            w1 = gradient[i + 1, j] * scale - b1 * shift
            w2 = gradient[i + 2, j] * scale - b2 * shift
            w3 = gradient[i + 3, j] * scale - b3 * shift
            s0 += w0 * w0
            s1 += w1 * w1
            s2 += w2 * w2
            s3 += w3 * w3
        found[i], found[i + 1], found[i + 2], found[i + 3] = s0, s1, s2, s3
    for i in range(rows):
        if i < even and LEAST < found[i] < MOST:
            continue
        of_bias = float(bias[i])
        total = of_bias * of_bias
        for j in range(columns):
            white = float(gradient[i, j]) * inverse[j] - of_bias * offset[j]
            total += white * white
        found[i] = total


def sizes(weight: Any, scale: Any, found: Any) -> None:
    """Squared norms of the rows of `W s`, likewise."""
    for i in range(weight.shape[0]):
        total = scale.dtype.type(0)
        for j in range(weight.shape[1]):
            white = weight[i, j] * scale[j]
            total += white * white
        found[i] = total
        if LEAST < found[i] < MOST:
            continue
        wide = 0.0
        for j in range(weight.shape[1]):
            white = float(weight[i, j]) * scale[j]
            wide += white * white
        found[i] = wide


def step(
    weight: Any,
    running: Any,
    gradient: Any,
    bias: Any,
    inverse: Any,
    offset: Any,
    rate: Any,
    keep: Any,
    found: Any,
) -> None:
    """Momentum and weights in place; what the bias has to take up."""
    for i in range(gradient.shape[0]):
        of_bias, of_row = bias[i], rate[i]
        total = found.dtype.type(0)
        for j in range(gradient.shape[1]):
            now = gradient[i, j] + keep[0] * running[i, j]
            white = (now * inverse[j] - of_bias * offset[j]) * of_row
            total += white * offset[j]
            running[i, j] = now
            weight[i, j] -= white * inverse[j]
        found[i] = total


def decayed_step(
    weight: Any,
    running: Any,
    gradient: Any,
    bias: Any,
    inverse: Any,
    offset: Any,
    rate: Any,
    keep: Any,
    shrunk: Any,
    found: Any,
) -> None:
    """As `step`, with decay: `shrunk[j]` is the share that the weights of input j lose.

    One loop for both, with shares of 0, takes a twentieth longer.
    """
    for i in range(gradient.shape[0]):
        of_bias, of_row = bias[i], rate[i]
        total = found.dtype.type(0)
        for j in range(gradient.shape[1]):
            now = gradient[i, j] + keep[0] * running[i, j]
            white = (now * inverse[j] - of_bias * offset[j]) * of_row
            total += white * offset[j]
            running[i, j] = now
            weight[i, j] -= white * inverse[j] + weight[i, j] * shrunk[j]
        found[i] = total


def follow(
    share: float,
    round_off: float,
    batch: tuple[Any, Any, Any, Any],
    kept: tuple[Any, Any, Any],
    moments: tuple[Any, Any, Any],
    roots: tuple[Any, Any],
    units: tuple[Any, Any, Any],
) -> None:
    """`Known.stored`, `.after`, `.kept` and `Whitening.of` in one pass over the features."""
    mean, second, third, fourth = batch
    old_mean, old_deviation, old_scale = kept
    both = share * (1 - share)
    for j in range(len(mean)):
        s2 = float(old_deviation[j]) * float(old_deviation[j])
        s4 = float(old_scale[j]) * float(old_scale[j])
        s4 *= s4
        moved = mean[j] - old_mean[j]
        slope = 6 * (share * s2 + (1 - share) * second[j]) + (1 - 3 * both) * moved * moved
        slope = 4 * third[j] + moved * slope
        m1 = old_mean[j] + share * moved
        s2 += share * (second[j] - s2) + both * moved * moved
        s4 += share * (fourth[j] - s4) + both * moved * slope
        scale = math.sqrt(math.sqrt(s4))
        moments[0][j], moments[1][j], moments[2][j] = m1, s2, s4
        roots[0][j], roots[1][j] = math.sqrt(s2), scale
        constant = s2 <= (round_off * m1) * (round_off * m1) or not scale > 0
        inverse = 0.0 if constant else 1 / scale
        units[0][j] = 0.0 if constant else scale
        units[1][j], units[2][j] = inverse, m1 * inverse


BY_ROW = {"weight", "running", "gradient", "bias", "rate", "found"}  # what threads share out


@cache
def _compiled(loops: Callable[..., None]) -> Callable[..., None]:
    from numba import njit

    options: Any = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}}
    try:
        return njit(cache=True, **options)(loops)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder to keep the compiled code in
        return njit(**options)(loops)  # type: ignore[no-any-return]


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="assay.optim")


if hasattr(os, "register_at_fork"):
    # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_threads.cache_clear)


def run_once(loops: Callable[..., None], *arguments: Any) -> None:
    """Run compiled loops on arrays, or tuples of them, as they are."""
    _compiled(loops)(*arguments)


def prepared(
    loops: Callable[..., None], *tensors: Tensor, dtype: torch.dtype | None = None
) -> Callable[[], Tensor]:
    """Compiled loops over all rows, to be run later.

    Args:
        loops: One of this module.
        tensors: Its arguments but the last one, on the CPU: `[o, i]` or vectors, of one type.
        dtype: Of the last argument, where it is another.

    Returns:
        What runs them, once, and returns their last argument, `[o]`.
    """
    made = _compiled(loops)
    found = tensors[0].new_empty(len(tensors[0]), dtype=dtype)
    arrays = [t.numpy() for t in (*tensors, found)]
    count = min(torch.get_num_threads(), len(found))
    bounds = [len(found) * k // count for k in range(count + 1)]
    names = loops.__code__.co_varnames[: len(arrays)]

    def part(start: int, end: int) -> list[Any]:
        pairs = zip(names, arrays, strict=True)
        return [a[start:end] if name in BY_ROW else a for name, a in pairs]

    def run() -> Tensor:
        if count == 1:
            made(*arrays)
            return found
        parts = [part(start, end) for start, end in itertools.pairwise(bounds)]
        for job in [_threads(count).submit(made, *one) for one in parts]:
            job.result()
        return found

    return run
