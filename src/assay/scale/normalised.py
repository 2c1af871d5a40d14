"""What norms make of signals: those of torch, those of a module, and those that are written by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from assay.scale import operators
from assay.scale.fed import arithmetic, with_record
from assay.scale.ledger import Ledger, floating
from assay.scale.lineage import Lineage
from assay.scale.norms import divisor
from assay.scale.operation import Finish, Operation


def normalised(op: Operation, ledger: Ledger) -> Finish:
    """Read a norm, or a step of a module that is one.

    Args:
        op: The operator.
        ledger: Where its operands come from.

    Returns:
        What to do with the output.
    """
    whole, module = operators.is_normaliser(op.name), ledger.modules.innermost
    # statistics that were taken of the signal by hand
    given = any(line.signal for line in op.lines[1:])
    if whole and not given and operators.has_fixed_statistics(op.func, op.name, op.args):
        return partial(mapped, op.lines[0], op.name, op.parameters, ledger)
    by_unit = "batch_norm" in op.name or "BatchNorm" in type(module).__name__
    ledger.consume(op.lines, "batch norm" if by_unit else "norm")
    on = replace(op.on, sizes=0, given=False, raw=False)
    rest: Finish = partial(ledger.pass_on, on)
    if op.weights and whole:
        channels = "batch_norm" in op.name or "group_norm" in op.name
        rest = with_record("norm", op, on, (1,) if channels else (-1,), ledger)
    elif op.weights:
        rest = with_record(arithmetic(op.name), op, on, None, ledger)
    return partial(_note_divisor, op, ledger, rest)


def mapped(line: Lineage, name: str, parameters: tuple[str, ...], ledger: Ledger, out: Any) -> None:
    """Record a norm with fixed statistics: it multiplies each channel by a number and adds one.

    What comes of a product is the product's still: that is what the next operator reads of it.

    Args:
        line: Where its input comes from.
        name: Its name.
        parameters: The names of its parameters.
        ledger: What is known so far.
        out: Its output.
    """
    record = ledger.record("scale", name, parameters, (1,), ledger.modules.line(), line.origin)
    record.add_reads(line)
    on = replace(line, given=False, averaged=1.0, parts=())
    before = ledger.records[line.origin] if line.origin is not None else None
    ledger.close(record, on, out)
    if before is None or before.fan_in is None or line.mapped:
        # side by side, each may be divided by its own size: these are not judged
        ledger.consume([line], "batch norm" if line.parts else record.index)
        return
    before.behind.add(record.index)
    closed = ledger.of(floating(out))
    on = replace(on, factor=1.0, mapped=True, rows=closed.rows, sizes=closed.sizes)
    ledger.pass_on(on, out)


def _note_divisor(op: Operation, ledger: Ledger, rest: Finish, out: Any) -> None:
    """Note by what a norm divides the output of a record, and then what comes of it."""
    line = op.lines[0] if op.lines else None
    for part in line.parts if line is not None else ():  # of which nothing is known
        ledger.records[part].divisors.append(None)
    rest(out)
    first = floating(out)
    if line is None or first is None or (line.origin is None and not line.given):
        return
    # of an input there is no record: then it stands at the norm
    origin = line.origin if line.origin is not None else ledger.of(first).origin
    if origin is not None:
        with ledger.pause():
            found = divisor(op.func, op.name, op.args, ledger.modules.innermost, out)
        ledger.records[origin].divisors.append(found)


def by_hand(op: Operation, ledger: Ledger) -> Lineage | None:
    """A step of a norm written by hand, as in `x / x.norm()` or `x * rsqrt(x.pow(2).mean() + ε)`.

    Args:
        op: The operator.
        ledger: Where its operands come from.

    Returns:
        What comes of it; None where it is no such step.
    """
    if not op.lines:
        return None
    name, first, line = op.name, op.lines[0], replace(op.on, signal=True)
    both = len(op.signals) == 2
    if name in ("mul", "div") and len(op.lines) == 2 and both:
        for x, size in ((0, 1), (1, 0))[: 2 if name == "mul" else 1]:
            origin = op.lines[x].origin
            if origin is not None and origin == op.lines[size].size:
                ledger.consume([op.lines[x]], "norm")
                return replace(line, sizes=0, raw=False)
    if first.origin is not None:
        power = name == "pow" and not isinstance(op.args[1], Tensor) and op.args[1] == 2
        if power or (name == "mul" and both and op.given[0] is op.given[1]):
            return replace(line, squares=first.origin)
        if name in operators.SIZES:
            return replace(line, size=first.origin)
    if first.squares is not None and name in ("mean", "sum"):
        return replace(line, size=first.squares)
    if first.size is not None and len(op.signals) == 1 and name in operators.SIZE_STEPS:
        return first
    return None
