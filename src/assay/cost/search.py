"""The search for boxes in which one law holds for each count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import combinations

from assay.cost.begin import begun, further, later, ranges, spaced, straight
from assay.cost.divides import rounded_alone, undivided
from assay.cost.ends import explained, last_explained, last_that_runs, returns, turn
from assay.cost.fit import Box, Fit, Sizes
from assay.cost.floors import with_floors
from assay.cost.groups import Wanted
from assay.cost.heldout import far, near, untried
from assay.cost.interpolate import Interpolant, Point
from assay.cost.joint import joint
from assay.cost.law import Law, Laws
from assay.cost.ones import from_one, odd_ones
from assay.cost.peaks import lawless, with_peaks
from assay.cost.piece import Range
from assay.cost.refusal import NoneLeft, Refused, Unexplained, no_law, not_running, of_values
from assay.cost.regained import regained
from assay.cost.rounding import left_between
from assay.cost.samples import Fails, Samples, TooMany, equal, put
from assay.cost.tally import PEAK, SAVED, Key

_FEW, _MANY = 4, 1000  # values: fewer are a list, each of which was run; more have room for any law
_CUBIC = 3  # degree from which a law of few values is held to have one value more than coefficients
_BOXES = 8  # more laws than this are no formula that a reader could use


class Search:
    """A search for the laws of a model at the sizes of some samples.

    Args:
        samples: The counts.
        grids: Sizes of which only multiples of a value are asked for, with that value.
        apart: Whether sizes are taken for themselves, also where one must divide another.
    """

    def __init__(self, samples: Samples, grids: Mapping[str, int], *, apart: bool) -> None:
        self._samples, self._grids, self._apart = samples, grids, apart
        self._checked: list[Sizes] = []
        self._unexplained: tuple[Point, Laws] | None = None
        self._guess = False

    def run(self) -> Fit:
        """Search.

        Returns:
            The boxes.

        Raises:
            Refused: If there are none.
            Fails: If the model does not run where it should.
            Divides: If one size must divide another, unless they are taken apart.
        """
        samples = self._samples
        laws = ranges(samples, self._grids)
        if not self._apart:
            undivided(laws, samples)
        if not samples.repeats(laws.low):
            at = f" at the same sizes ({samples.say(laws.low)})" if samples.names else ""
            why = (
                of_values(samples) or ": the model draws random numbers, or remembers earlier runs"
            )
            raise Refused(f"two runs{at} cost different amounts{why}")
        try:
            own = begun(laws, samples)
            if not self._apart:
                rounded_alone(own, samples)
            laws, boxes = self._found(own)
        except Refused as refusal:
            if not (boxes := self._joint(laws, refusal)):
                raise
        if not any(self._has_base(box) for box in boxes):
            raise Refused(f"the model runs at {samples.say(samples.base)}, but hardly at others")
        boxes = self._peaked(boxes)
        boxes, without = regained(boxes, samples)
        with samples.wanting(Wanted(without=frozenset(without))):
            one = from_one(boxes, samples)
        more, at_one = regained(self._peaked(self._ones(laws, boxes, one)), samples)
        boxes += more
        refused: dict[str, str] = {}
        if samples.probe.unseen:
            refused[SAVED] = "transforms of torch.func let nobody see what they keep"
        if all(box.peakless for box in boxes if self._has_base(box)):
            refused[PEAK] = (
                f"no maximum of polynomials is within 1 % of what {lawless(boxes, samples)}"
            )
        found = tuple(boxes), tuple(self._checked)
        return Fit(samples.names, *found, refused, one, lawless={**at_one, **without})

    def enough(self) -> Refused:
        """The refusal of a search that has run as much as it may, with the last point that had no law.

        Returns:
            The refusal, to be raised.
        """
        samples = self._samples
        size, runs = samples.most_varied, len(samples.known)
        i = samples.names.index(size)
        if 2 * len({point[i] for point, _ in samples.known}) > runs:
            found = f"{runs} runs along {size}, and no law was found that explains them all"
        else:
            found = (
                f"{runs} runs were not enough for the laws of {len(samples.names)} sizes at once"
            )
        if self._unexplained is not None:
            with suppress(TooMany):
                found += f": {no_law(*self._unexplained, samples)}"
        return Refused(found, size)

    def _found(self, laws: Laws) -> tuple[Laws, list[Box]]:
        """The laws with which boxes were found, and the boxes."""
        try:
            return laws, self._sound(self._boxes(laws))
        except Refused:
            self._guess = True
        try:
            return laws, self._sound(self._boxes(laws))
        except Refused as refusal:
            beyond = further(refusal.size, laws, self._samples)
            if beyond is None:
                raise
            return laws, self._sound(self._boxes(beyond))

    def _peaked(self, boxes: list[Box]) -> list[Box]:
        """The boxes with peaks that nothing contradicts, where there are such."""
        found: list[Box] = []
        for box in boxes:
            try:
                with self._samples.sparing():
                    found += with_peaks(box, self._samples) or [replace(box, peakless=True)]
            except TooMany:  # the sums keep their laws
                found.append(replace(box, peakless=True))
        return found

    def _has_base(self, box: Box) -> bool:
        """Whether a formula holds where the sizes are in use; a size of 1 is looked at later."""
        pairs = zip(self._samples.base, box.spans.values(), strict=False)
        return all(x in span or x == 1 for x, span in pairs)

    def _ones(self, laws: Laws, boxes: list[Box], one: Mapping[str, frozenset[str]]) -> list[Box]:
        """Boxes of their own for sizes that are 1 in use, where 1 takes another path than 2."""
        odd = odd_ones(laws, boxes, one, self._samples)
        found: list[Box] = []
        for chosen in (c for size in range(1, len(odd) + 1) for c in combinations(odd, size)):
            here = laws
            for i in chosen:
                here = here.having(i, Law(Range(1, 1)))
            if self._samples.runs(here.low):
                found += self._boxes(here)
        return found

    def _boxes(self, laws: Laws, left: int = _BOXES) -> list[Box]:
        """One box where one law holds, more where it changes along a size."""
        samples = self._samples
        try:
            return [self._fitted(laws)]
        except Fails as failure:
            i = self._blame(failure.point, laws, samples.runs)
            span = last_that_runs(i, failure.point[i], laws, samples)
            lost = (
                i < laws.sizes
                and samples.base[i] in laws.all[i].span
                and (span is None or samples.base[i] not in span)
            )
            if lost and (around := spaced(i, laws, samples)) is not None:
                return self._boxes(laws.having(i, around), left - 1)
            if span is None or i >= laws.sizes or lost:
                blamed = samples.names[i] if i < laws.sizes else ""
                raise Refused(not_running(failure, samples), blamed) from failure
            return self._boxes(laws.having(i, replace(laws.all[i], span=span)), left - 1)
        except Unexplained as unexplained:
            point = unexplained.point
        self._unexplained = point, laws
        i = self._blame(point, laws, lambda p: explained(p, laws, samples))
        end = None
        if i < laws.sizes and samples.base[i] in laws.all[i].span:
            end = last_explained(i, samples.base[i], point[i], laws, samples)
        if end is None:
            return self._turned(i, point, laws, left)
        try:
            with samples.sparing():
                return self._turned(i, point, laws, left)
        except TooMany:  # too dear beyond the sizes in use: the formula ends before
            law = laws.all[i]
            end = last_explained(i, end, point[i], laws, samples) or end
            return self._boxes(laws.having(i, law.until(end)), left)

    def _turned(self, i: int, point: Point, laws: Laws, left: int) -> list[Box]:
        """Boxes where the law does not explain a point that differs along one size."""
        samples = self._samples
        law, span, step = laws.all[i], laws.all[i].span, laws.all[i].span.step
        better = with_floors(i, laws, samples, guess=self._guess)
        if better is not None:
            above = laws.having(i, better)
            if better.span.low == span.low:
                return self._boxes(above, left)
            below = law.until(better.span.low - step)
            try:
                lower = self._boxes(laws.having(i, below), max(left - 2, 2))
            except Refused:  # the smallest sizes may go without
                if samples.base[i] in below.span:
                    raise
                lower = []
            return [*lower, *self._boxes(above, left - 1)]
        plain = i < laws.sizes and span.high is None and not law.atoms
        if plain and not straight(i, law, laws, samples):
            begun_later = later(i, laws, samples)
            if begun_later is not law:
                return self._boxes(laws.having(i, begun_later), left - 1)
        turned = turn(i, point[i], laws, samples)
        # a stack has one law, up to its full depth
        if left <= 1 or turned is None or i >= laws.sizes:
            raise no_law(point, laws, samples, i)
        beyond = put(laws.low, i, turned)
        if not samples.runs(beyond):
            reason = f"the model runs below and above, but not at {samples.say(beyond)}"
            raise Refused(reason, samples.names[i])
        ends = [turned, turned + step] if returns(i, turned, laws, samples) else [turned]
        highs = [*(end - step for end in ends), span.high]
        parts = list(zip([span.low, *ends], highs, strict=True))
        if span.high is None and (between := left_between(law, turned, samples.base[i])):
            parts[-1] = max(between[0], ends[-1]), between[1]
        found: list[Box] = []
        for low, high in parts:
            part = replace(law, span=replace(span, low=low, high=high))
            here = laws.having(i, part), max(left - len(found) - 1, 1)
            if samples.base[i] in part.span:
                found += self._boxes(*here)
                continue
            try:
                with samples.sparing():
                    found += self._boxes(*here)
            except TooMany:  # too dear where nobody asked for it: the formula ends before
                if not found:
                    raise
        return found

    def _blame(self, point: Point, laws: Laws, fine: Callable[[Point], bool]) -> int:
        """The size along which alone something is wrong."""
        low = laws.low
        for i, (x, least) in enumerate(zip(point, low, strict=True)):
            if x != least and not fine(put(low, i, x)):
                return i
        # several at once: one of those without which it would be right, rather one with floors
        at_fault = [
            i for i in range(laws.sizes) if point[i] != low[i] and fine(put(point, i, low[i]))
        ]
        floored = [i for i in at_fault or range(laws.sizes) if laws.all[i].atoms]
        blamed = floored if len(floored) == 1 else at_fault
        together = at_fault if len(at_fault) > 1 else ()
        raise no_law(point, laws, self._samples, blamed[-1] if blamed else None, together)

    def _joint(self, laws: Laws, refusal: Refused) -> list[Box]:
        """One box with floors of two sizes at once; none where that is no law either."""
        try:
            with self._samples.sparing():
                for here, found, points in joint(laws, self._samples):
                    try:
                        return [self._held(found, here, points)]
                    except (Unexplained, Fails):
                        continue
        except TooMany:  # then what was found wanting before is the reason
            pass
        except Refused as another:
            raise Refused(str(refusal), another.size, groups=refusal.groups) from another
        return []

    def _fitted(self, laws: Laws) -> Box:
        found = self._samples.interpolant(laws)
        self._held_out(found, laws)
        return self._held(found, laws)

    def _held(
        self, found: Interpolant[Key], laws: Laws, points: Iterable[Point] | None = None
    ) -> Box:
        """A box, of what counts agree with at points near and far."""
        samples, checked = self._samples, list[Point]()
        found.foretell = samples.foretell

        def check(point: Point) -> None:
            if not laws.hold(point) or point in found.points or not samples.bearable(point):
                return
            if not equal(found.at(point), samples.counts(point)):
                raise Unexplained(point)
            checked.append(point)

        try:
            for point in near(found, laws, samples) if points is None else points:
                check(point)
        except Unexplained:
            # low differences may vanish where high ones do not
            if points is not None or not found.widen():
                raise
            for point in near(found, laws, samples):
                check(point)
        for point in far(found, laws, samples):
            check(point)
        for point, _ in samples.known:  # whatever was run in search of a law must agree with it too
            check(point)
        self._checked += [samples.sizes(point) for point in dict.fromkeys(checked)]
        for i, last in untried(found, laws, samples).items():
            laws = laws.having(i, laws.all[i].until(last))
        spans = {name: law.span for name, law in zip(samples.names, laws.all, strict=False)}
        return Box(spans, found, found.replayed(samples.peaks), samples.depths)

    def _held_out(self, found: Interpolant[Key], laws: Laws) -> None:
        """Refuse a cubic or quartic through as many values as there are: anything is one."""
        for i, law in enumerate(laws.all[: laws.sizes]):
            span, degree = law.span, max(index[i] for index in found.coefficients)
            if span.high is None or law.atoms or degree < _CUBIC:
                continue
            if (span.high - span.low) // span.step <= degree:
                beyond = put(laws.low, i, span.high + span.step)
                if self._samples.runs(beyond):
                    raise no_law(beyond, laws, self._samples, i)
                raise NoneLeft(self._samples.names[i], span)

    def _sound(self, boxes: list[Box]) -> list[Box]:
        """Refuse floors with as many coefficients as there are values of them, where the formula ends so.

        Where it goes on, what is found beyond holds the law as well.

        Returns:
            The boxes.

        Raises:
            NoneLeft: If there are such.
        """
        for box in filter(self._has_base, boxes):
            for i, (name, span) in enumerate(box.spans.items()):
                axis = box.found.axes[i]
                ends = all(other.spans[name].high is not None for other in boxes)
                if not ends or axis.adaptive or span.high is None:
                    continue
                if not _FEW <= (span.high - span.low) // span.step <= _MANY:
                    continue
                floors = {a for f in axis.functions for m in f.terms for a, _ in m if a.period > 1}
                apart = {tuple(a.value({name: x}) for a in floors) for x in span.values()}
                if len(apart) <= len(
                    {k[i] for k, values in box.found.coefficients.items() if values}
                ):
                    raise NoneLeft(name, span)
        return boxes
