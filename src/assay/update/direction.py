"""Directions in parameter space: one tensor a parameter; lengths, angles, and the closed form of U1."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_PIECE = 1 << 16  # numbers that stay in a cache, in float64
Direction = Sequence[Tensor]  # one tensor a trainable parameter, in the order of `named_parameters`


def real(x: Tensor) -> Tensor:
    """A complex tensor as one of twice as many real numbers, as optimizers take it; a real one as it is."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def dot(a: Direction, b: Direction) -> float:
    """Inner product over all parameters, summed in float64."""
    return sum(float(x @ y) for x, y in _pieces(a, b))


def is_zero(a: Direction) -> bool:
    """Whether every entry is zero."""
    return not any(bool(x.any()) for x in a)


def is_finite(a: Direction) -> bool:
    """Whether every entry is a finite number."""
    # a finite sum has finite terms, and is found without a tensor of as many answers
    return all(bool(x.sum().isfinite()) or bool(x.isfinite().all()) for x in a)


def _pieces(a: Direction, b: Direction) -> Iterator[tuple[Tensor, Tensor]]:
    """Both in float64, a piece at a time: copies of whole embeddings take longer than the sums."""
    for x, y in zip(a, b, strict=True):
        parts = zip(
            real(x.detach()).flatten().split(_PIECE),
            real(y.detach()).flatten().split(_PIECE),
            strict=True,
        )
        for one, other in parts:
            wide = one.double()
            yield wide, wide if x is y else other.double()


def length(a: Direction) -> float:
    """Euclidean length over all parameters."""
    return math.sqrt(dot(a, a))


def degrees(a: Direction, b: Direction) -> float | None:
    """Angle between two directions, accurate also near 0 and 180 (Kahan's half-angle form).

    Returns:
        Degrees from 0 to 180, or None where a direction is zero or not finite.

    Example:
        >>> import torch
        >>> degrees([torch.tensor([1.0, 0.0])], [torch.tensor([1.0, 1.0])])
        45.0
    """
    m, n = length(a), length(b)
    if m == 0 or n == 0 or not math.isfinite(m) or not math.isfinite(n):
        return None
    minus = plus = 0.0
    for x, y in _pieces(a, b):
        minus += float((x / m - y / n).square().sum())
        plus += float((x / m + y / n).square().sum())
    return math.degrees(2 * math.atan2(math.sqrt(minus), math.sqrt(plus)))


def rms(x: Tensor) -> float:
    """Root of the mean square of all entries."""
    return float(x.square().mean().sqrt())


def closed_form_degrees(gradient: Direction, squares: Direction, eps: float) -> float | None:
    """Angle between SGD and RMSProp in closed form (Theory U1).

    `cos = Σ g² / (√s + ε) / (‖g‖ ‖g / (√s + ε)‖)`, where s is the running mean of g² that counts the
    present gradient (of a complex number: of its two parts), and ε stands outside the root as PyTorch has it.

    Args:
        gradient: g, one tensor a parameter.
        squares: s, likewise.
        eps: ε.

    Returns:
        Degrees, or None where the gradient is zero.
    """
    parts = [real(g) for g in gradient]
    return degrees(parts, [g / (s.sqrt() + eps) for g, s in zip(parts, squares, strict=True)])
