"""Which operator breaks a law, and at which line: what a refusal names."""

from __future__ import annotations

from collections.abc import Collection

from assay.cost.tally import BYTES, CAUSAL, FLOPS, FORWARD, OPERATIONS, SAVED, Key, Part, Tally
from assay.where import location

_ORDER = (FLOPS, OPERATIONS, CAUSAL, BYTES, SAVED)  # what is asked about first


def culprit(off: Collection[Key], tally: Tally, usual: Tally) -> str:
    """The dearest operator of those whose counts a law does not explain.

    Args:
        off: The counts that it does not explain.
        tally: What was counted.
        usual: What was counted where the law holds: it has the operators that are missing here.

    Returns:
        Its name and line, as in "addmm at net.py:12, in encoder.layers"; "" where nothing differs.
    """
    # forward first: what happens in the backward pass follows from it
    ran = {key: place for place, key in enumerate(tally.counts)}
    wrong = sorted(
        (key for key in off if key.quantity in _ORDER),
        key=lambda key: (
            _ORDER.index(key.quantity),
            key.phase != FORWARD,
            ran.get(key, len(ran)),
            key,
        ),
    )
    for key in wrong:
        if key.quantity == SAVED:  # nobody notes which operator a storage is kept for
            return f"what {key.module or 'the model itself'} keeps"
        for run, remark in ((tally, ""), (usual, ", which does not run there")):
            suspects = [part for part in run.parts if _fits(part, key)]
            if suspects:
                dearest = max(suspects, key=lambda part: run.parts[part].moved)
                where = location(dearest.line)
                at = f" at {where.short}" if where else ""
                inside = f", in {key.module}" if key.module else ""
                return f"{dearest.operator}{at}{inside}{remark}"
    return f"operators of {wrong[0].module or 'the model itself'}" if wrong else ""


def _fits(part: Part, key: Key) -> bool:
    same = part.phase == key.phase and part.module == key.module
    return same and (not key.kind or part.kind == key.kind)
