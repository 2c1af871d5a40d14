"""What the card needs of a training, whoever's it is: the reference problem's, or the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


class Training(Protocol):
    """One function in one choice of units, ready to be trained."""

    @property
    def parts(self) -> int:
        """The gradient of a batch is accumulated over this many equal parts."""

    def network(self, folded: bool) -> nn.Module:
        """The model as training starts; `folded` where the optimizer takes matrices only."""

    def observe(self, model: nn.Module) -> tuple[Tensor, float]:
        """Outputs `[N, …]` and mean loss on all examples, in the reference's units."""

    def loss(self, model: nn.Module, rows: Tensor) -> Tensor:
        """Mean loss over the examples `rows`, in this training's own unit."""

    def louder(self, factor: float) -> Training:
        """The same training with `factor` times as many units of loss."""

    def jittered(self, generator: torch.Generator) -> Training:
        """The same training with first weights moved by round-off."""


class Plan(Protocol):
    """How long, on which batches, and in which precision."""

    @property
    def named(self) -> str:
        """What is trained, in words."""

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the training."""

    @property
    def steps(self) -> int:
        """Steps of training."""

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""

    def batches(self) -> list[Tensor]:
        """Row numbers of the batch of every step, the same in every choice of units."""

    def lasting(self, steps: int) -> Plan:
        """The same for another number of steps."""


class Ratio(Protocol):
    """New weight / old weight, one number a weight."""

    def packed(self, folded: bool) -> Sequence[Tensor]:
        """In the order of the model's parameters."""
