"""Units whose mean dwarfs what varies: examples look alike there (Theory S2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from assay.finding import Finding, Number
from assay.scale.backward import Ancestors, ancestors
from assay.scale.band import ENOUGH, NOTE, WARNING, outside
from assay.scale.divisors import Kept
from assay.scale.gain import Gain
from assay.scale.networks import longest
from assay.scale.once import Advised
from assay.scale.repairs import BUDGET, STANDARDISE, Repair, nearest, price
from assay.scale.rows import Row, products
from assay.scale.widths import centre, constants, has_width, normal, width_of

_MEAN_NOTE, _MEAN_WARNING = 1.0, 3.0  # |mean| of a unit in its standard deviations
_NEAR = 1.25  # times: a mean is what the activation's theory says


def forward_mean(rows: Sequence[Row], before: Ancestors, kept: Kept) -> Iterator[Advised]:
    """Units whose mean dwarfs what varies, because their inputs are not centred.

    Args:
        rows: What was measured.
        before: Which rows each row depends on.
        kept: What norms that divide by their ε leave of the signal: of what varies, not of biases.

    Yields:
        At most one finding, with its repair.
    """
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
    off = [row for row in seen if row.apart > _MEAN_NOTE]
    if not off:
        return
    worst, first = max(off, key=lambda row: row.apart), off[0]
    told = _chosen(worst, rows, before)
    averages = f" of what they average over {worst.averaged:.4g}" * (worst.averaged > 1)
    begins = "" if first is worst else f", the first {first.name}"
    raw = first.reads_input or (first.raw_square is not None and first.raw_square > NOTE)
    repair = Repair(STANDARDISE) if raw else _centred(first, rows, before)
    finding = Finding(
        rule="scale.forward-mean",
        message=f"The units that enter {worst.name} have means of {worst.apart:.3g} standard deviations"
        f"{averages}: examples look alike there; {len(off)} of {len(seen)} products have inputs above 1"
        f"{begins}.{told}",
        expected=Number(0.0, "standard deviations", "formula", "rms over units"),
        measured=Number(worst.apart, "standard deviations", "measured", "rms over units"),
        severity="warning" if worst.apart > _MEAN_WARNING and not told else "note",
        repair=repair.text,
        where=worst.where,
        module=worst.module,
        theory="S2",
        weight=math.log10(worst.apart) + 1,
    )
    yield finding, repair


def _centred(row: Row, rows: Sequence[Row], before: Ancestors) -> Repair:
    """What centres the units that enter a product."""
    behind = [r for r in rows if r.index in before[row.index] and r.kind == "activation"]
    gain = behind[-1].gain if behind else None
    spread = Repair("")
    if gain is not None and gain.input_scale is not None:
        spread = _spread(behind[-1], gain, rows, before)
    if spread.text:
        return spread
    return Repair(f"subtract each input unit's mean, or put a batch norm in front of {row.name}")


def _chosen(worst: Row, rows: Sequence[Row], before: Ancestors) -> str:
    """What centred units of unit variance would cost, where the weights keep the mean square instead.

    Args:
        worst: The product whose input has the largest means.
        rows: What was measured.
        before: Which rows each row depends on.

    Returns:
        A sentence; "" where the weights are others, or the price is within the budget.
    """
    inside = before[worst.index] - {worst.index}
    chain = [r for r in products(rows) if r.index in inside and r.fan_in and r.gain is not None]
    if not chain or not all(has_width(row, width_of(row, True)) for row in chain):
        return ""
    depth = longest(chain, before)
    first, cost = chain[0], price(chain[0], depth)
    if cost <= BUDGET:
        return ""
    return (
        f" It is the price of weights that keep the mean square; unit variance ({constants(first)[0]:.4g}/"
        f"fan-in, centred) would let the gradient's square grow by χ^{depth} = {cost:.3g}."
    )


def _spread(activation: Row, gain: Gain, rows: Sequence[Row], before: Ancestors) -> Repair:
    """How wide the weights in front of an activation should be, for units with unit variance behind it.

    Args:
        activation: The row of the activation.
        gain: Its gain, with an input scale.
        rows: All rows: which weights these are.
        before: Which rows each of these depends on.

    Returns:
        What to do; "" where the weights have that width and what comes out is centred by nothing else, and
        where a norm stands between, which takes the mean of what the weights make and their width.
    """
    width, name = (gain.input_scale or 1.0) ** 2, activation.operator
    in_front = nearest(activation, rows, ancestors(rows, sized=True))
    if in_front != nearest(activation, rows, before):
        return Repair("")
    found = [r for r in rows if r.index in in_front and r.fan_in and not r.frozen]
    wide = [r for r in found if not has_width(r, width)]
    rest = centre(gain, name)
    if found and not wide:
        mean, shift = activation.mean, gain.input_shift or 0.0
        near = 1 / _NEAR < mean / (shift or math.inf) < _NEAR
        return Repair(rest.removeprefix("; ") if near else "")
    text = f"draw the weights in front of {name} with Var W = {width:.4g}/fan_in"
    if wide and wide[0].divided:  # of these a factor counts, and no new draw
        text = f"{normal(wide[0], f'{width:.4g}/{wide[0].fan_in}')}, in front of {name}"
    return Repair(text + rest, frozenset(r.parameters[0] for r in wide))
