"""Points at which a comparison that a run makes would turn out otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from types import CodeType

from assay.cost.aslant import aslant
from assay.cost.interpolate import Point
from assay.cost.law import Law, Laws
from assay.cost.notes import CURVED, PERIOD, PLAINLY, TRIED, TURNS, Comparison, kind
from assay.cost.samples import Samples, put
from assay.cost.unforetold import halfway, parabola, parabolic

Line = list[tuple[int, dict[Comparison, float]]]  # values of a size, and what was compared there
_LARGEST = 1 << 24  # where a comparison turns beyond, nobody runs it
_MOST = 120  # points in all
_PERIOD = 64  # what a size is divided by is looked at from here on: less is a stride, or heads
_CLOSE = 1e-6  # of a whole number
_COUNTED = 8  # layers that count themselves, and are looked at one by one


def turns(
    laws: Laws,
    samples: Samples,
    affordable: Callable[[Point], bool],
    twin: Callable[[Point], Point] = lambda point: point,
) -> Iterator[Point]:
    """Points where a comparison turns, other sizes as they were where it was made.

    At each such point the model may make comparisons that it made nowhere before; so it goes on, until there
    is none.

    Args:
        laws: Where to look.
        samples: What was run.
        affordable: Whether a point may be run.
        twin: A point elsewhere for each: a comparison that was made there too has been followed from there.

    Yields:
        Points in which one size is at the last value on this side, or at the first on the other.
    """
    done: set[Comparison] = set()
    given: set[Point] = set()
    while True:
        made = {c: point for c, point in _made(laws, samples).items() if c not in done}
        if not made:
            return
        done |= made.keys()
        noted = {point: tally.compared for point, tally in samples.known}
        before = {
            c: p
            for c, p in made.items()
            if p != twin(p) and _followed(c, p, twin(p), noted, laws.sizes)
        }
        made = {c: point for c, point in made.items() if c not in before}
        as_before = _turning(before, laws, lambda p, i: _line(twin(p), i, samples))
        turning = _turning(made, laws, lambda p, i: _along(p, i, laws, samples, affordable))
        turned = (
            (point == laws.low, put(point, i, x)) for point, i, x in chain(as_before, turning)
        )
        lines = ((False, point) for point in aslant(made, laws, samples))
        between = ((True, point) for point in halfway(made, laws, samples))
        for known_to_run, point in chain(turned, lines, between):
            if point in given or not laws.hold(point) or not affordable(point):
                continue
            given.add(point)
            if known_to_run or samples.runs(point):
                yield point
            if len(given) >= _MOST:
                return


def unturned(laws: Laws, samples: Samples) -> dict[int, int]:
    """Where a comparison turns beyond everything that was run, as where it was too dear to be run.

    Args:
        laws: Where to look.
        samples: What was run.

    Returns:
        For each such size, by its index, the last value at which all comparisons are as they were.
    """
    largest, ran = largest_run(laws, samples), {point for point, _ in samples.known}
    last: dict[int, int] = {}
    made = _made(laws, samples)
    turning = [*_turning(made, laws, lambda p, i: _line(p, i, samples))]
    given_up = samples.spared or len({(p, i, x) for p, i, x in turning}) > _MOST
    for point, i, x in turning:
        beyond = x > largest[i] or (given_up and put(point, i, x) not in ran)
        if beyond and x in laws.all[i].span:
            last[i] = min(last.get(i, x), x)
    return last


def largest_run(laws: Laws, samples: Samples) -> list[int]:
    """The largest value of each size that was run where laws hold, 0 where none was."""
    points = [p for p, _ in samples.known if laws.hold(p)]
    return [max((p[i] for p in points), default=0) for i in range(laws.sizes)]


def _made(laws: Laws, samples: Samples) -> dict[Comparison, Point]:
    """Each comparison, at the least point where it was made."""
    known = sorted((p, t.compared) for p, t in samples.known if laws.hold(p))
    again = _again([compared for _, compared in known])
    made: dict[Comparison, Point] = {}
    for point, compared in known:
        for comparison in compared:
            if kind(comparison) not in (CURVED, TURNS) and comparison not in again:
                made.setdefault(comparison, point)
    return made


def _again(runs: list[dict[Comparison, float]]) -> set[Comparison]:
    """Comparisons that one layer makes as another did before, in every run that makes both.

    By as much; or by one less or more each time, where more are made the larger a size is: a layer's number
    beside the depth, which turns at every depth.

    Args:
        runs: What was compared, the run at the least sizes first.

    Returns:
        Those that tell nothing new.
    """
    times: dict[tuple[CodeType, int], set[int]] = {}
    for code, instruction, which in chain.from_iterable(runs):
        if isinstance(which, int):
            times.setdefault((code, instruction), set()).add(which)
    found: set[Comparison] = set()
    for place, all_times in times.items():
        at = {
            time: {k: r[(*place, time)] for k, r in enumerate(runs) if (*place, time) in r}
            for time in sorted(all_times)
        }
        seen: list[dict[int, float]] = []
        before: dict[int, set[int]] = {}  # by run, in millionths
        for time, now in at.items():
            counted = time >= _COUNTED and 0 not in now and _counts_on(now, before)
            if counted or any(now.items() <= earlier.items() for earlier in seen):
                found.add((*place, time))
            else:
                seen.append(now)
            for k, difference in now.items():
                before.setdefault(k, set()).add(_millionths(difference))
    return found


def _counts_on(now: Mapping[int, float], before: Mapping[int, set[int]]) -> bool:
    """Whether a comparison differs by one from an earlier one, or repeats it, in every run."""
    return all(
        not before.get(k, set()).isdisjoint(_millionths(d + step) for step in (-1, 0, 1))
        for k, d in now.items()
    )


def _millionths(difference: float) -> int:
    return round(difference * 1_000_000) if math.isfinite(difference) else 0


def _followed(
    comparison: Comparison,
    point: Point,
    twin: Point,
    noted: Mapping[Point, Mapping[Comparison, float]],
    sizes: int,
) -> bool:
    """Whether a comparison that is made at a point has been followed from its twin.

    Its two sides differ by as much there; or by what the other sizes have no part in; or they only go apart,
    as a number of entries that is compared with 0.

    Returns:
        Whether.
    """
    here, there = noted[point][comparison], noted.get(twin, {}).get(comparison)
    if there == here:
        return True
    moved = {i for i, (x, y) in enumerate(zip(point, twin, strict=True)) if x != y}
    made = {
        other: compared[comparison] for other, compared in noted.items() if comparison in compared
    }
    if there is None:
        return _of_one_size(made, point, moved, sizes)
    near = {
        other: difference for other, difference in made.items() if other[sizes:] == twin[sizes:]
    }
    if all(d == there for other, d in near.items() if all(other[i] == twin[i] for i in moved)):
        return True
    return all(
        d * here > 0 and abs(d) >= abs(there)
        for other, d in near.items()
        if all(x >= y for x, y in zip(other, twin, strict=True))
    )


def _of_one_size(made: Mapping[Point, float], point: Point, moved: set[int], sizes: int) -> bool:
    """Whether the sides of a comparison differ by what one size says alone, as a layer's number and a depth.

    Then it has been followed where the sizes that moved are not as here, and that one is.

    Returns:
        Whether.
    """
    for i in range(sizes):
        by_size = {other[i]: difference for other, difference in made.items()}
        if len(by_size) > 1 and all(by_size[other[i]] == d for other, d in made.items()):
            return i not in moved and any(
                other[i] == point[i] and all(other[j] != point[j] for j in moved) for other in made
            )
    return False


def _turning(
    made: dict[Comparison, Point], laws: Laws, along: Callable[[Point, int], Line]
) -> Iterator[tuple[Point, int, int]]:
    """Where comparisons turn: the point where one was made, a size, and its value around which it does."""
    lines: dict[tuple[Point, int], Line] = {}
    for comparison, point in made.items():
        for i, law in enumerate(laws.all[: laws.sizes]):
            line = lines.get((point, i))
            if line is None:
                line = lines[point, i] = along(point, i)
            for x in _where(comparison, point[i], line, law, inner=point != laws.low):
                yield point, i, x


def _along(
    point: Point, i: int, laws: Laws, samples: Samples, affordable: Callable[[Point], bool]
) -> Line:
    """What was compared at a point and further up along one size, at least one step up."""
    law = laws.all[i]
    if law.span.high is not None and law.span.high <= point[i]:
        return []
    found, beside = _line(point, i, samples), put(point, i, law.nearest(point[i] + law.span.step))
    if len(found) < 2 and laws.hold(beside) and affordable(beside) and samples.runs(beside):
        return _line(point, i, samples)
    return found


def _line(point: Point, i: int, samples: Samples) -> Line:
    """What was compared at a point and further up along one size, as far as it was run."""
    return [
        (p[i], tally.compared)
        for p, tally in samples.known
        if p[i] >= point[i] and put(p, i, point[i]) == point
    ]


def _where(comparison: Comparison, least: int, line: Line, law: Law, *, inner: bool) -> list[int]:
    """Values of one size around which a comparison turns, as its two sides grow from point to point."""
    seen = {x: compared[comparison] for x, compared in line if comparison in compared}
    which = kind(comparison)
    points = [(float(x), seen[x]) for x in sorted(seen)]
    points = points[:3] if which not in PLAINLY or parabolic(points) else points[-2:]
    found: set[int] = set()
    whole = all(y.is_integer() for _, y in points)
    # what was made a whole number turns where the rounded one does
    for root in (r for off in ((0,) if whole else (0, -1, 1)) for r in _roots(points, off)):
        if not 1 <= root < _LARGEST:
            continue
        last = round(root) if abs(root - round(root)) < _CLOSE * root else math.floor(root)
        if which == PERIOD and last < _PERIOD and not inner:
            continue
        if which in (PERIOD, TRIED):
            multiple = (least // last + 1) * last
            found |= {multiple, multiple + law.span.step, 2 * multiple, 3 * multiple + 1}
        else:
            found |= {last, last + law.span.step}
    return sorted(x for x in map(law.nearest, found) if x > least)


def _roots(points: list[tuple[float, float]], off: int = 0) -> list[float]:
    """Where a line through two points, or a parabola through three, is zero, or so much off."""
    points = [(x, y - off) for x, y in points]
    if len(points) < 2 or not all(math.isfinite(y) for _, y in points):
        return []
    (x0, y0), (x1, _) = points[:2]
    slope, bend = parabola(points)
    if abs(bend) * (abs(x0) + abs(x1)) <= 1e-12 * abs(slope):
        return [x0 - y0 / slope] if slope else []
    middle = slope - bend * (x0 + x1)
    under = middle**2 - 4 * bend * (y0 - slope * x0 + bend * x0 * x1)
    if under < 0:
        return []
    return [(-middle + sign * math.sqrt(under)) / (2 * bend) for sign in (1, -1)]
