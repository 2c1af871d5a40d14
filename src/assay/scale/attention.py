"""Which records go into the scores of attention, and which are weighted with a softmax of these."""

from __future__ import annotations

from assay.scale import operators
from assay.scale.ledger import Ledger
from assay.scale.operation import Operation


def mark_attention(op: Operation, ledger: Ledger) -> int:
    """Mark queries, keys and values, where an operator is a step of attention or all of it.

    Args:
        op: The operator.
        ledger: Where its operands come from.

    Returns:
        Bits: the two factors, where it is a product of two signals; a softmax of it makes these scores.
    """
    if op.name in operators.SOFTMAX:
        _mark_scores(op.pair, ledger)
    elif operators.is_attention(op.name):
        query, key, value = map(ledger.latest_bit, op.lines[:3])
        _mark_scores(query | key, ledger)
        _mark_values(value, ledger)
    elif op.name in operators.MATRIX_PRODUCTS and len(op.signals) == 2:
        a, b = op.signals
        if a.weights:
            _mark_values(ledger.latest_bit(b), ledger)
        if b.weights:
            _mark_values(ledger.latest_bit(a), ledger)
        return ledger.latest_bit(a) | ledger.latest_bit(b)
    return op.pair


def _mark_scores(rows: int, ledger: Ledger) -> None:
    for record in ledger.marked(rows):
        record.scores = True


def _mark_values(rows: int, ledger: Ledger) -> None:
    for record in ledger.marked(rows):
        record.values = True
