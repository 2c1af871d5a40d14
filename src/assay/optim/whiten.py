"""What is known of a weight's inputs, and gradients in units that make them white (Theory U5, U8 a)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.optim.moments import ROUND_OFF, Moments, scale_of

HORIZON = 0.99  # how much of what is known of inputs a step keeps


@dataclass(frozen=True)
class Known:
    """Running moments of a slot's inputs; float64, one row a port.

    Args:
        count: Rows that count, `[p]`.
        mean: μ, `[p, d]`.
        second: E (x − μ)², `[p, d]`.
        fourth: E (x − μ)⁴, `[p, d]`.
        roots: What `kept` says of both, where it is known already.
    """

    count: Tensor
    mean: Tensor
    second: Tensor
    fourth: Tensor
    roots: tuple[Tensor, Tensor] | None = None

    @classmethod
    def nothing(cls, ports: int, width: int, device: torch.device) -> Known:
        """Before the first batch."""
        zeros = torch.zeros(ports, width, dtype=torch.float64, device=device)
        count = torch.zeros(ports, dtype=torch.float64)  # on the CPU, to be read without waiting
        return cls(count, zeros, zeros.clone(), zeros.clone())

    @classmethod
    def stored(cls, state: Mapping[str, Any]) -> Known:
        """From what `kept` returned."""
        second = state["deviation"].double().square()
        fourth = state["scale"].double().square().square_()
        return cls(state["count"], state["mean"], second, fourth)

    def kept(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """For the state of an optimizer: roots, in `dtype`, take half the room and leave no exponent out.

        Args:
            dtype: The precision of the work.

        Returns:
            Tensors by name.
        """
        deviation, scale = self.roots or (self.second.sqrt(), self.fourth.sqrt().sqrt())
        return {
            "count": self.count,
            "mean": self.mean,
            "deviation": deviation.to(dtype),
            "scale": scale.to(dtype),
        }

    def after(self, batches: list[Moments | None], keep: float = HORIZON) -> Known:
        """With one more step's inputs counted.

        Args:
            batches: Of each port; None where it saw nothing.
            keep: How much of what was known stays.

        Returns:
            New moments.
        """
        rows = []
        for i, batch in enumerate(batches):
            old = self.count[i], self.mean[i], self.second[i], self.fourth[i]
            rows.append(old if batch is None else _mixed(*old, batch, keep))
        if len(rows) == 1:
            count, mean, second, fourth = (c[None] for c in rows[0])
        else:
            count, mean, second, fourth = map(torch.stack, zip(*rows, strict=True))
        return Known(count, mean, second, fourth)

    def deviations(self) -> Tensor:
        """σ of every feature, `[p, d]`; 0 for a constant one."""
        constant = self.second <= (ROUND_OFF * self.mean) ** 2
        return torch.where(constant, 0.0, self.second.sqrt())

    def scales(self) -> Tensor:
        """The scale s of every feature, `[p, d]`; 0 for a constant one."""
        return scale_of(self.second, self.fourth, self.mean)


def _mixed(
    count: Tensor, mean: Tensor, second: Tensor, fourth: Tensor, batch: Moments, keep: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    old = float(count) * keep
    if old == 0:
        return count.new_full((), batch.n), batch.mean, batch.second, batch.fourth
    # `merge` of two, in few operations; the third moment of what is known is not kept: it only matters where
    # the mean moves
    share = batch.n / (old + batch.n)
    both, moved = share * (1 - share), batch.mean - mean
    square = moved.square()
    slope = torch.lerp(batch.second, second, share).mul_(6).add_(square, alpha=1 - 3 * both)
    slope = torch.addcmul(batch.third * 4, moved, slope)
    return (
        count.new_full((), old + batch.n),
        torch.add(mean, moved, alpha=share),
        torch.lerp(second, batch.second, share).add_(square, alpha=both),
        torch.lerp(fourth, batch.fourth, share).addcmul_(moved, slope, value=both),
    )


@dataclass(frozen=True)
class Whitening:
    """From a weight's own units to those in which its inputs have mean 0 and scale 1, and back.

    Args:
        scale: s, `[g, 1, i, 1]`; 0 for a constant feature.
        inverse: 1 / s, and 0 for a constant feature.
        offset: μ / s, likewise; None where nothing takes a shift up.
    """

    scale: Tensor
    inverse: Tensor
    offset: Tensor | None

    @classmethod
    def of(cls, scale: Tensor, mean: Tensor | None, dtype: torch.dtype) -> Whitening:
        """From s and μ, both float64 `[g, 1, i, 1]`."""
        inverse = torch.where(scale > 0, 1 / scale, 0.0)
        offset = None if mean is None else (mean * inverse).to(dtype)
        return cls(scale.to(dtype), inverse.to(dtype), offset)

    def gradient(self, of_weight: Tensor, of_bias: Tensor | None) -> Tensor:
        """∂loss/∂W in white units: `(G − g_b μᵀ) / s`.

        Args:
            of_weight: G, `[g, o, i, k]`.
            of_bias: g_b, `[g, o, 1, 1]`.

        Returns:
            A new tensor like G.
        """
        white = of_weight * self.inverse
        if self.offset is not None and of_bias is not None:
            white.addcmul_(of_bias, self.offset, value=-1)
        return white
