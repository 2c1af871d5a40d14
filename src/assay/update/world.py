"""The reference problem of the card, written in any units: the same function, the same examples.

A two-layer ReLU network `u = V relu(W x + b) + c` with `x` of shape [d], `W` [h, d], `V` [k, h] learns a
teacher's outputs under the loss `½ Σ (u − y)²`, mean over the batch. A `World` is that training in one
choice of units; `assay.update.change` turns one world into another that starts as the same function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from assay.errors import UsageError


class Weights(NamedTuple):
    """Tensors of the network: W [h, d], b [h], V [k, h], c [k]. Also used for one number a weight."""

    W: Tensor
    b: Tensor
    V: Tensor
    c: Tensor

    def packed(self, folded: bool) -> tuple[Tensor, ...]:
        """In the order of `Network.parameters()`; folded, a bias is the last column of its weight."""
        if not folded:
            return tuple(self)
        return torch.cat([self.W, self.b[:, None]], 1), torch.cat([self.V, self.c[:, None]], 1)


class Network(nn.Module):
    """The reference model. `folded` writes biases as weights of a constant input 1.

    Args:
        weights: Initial values.
        folded: Only 2-D parameters, for optimizers that take nothing else (Muon).
    """

    def __init__(self, weights: Weights, folded: bool) -> None:
        super().__init__()
        (h, d), k = weights.W.shape, len(weights.V)
        self.folded = folded
        options = {"bias": not folded, "dtype": weights.W.dtype}
        # uninitialised, because every weight is set below: no random number is drawn
        self.hidden = skip_init(nn.Linear, d + folded, h, **options)
        self.output = skip_init(nn.Linear, h + folded, k, **options)
        with torch.no_grad():
            for p, value in zip(self.parameters(), weights.packed(folded), strict=True):
                p.copy_(value)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs `[batch, k]` of inputs `[batch, d]`."""
        hidden: Tensor = self.hidden(self._with_one(x)).relu()
        u: Tensor = self.output(self._with_one(hidden))
        return u

    def _with_one(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.new_ones(len(x), 1)], 1) if self.folded else x


def _as_it_is(u: Tensor) -> Tensor:
    return u


@dataclass(frozen=True)
class World:
    """One way of writing the training.

    Args:
        weights: Initial weights.
        inputs: `[N, d]`, in this world's units.
        targets: `[N, k]`, in this world's units.
        read: Turns this world's outputs `[N, k]` into the reference's units.
        loss_unit: One reference unit of loss in this world's: 1/ln 2 where it counts bits for nats.
        parts: The gradient of a batch is accumulated over this many equal parts.
    """

    weights: Weights
    inputs: Tensor
    targets: Tensor
    read: Callable[[Tensor], Tensor] = _as_it_is
    loss_unit: float = 1.0
    parts: int = 1

    def network(self, folded: bool) -> nn.Module:
        """The model as training starts; `folded` as in `Network`."""
        return Network(self.weights, folded)

    def observe(self, model: nn.Module) -> tuple[Tensor, float]:
        """Outputs `[N, k]` and mean loss on all examples, in the reference's units."""
        one = torch.ones(1, self.targets.shape[1], dtype=torch.float64)
        back = self.read(one.to(self.targets.dtype))  # what a unit of error is in the reference's
        squared = float(one.square().sum() / back.square().sum())
        rows = torch.arange(len(self.inputs))
        loss = float(self.loss(model, rows)) / self.loss_unit / squared
        return self.read(model(self.inputs)), loss

    def louder(self, factor: float) -> World:
        """The same world with the loss in other units, `factor` times as many of them."""
        return replace(self, loss_unit=self.loss_unit * factor)

    def loss(self, model: nn.Module, rows: Tensor) -> Tensor:
        """Mean loss over the examples `rows`, in this world's unit."""
        error = model(self.inputs[rows]) - self.targets[rows]
        mean: Tensor = error.square().sum(1).mean() * (0.5 * self.loss_unit)
        return mean

    def jittered(self, generator: torch.Generator) -> World:
        """The same world with initial weights moved by a few units of round-off."""
        scale = 4 * torch.finfo(self.inputs.dtype).eps

        def moved(w: Tensor) -> Tensor:
            noise = torch.randn(w.shape, generator=generator, dtype=torch.float64)
            return w * (1 + scale * noise).to(w.dtype)

        return replace(self, weights=Weights(*map(moved, self.weights)))


@dataclass(frozen=True)
class Problem:
    """Sizes of the reference problem. The data and the first weights follow from `seed`.

    Inputs are correlated, with means away from zero and standard deviations between 0.5 and 1.5; no
    unit is dead, and no first weight is near zero (some optimizers scale steps by the size of weights).

    Args:
        features: Inputs d.
        hidden: Hidden units h.
        outputs: Outputs k.
        examples: N.
        batch: Examples in a batch; even, so that it can be split, and at most `examples`.
        steps: Steps of training, at least 1.
        seed: Of data, first weights and the order of batches.
        dtype: Precision of the training.

    Raises:
        UsageError: If a size is not a positive integer, or `batch` is odd or too large.

    Example:
        >>> Problem(steps=5).world().inputs.shape
        torch.Size([64, 5])
    """

    features: int = 5
    hidden: int = 8
    outputs: int = 3
    examples: int = 64
    batch: int = 16
    steps: int = 20
    seed: int = 0
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        for name in ("features", "hidden", "outputs", "examples", "batch", "steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(
                    f"problem.{name}", value, "an integer of at least 1", "Give Problem(steps=20)."
                )
        if self.batch % 2 or self.batch > self.examples:
            raise UsageError(
                "problem.batch",
                self.batch,
                f"an even number of at most examples = {self.examples}",
                "Give Problem(batch=16).",
            )

    @property
    def named(self) -> str:
        """What is trained, in words."""
        return "the reference problem"

    def world(self) -> World:
        """The reference world: the units that all others are compared with."""
        draw = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64)

        d, h, k, n = self.features, self.hidden, self.outputs, self.examples
        spread = torch.linspace(0.5, 1.5, d, dtype=torch.float64)
        mix = torch.eye(d, dtype=torch.float64) + 0.3 * normal(d, d) / d**0.5
        inputs = (normal(n, d) @ mix + 0.5 * normal(d)) * spread
        targets = (inputs @ normal(d, h) / d**0.5).tanh() @ normal(h, k) / h**0.5 + 0.3 * normal(k)
        weights = Weights(
            _away_from_zero(normal(h, d)) / d**0.5,
            _away_from_zero(normal(h)) * 0.3,
            _away_from_zero(normal(k, h)) / h**0.5,
            _away_from_zero(normal(k)) * 0.3,
        )
        return World(
            Weights(*(w.to(self.dtype) for w in weights)),
            inputs.to(self.dtype),
            targets.to(self.dtype),
        )

    def lasting(self, steps: int) -> Problem:
        """The same problem for another number of steps."""
        return replace(self, steps=steps)

    def batches(self) -> list[Tensor]:
        """Row numbers of the batch of every step, the same in every world."""
        order = torch.Generator().manual_seed(self.seed + 1)
        return [
            torch.randperm(self.examples, generator=order)[: self.batch] for _ in range(self.steps)
        ]


def _away_from_zero(w: Tensor) -> Tensor:
    return w + 0.2 * w.sign()
