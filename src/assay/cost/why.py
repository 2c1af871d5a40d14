"""What is different where a law does not hold: a comparison that turned, or operators that are others."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from types import CodeType

from assay.cost.interpolate import Interpolant, Point
from assay.cost.law import Laws
from assay.cost.notes import LAST, LEAST, MOST, ONE_SIDED, Comparison, kind
from assay.cost.samples import Samples, equal, steps_at
from assay.cost.tally import Key, Tally
from assay.where import Location, is_plumbing

_NAMED = 2  # comparisons, so many at most


def why(point: Point, found: Interpolant[Key], laws: Laws, samples: Samples) -> str:
    """Why a law is likely not to hold at a point.

    Args:
        point: Where it does not hold.
        found: The law.
        laws: What it is made of.
        samples: The counts.

    Returns:
        Half a sentence, as in "the comparison at net.py:12 turns out otherwise there".
    """
    tally, usual = samples.tally(point), samples.tally(laws.low)
    here, before = _signs(tally), _signs(usual)
    turned = {c for c, sign in here.items() if before.get(c, sign) != sign}
    nodes = [{node[i] for node in found.points} - {x} for i, x in enumerate(laws.low)]
    for at, other in samples.known:
        # a law goes through its nodes whatever turns there
        if turned and laws.hold(at) and not any(x in own for x, own in zip(at, nodes, strict=True)):
            signs = _signs(other)
            same = {c for c in turned if signs.get(c) == here[c]}
            if same and at != point and equal(found.at(at), samples.counts(at)):
                turned -= same
    places = dict.fromkeys(c[:2] for c in sorted(turned, key=_order))
    named = [
        said for place in places if (said := _say(*place, tally, usual, samples.say(laws.low)))
    ]
    if named:
        return " and ".join(islice(dict.fromkeys(named), _NAMED))
    if steps_at(found, point) != tally.steps:
        return (
            "other operators run there than at smaller sizes, or more of them than those foretell"
        )
    return (
        "as many operators run there as smaller sizes foretell, on other shapes: as where something is "
        "rounded, or the least of two sizes counts"
    )


def _signs(tally: Tally) -> dict[Comparison, int]:
    """Which of its two sides is larger, of each comparison that was made."""
    return {
        comparison: (difference > 0) - (difference < 0)
        for comparison, difference in tally.compared.items()
        if kind(comparison) not in (*ONE_SIDED, LAST, LEAST, MOST)
    }


def _order(comparison: Comparison) -> tuple[str, int]:
    code, instruction, _ = comparison
    return code.co_filename, instruction


def _say(code: CodeType, instruction: int, tally: Tally, usual: Tally, low: str) -> str:
    where = _location(code, instruction)
    if where is None:
        return ""
    times, before = (_times(code, instruction, t.compared) for t in (tally, usual))
    if times > before > 0:
        return (
            f"the comparison at {where.short} is made {times} times there, {before} at {low}: a loop, "
            "perhaps one that halves"
        )
    return f"the comparison at {where.short} turns out otherwise there"


def _times(code: CodeType, instruction: int, compared: Mapping[Comparison, float]) -> int:
    return sum(c[:2] == (code, instruction) and isinstance(c[2], int) for c in compared)


def _location(code: CodeType, instruction: int) -> Location | None:
    """The line of a comparison in the user's code."""
    if is_plumbing(code.co_filename) and not code.co_filename.startswith("<"):
        return None
    position = next(islice(code.co_positions(), instruction // 2, None), None)
    line = position[0] if position else None
    return Location(code.co_filename, line or code.co_firstlineno, code.co_name)
