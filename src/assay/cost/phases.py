"""One quantity in the two phases of a training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.cost.formula import Formula


@dataclass(frozen=True)
class Phases:
    """One quantity of the forward pass, the backward pass, and both together."""

    forward: Formula
    backward: Formula

    @property
    def total(self) -> Formula:
        """Forward plus backward: one training step without the optimizer."""
        return self.forward + self.backward

    def __add__(self, other: Phases) -> Phases:
        return Phases(self.forward + other.forward, self.backward + other.backward)

    def to_dict(self) -> dict[str, Any]:
        """Plain data.

        Returns:
            The formulas of the three.
        """
        return {name: getattr(self, name).to_dict() for name in ("forward", "backward", "total")}
