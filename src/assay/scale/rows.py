"""One row of the scale table: an operator with the moments of its output and of its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from assay.scale.gain import Gain
from assay.scale.norms import Divisor
from assay.where import Location

Kind = Literal["product", "lookup", "norm", "scale", "shift", "activation", "sum", "other"]


@dataclass(frozen=True)
class Calls:
    """How a row that runs several times (a loop over time) changes from call to call.

    Args:
        count: Number of calls.
        variance: Forward variance of the first and of the last call (second moment where a call has one
            sample).
        gradient: Gradient energy (sum of squares) of the first and of the last call that has one.
        worst: Index of the call whose forward variance is farthest from 1 in ratio.
    """

    count: int
    variance: tuple[float, float]
    gradient: tuple[float, float] | None
    worst: int


@dataclass(frozen=True)
class Row:
    """An operator that a parameter feeds, or the activation or residual sum after it.

    Moments are per unit, over examples, positions and calls, and then averaged over units. Expected are
    mean 0 and variance 1 (Theory S1, S2). Where the output is multiplied with a constant before anything
    reads it (`x * sqrt(d)`), they are of what comes of that.

    Args:
        index: Position in the order of first execution.
        module: Dotted path of the innermost module that was running, "" for the model itself.
        operator: Name of the dispatched operator, "addmm".
        kind: What it does with the parameter: "product" (linear, convolution), "lookup" (embedding),
            "norm", "scale", "shift"; or "activation", "sum" (of two signals), "other".
        parameters: Names of the parameters that feed it, the weight first.
        where: Line of code.
        fan_in: Weights that a unit sums over; None where it is no product.
        fan_out: Units that an input reaches; None where it is no product.
        weight_std: Standard deviation of the weight.
        weight_square: Mean square of the weight, or of the parameter that a signal is multiplied with: 0 only
            where all of a weight is zero.
        weight_factor: The constant that the parameter is multiplied with before it is the weight; NaN where
            the weight is made of it otherwise.
        scaled_by: Where the weight is made otherwise, the parameters a factor on which is one on the weight.
        divided: The same, parameters that are divided by their own size: a factor on these has no effect.
        factor: The constant that the output is multiplied with before it is read; of a batch norm with fixed
            statistics by what it multiplies the standard deviation.
        fixed: A batch norm with fixed statistics (evaluation mode) stands behind it: all moments are of what
            comes of that.
        alike: All units, more than one, have the same values and the same gradients, and not zero weights.
        frozen: The weight's parameter requires no gradient, or runs under `no_grad` alone.
        units: Number of units.
        samples: Values seen of each unit.
        mean: Root mean square over units of their means (less its sampling error).
        variance: Mean over units of their variance; None with one sample.
        worst_unit: Index of the unit whose variance is farthest from 1 in ratio.
        worst_variance: Its variance.
        dead: Number of units that never move.
        second_moment: Mean square of the output.
        input_mean: Root mean square of the means of the input's units.
        input_variance: Mean variance of the input's units.
        input_second_moment: Mean square of the input, of products and activations.
        predicted: Second moment that iid weights as wide as these give with this input: `σ² Σ_j E x_j²`.
        gradient: Mean square of ∂objective/∂output.
        gradient_energy: Sum of squares of ∂objective/∂output.
        gradient_relative: Gradient energy times the square of the output's size: what counts where a
            normaliser divides by that size, because the gradient is then inverse to it.
        gradient_predicted: Mean square that the next product's gradient gives through it:
            `E φ'² · fan_out · σ² · E g²`.
        activation: The activation that alone reads this output, "" where there is none or it is unknown.
        gain: The gain of that activation; of the row itself where it is an activation.
        gate: Its activation is multiplied with another signal: it scales, and has no scale to keep. So does
            what goes into such a one and nowhere else.
        normalised: Everything that reads this output, alone or in a sum, is a norm of it.
        divisor: What the norm divides by that reads this output; of several the one with the largest part of
            ε; None where there is none or it is not known. Of a norm of the model's input its own.
        no_effect: A factor on this output changes nothing behind it: norms alone read it, nothing is added on
            the way, and their ε is small against what they divide by.
        beside_larger: Added to a larger signal, as a residual branch is: it does not set the scale.
        score: It goes into the scores of attention and nowhere else: its gradient is set by the slope of a
            softmax, not by widths.
        reads_input: Its input is the model's own, up to shape and a constant factor.
        beside_input: The model's own input goes into it beside earlier rows, past no product and no norm.
        raw_square: The mean square of those columns of its input that are the model's own, where others stand
            beside them; None where there are no such.
        readout: No later product depends on it.
        follows: Indices of the rows that its input depends on, but for those that these depend on.
        sized_by: The same, of the rows whose size reaches its input, past no norm.
        reads: Indices of the rows that it reads past no other row, also where others of these depend on them;
            of a sum those of the larger summand.
        skip: Of a sum, the row that it adds to what comes of that row; None where it is no such sum.
        averaged: Of how many values each is the mean that it reads, as behind a global average pool.
        calls: How it changes over calls; None for a single call.
        gradients: Where calls differ in the rows that they depend on, as of one head for several maps: the
            gradient's energy of those that depend on the same ones, and the indices of these.
        recurs: A later call depends on an earlier one, as in a loop over time; one layer for several inputs
            side by side is none.
        finite: Every value and gradient is finite.
    """

    index: int
    module: str
    operator: str
    kind: Kind
    parameters: tuple[str, ...]
    where: Location | None
    fan_in: int | None
    fan_out: float | None
    weight_std: float | None
    weight_square: float | None
    weight_factor: float
    scaled_by: tuple[str, ...]
    divided: tuple[str, ...]
    factor: float
    fixed: bool
    alike: bool
    frozen: bool
    units: int
    samples: int
    mean: float
    variance: float | None
    worst_unit: int | None
    worst_variance: float | None
    dead: int
    second_moment: float
    input_mean: float | None
    input_variance: float | None
    input_second_moment: float | None
    predicted: float | None
    gradient: float | None
    gradient_energy: float | None
    gradient_relative: float | None
    gradient_predicted: float | None
    activation: str
    gain: Gain | None
    gate: bool
    normalised: bool
    divisor: Divisor | None
    no_effect: bool
    beside_larger: bool
    score: bool
    reads_input: bool
    beside_input: bool
    raw_square: float | None
    readout: bool
    follows: tuple[int, ...]
    sized_by: tuple[int, ...]
    reads: tuple[int, ...]
    skip: int | None
    averaged: float
    calls: Calls | None
    gradients: tuple[tuple[float, tuple[int, ...]], ...]
    recurs: bool
    finite: bool

    @property
    def expected_mean(self) -> float:
        """0, in units of the standard deviation (Theory S1)."""
        return 0.0

    @property
    def expected_variance(self) -> float:
        """1 (Theory S1, S2)."""
        return 1.0

    @property
    def level(self) -> float:
        """The variance, or the second moment where there is only one sample."""
        return self.second_moment if self.variance is None else self.variance

    def share(self, index: int) -> float:
        """How much of the gradient's energy is in calls that depend on a row.

        Returns:
            1 where all do, or nothing is known of single calls.
        """
        whole = sum(energy for energy, _ in self.gradients)
        of = sum(energy for energy, reads in self.gradients if index in reads)
        return of / whole if whole > 0 else 1.0

    @property
    def apart(self) -> float:
        """The means of the input's units, in standard deviations of what it is the mean of (all, mostly).

        A mean over n positions takes the standard deviation down by √n, and leaves the mean of each unit.
        """
        return (self.input_mean or 0.0) / math.sqrt((self.input_variance or 1.0) * self.averaged)

    @property
    def name(self) -> str:
        """Parameter or module, and what runs there: `layers.3.weight (addmm)`."""
        path = self.parameters[0] if self.parameters else self.module or "model"
        return f"{path} ({self.operator})"

    @property
    def varies(self) -> bool:
        """Whether the output differs between samples by more than rounding."""
        return self.level > 1e-14 * self.second_moment and math.isfinite(self.level)


def products(rows: Sequence[Row]) -> list[Row]:
    """The rows that set the scale of the signal: products that are not normalised right after.

    Left out are branches beside a larger signal, gates, frozen weights (they are somebody's, not to be drawn
    again), and weights that are all zero (a zero-initialised branch or head is a choice).

    Returns:
        The rows, in order.
    """
    return [row for row in rows if row.kind in ("product", "lookup") and _sets_scale(row)]


def _sets_scale(row: Row) -> bool:
    beside = row.normalised or row.beside_larger or row.gate or row.frozen
    return row.varies and not beside and row.weight_square != 0.0
