"""Signals whose variance or mean is off on the way forward (Theory S1, S2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from assay.finding import Finding, Number, Severity
from assay.scale.backward import Ancestors
from assay.scale.band import ENOUGH, WARNING, distance, outside, severity
from assay.scale.divisors import Kept
from assay.scale.repairs import (
    BUDGET,
    STANDARDISE,
    closed_gate,
    open_gate,
    price,
    repair_all,
    repair_one,
    spread,
    unfixed,
)
from assay.scale.rows import Row, products
from assay.scale.widths import constants, has_width, width_of

_MEAN_NOTE, _MEAN_WARNING = 1.0, 3.0  # |mean| of a unit in its standard deviations
_ALL: Kept = {}
_PERIODIC = {"sin", "sine"}  # activations that do not saturate


def forward_variance(
    rows: Sequence[Row], before: Ancestors, kept: Kept = _ALL
) -> Iterator[Finding]:
    """Growth and shrinkage away from variance 1.

    Args:
        rows: What was measured.
        before: Which rows each row depends on.
        kept: What norms that divide by their ε leave of the signal: theirs is another finding.

    Yields:
        At most one finding each.
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
        source, cause = off[0].input_second_moment, ""
        raw = bool(off[0].reads_input and source and outside(source) and (source > 1) is grows)
        if raw:
            cause = f" The model's input itself has mean square {source:.3g}: standardise it."
        fixed = sum(row.fixed for row in off)
        if fixed and not raw:
            cause = (
                f" Behind {fixed} of these {'stands a batch norm' if fixed == 1 else 'stand batch norms'} in "
                "evaluation mode: fixed numbers, which normalise nothing."
            )
        gate = None if grows or raw else closed_gate(worst, rows, before)
        if gate is not None:
            cause = f" {gate.name} lets {math.sqrt(gate.second_moment):.3g} of it through: it starts closed."
        yield Finding(
            rule="scale.forward-variance",
            message=f"The signal's variance {'grows' if grows else 'shrinks'} to {worst.level:.3g} at "
            f"{worst.name}; outside [0.1, 10]: {len(off)} of {len(chain)} that set the scale"
            f"{_rate(chain, worst)}.{cause}",
            expected=Number(1.0, "1", "formula", "mean over units of their variance"),
            measured=Number(worst.level, "1", "measured", "mean over units of their variance"),
            severity=level,
            repair=_repair(inner or off, chain, rows, before, raw=raw, readout=not inner),
            where=off[0].where,
            module=off[0].module,
            theory="S1, S2",
            weight=abs(math.log10(worst.level)),
        )


def _repair(
    off: Sequence[Row],
    chain: Sequence[Row],
    rows: Sequence[Row],
    before: Ancestors,
    *,
    raw: bool,
    readout: bool,
) -> str:
    if raw:
        return f"{STANDARDISE}; then measure again"
    gate = closed_gate(off[0], rows, before) if off[0].level < 1 else None
    if gate is not None:
        return open_gate(gate, rows)
    if readout:
        more = (
            ""
            if len(off) == 1
            else f"; the same, each with its own fan-in, for {len(off) - 1} more"
        )
        small = "a head that begins small is often meant to; if not, " if off[0].level < 1 else ""
        return f"{small}{repair_one(off[0], rows)}{more}"
    first = unfixed(off)
    if off[0].kind == "lookup" or len(off) == 1:
        return first + repair_one(off[0], rows)
    return first + repair_all(chain, rows, off)


def _rate(chain: Sequence[Row], worst: Row) -> str:
    """The factor per layer, where there are layers to speak of."""
    steps = [row for row in chain if row.index <= worst.index]
    if len(steps) < 3 or steps[0].level <= 0:
        return ""
    return f" (a factor {(worst.level / steps[0].level) ** (1 / (len(steps) - 1)):.3g} per layer)"


def forward_mean(rows: Sequence[Row], kept: Kept = _ALL) -> Iterator[Finding]:
    """Units whose mean dwarfs what varies, because their inputs are not centred.

    Args:
        rows: What was measured.
        kept: What norms that divide by their ε leave of the signal: of what varies, not of biases.

    Yields:
        At most one finding.
    """

    def ratio(row: Row) -> float:
        return (row.input_mean or 0.0) / math.sqrt(row.input_variance or 1.0)

    seen = [
        row
        for row in products(rows)
        if row.input_variance
        and kept.get(row.index, 1.0) > 1 / WARNING
        and row.samples >= ENOUGH
        and ((row.fan_in or 0) >= 8 or row.reads_input)
        # else the variance's own finding says it
        and not (outside(row.level) and outside(row.second_moment))
    ]
    off = [row for row in seen if ratio(row) > _MEAN_NOTE]
    if not off:
        return
    worst = max(off, key=ratio)
    feeder = next(
        (r for r in reversed(rows) if r.index < off[0].index and r.kind == "activation"), None
    )
    text = "subtract each input unit's mean, or put a batch norm in front"
    if off[0].reads_input:
        text = STANDARDISE
    elif feeder is not None and feeder.gain is not None and feeder.gain.input_scale is not None:
        text = spread(feeder, feeder.gain, rows) or text
    told = _chosen(worst, rows)
    yield Finding(
        rule="scale.forward-mean",
        message=f"The units that enter {worst.name} have means of {ratio(worst):.3g} standard deviations: "
        f"examples look alike there; {len(off)} of {len(seen)} products have inputs above 1.{told}",
        expected=Number(0.0, "standard deviations", "formula", "rms over units"),
        measured=Number(ratio(worst), "standard deviations", "measured", "rms over units"),
        severity="warning" if ratio(worst) > _MEAN_WARNING and not told else "note",
        repair=text,
        where=worst.where,
        module=worst.module,
        theory="S2",
        weight=math.log10(ratio(worst)) + 1,
    )


def _chosen(worst: Row, rows: Sequence[Row]) -> str:
    """What centred units of unit variance would cost, where the weights keep the mean square instead.

    Args:
        worst: The product whose input has the largest means.
        rows: What was measured.

    Returns:
        A sentence; "" where the weights are others, or the price is within the budget.
    """
    chain = [r for r in products(rows) if r.index < worst.index and r.fan_in and r.gain is not None]
    if not chain or not all(has_width(row, width_of(row, True)) for row in chain):
        return ""
    first, cost = chain[0], price(chain[0], len(chain))
    if cost <= BUDGET:
        return ""
    return (
        f" It is the price of weights that keep the mean square; unit variance ({constants(first)[0]:.4g}/"
        f"fan-in, centred) would let the gradient's square grow by χ^{len(chain)} = {cost:.3g}."
    )
