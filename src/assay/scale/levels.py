"""Signals whose variance or mean is off on the way forward (Theory S1, S2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from assay.finding import Finding, Number, Severity
from assay.scale.backward import Ancestors
from assay.scale.band import distance, outside, severity
from assay.scale.closed import closed_gate, open_gate
from assay.scale.divisors import Kept
from assay.scale.networks import beside, longest
from assay.scale.once import Advised
from assay.scale.repairs import STANDARDISE, Repair, repair_all, repair_one, unfixed, weights
from assay.scale.rows import Row, products
from assay.scale.widths import and_more

_PERIODIC = {"sin", "sine"}  # activations that do not saturate


def forward_variance(rows: Sequence[Row], before: Ancestors, kept: Kept) -> Iterator[Advised]:
    """Growth and shrinkage away from variance 1.

    Args:
        rows: What was measured.
        before: Which rows each row depends on.
        kept: What norms that divide by their ε leave of the signal: theirs is another finding.

    Yields:
        At most one finding each, with its repair.
    """
    chain = products(rows)
    for grows in (False, True):
        off = [row for row in chain if outside(row.level) and (row.level > 1) is grows]
        if not grows:
            off = [row for row in off if outside(min(1.0, row.level / kept.get(row.index, 1.0)))]
        if grows:  # in front of a sine the width is a frequency
            off = [row for row in off if row.activation.lower() not in _PERIODIC]
        if not off:
            continue
        inner = [row for row in off if not row.readout]
        worst = max(inner or off, key=lambda row: distance(row.level))
        level: Severity = severity(worst.level) if inner else "note"
        first = inner[0] if inner else worst
        cause = raw = _raw(first, grows)
        fixed = sum(row.fixed for row in off)
        if fixed and not raw:
            cause = (
                f" Behind {fixed} of these {'stands a batch norm' if fixed == 1 else 'stand batch norms'} in "
                "evaluation mode: fixed numbers, which normalise nothing."
            )
        gate = None if grows or raw else closed_gate(worst, rows, before)
        if raw:
            repair = Repair(f"{STANDARDISE}; then measure again")
        elif gate is not None:
            cause = f" {gate.name} lets {math.sqrt(gate.second_moment):.3g} of it through: it starts closed."
            repair = Repair(open_gate(gate, rows))
        else:
            repair = _repair(inner, off, worst, chain, rows)
        begins = "" if first is worst else f", the first {first.name}"
        finding = Finding(
            rule="scale.forward-variance",
            message=f"The signal's variance {'grows' if grows else 'shrinks'} to {worst.level:.3g} at "
            f"{worst.name}; outside [0.1, 10]: {len(off)} of {len(chain)} that set the scale"
            f"{begins}{_rate(chain, worst, before)}.{cause}",
            expected=Number(1.0, "1", "formula", "mean over units of their variance"),
            measured=Number(worst.level, "1", "measured", "mean over units of their variance"),
            severity=level,
            repair=repair.text,
            where=first.where,
            module=first.module,
            theory="S1, S2",
            weight=abs(math.log10(worst.level)),
        )
        yield finding, repair


def is_raw(repair: Repair) -> bool:
    """Whether it is the model's own input that is to be repaired.

    Returns:
        Whether.
    """
    return repair.text.startswith(STANDARDISE)


def _raw(first: Row, grows: bool) -> str:
    """Whether the model's own input is what is off: a sentence; "" where it is not."""
    if (
        grows
        and first.raw_square is not None
        and outside(first.raw_square)
        and first.raw_square > 1
    ):
        return (
            f" The columns of its input that are the model's own, beside others, have mean square "
            f"{first.raw_square:.3g}: standardise them."
        )
    source, varies = first.input_second_moment, first.input_variance
    if not first.reads_input or not source:
        return ""
    if outside(source) and (source > 1) is grows:
        return f" The model's input itself has mean square {source:.3g}: standardise it."
    if varies and not grows and first.apart > 1:
        return (
            f" The model's input itself has variance {varies:.3g} about means of size "
            f"{first.input_mean:.3g}: standardise it."
        )
    return ""


def _repair(
    inner: Sequence[Row], off: Sequence[Row], worst: Row, chain: Sequence[Row], rows: Sequence[Row]
) -> Repair:
    """The widths: of all operators that are off, or, where these are readouts, of these."""
    if not inner:
        heads = [worst, *(row for row in off if row is not worst)]
        small = "a head that begins small is often meant to; if not, " if worst.level < 1 else ""
        return Repair(f"{small}{repair_one(worst, rows).text}{and_more(heads)}", weights(heads))
    first = unfixed(inner)
    if inner[0].kind == "lookup" or len(inner) == 1:
        return repair_one(inner[0], rows).after(first)
    return repair_all(beside(inner, chain, rows), rows, inner).after(first)


def _rate(chain: Sequence[Row], worst: Row, before: Ancestors) -> str:
    """The factor per layer on the way to an operator, where there are layers to speak of."""
    inside = before[worst.index] | {worst.index}
    steps = [row for row in chain if row.index in inside]
    depth = longest(steps, before) - 1
    if worst.readout or depth < 2 or steps[0].level <= 0:
        return ""
    return f" (a factor {(worst.level / steps[0].level) ** (1 / depth):.3g} per layer)"
