"""What to do about a gradient between norms: which skips to add, to begin at zero, or to leave."""

from __future__ import annotations

import math

from assay.scale.backward import Back
from assay.scale.skips import Skips
from assay.view.prose import counted


def past_skips(back: Back, found: Skips) -> str:
    """What to do where norms divide by all widths: it is a matter of what goes past the operators.

    Args:
        back: An operator, with its end.
        found: The skips between them.

    Returns:
        What to do, or that nothing has to be done.
    """
    most, there = math.sqrt(back.factor), found.would_fit(back.factor)
    if not found.any and there:
        return "add skip connections around the operators between them"
    if back.factor < 1 and found.any:
        return "nothing to draw again: a mean over many positions divides it (the column E g² shows which)"
    if found.sums > most > 1:
        return (
            "the skips between them are outweighed by their branches: start each branch at zero, "
            "`nn.init.zeros_` of the weight of its last norm or last matrix"
        )
    if there:
        return (
            f"add skip connections around the operators between them that have none ({found.fitting} of "
            f"{found.operators}): most of it is there"
        )
    if found.alone > found.fitting and (not found.any or found.sums * found.joined < most):
        return _project(found)
    return (
        f"nothing that fits: it is spread over {counted(found.operators, 'operator', 'operators')}, and most "
        "of these have a skip past them (the column E g² shows each)"
    )


def _project(found: Skips) -> str:
    """What to do about operators that no identity fits around."""
    without = found.alone - found.fitting
    shape = "the width or the resolution"
    if found.operators == 1:
        return (
            f"nothing that has to be done for one operator that changes {shape}; a skip past it needs a "
            "projection, `x = project(x) + block(x)`"
        )
    which = (
        f"the {found.operators}"
        if without == found.operators
        else f"{without} of the {found.operators}"
    )
    return (
        f"put skips with a projection, `x = project(x) + block(x)`, past {which} operators between them that "
        f"have none and change {shape}: most of it is there"
    )


def all_there(found: Skips) -> str:
    """What to do where a skip stands wherever one fits.

    Args:
        found: The skips between an operator and its end.

    Returns:
        That it is nothing.
    """
    without = found.alone + found.projected
    more = "; a skip past what has none needs a projection, `x = project(x) + block(x)`"
    return (
        f"nothing that fits: skips go past what keeps its width and resolution, and the {without} of "
        f"{found.operators} operators that no identity goes past let it grow as norms do (χ each)"
        f"{more * bool(found.alone)}"
    )
