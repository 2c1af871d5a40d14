"""What was left out of a search, and has a law all the same: one of the terms that were found."""

from __future__ import annotations

from dataclasses import replace

from assay.cost.fit import Box
from assay.cost.groups import EVERYTHING, Group, Wanted, group_of
from assay.cost.interpolate import Interpolant, Point
from assay.cost.law import Law, Laws
from assay.cost.piece import Range
from assay.cost.refusal import broken
from assay.cost.samples import STEPS, Samples, off
from assay.cost.tally import Key


def regained(boxes: list[Box], samples: Samples) -> tuple[list[Box], dict[Group, str]]:
    """Give boxes the counts that were left out, wherever the same terms explain them at every run.

    These runs are what a law is held against: beside the nodes, far away, at turns. So this claims as much as
    a search for all counts would.

    Args:
        boxes: What was found for the counts that were wanted.
        samples: The counts.

    Returns:
        The boxes with all counts that have laws, and why the others have none.
    """
    if samples.wanted.all:
        return boxes, {}
    with samples.wanting(EVERYTHING):
        wholes = [box.found.replayed(samples.counts) for box in boxes]
        breaks: dict[Group, tuple[Point, int]] = {}
        for number, (box, whole) in enumerate(zip(boxes, wholes, strict=True)):
            for point, _ in samples.within(box.spans):
                for key in off(whole.at(point), samples.counts(point)):
                    first = point, number
                    group = group_of(key)
                    breaks[group] = min(breaks.get(group, first), first, key=_size)
    lawless = {
        group: _why(group, point, boxes[number], wholes[number], samples)
        for group, (point, number) in sorted(breaks.items())
    }
    kept = {key for whole in wholes for key in whole.keys if key.quantity != STEPS}
    kept = {key for key in kept if group_of(key) not in lawless}
    for whole, box in zip(wholes, boxes, strict=True):
        whole.foretell = box.found.foretell
    full = [replace(box, found=whole.only(kept)) for box, whole in zip(boxes, wholes, strict=True)]
    return full, lawless


def _size(broken_at: tuple[Point, int]) -> tuple[int, Point]:
    point, _ = broken_at
    return sum(point), point


def _why(group: Group, point: Point, box: Box, whole: Interpolant[Key], samples: Samples) -> str:
    """Why a group has no law, as far as a point shows that it does not explain."""
    spans = [*box.spans.values(), *(Range(2, depth) for depth in box.depths)]
    laws = Laws(tuple(map(Law, spans)), len(box.spans))
    own = whole.only({key for key in whole.keys if group_of(key) == group})
    with samples.wanting(Wanted(alone=group)):
        found = broken(point, own, laws, samples)
    return f"no law was found that explains its counts at {samples.say(point)}{found}"
