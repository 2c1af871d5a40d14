"""The repair of a rate that is too high: the same steps again at lower ones, until they lower the loss."""

from __future__ import annotations

from collections.abc import Callable

from assay.errors import RAISED
from assay.progress import silent
from assay.update.contender import Contender
from assay.update.walk import walk

_APART = 4.0  # a factor between the rates that are tried
_TRIED = 8


def slower(entrant: Callable[[], Contender], warmup: int) -> float | None:
    """The largest lower rate at which the warm-up takes the loss down, and never to twice what it was.

    Steps that are far too long may end lower than they began: all units are dead, and nothing is learned.

    Args:
        entrant: Makes the leader anew, with its own copy of the given weights.
        warmup: Steps of the warm-up.

    Returns:
        What to multiply its rates by, a power of 1/4; None where none down to 4⁻⁸ helps, or it has no rates.
    """
    for power in range(1, _TRIED + 1):
        factor = _APART**-power
        try:
            one = entrant()
            for group in one.optimizer.param_groups:
                group["lr"] = group["lr"] * factor
            found = walk([one], [], warmup, silent)
        except RAISED:  # it diverges at this rate too, or is no torch optimizer
            continue
        if one.name in found.steps and not found.strayed:
            return factor
    return None


def at_a_rate(leader: str, factor: float | None) -> str:
    """The repair in words.

    Args:
        leader: The optimizer.
        factor: What `slower` found.

    Returns:
        As in "Lower the lr of Adam: at 0.0625 of it these steps lower the loss".
    """
    told = "" if factor is None else f": at {factor:.2g} of it these steps lower the loss"
    return f"Lower the lr of {leader}{told}"
