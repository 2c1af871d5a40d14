"""Which operator breaks a law, and at which line: what a refusal names."""

from __future__ import annotations

from collections.abc import Mapping

from assay.cost.tally import BYTES, CAUSAL, FLOPS, FORWARD, OPERATIONS, SAVED, Key, Part, Tally
from assay.where import location

_ORDER = (FLOPS, OPERATIONS, CAUSAL, BYTES, SAVED)  # what is asked about first


def culprit(explained: Mapping[Key, object], tally: Tally, usual: Tally) -> str:
    """The dearest operator of those whose counts a law does not explain.

    Args:
        explained: What the law says.
        tally: What was counted.
        usual: What was counted where the law holds: it has the operators that are missing here.

    Returns:
        Its name and line, as in "addmm at net.py:12, in encoder.layers"; "" where nothing differs.
    """
    wrong = [
        key
        for key in dict.fromkeys((*explained, *tally.counts))
        if key.quantity in _ORDER and explained.get(key, 0) != tally.counts.get(key, 0)
    ]
    # forward first: what happens in the backward pass follows from it
    wrong.sort(key=lambda key: (_ORDER.index(key.quantity), key.phase != FORWARD))
    for key in wrong:
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
