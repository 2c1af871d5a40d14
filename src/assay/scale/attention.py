"""Which records go into the scores of attention, and which are weighted with a softmax of these."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from assay.scale import operators
from assay.scale.ledger import Ledger
from assay.scale.lineage import Lineage
from assay.scale.operation import Finish, Operation
from assay.scale.saturated import Attention, Scores


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
        if op.scores is not None and op.args[1] in (-1, op.given[0].dim() - 1):
            ledger.attend(Attention(op.scores, ledger.modules.path, ledger.modules.line()))
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


def multiplied(op: Operation, line: Lineage, ledger: Ledger) -> Finish:
    """Read a product of two signals, which may be scores of attention: by the variance over the keys.

    Args:
        op: The operator.
        line: What comes of it.
        ledger: Where its operands come from.

    Returns:
        What to do with the output.
    """
    left, right = op.args[-2:] if op.name == "baddbmm" else op.args[:2]
    if not (isinstance(left, Tensor) and left.is_floating_point() and right.dim() > 1):
        return partial(ledger.pass_on, line)
    with ledger.pause():
        squares = operators.mean_square(left) * operators.mean_square(right)
    return partial(_scored, op, line, ledger, squares)


def _scored(op: Operation, line: Lineage, ledger: Ledger, squares: float, out: Any) -> None:
    left, right = op.args[-2:] if op.name == "baddbmm" else op.args[:2]
    with ledger.pause():
        alone = left @ right if op.name == "baddbmm" else out
        variance = (
            float(alone.detach().float().var(-1, correction=0).mean()) if out.numel() else 0.0
        )
    if math.isfinite(variance):
        factor = float(op.kwargs.get("alpha", 1))
        scores = Scores(variance, out.shape[-1], left.shape[-1], squares, line.pair, factor)
        line = replace(line, scores=scores)
    ledger.pass_on(line, out)
