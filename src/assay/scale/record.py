"""What is gathered about one operator while the model runs; becomes a `Row` afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from assay.errors import UsageError
from assay.scale.activations import Function, fingerprint, values
from assay.scale.gain import Gain, gain, moments
from assay.scale.made import Made, made_of
from assay.scale.moments import UnitMoments
from assay.scale.norms import Divisor
from assay.scale.operators import Product, wide
from assay.scale.rows import Calls, Kind, Row
from assay.where import Location

# gains by the activation's values on a grid: fifty ReLU modules need one quadrature
_GAINS: dict[bytes, Gain] = {}

_BY_SIZE = 0.99  # of what a norm divides by: where ε is the rest, it divides by the size
_BOUNDED = ("sigmoid", "hardsigmoid", "tanh", "hardtanh", "softsign")


class Depends(Protocol):
    """What a tensor depends on, in bits."""

    @property
    def rows(self) -> int:
        """All records."""

    @property
    def sizes(self) -> int:
        """Those whose size reaches it."""

    @property
    def last(self) -> int:
        """Those that it is made of, past no other."""

    @property
    def raw(self) -> bool:
        """Whether the model's own input is in it, past no product and no norm."""


@dataclass
class Call:
    """One execution: its forward level, and its gradient once the backward pass has been there."""

    level: float
    energy: float | None = None
    elements: int = 0


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

    def add_reads(self, on: Depends) -> None:
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


def to_rows(records: Sequence[Record]) -> tuple[Row, ...]:
    """Turn what was gathered into rows.

    Returns:
        One row for every record that has an output, in the order of first execution.
    """
    products = [r for r in records if r.kind in ("product", "lookup")]
    used = 0
    for record in products:
        used |= record.reads
    return tuple(_row(record, records, used) for record in records if record.moments is not None)


def _bits(number: int) -> list[int]:
    return [i for i in range(number.bit_length()) if number >> i & 1]


def _follows(index: int, reads: Sequence[int]) -> tuple[int, ...]:
    """What a record depends on, but for what that depends on itself."""
    own = reads[index] & ~(1 << index)
    further = 0
    for i in _bits(own):
        further |= reads[i] & ~(1 << i)
    # around a loop everything depends on everything: then all of it
    return tuple(_bits(own & ~further or own))


def _row(record: Record, records: Sequence[Record], used: int) -> Row:
    found = record.moments
    assert found is not None
    square = record.factor**2
    energies = [call.energy for call in record.calls if call.energy is not None]
    worst = found.worst
    follower = _activation_of(record, records)
    predictions, inputs, squares = record.predictions, record.inputs, record.squares
    read = sum(squares) / len(squares) if squares else None
    norms = _normalisers(record, records, set())
    return Row(
        index=record.index,
        module=record.module,
        operator=record.operator,
        kind=record.kind,
        parameters=record.parameters,
        where=record.where,
        fan_in=record.fan_in,
        fan_out=record.fan_out,
        weight_std=record.weight_std,
        weight_square=record.weight_square,
        weight_factor=record.weight_factor,
        scaled_by=record.made.scaled,
        divided=record.made.divided,
        factor=record.factor,
        alike=record.alike and bool(record.weight_square) and record.kind == "product",
        frozen=record.fan_in is not None and not record.trained,
        units=len(found.mean),
        samples=found.samples,
        mean=found.rms_mean * abs(record.factor),
        variance=None if found.variance is None else found.variance * square,
        worst_unit=worst[0] if worst else None,
        worst_variance=worst[1] * square if worst else None,
        dead=found.dead,
        second_moment=found.second_moment * square,
        input_mean=inputs.rms_mean if inputs else None,
        input_variance=inputs.variance if inputs else None,
        input_second_moment=inputs.second_moment if inputs else read,
        predicted=square * sum(predictions) / len(predictions) if predictions else None,
        gradient=None if record.gradient is None else record.gradient / square,
        gradient_energy=sum(energies) / square if energies else None,
        gradient_predicted=_predicted_gradient(record, records),
        activation=follower.operator if follower else "",
        gain=_gain(record if record.kind == "activation" else follower),
        gate=_only_gates(record, records, set()),
        normalised=bool(norms) and "other" not in norms,
        divisor=min(filter(None, record.divisors), key=lambda d: d.kept, default=None),
        no_effect=_no_effect(record, records),
        gradient_relative=_relative(record, "batch norm" in norms),
        beside_larger=record.beside_larger,
        score=record.scores and not record.values,
        reads_input=record.reads_input,
        beside_input=record.beside_input,
        readout=not used >> record.index & 1,
        follows=_follows(record.index, [r.reads for r in records]),
        sized_by=_follows(record.index, [r.sizes for r in records]),
        reads=tuple(_bits(record.last)),
        skip=record.skip,
        averaged=record.averaged,
        calls=_calls(record),
        finite=record.finite,
    )


def _calls(record: Record) -> Calls | None:
    levels = [call.level for call in record.calls]
    if len(levels) < 2:
        return None
    energies = [call.energy for call in record.calls if call.energy is not None]
    square = record.factor**2
    off = [
        abs(math.log(max(level * square, 1e-300))) if math.isfinite(level) else 1e9
        for level in levels
    ]
    return Calls(
        count=len(levels),
        variance=(levels[0] * square, levels[-1] * square),
        gradient=(energies[0] / square, energies[-1] / square) if energies else None,
        worst=off.index(max(off)),
    )


def _activation_of(record: Record, records: Sequence[Record]) -> Record | None:
    """The activation that is the only reader of this record's output."""
    reader = next(iter(record.readers), None) if len(record.readers) == 1 else None
    if not isinstance(reader, int) or records[reader].kind != "activation":
        return None
    return records[reader]


def _gain(record: Record | None) -> Gain | None:
    """The gain of an activation that ran, computed once for all activations of the same values."""
    if record is None or record.function is None:
        return None
    try:
        key = fingerprint(record.function)
        if key not in _GAINS:
            _GAINS[key] = gain(record.function)
    except (UsageError, ValueError, RuntimeError):  # constant, or not elementwise after all
        return None
    return _GAINS[key]


def _is_gate(activation: Record) -> bool:
    """Whether an activation's output is multiplied with another signal, and goes into no product.

    Where it goes elsewhere too, as `1 - z` of a GRU does, only one that is bounded: what a gate scales may be
    an activation as well, and have its mean taken.

    Returns:
        Whether.
    """
    bounded = activation.operator.lower() in _BOUNDED
    return "gate" in activation.readers and activation.readers <= {"gate", *(("other",) * bounded)}


def _only_gates(record: Record, records: Sequence[Record], seen: set[int]) -> bool:
    """Whether all that reads a record is a gate, or goes into one: the squeeze of squeeze and excitation.

    A row of a table that is only multiplied with another signal (a factorised matrix) has no size of its own
    either: that of the product is what counts.

    Returns:
        Whether.
    """
    if record.index in seen:
        return False
    seen.add(record.index)
    if record.kind == "activation" and _is_gate(record):
        return True
    if record.readers == {"pair"}:
        return True
    readers = [r for r in record.readers if isinstance(r, int)]
    if not readers or len(readers) < len(record.readers):
        return False
    return all(_only_gates(records[r], records, seen) for r in readers)


def _normalisers(record: Record, records: Sequence[Record], seen: set[int]) -> set[str]:
    """What reads this record, through sums, biases and scales: "norm", "batch norm", and "other"."""
    if record.index in seen:
        return set()  # around a loop: the other readers decide
    seen.add(record.index)
    found: set[str] = set()
    for reader in record.readers:
        if isinstance(reader, int) and records[reader].kind in ("sum", "shift", "scale"):
            found |= _normalisers(records[reader], records, seen) or {"other"}
        elif isinstance(reader, int):
            found |= _behind(records[reader], records) or {"other"}
        else:
            found.add(reader if reader in ("norm", "batch norm") else "other")
    return found


def _no_effect(record: Record, records: Sequence[Record]) -> bool:
    """Whether a factor on a record's output changes nothing behind it.

    It has to reach norms alone, and nothing may be added on the way: a norm of a sum divides by the size of
    the sum, and there the size of one against the other counts.

    Returns:
        Whether.
    """
    if not record.readers:
        return False
    if any(d is None or d.kept < _BY_SIZE for d in record.divisors):
        return False
    through = [r for r in record.readers if isinstance(r, int) and records[r].kind == "scale"]
    norms = record.readers & {"norm", "batch norm"}
    return len(through) + len(norms) == len(record.readers) and all(
        r > record.index and _no_effect(records[r], records) for r in through
    )


def _behind(reader: Record, records: Sequence[Record]) -> set[str]:
    """The norms behind one product without a bias, also with a ReLU in front: a factor passes all of these.

    Returns:
        "norm" and "batch norm"; empty where anything else reads it or it is no such product.
    """
    if reader.kind == "activation" and len(reader.readers) == 1 and _homogeneous(reader.function):
        after = next(iter(reader.readers))
        reader = records[after] if isinstance(after, int) else reader
    alone = reader.kind == "product" and len(reader.parameters) == 1
    norms = {r for r in reader.readers if isinstance(r, str)}
    return norms if alone and reader.readers <= {"norm", "batch norm"} else set()


def _homogeneous(function: Function | None) -> bool:
    """Whether an activation passes positive factors on: φ(2x) = 2 φ(x)."""
    if function is None:
        return False
    x = np.linspace(-3, 3, 13)
    try:
        return bool(np.allclose(values(function)(2 * x), 2 * values(function)(x)))
    except (UsageError, ValueError, RuntimeError):  # not elementwise after all
        return False


def _relative(record: Record, by_unit: bool) -> float | None:
    """Gradient energy in units of the size that a normaliser divides by.

    A batch norm divides by the standard deviation of each unit, the others by the size of the vector.

    Returns:
        Energy times squared size; None without a gradient.
    """
    energies = [call.energy for call in record.calls if call.energy is not None]
    if not energies or record.moments is None:
        return None
    variance = record.moments.variance
    size = variance if by_unit and variance is not None else record.moments.second_moment
    return sum(energies) * size


def _predicted_gradient(record: Record, records: Sequence[Record]) -> float | None:
    """`E φ'² · fan_out · σ² · E g²` from the one product that reads this output (Theory S1, S4)."""
    if record.kind not in ("product", "lookup") or len(record.calls) != 1 or record.moments is None:
        return None
    activation = _activation_of(record, records)
    readers = (activation or record).readers
    reader = next(iter(readers), None) if len(readers) == 1 else None
    if not isinstance(reader, int):
        return None
    after = records[reader]
    if after.kind != "product" or after.gradient is None or len(after.calls) != 1:
        return None
    slope = 1.0
    if activation is not None:
        if activation.function is None:
            return None
        try:
            size = math.sqrt(record.moments.second_moment) * abs(record.factor)
            slope = moments(activation.function, size)[2]
        except (ValueError, RuntimeError):  # not elementwise, or not finite: no prediction
            return None
    predicted = slope * (after.fan_out or 0.0) * (after.weight_square or 0.0) * after.gradient
    return predicted if math.isfinite(predicted) else None
