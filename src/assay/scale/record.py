"""What is gathered about one operator while the model runs; becomes a `Row` afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from assay.scale.activations import Function
from assay.scale.lineage import Lineage
from assay.scale.made import Made, made_of
from assay.scale.moments import UnitMoments
from assay.scale.norms import Divisor
from assay.scale.operators import Product, wide
from assay.scale.rows import Kind
from assay.where import Location


@dataclass
class Call:
    """One execution: its forward level, and its gradient once the backward pass has been there."""

    level: float
    energy: float | None = None
    elements: int = 0
    reads: int = 0  # bits: the records that it depends on


@dataclass
class Record:
    """An operator at one line of code with one set of parameters; `calls` grows in a loop.

    `readers` says what used the output: "norm", "batch norm", "gate" (a product of two signals), "pair" (of a
    looked-up row and another signal), "other", or the index of another record.
    """

    index: int
    kind: Kind
    operator: str
    module: str
    parameters: tuple[str, ...]
    where: Location | None
    axes: tuple[int, ...]
    moments: UnitMoments | None = None
    calls: list[Call] = field(default_factory=list)
    readers: set[str | int] = field(default_factory=set)
    fan_in: int | None = None
    fan_out: float | None = None
    weight_std: float | None = None
    weight_square: float | None = None
    weight_factor: float = 1.0  # of the parameter, before it is a weight
    weight: Tensor | None = None  # with the graph that made it of its parameters, until `look_back`
    made: Made = field(default_factory=Made)
    alike: bool = True  # all units have the same values, and the same gradients
    trained: bool = False  # in some call the parameter that is its weight can get a gradient
    behind: set[int] = field(default_factory=set)  # fixed maps of each channel that read it
    read_raw: bool = False  # something else reads it too
    factors: set[float] = field(default_factory=set)  # constants before what reads the output
    predictions: list[float] = field(default_factory=list)
    inputs: UnitMoments | None = None
    averaged: float = 1.0  # of how many values each is the mean that it reads
    squares: list[float] = field(
        default_factory=list
    )  # of the input of an activation, call by call
    reads: int = 0  # bits: the records that this one's input depends on
    sizes: int = 0  # bits: those whose size reaches it, past no norm
    last: int = (
        0  # bits: those that it reads past no other record; of a sum those of the larger summand
    )
    skip: int | None = None  # of a sum: the record that it adds to what comes of that record
    reads_input: bool = False  # reads the model's own input, in the last call
    beside_input: bool = False  # reads the model's own input too
    raw_square: float | None = None  # reads that side by side with other columns: its mean square
    function: Function | None = None  # of an activation
    divisors: list[Divisor | None] = field(default_factory=list)  # of the norms that read it
    beside_larger: bool = False
    scores: bool = False  # goes, as query or key, into what a softmax turns into weights
    values: bool = False  # is weighted with what a softmax returned
    finite: bool = True

    def add_input(self, found: Product) -> None:
        """Note what goes into a product: the weight's size and the moments of the data."""
        if self.weight_square is None:
            weight = wide(found.weight)
            self.weight_square = float(weight.abs().square().mean())
            self.weight_std = float(weight.std(correction=0))
            self.fan_in, self.fan_out = found.fan_in, found.fan_out
        self.predictions.append(found.predicted(self.weight_square))
        if found.data is not None and found.data.is_floating_point():
            inputs = UnitMoments.of(found.data, found.data_axes)
            if self.inputs is None:
                self.inputs = inputs
            else:
                self.inputs.add(inputs)

    def look_back(self, parameters: Mapping[str, Tensor]) -> None:
        """Note which parameters set the size of the weights that are made of them."""
        if self.weight is not None:
            used = {n: parameters[n] for n in self.parameters if n in parameters}
            self.made, self.weight = made_of(self.weight, used), None

    def add_reads(self, on: Lineage) -> None:
        """Note what the input depends on."""
        self.reads |= on.rows
        self.sizes |= on.sizes
        self.last |= on.last
        self.beside_input |= on.raw and on.rows != 0

    def add_output(self, out: Tensor) -> Call:
        """Note the output of one more call.

        Returns:
            The call, for the gradient hook to fill in.
        """
        axes = tuple(a for a in self.axes if -out.dim() <= a < out.dim()) or (-1,)
        found = UnitMoments.of(out, axes)
        self.finite &= bool(torch.isfinite(found.mean).all())
        self.alike = self.alike and _alike(out.detach(), axes[-1])
        variance = found.variance
        call = Call(found.second_moment if variance is None else variance)
        self.calls.append(call)
        if self.moments is None:
            self.moments = found
        else:
            self.moments.add(found)
        return call

    def add_gradient(self, call: Call, gradient: Tensor) -> None:
        """Note the gradient of one call's output."""
        g = gradient.detach()
        g = (g.to_dense() if g.is_sparse else g).to(torch.float64)
        call.energy, call.elements = float(g.square().sum()), g.numel()
        self.finite &= math.isfinite(call.energy)
        self.alike = self.alike and _alike(g, self.axes[-1])

    @property
    def factor(self) -> float:
        """The constant that the output is multiplied with; 1 where readers differ in it."""
        return next(iter(self.factors)) if len(self.factors) == 1 else 1.0

    @property
    def energies(self) -> list[float]:
        """The sums of squares of the gradients, call by call, of those that have one."""
        return [call.energy for call in self.calls if call.energy is not None]

    @property
    def gradient(self) -> float | None:
        """Mean square of the gradient over all calls that have one."""
        seen = [call for call in self.calls if call.energy is not None and call.elements]
        if not seen:
            return None
        return sum(call.energy or 0.0 for call in seen) / sum(call.elements for call in seen)


def _alike(x: Tensor, axis: int) -> bool:
    """Whether all units have the same values, down to rounding."""
    if not -x.dim() <= axis < x.dim() or x.shape[axis] < 2:
        return False
    apart = (x.amax(axis) - x.amin(axis)).max()
    return bool(apart <= 1e-5 * x.abs().max())
