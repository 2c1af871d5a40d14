"""What each operator makes of its operands; those of them that set the scale of a signal get a record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from assay.scale import operators
from assay.scale.activations import Function
from assay.scale.attention import mark_attention, multiplied
from assay.scale.fed import fed
from assay.scale.ledger import Ledger
from assay.scale.lineage import DATA, Lineage
from assay.scale.modules import is_norm
from assay.scale.normalised import by_hand, normalised
from assay.scale.operation import Finish, Operation
from assay.scale.sums import summed


def read(op: Operation, ledger: Ledger, *, inside_activation: bool) -> Finish:
    """Look at the operands, before an operator that works in place overwrites them.

    Args:
        op: The operator that is about to run.
        ledger: What is known so far.
        inside_activation: It is a part of an activation that counts as a whole.

    Returns:
        What to do with the output.
    """
    if operators.takes_shape_only(op.name):
        return partial(ledger.pass_on, DATA)
    if op.is_constant:
        names = op.parameters
        factor = op.factor(ledger.of) if names else 1.0
        return partial(ledger.pass_on, Lineage(parameters=names, constant=not names, factor=factor))
    if operators.keeps_numbers(op.func, op.name) and op.lines:
        return partial(ledger.pass_on, op.lines[0])
    if inside_activation:
        return partial(ledger.pass_on, op.on)
    if operators.is_normaliser(op.name) or is_norm(ledger.modules.innermost):
        return normalised(op, ledger)
    if op.weights:
        return fed(op, ledger)
    if op.name in operators.ACTIVATIONS and op.lines[0].rows:
        function = partial(_apply, op.func, op.args[1:], op.kwargs)
        with ledger.pause():  # before it may be overwritten
            square = operators.mean_square(op.given[0])
        return partial(activated, ledger, op.name, function, op.lines[0], square)
    return _read_signals(op, ledger)


def _read_signals(op: Operation, ledger: Ledger) -> Finish:
    """Read an operator without a parameter."""
    name, lines, signals = op.name, op.lines, op.signals
    parts = op.parts
    if parts:
        return _averaged(op, replace(op.on, parts=parts), ledger)
    sized = by_hand(op, ledger)
    if sized is not None:
        return partial(ledger.pass_on, sized)
    if len(signals) == 1 and (name == "mul" or (name == "div" and lines[0].signal)):
        factor = op.factor(ledger.of)  # by a number or a mask
        factor = factor if math.isfinite(factor) else signals[0].factor
        return partial(ledger.pass_on, _times(signals[0], factor))
    pair = mark_attention(op, ledger)
    if name in ("add", "sub") and len(signals) == 2 and op.on.rows:
        finish = summed(op, ledger)
        if finish is not None:
            return finish
    softmax = name in operators.SOFTMAX
    product = name == "mul" or name in operators.MATRIX_PRODUCTS
    if product and len(signals) == 2 and all(x.rows and not x.weights for x in signals):
        looked_up = [x for x in lines if _is_looked_up(x, ledger)]
        ledger.consume(looked_up, "pair", with_factor=False)
        lines = [x for x in lines if x not in looked_up]
    # a factor on one of two signals in a product, or on logits, is a matter of both, or of the softmax
    alone = len(signals) < 2 and not softmax
    ledger.consume(lines, "gate" if name == "mul" else "other", with_factor=alone)
    if softmax:
        ledger.softmax_at = ledger.modules.line()
    line = replace(op.on, pair=pair, scores=None if softmax else op.scores, weights=softmax)
    if (
        name in operators.MATRIX_PRODUCTS
        and len(signals) == 2
        and not any(x.weights for x in signals)
    ):
        return multiplied(op, line, ledger)
    return _averaged(op, line, ledger)


def _times(line: Lineage, factor: float) -> Lineage:
    """A signal whose constant factor is another one now."""
    scores = line.scores
    if scores is not None:
        scores = replace(scores, factor=scores.factor * factor / line.factor)
    beside = line.beside
    if beside is not None:
        beside *= (factor / line.factor) ** 2
    return replace(line, factor=factor, scores=scores, beside=beside)


def _averaged(op: Operation, line: Lineage, ledger: Ledger) -> Finish:
    """Pass a lineage on, and of means over how many numbers they are."""
    if op.name in operators.AVERAGES:
        return partial(ledger.average, line, op.lines[0].averaged * op.given[0].numel())
    return partial(ledger.pass_on, line)


def _is_looked_up(line: Lineage, ledger: Ledger) -> bool:
    """Whether it is rows of a table as they are."""
    return line.origin is not None and ledger.records[line.origin].kind == "lookup"


def activated(
    ledger: Ledger,
    name: str,
    function: Function | None,
    source: Lineage,
    square: float,
    out: Any,
) -> None:
    """Record an activation that has run.

    Args:
        ledger: What is known so far.
        name: Its name.
        function: What it computes.
        source: Where its input comes from.
        square: The mean square of its input.
        out: Its output.
    """
    first = out[0] if isinstance(out, tuple | list) else out
    salt = source.origin if source.origin is not None else -ledger.latest(source.rows)
    axes = ledger.axes_of(source, first.dim())
    record = ledger.record("activation", name, (), axes, ledger.modules.line(), salt)
    record.function = function
    record.squares.append(square)
    record.add_reads(source)
    ledger.consume([source], record.index)
    ledger.close(record, source, out)


def _apply(func: Any, rest: Sequence[Any], kwargs: Mapping[str, Any], x: Any) -> Any:
    out = func(x, *rest, **kwargs)
    return out[0] if isinstance(out, tuple | list) else out
