"""Operators that a parameter feeds: each has a record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from assay.scale import operators
from assay.scale.ledger import Ledger, floating
from assay.scale.lineage import DATA, Lineage
from assay.scale.operation import Finish, Operation
from assay.scale.rows import Kind

_ARITHMETIC: dict[str, Kind] = {"add": "shift", "sub": "shift", "mul": "scale", "div": "scale"}


def fed(op: Operation, ledger: Ledger) -> Finish:
    """Read an operator with a parameter and data among its operands.

    Args:
        op: The operator.
        ledger: Where its operands come from.

    Returns:
        What to do with the output.
    """
    if op.name in operators.STRUCTURAL:
        ledger.consume(op.lines, "other")
        return partial(ledger.pass_on, replace(op.on, signal=True))
    found = operators.product(op.name, op.args, ledger.is_weight)
    if found is not None:
        return _product(op, found, ledger)
    if op.name == "_prelu_kernel":
        return with_record("activation", op, op.on, (1,), ledger, op.lines)
    return with_record(arithmetic(op.name), op, op.on, None, ledger, op.lines)


def arithmetic(name: str) -> Kind:
    """What an operator does with a parameter that is no factor of a product.

    Args:
        name: Its name.

    Returns:
        "shift", "scale" or "other".
    """
    return _ARITHMETIC.get(name, "other")


def _product(op: Operation, found: operators.Product, ledger: Ledger) -> Finish:
    weight = ledger.of(found.weight)
    names = weight.parameters
    if found.bias is not None:
        names += ledger.of(found.bias).parameters
    source = ledger.of(found.data) if found.data is not None else DATA
    kind: Kind = "product" if found.data is not None else "lookup"
    # measured before the operator runs: it may overwrite its input
    with ledger.pause():
        record = ledger.record(kind, op.name, names, found.axes, ledger.modules.line())
        record.add_input(found)
    record.weight_factor = weight.factor
    if math.isnan(weight.factor):
        record.weight = found.weight
    record.trained |= ledger.is_trained(weight)
    record.add_reads(op.on)
    record.reads_input = source.given
    record.raw_square = source.beside
    record.averaged = max(record.averaged, source.averaged)
    ledger.consume([line for line in op.lines if line is not source], "other")
    ledger.consume([source], record.index)
    return partial(ledger.close, record, op.on)


def with_record(
    kind: Kind,
    op: Operation,
    on: Lineage,
    axes: tuple[int, ...] | None,
    ledger: Ledger,
    lines: Sequence[Lineage] = (),
) -> Finish:
    """Give a record to an operator that a parameter feeds without being a factor of a product.

    Args:
        kind: What it does with the parameter.
        op: The operator.
        on: What its output depends on.
        axes: The dimensions of the output that number units; None for those of the parameter.
        ledger: Where its operands come from.
        lines: The operands whose reader it is.

    Returns:
        What to do with the output.
    """
    where = ledger.modules.line()

    def finish(out: Any) -> None:
        first = floating(out)
        if first is None:
            ledger.give_up(op.name, on, out)
            return
        chosen = axes or operators.parameter_axes([w for w, _ in op.weights], first)
        record = ledger.record(kind, op.name, op.parameters, chosen, where)
        record.add_reads(on)
        if kind == "scale" and record.weight_square is None:
            record.weight_square = _square(op, ledger)
        ledger.consume(lines, record.index)
        ledger.close(record, on, out)

    return finish


def _square(op: Operation, ledger: Ledger) -> float | None:
    """The mean square of what a signal is multiplied with.

    Returns:
        The mean square of the parameter; None where it divides, or is zero.
    """
    if op.name != "mul" or len(op.weights) != 1:
        return None
    with ledger.pause():
        return operators.mean_square(op.weights[0][0]) or None
