"""The arithmetic of `assay.optim.rows` for plain matrices, compiled: every number is read from memory once.

On a CPU numba compiles it where it is installed (`assay[online]`), in a second or two. Elsewhere
`torch.compile` does, which needs a C++ compiler on a CPU and Triton on a GPU, and takes some tens of seconds
in a process whose cache is cold.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from assay.errors import CannotMeasure, verbatim
from assay.optim import kernels, rows
from assay.optim.moments import ROUND_OFF, Moments
from assay.optim.whiten import Known, Whitening

SMALLEST = 2**14  # entries; below, eager code is as fast
WIDE = 256  # inputs; likewise


def _squares(gradient: Tensor, bias: Tensor, inverse: Tensor, offset: Tensor) -> Tensor:
    white = gradient * inverse - bias[:, None] * offset
    return (white * white).sum(1) + bias * bias


def _sizes(weight: Tensor, scale: Tensor) -> Tensor:
    white = weight * scale
    return (white * white).sum(1)


def _added(
    running: Tensor,
    gradient: Tensor,
    bias: Tensor,
    inverse: Tensor,
    offset: Tensor,
    rate: Tensor,
    keep: Tensor,
) -> tuple[Tensor, Tensor]:
    """What the weights lose, and what the bias has to take up; adds the gradient to the running sum."""
    now = gradient + keep * running
    white = (now * inverse - bias[:, None] * offset) * rate[:, None]
    running.copy_(now)
    return white * inverse, (white * offset).sum(1)


def _step(weight: Tensor, *arguments: Tensor) -> Tensor:
    change, shift = _added(*arguments)
    weight.copy_(weight - change)
    return shift


def _decayed_step(weight: Tensor, *arguments: Tensor) -> Tensor:
    *others, shrunk = arguments
    change, shift = _added(*others)
    weight.copy_(weight - (change + weight * shrunk))
    return shift


LOOPS: dict[Callable[..., Tensor], Callable[..., None]] = {
    _step: kernels.step,
    _decayed_step: kernels.decayed_step,
}


@cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    made: Callable[..., Tensor] = torch.compile(function, dynamic=True, fullgraph=True)
    return made


def _prepared(function: Callable[..., Tensor], *arguments: Tensor) -> Callable[[], Tensor]:
    if _by_numba(arguments[0]):
        return kernels.prepared(LOOPS[function], *arguments)
    return partial(_by_torch, function, *arguments)


def _by_torch(function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    try:
        return _compiled(function)(*arguments)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise CannotMeasure(
            "fused",
            verbatim("True"),
            f"a compiler that torch.compile can use, but it raised {type(error).__name__}",
            "Install numba (CPU: pip install 'assay[online]') or Triton (GPU), or give fused=False: the same "
            "steps, not compiled.",
        ) from error


def wanted(fused: bool | None, weight: Tensor) -> bool:
    """Whether a weight is to be stepped by compiled code, if it fits: by default where numba does it."""
    return _by_numba(weight) if fused is None else fused


def follows(fused: bool | None, weight: Tensor) -> bool:
    """Whether `follow` is to be used for the inputs of a weight."""
    return fused is not False and _by_numba(weight)


def _by_numba(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and kernels.available()


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


def gradient_norms(
    white: Whitening, gradient: Tensor | None, bias: Tensor | None
) -> Generator[None, None, Tensor]:
    """As `rows.gradient_norms`; where squares leave the exponents of float32, in float64.

    Yields:
        Before and after the pass over memory (`in_turns`).

    Returns:
        Squares, float64 `[1, o]`.
    """
    assert gradient is not None
    inverse, offset = _rows(white)
    arguments = (_matrix(gradient), _column(bias, gradient), inverse, offset)
    if _by_numba(gradient):
        launch = kernels.prepared(kernels.squares, *arguments, dtype=torch.float64)
        yield
        found = launch()
        yield
        return found[None]
    found = _by_torch(_squares, *arguments).double()
    outside = _outside(found)
    if len(outside):
        some = None if bias is None else bias[:, outside]
        exact = rows.norms(white.gradient(gradient[:, outside], some))[0].square()
        found[outside] = exact if some is None else exact + some[0, :, 0, 0].double().square()
    return found[None]


def weight_norms(white: Whitening, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """As `rows.weight_norms`, likewise, at once."""
    arguments = (_matrix(weight), white.scale.view(-1))
    if _by_numba(weight):
        return kernels.prepared(kernels.sizes, *arguments, dtype=torch.float64)().sqrt_()[None]
    found = _by_torch(_sizes, *arguments).double().sqrt()
    outside = _outside(found.square())
    if len(outside):
        found[outside] = rows.norms(weight[:, outside].to(dtype) * white.scale)[0]
    return found[None]


def _outside(squares: Tensor) -> Tensor:
    """Which sums of squares float32 has no digits for."""
    return (~((squares > kernels.LEAST) & (squares < kernels.MOST))).nonzero()[:, 0]


def follow(
    state: Mapping[str, Any],
    batch: Moments,
    keep: float,
    dtype: torch.dtype,
    *,
    groups: int,
    centred: bool,
) -> tuple[Known, Whitening]:
    """What is known of inputs with a batch counted, and the units that follow: on a CPU, by numba.

    Args:
        state: What `Known.kept` returned, of one port.
        batch: Its moments of this step.
        keep: How much of what was known stays.
        dtype: The precision of the work.
        groups: Of the weight.
        centred: Whether a bias takes a shift up.

    Returns:
        As `Known.after` and `Whitening.of`.
    """
    old = float(state["count"]) * keep
    width = len(batch.mean)
    moments = [torch.empty(1, width, dtype=torch.float64) for _ in range(3)]
    roots = [torch.empty(1, width, dtype=dtype) for _ in range(2)]
    units = [torch.empty(groups, 1, width // groups, 1, dtype=dtype) for _ in range(3)]
    kernels.run_once(
        kernels.follow,
        batch.n / (old + batch.n),
        ROUND_OFF,
        _arrays((batch.mean, batch.second, batch.third, batch.fourth)),
        _arrays([state[name] for name in ("mean", "deviation", "scale")]),
        *(_arrays(made) for made in (moments, roots, units)),
    )
    count = state["count"].new_full((1,), old + batch.n)
    scale, inverse, offset = units
    mean, second, fourth = moments
    known = Known(count, mean, second, fourth, roots=(roots[0], roots[1]))
    return known, Whitening(scale, inverse, offset if centred else None)


def _arrays(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    return tuple(t.numpy().reshape(-1) for t in tensors)


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
) -> Generator[None, None, Tensor | None]:
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

    Yields:
        Before and after the pass over memory (`in_turns`).

    Returns:
        What is to be added to the bias; None where there is none.
    """
    inverse, offset = _rows(white)
    matrix = _matrix(weight)
    arguments = (
        matrix,
        _matrix(running),
        _matrix(gradient),
        _column(bias, weight),
        inverse,
        offset,
        rate.reshape(-1),
        weight.new_full((1,), keep),
    )
    taken: Tensor | float = 0.0
    if not decay:
        launch = _prepared(_step, *arguments)
    else:
        scale = white.scale.view(-1)
        shrunk = decay * scale * inverse  # constant features stay
        # outside of the kernel, whose loops it would double
        taken = matrix @ (shrunk * offset * scale) if bias is not None else 0.0
        launch = _prepared(_decayed_step, *arguments, shrunk)
    yield
    shift = launch()
    yield
    if bias is None:
        return None
    return (shift + taken if decay else shift).view_as(bias) - bias_rate * bias


def in_turns(passes: Iterable[Generator[None]]) -> None:
    """Run generators one section at a time, each in turn.

    A long pass over memory leaves nothing in the caches of what is done between two of them; so the passes
    of all weights follow each other, and what prepares and finishes them is done for all before and after.

    Args:
        passes: They yield between two sections.
    """
    open_ones = list(passes)
    while open_ones:
        open_ones = [one for one in open_ones if next(one, one) is None]


def _matrix(view: Tensor) -> Tensor:
    return view.squeeze(3).squeeze(0)


def _rows(white: Whitening) -> tuple[Tensor, Tensor]:
    inverse = white.inverse.view(-1)
    return inverse, torch.zeros_like(inverse) if white.offset is None else white.offset.view(-1)


def _column(bias: Tensor | None, like: Tensor) -> Tensor:
    return like.new_zeros(like.shape[1]) if bias is None else bias.view(-1)
