"""What counts as a finding about scale: one per cause, never one per row (Theory S1, S2, S4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.finding import Finding
from assay.scale.backward import ancestors
from assay.scale.broken import no_gradient, non_finite, without_gradient
from assay.scale.dead import dead_units
from assay.scale.divisors import epsilon, kept_before, no_effect
from assay.scale.held import Held
from assay.scale.levels import forward_variance, is_raw
from assay.scale.means import forward_mean
from assay.scale.nonfinite import Origin
from assay.scale.once import once, waiting
from assay.scale.rows import Row
from assay.scale.stuck import stuck, symmetric
from assay.scale.vanishing import backward_variance, over_calls
from assay.scale.zeros import zeros

_FREE = Held()


def find(
    rows: Sequence[Row],
    origin: Origin | None,
    cut_off: int = 0,
    left_out: Sequence[str] = (),
    still: Held = _FREE,
    first: str = "",
) -> tuple[Finding, ...]:
    """All findings about these rows.

    Args:
        rows: What was measured.
        origin: Where values stopped being finite, if they did.
        cut_off: Number of trainable parameters, where the objective depends on none of them.
        left_out: Names of trainable parameters that got no gradient, where others got one.
        still: Trainable parameters whose gradient is exactly zero and stays so.
        first: What findings of sizes wait for: "scale.unregistered" where what parameters outside the model
            make has no rows; "scale.dropout".

    Returns:
        The findings, unranked.
    """
    before = ancestors(rows)
    broken = [row for row in rows if not row.finite]
    if origin or broken:  # numbers from there on are about NaN
        dark = [row.index for row in broken if not math.isfinite(row.second_moment)]
        sound = [row for row in rows if row.index < min(dark, default=0)]
        grown = [
            f
            for f, _ in forward_variance(sound, before, {})
            if f.fails and float(f.measured.value) > 1
        ]
        return (non_finite(broken, origin, grown[0].repair if grown else ""), *grown)
    alike, kept = tuple(symmetric(rows)), kept_before(rows, before)
    forward = tuple(forward_variance(rows, before, kept))
    raw = any(
        row.raw_square is not None and is_raw(repair) for row in rows for _, repair in forward
    )
    # equal units: gradients cancel or add up
    back = () if alike else backward_variance(rows, before, whole=first != "scale.unregistered")
    sizes = (
        *over_calls(rows),
        *forward,
        # of raw columns beside others, all gradients of the others are told by what the columns make
        *waiting(back, "scale.forward-variance" if raw else ""),
        *forward_mean(rows, before, kept),
    )
    return (
        *no_gradient(cut_off),
        *without_gradient(rows, left_out),
        *once((*alike, *waiting(sizes, first))),
        *(stuck(rows, still, before) if still.draw else zeros(rows, before)),
        *dead_units(rows, before, kept),
        *epsilon(rows, kept),
        *no_effect(rows),
    )
