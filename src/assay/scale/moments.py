"""Mean and variance of every unit, added up over calls; nothing else of an activation is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class UnitMoments:
    """Running moments of U units (Chan's update), in float64.

    Args:
        samples: Number of values seen of each unit (examples, positions and calls).
        mean: Mean of each unit, `[U]`.
        squares: Sum of squared deviations from the mean of each unit, `[U]`.
    """

    samples: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, x: Tensor, axes: tuple[int, ...]) -> UnitMoments:
        """The moments of a tensor whose `axes` together number the units.

        Args:
            x: Any floating-point tensor, of any precision.
            axes: The dimensions that number units; all others number samples.

        Returns:
            The moments.
        """
        x = x.detach().to(torch.float64)
        if x.dim() == 0:
            x, axes = x[None], (0,)
        axes = tuple(axis % x.dim() for axis in axes)
        units = math.prod(x.shape[axis] for axis in axes)
        table = x.movedim(axes, tuple(range(-len(axes), 0))).reshape(-1, units)
        mean = table.mean(0)
        return cls(len(table), mean, (table - mean).square().sum(0))

    def add(self, other: UnitMoments) -> None:
        """Take in the moments of another call.

        Where the number of units changes from call to call (a cache that grows), all count as one unit.
        """
        if len(self.mean) != len(other.mean):
            self._pool()
            other._pool()
        total = self.samples + other.samples
        delta = other.mean - self.mean
        self.mean = self.mean + delta * (other.samples / total)
        self.squares = (
            self.squares + other.squares + delta**2 * (self.samples * other.samples / total)
        )
        self.samples = total

    def _pool(self) -> None:
        units = len(self.mean)
        mean = self.mean.mean(0, keepdim=True)
        between = self.samples * (self.mean - mean).square().sum(0, keepdim=True)
        self.squares = self.squares.sum(0, keepdim=True) + between
        self.samples, self.mean = self.samples * units, mean

    @property
    def variances(self) -> Tensor | None:
        """Variance of each unit (n − 1 in the denominator), `[U]`; None with a single sample."""
        return self.squares / (self.samples - 1) if self.samples > 1 else None

    @property
    def variance(self) -> float | None:
        """Mean over units of their variance; None with a single sample."""
        found = self.variances
        return None if found is None else float(found.mean())

    @property
    def second_moment(self) -> float:
        """Mean over units and samples of the square."""
        return float((self.mean**2).mean() + (self.squares / self.samples).mean())

    @property
    def rms_mean(self) -> float:
        """Root mean square over units of their means.

        A mean of n values misses the true one by `variance/n` in the square; that much is taken off.

        Returns:
            The root, at least 0.
        """
        square = float((self.mean**2).mean())
        if self.samples > 1:
            square -= (self.variance or 0.0) / self.samples
        return math.sqrt(max(square, 0.0)) if math.isfinite(square) else math.nan

    @property
    def dead(self) -> int:
        """Number of units whose value never moves, down to rounding."""
        size = self.mean**2 + self.squares / self.samples
        return int((self.squares / self.samples <= 1e-14 * size).sum())

    @property
    def worst(self) -> tuple[int, float] | None:
        """Index and variance of the unit whose variance is farthest from 1 in ratio."""
        found = self.variances
        if found is None or not len(found):
            return None
        at = int(found.clamp_min(1e-300).log().abs().nan_to_num(math.inf).argmax())
        return at, float(found[at])
