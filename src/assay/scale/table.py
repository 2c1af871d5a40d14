"""The rows of the scale table, out of what was gathered while the model ran."""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.errors import UsageError
from assay.scale.activations import fingerprint
from assay.scale.gain import Gain, gain, moments
from assay.scale.readers import activation_of, no_effect, normalisers, only_gates
from assay.scale.record import Record
from assay.scale.rows import Calls, Row

# gains by the activation's values on a grid: fifty ReLU modules need one quadrature
_GAINS: dict[bytes, Gain] = {}


def to_rows(records: Sequence[Record]) -> tuple[Row, ...]:
    """Turn what was gathered into rows.

    Returns:
        One row for every record that has an output, in the order of first execution.
    """
    used = 0  # bits: what some product depends on
    for record in records:
        used |= record.reads if record.kind in ("product", "lookup") else 0
    reads, sizes = [record.reads for record in records], [record.sizes for record in records]
    return tuple(
        _row(record, records, used, _follows(record.index, reads), _follows(record.index, sizes))
        for record in records
        if record.moments is not None
    )


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


def _row(
    record: Record,
    records: Sequence[Record],
    used: int,
    follows: tuple[int, ...],
    sized_by: tuple[int, ...],
) -> Row:
    source = _read_as(record, records)
    found, factor = source.moments, _factor(record, source)
    assert found is not None
    square = record.factor**2 if source is record else 1.0
    energies, gradient = source.energies, source.gradient
    worst = found.worst
    follower = activation_of(record, records)
    predictions, inputs, squares = record.predictions, record.inputs, record.squares
    read = sum(squares) / len(squares) if squares else None
    norms = normalisers(record, records)
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
        factor=factor,
        fixed=source is not record,
        alike=record.alike and bool(record.weight_square) and record.kind == "product",
        frozen=record.fan_in is not None and not record.trained,
        units=len(found.mean),
        samples=found.samples,
        mean=found.rms_mean * math.sqrt(square),
        variance=None if found.variance is None else found.variance * square,
        worst_unit=worst[0] if worst else None,
        worst_variance=worst[1] * square if worst else None,
        dead=found.dead,
        second_moment=found.second_moment * square,
        input_mean=inputs.rms_mean if inputs else None,
        input_variance=inputs.variance if inputs else None,
        input_second_moment=inputs.second_moment if inputs else read,
        predicted=factor**2 * sum(predictions) / len(predictions) if predictions else None,
        gradient=None if gradient is None else gradient / square,
        gradient_energy=sum(energies) / square if energies else None,
        gradient_predicted=_predicted_gradient(record, source, records),
        activation=follower.operator if follower else "",
        gain=_gain(record if record.kind == "activation" else follower),
        gate=only_gates(record, records),
        normalised=bool(norms) and "other" not in norms,
        divisor=min(filter(None, record.divisors), key=lambda d: d.kept, default=None),
        no_effect=no_effect(record, records),
        gradient_relative=_relative(source, "batch norm" in norms),
        beside_larger=record.beside_larger,
        score=record.scores and not record.values,
        reads_input=record.reads_input,
        beside_input=record.beside_input,
        raw_square=record.raw_square,
        readout=not used >> record.index & 1,
        follows=follows,
        sized_by=sized_by,
        reads=tuple(_bits(record.last)),
        skip=record.skip,
        averaged=record.averaged,
        calls=_calls(source, square),
        gradients=_by_reads(source),
        recurs=bool(record.reads >> record.index & 1),
        finite=record.finite and source.finite,
    )


def _read_as(record: Record, records: Sequence[Record]) -> Record:
    """The record of what is read of an output: that of the fixed map behind it, if all goes through that.

    Returns:
        That record, or the same.
    """
    behind = [records[i] for i in record.behind]
    if len(behind) != 1 or record.read_raw or len(behind[0].calls) != len(record.calls):
        return record
    return behind[0]


def _factor(record: Record, source: Record) -> float:
    """What the output is multiplied with before it is read: a constant, or in the mean by a fixed map."""
    before, after = record.moments, source.moments
    if source is record or before is None or after is None:
        return record.factor
    pair = after.variance, before.variance
    if pair[0] is None or pair[1] is None:
        pair = after.second_moment, before.second_moment
    return math.sqrt(pair[0] / pair[1]) if pair[0] and pair[1] else 1.0


def _calls(record: Record, square: float) -> Calls | None:
    levels = [call.level for call in record.calls]
    if len(levels) < 2:
        return None
    energies = record.energies
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


def _by_reads(record: Record) -> tuple[tuple[float, tuple[int, ...]], ...]:
    """The energies of the gradients by what the calls depend on; nothing where all depend on the same."""
    found: dict[int, float] = {}
    for call in record.calls:
        found[call.reads] = found.get(call.reads, 0.0) + (call.energy or 0.0)
    if len(found) < 2 or record.reads >> record.index & 1:
        return ()
    square = record.factor**2
    return tuple((energy / square, tuple(_bits(reads))) for reads, energy in found.items())


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


def _relative(record: Record, by_unit: bool) -> float | None:
    """Gradient energy in units of the size that a normaliser divides by.

    A batch norm divides by the standard deviation of each unit, the others by the size of the vector.

    Returns:
        Energy times squared size; None without a gradient.
    """
    if not record.energies or record.moments is None:
        return None
    variance = record.moments.variance
    size = variance if by_unit and variance is not None else record.moments.second_moment
    return sum(record.energies) * size


def _predicted_gradient(record: Record, source: Record, records: Sequence[Record]) -> float | None:
    """`E φ'² · fan_out · σ² · E g²` from the one product that reads this output (Theory S1, S4)."""
    if record.kind not in ("product", "lookup") or len(record.calls) != 1 or source.moments is None:
        return None
    activation = activation_of(record, records)
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
            size = math.sqrt(source.moments.second_moment) * abs(record.factor)
            slope = moments(activation.function, size)[2]
        except (ValueError, RuntimeError):  # not elementwise, or not finite: no prediction
            return None
    predicted = slope * (after.fan_out or 0.0) * (after.weight_square or 0.0) * after.gradient
    return predicted if math.isfinite(predicted) else None
