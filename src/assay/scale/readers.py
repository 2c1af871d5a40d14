"""What reads the output of a record, and what that makes of it: gates, norms, factors without effect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assay.errors import UsageError
from assay.scale.activations import Function, values
from assay.scale.record import Record

_BY_SIZE = 0.99  # of what a norm divides by: where ε is the rest, it divides by the size
_BOUNDED = ("sigmoid", "hardsigmoid", "tanh", "hardtanh", "softsign")


def activation_of(record: Record, records: Sequence[Record]) -> Record | None:
    """The activation that is the only reader of a record's output; None where there is none."""
    reader = next(iter(record.readers), None) if len(record.readers) == 1 else None
    if not isinstance(reader, int) or records[reader].kind != "activation":
        return None
    return records[reader]


def only_gates(record: Record, records: Sequence[Record], seen: set[int] | None = None) -> bool:
    """Whether all that reads a record is a gate, or goes into one: the squeeze of squeeze and excitation.

    A row of a table that is only multiplied with another signal (a factorised matrix) has no size of its own
    either: that of the product is what counts.

    Args:
        record: The record.
        records: All of them.
        seen: Those that are asked already: around a loop.

    Returns:
        Whether.
    """
    seen = set() if seen is None else seen
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
    return all(only_gates(records[r], records, seen) for r in readers)


def _is_gate(activation: Record) -> bool:
    """Whether an activation's output is multiplied with another signal, and goes into no product.

    Where it goes elsewhere too, as `1 - z` of a GRU does, only one that is bounded: what a gate scales may be
    an activation as well, and have its mean taken.

    Returns:
        Whether.
    """
    bounded = activation.operator.lower() in _BOUNDED
    return "gate" in activation.readers and activation.readers <= {"gate", *(("other",) * bounded)}


def normalisers(
    record: Record, records: Sequence[Record], seen: set[int] | None = None
) -> set[str]:
    """What reads a record, through sums, biases and scales.

    Args:
        record: The record.
        records: All of them.
        seen: Those that are asked already: around a loop.

    Returns:
        Of "norm", "batch norm" and "other" what is there.
    """
    seen = set() if seen is None else seen
    if record.index in seen:
        return set()  # around a loop: the other readers decide
    seen.add(record.index)
    found: set[str] = set()
    for reader in record.readers:
        if isinstance(reader, int) and records[reader].kind in ("sum", "shift", "scale"):
            found |= normalisers(records[reader], records, seen) or {"other"}
        elif isinstance(reader, int):
            found |= _behind(records[reader], records) or {"other"}
        else:
            found.add(reader if reader in ("norm", "batch norm") else "other")
    return found


def no_effect(record: Record, records: Sequence[Record]) -> bool:
    """Whether a factor on a record's output changes nothing behind it.

    It has to reach norms alone, and nothing may be added on the way: a norm of a sum divides by the size of
    the sum, and there the size of one against the other counts.

    Args:
        record: The record.
        records: All of them.

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
        r > record.index and no_effect(records[r], records) for r in through
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
