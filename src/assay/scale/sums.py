"""The sum of two signals, as in a residual stream: the larger one sets its scale."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn

from assay.scale import operators
from assay.scale.ledger import Ledger
from assay.scale.lineage import Lineage
from assay.scale.operation import Finish, Operation

_LARGE = 1e30  # a mean square above: a mask of attention, not a signal


def summed(op: Operation, ledger: Ledger) -> Finish | None:
    """Read a sum of two signals.

    Args:
        op: The operator.
        ledger: Where its operands come from.

    Returns:
        What to do with the output; None where it is no such sum.
    """
    if not all(x.is_floating_point() for x in op.given[:2]):
        return None
    a, b = op.lines[:2]
    with ledger.pause():
        sizes = [operators.mean_square(x) for x in op.given[:2]]
    if not all(size < _LARGE for size in sizes):
        return None
    main, smaller = (a, b) if sizes[0] >= sizes[1] else (b, a)
    for record in ledger.marked(smaller.rows & ~main.rows):
        record.beside_larger = True
    # gates: a sum of two products, not a stream
    if isinstance(ledger.modules.innermost, nn.RNNBase | nn.RNNCellBase):
        ledger.consume(op.lines, "other")
        return partial(ledger.pass_on, replace(op.on, signal=True))
    axes, salt = ledger.axes_of(main, op.given[0].dim()), ledger.latest(a.rows | b.rows)
    record = ledger.record("sum", op.name, (), axes, ledger.modules.line(), salt)
    record.add_reads(replace(op.on, last=main.last))
    skips = (_skip(a, b), _skip(b, a))
    record.skip = next((index for index in skips if index is not None), None)
    ledger.consume(op.lines, record.index)
    return partial(ledger.close, record, op.on, pair=a.pair | b.pair, scores=op.scores)


def _skip(x: Lineage, other: Lineage) -> int | None:
    """The record that one summand is the output of, where the other one is made of it."""
    inside = x.rows != other.rows and not x.rows & ~other.rows
    return x.origin if inside else None
