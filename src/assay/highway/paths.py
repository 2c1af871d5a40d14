"""What is said of a path: a skip path, or a stretch that has none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from assay.highway.carry import GateKind
from assay.highway.gates import GateBias
from assay.where import Location


@dataclass(frozen=True)
class SkipPath:
    """A run of additions that a value passes unchanged but for what is said here.

    Args:
        length: Number of residual additions chained (or concatenations, where `kind` says so).
        tied: Whether the diversions share most of their parameters, as in a loop over time.
        gate: What the skip is multiplied with: None, a "constant" (a number, a parameter), or a value
            that depends on "data".
        norm_on_skip: Whether a normalisation lies on the path, as in a post-norm transformer.
        half_life: Additions until the gradient's norm halves on its way back; infinite if it does not.
        retention: Fraction of the gradient's norm at the last addition that reaches the start.
        where: The line of the addition (of the most frequent one, the last of equals).
        kind: The same in words.
        modules: The module of every addition, first to last; "" is the model itself.
        gradient: Norm of the gradient by additions back from the end, as fractions; the first is 1. Empty
            where it was not measured: on the meta device, and beyond the longest 24 paths.
        arriving: The same of all the gradient that the loss sends there, not of that from the last addition
            alone, as fractions of the largest; of tied paths with a gate.
        growth: Root mean square of the value after the last addition, over that after the first; over 1
            where the path starts from a constant state, such as zeros.
        activation_on_skip: Whether a rectifier lies on the path, as in the first ResNets.
        projections: How many of the additions have a linear map on the skip.
        shared: Names of the parameters that the diversions share.
        gate_parameters: Names of the parameters that make the gate.
        gate_biases: What is added to what the gate's sigmoid sees.
        gate_keeps: Whether a larger gate keeps more of the old value; None where that is not known.
        count: How many equal paths of this line are shown as one.
    """

    length: int
    tied: bool
    gate: GateKind | None
    norm_on_skip: bool
    half_life: float
    retention: float
    where: Location | None
    kind: str = "identity"
    modules: tuple[str, ...] = ()
    gradient: tuple[float, ...] = ()
    arriving: tuple[float, ...] = ()
    growth: float = math.nan
    activation_on_skip: bool = False
    projections: int = 0
    shared: tuple[str, ...] = ()
    gate_parameters: tuple[str, ...] = ()
    gate_biases: tuple[GateBias, ...] = ()
    gate_keeps: bool | None = None
    count: int = 1

    @property
    def is_sum(self) -> bool:
        """Whether diversions are added; otherwise they are concatenated."""
        return not self.kind.startswith("concatenation")

    @property
    def name(self) -> str:
        """The line, else the module, else a word."""
        return self.where.short if self.where else (self.modules or ("the model",))[0]


@dataclass(frozen=True)
class PlainPath:
    """The longest stretch of parametrised operators that no skip path gets around.

    Args:
        length: Number of parametrised operators, or of steps of a recurrence.
        tied: Whether they all use the same weights.
        half_life: Operators until the gradient's norm halves on its way back.
        retention: Fraction of the gradient's norm at the last operator that reaches the first.
        where: The line of the first operator.
        modules: The module of every operator, first to last.
        gradient: Norm of the gradient by operators back from the end; the first is 1. Empty where it was
            not measured.
    """

    length: int
    tied: bool
    half_life: float
    retention: float
    where: Location | None
    modules: tuple[str, ...] = ()
    gradient: tuple[float, ...] = ()

    @property
    def unit(self) -> Literal["time steps", "parametrised operators"]:
        """What its length counts."""
        return "time steps" if self.tied else "parametrised operators"
