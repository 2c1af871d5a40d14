"""Central moments of features: of one batch, merged, and running."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_ROWS = 1024  # of a batch that are looked at; of more, evenly spread ones
ROUND_OFF = (
    64 * torch.finfo(torch.float64).eps
)  # of |mean|: a smaller spread is rounding, not variance


@dataclass(frozen=True)
class Moments:
    """Of `d` features over `n` rows; float64, `[d]` each.

    Args:
        n: How many rows.
        mean: μ; zeros where moments are taken about zero.
        second: E (x − μ)².
        third: E (x − μ)³.
        fourth: E (x − μ)⁴.
    """

    n: float
    mean: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor

    @classmethod
    def of(cls, rows: Tensor, *, centred: bool) -> Moments:
        """Of every column of `rows`.

        Powers of two on a column come out bit by bit, and no size of a feature over- or underflows: the
        work is done on differences from the first row, scaled to below 2 by a power of two.

        Args:
            rows: `[n, d]`, n at least 1.
            centred: About the mean; otherwise about zero.

        Returns:
            The moments.
        """
        wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
        x = rows.to(wide)
        # a constant column gives differences of exactly 0, whatever its size
        pivot = x[0] if centred else torch.zeros_like(x[0])
        d = x - pivot if centred else x
        scale = power_of_two(d.abs().amax(0))
        d = d / scale
        mean = d.mean(0) if centred else torch.zeros_like(pivot)
        if centred:
            d -= mean
        square = d * d
        means = torch.stack(
            (mean, square.mean(0), (square * d).mean(0), square.square_().mean(0))
        ).double()
        scale = scale.double()
        powers = torch.stack((scale, scale**2, scale**3, scale**4))
        first, second, third, fourth = (means * powers).unbind()
        return cls(float(len(rows)), pivot.double() + first, second, third, fourth)

    def merged(self, other: Moments) -> Moments:
        """Of both sets of rows together: exact, whatever the order (Pébay 2008).

        Returns:
            The moments of the union.
        """
        return merge((self, other), (self.n, other.n))

    def bad(self) -> Tensor:
        """Which features are NaN or infinite, `[d]`."""
        return ~torch.isfinite(self.mean + self.fourth)


def merge(parts: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """The moments of a mixture.

    Args:
        parts: Moments of equal width.
        weights: How much each counts; any non-negative numbers with a positive sum.

    Returns:
        The moments, with n the sum of the parts'.
    """
    total = math.fsum(weights)
    shares = [w / total for w in weights]
    mean = parts[0].mean
    for part, share in zip(parts[1:], shares[1:], strict=True):
        mean = mean + share * (part.mean - parts[0].mean)
    second, third, fourth = (torch.zeros_like(mean) for _ in range(3))
    for part, share in zip(parts, shares, strict=True):
        d = part.mean - mean
        d2 = d * d
        second = second + share * (part.second + d2)
        third = third + share * (part.third + 3 * d * part.second + d2 * d)
        fourth = fourth + share * (
            part.fourth + 4 * d * part.third + 6 * d2 * part.second + d2 * d2
        )
    return Moments(math.fsum(part.n for part in parts), mean, second, third, fourth)


def power_of_two(size: Tensor) -> Tensor:
    """The largest power of two that is at most `size`; 1 where `size` is 0 or not finite.

    Args:
        size: Non-negative.

    Returns:
        Powers of two of the same shape and type.

    Example:
        >>> power_of_two(torch.tensor([0.0, 0.3, 1.0, 5.0]))
        tensor([1.0000, 0.2500, 1.0000, 4.0000])
    """
    _, exponent = torch.frexp(size)
    least = -1022 if size.dtype == torch.float64 else -126  # below, the reciprocal overflows
    power = torch.ldexp(torch.ones_like(size), (exponent - 1).clamp(min=least))
    return torch.where((size > 0) & torch.isfinite(size), power, 1.0)


def scale_of(second: Tensor, fourth: Tensor, mean: Tensor) -> Tensor:
    """The scale of a feature: `s = (E d⁴)^¼`, d = x − μ.

    For a Gaussian `s = 1.32 σ`. With σ itself a feature that is seldom other than usual (one-hot, with
    probability p) would take steps 1/p times as long as a common one; with s they are 1/√p times as long.

    Args:
        second: E d².
        fourth: E d⁴.
        mean: μ; a spread that is round-off of it counts as none.

    Returns:
        s, and 0 for a constant feature.
    """
    constant = second <= (ROUND_OFF * mean) ** 2
    return torch.where(constant, 0.0, fourth.sqrt().sqrt())


def sample_rows(rows: Tensor, most: int = MOST_ROWS) -> Tensor:
    """At most `most` evenly spread rows of `[..., d]`.

    Args:
        rows: Features last.
        most: How many.

    Returns:
        A view or copy `[n, d]`.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    if len(flat) <= most:
        return flat
    step = -(-len(flat) // most)
    inner = math.prod(
        rows.shape[1:-1]
    )  # a step that shares a factor with it would meet few positions
    while math.gcd(step, inner) > 1:
        step += 1
    return flat[::step]
