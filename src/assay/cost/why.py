"""What is different where a law does not hold: a comparison that turned, or operators that are others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from types import CodeType

from assay.cost.interpolate import Interpolant, Point
from assay.cost.law import Laws
from assay.cost.notes import LAST, LEAST, MOST, ONE_SIDED, Comparison, kind
from assay.cost.samples import STEPS, Samples, equal
from assay.cost.tally import FORWARD, Key, Tally
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
    return _others(point, found, samples) or (
        "as many operators run there as smaller sizes foretell, on other shapes: as where something is "
        "rounded, or the least of two sizes counts"
    )


def _others(point: Point, found: Interpolant[Key], samples: Samples) -> str:
    """Which operators run there and at no node of a law, or not as often; "" where that is foretold."""
    ran = {node: _calls(samples.tally(node)) for node in found.points}
    here, everywhere = _calls(samples.tally(point)), set().union(*ran.values())
    for phase, operator in here:
        if (phase, operator) not in everywhere:
            return f"`{operator}` runs there{_going(phase)}, and nowhere at the smaller sizes of that law"
    for phase, operator in sorted(everywhere):
        if (phase, operator) not in here and all(
            (phase, operator) in calls for calls in ran.values()
        ):
            return f"`{operator}` does not run there{_going(phase)}, as it does at smaller sizes"
    foretold = found.one(Key(STEPS, FORWARD), point) if not found.foretell else None
    if foretold == samples.tally(point).steps:
        return ""
    near = min(
        ran, key=lambda node: (sum(abs(x - y) for x, y in zip(node, point, strict=True)), node)
    )
    unlike = [which for which in {**here, **ran[near]} if here[which] != ran[near][which]]
    if not unlike:
        return (
            f"the same operators run there as at {samples.say(near)}, on other shapes: as where something "
            "is rounded, or the least of two sizes counts"
        )
    phase, operator = max(unlike, key=lambda which: abs(here[which] - ran[near][which]))
    return (
        f"`{operator}` runs {_times_said(here[phase, operator])} there{_going(phase)}, and "
        f"{_times_said(ran[near][phase, operator])} at {samples.say(near)}"
    )


def _calls(tally: Tally) -> Counter[tuple[str, str]]:
    """How often each operator ran, by phase and name."""
    calls: Counter[tuple[str, str]] = Counter()
    for part, amount in tally.parts.items():
        calls[part.phase, part.operator] += amount.calls
    return calls


def _going(phase: str) -> str:
    return "" if phase == FORWARD else " in the backward pass"


def _times_said(count: int) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(count, f"{count} times")


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
