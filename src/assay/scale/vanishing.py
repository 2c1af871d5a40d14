"""Gradients that vanish or explode: back from the ends of a model, over the calls of a loop (Theory S4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from assay.finding import Finding, Number
from assay.scale.backward import Ancestors, Back, backward, energy, kept_of
from assay.scale.band import distance, outside, severity
from assay.scale.behind import is_idle, repair_behind
from assay.scale.closed import closed_gate, open_gate
from assay.scale.multipliers import multipliers
from assay.scale.networks import beside
from assay.scale.once import Advised
from assay.scale.past import all_there, past_skips
from assay.scale.repairs import Repair, keeping_the_square, price, repair_all, unfixed
from assay.scale.rows import Row, products
from assay.scale.skips import Skips, skips
from assay.scale.widths import orthogonal
from assay.view.prose import counted


def backward_variance(
    rows: Sequence[Row], before: Ancestors, *, whole: bool = True
) -> Iterator[Advised]:
    """Gradients against the ends that they come from, for plain and for normalised operators apart.

    Args:
        rows: What was measured.
        before: Which rows each row depends on.
        whole: The rows are all there is: else nobody knows how many operators lie between two of them.

    Yields:
        At most one finding for each of the two groups, with its repair.
    """
    kinds = [
        row
        for row in rows
        if row.kind in ("product", "lookup") and not (row.beside_larger or row.frozen)
    ]
    inside = _in_loops(rows, before)
    # what a norm divides by its ε, and not by its size, is not normalised
    sized = [row for row in kinds if row.normalised and row.varies and kept_of(row) == 1]
    for group in (products(rows), sized):
        # a loop's rows add up over its calls: `over_calls` judges them
        chain = [row for row in group if energy(row) > 0 and not (row.index in inside or row.score)]
        found = backward(chain, rows, before)
        if not found:
            continue
        worst = max(found, key=lambda back: distance(back.unexplained))
        row, end, factor = worst.row, worst.end, worst.factor
        between = range(row.index, end.index)
        if not outside(worst.unexplained) or any(i in between for i in inside):
            continue
        times = ", times what it is of," if row.normalised else ""
        earlier = f", {counted(worst.operators, 'operator with weights', 'operators with weights')} earlier"
        what = f"ratio of gradient energies{' times mean squares' if row.normalised else ''}"
        held = multipliers(worst, rows, before)
        small = f"; {held}" if held.explain(worst) else ""
        past = skips(worst, rows, before) if row.normalised else None
        level = severity(worst.unexplained)
        if small:
            repair = Repair(held.repair)
        elif past is not None and past.complete(factor):
            repair, level = Repair(all_there(past)), "note"
        else:
            repair = _repair(chain, worst, rows, before, past)
        finding = Finding(
            rule="scale.backward-variance",
            message=f"The gradient{times} {'grows' if factor > 1 else 'shrinks'} by {factor:.3g} (in the "
            f"square) from {end.name} back to {row.name}{earlier * whole}"
            f"{_by_means(worst)}{small}.",
            expected=Number(1.0, "1", "formula", what),
            measured=Number(factor, "1", "measured", what),
            severity=level,
            repair=repair.text,
            where=row.where,
            module=row.module,
            theory="S4",
            weight=abs(math.log10(worst.unexplained)),
        )
        yield finding, repair


def _by_means(back: Back) -> str:
    """What else accounts for a part of the factor."""
    known = []
    if back.factor < 1 < back.averages:
        known.append(
            f"means over {back.averages:.4g} values on the way account for {1 / back.averages:.3g} of it"
        )
    if (back.readout < 1) is (back.factor < 1) and back.readout != 1:
        known.append(f"the width of the readout accounts for {back.readout:.3g} of it")
    return "".join(f"; {part}" for part in known)


def _repair(
    chain: Sequence[Row], back: Back, rows: Sequence[Row], before: Ancestors, past: Skips | None
) -> Repair:
    worst, factor, depth = back.row, back.factor, back.depth
    gate = closed_gate(back.end, rows, before) if factor < 1 else None
    if gate is not None:
        return Repair(open_gate(gate, rows))
    if past is not None:
        return Repair(past_skips(back, past))
    own = price(worst, depth)
    if factor > 1 and own > math.sqrt(factor):  # most of it is what unit variance forward costs
        return Repair(
            f"unit variance forward costs χ^{depth} = {own:.3g} with {worst.activation}: add skip "
            f"connections, or take an activation with a smaller χ (`assay.init.gain('elu').chi` = 1.079)"
            f"{keeping_the_square(worst)}"
        )
    first = unfixed([r for r in chain if outside(r.level)])
    # what readouts may begin with is another finding
    inner = [r for r in beside([worst], chain, rows) if not (r.readout and outside(r.level))]
    repair = repair_all(inner, rows)
    if is_idle(repair, back, rows):
        repair = repair_behind(back, chain, rows, before)
    return repair.after(first)


def _loops(row: Row) -> bool:
    return _often(row) and row.recurs


def _often(row: Row) -> bool:
    return row.kind == "product" and row.calls is not None and row.calls.count >= 4


def _in_loops(rows: Sequence[Row], before: Ancestors) -> set[int]:
    """The products of a loop: those of its state, and those that go into it or come of it call by call."""
    state = [row.index for row in rows if _loops(row)]
    return {
        row.index
        for row in rows
        if _often(row)
        and any(i == row.index or i in before[row.index] or row.index in before[i] for i in state)
    }


def over_calls(rows: Sequence[Row]) -> Iterator[Advised]:
    """Loops over time: the first call against the last.

    Args:
        rows: What was measured.

    Yields:
        At most one finding, with its repair.
    """
    worst: tuple[float, Row, str] | None = None
    for row in rows:
        if row.calls is None or not _loops(row) or row.frozen:
            continue
        for direction, pair in (("gradient", row.calls.gradient), ("signal", row.calls.variance)):
            if pair is None or min(pair) <= 0:
                continue
            factor = pair[0] / pair[1] if direction == "gradient" else pair[1] / pair[0]
            if outside(factor) and (worst is None or distance(factor) > distance(worst[0])):
                worst = factor, row, direction
    if worst is None:
        return
    factor, row, direction = worst
    assert row.calls is not None
    way = "back to the first" if direction == "gradient" else "from the first to the last"
    repair = Repair(
        "carry the state past this operator: an ungated skip, or a gate whose bias starts near keeping "
        "(`assay highway` shows which)"
    )
    if factor > 1:
        repair = Repair(
            f"scale what each call adds to the state by 1/{row.calls.count}; where the state is replaced, "
            f"{orthogonal(row)}",
            frozenset(row.parameters[:1]),
        )
    finding = Finding(
        rule="scale.backward-variance" if direction == "gradient" else "scale.forward-variance",
        message=f"Over the {row.calls.count} calls of {row.name}, {way}, the {direction} "
        f"{'grows' if factor > 1 else 'shrinks'} by {factor:.3g} (in the square).",
        expected=Number(1.0, "1", "formula", "ratio of two calls"),
        measured=Number(factor, "1", "measured", "ratio of two calls"),
        severity=severity(factor),
        repair=repair.text,
        where=row.where,
        module=row.module,
        theory="S4",
        weight=distance(factor) / math.log(10),
    )
    yield finding, repair
