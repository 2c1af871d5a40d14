"""From counts at a few sizes to polynomials, and the refusal where they are none.

1. Every size gets a range: where the model runs.
2. In that box of sizes, exact interpolation at its low corner; then the result is held against sizes that
   it was not fitted on: beside the nodes, between them, far away, at integers that the code compares with.
3. What it does not explain, and lies along one size, is explained by floors of that size (strides,
   windows) or by a second box from where the law changes (branches). Otherwise it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, combinations

from assay.cost.axis import HIGHEST, Axis
from assay.cost.count import BYTES, PEAK, SAVED, Key, Tally
from assay.cost.culprit import culprit
from assay.cost.fit import Box, Fit, Sizes
from assay.cost.floors import unexplained, with_floors
from assay.cost.heldout import far, near
from assay.cost.interpolate import Interpolant, Point
from assay.cost.known import LOAD, selects
from assay.cost.law import Law, Laws
from assay.cost.peaks import peak_is_off, with_peaks
from assay.cost.piece import Range
from assay.cost.probe import ModulesChanged, Probe
from assay.cost.reach import reach
from assay.cost.samples import Fails, Samples, TooMany, differing, equal, put, steps_at
from assay.cost.turns import turns
from assay.errors import AssayError
from assay.progress import Progress, silent

_BOXES = 8  # more laws than this are no formula that a reader could use
_LARGE, _MIDDLING = 72, 20  # another size, where one is 1
_LATER = (1, 2)  # of the least values, so many may be left out
_FURTHER = (4, 8, 16)  # and so many where there is no formula else
_STEPS = 4000  # more operators than this make a size large enough
# that may run in search of a law: about a minute, or so many passes at the base
_OPERATORS, _PASSES = 700_000, 400


class _Unexplained(Exception):
    def __init__(self, point: Point) -> None:
        self.point = point


class _Refused(Exception):
    """No formula.

    Args:
        reason: Why.
        size: Along which size, where one is to blame.
        of_bytes: Whether it may be only bytes that have none.
    """

    def __init__(self, reason: str, size: str = "", *, of_bytes: bool = True) -> None:
        super().__init__(reason)
        self.size, self.of_bytes = size, of_bytes


def derive(
    probe: Probe,
    base: Mapping[str, int],
    progress: Progress = silent,
    grids: Mapping[str, int] | None = None,
) -> Fit:
    """Find polynomials in the sizes of `base` for everything that `probe` counts.

    Args:
        probe: Counts at given sizes.
        base: The sizes, at values that the model runs at.
        progress: Told as probes are run.
        grids: Sizes of which only multiples of a value are asked for, with that value.

    Returns:
        The polynomials, or a refusal with its reason.

    Raises:
        AssayError: If the model does not run at `base` itself.
    """
    first = probe.open(base)
    reason, blamed = "", ""
    known: dict[tuple[str, ...], dict[Point, Tally | AssayError]] = {}

    def search(stacks: tuple[str, ...], dropped: tuple[str, ...]) -> Fit:
        before, room = known.setdefault(stacks, {}), max(_OPERATORS, _PASSES * first.steps)
        samples = Samples(probe, base, stacks, dropped, first, progress, before, room)
        try:
            return _Search(samples, grids or {}).run()
        except TooMany as enough:
            size = samples.most_varied
            found = (
                f"{len(samples.known)} runs along {size} and no law that explains them: its costs turn again "
                "and again"
            )
            raise _Refused(found, size, of_bytes=False) from enough

    for dropped in ((), (BYTES, SAVED)):
        stacks = tuple(stack.path for stack in probe.stacks)
        for kept in dict.fromkeys((stacks, ())):
            try:
                try:
                    return search(kept, dropped)
                except ModulesChanged:
                    known.clear()
                    first = probe(base)
                    return search((), dropped)
            except _Refused as refusal:
                reason, blamed = str(refusal), refusal.size
                # with all layers it may be one size's own law; that takes as much longer as there are layers
                if blamed and not refusal.of_bytes and (not kept or first.steps > _STEPS):
                    return Fit(tuple(base), refused={"": reason}, blamed=blamed)
            except Fails as failure:  # as with fewer layers than something counts on
                reason = f"the model does not run at some of the sizes looked at: {failure.error}"
    return Fit(tuple(base), refused={"": reason}, blamed=blamed)


class _Search:
    def __init__(self, samples: Samples, grids: Mapping[str, int]) -> None:
        self._samples, self._grids = samples, grids
        self._checked: list[Sizes] = []
        self._guess = False

    def run(self) -> Fit:
        samples, laws = self._samples, self._ranges()
        if not samples.repeats(laws.low):
            raise _Refused(
                f"two runs at the same sizes ({samples.say(laws.low)}) cost different amounts: the model "
                f"draws random numbers, or remembers earlier runs{self._values()}"
            )
        laws = self._begun(laws)
        try:
            boxes = self._boxes(laws)
        except _Refused:
            self._guess = True
            try:
                boxes = self._boxes(laws)
            except _Refused as refusal:
                further = self._further(refusal.size, laws)
                if further is None:
                    raise
                boxes = self._boxes(further)
        if not any(self._has_base(box) for box in boxes):
            raise _Refused(f"the model runs at {samples.say(samples.base)}, but hardly at others")
        boxes, peaks = self._peaked(boxes)
        one = self._from_one(boxes)
        more, others = self._peaked(self._ones(laws, boxes, one))
        boxes += more
        refused = dict.fromkeys(samples.dropped, "its counts are no polynomial in the sizes")
        if samples.probe.unseen:
            refused[SAVED] = "transforms of torch.func let nobody see what they keep"
        if not (peaks and others):
            refused[PEAK] = "no maximum of polynomials is within 1 % of what was alive"
        return Fit(samples.names, tuple(boxes), tuple(self._checked), refused, one)

    def _peaked(self, boxes: list[Box]) -> tuple[list[Box], bool]:
        """The boxes with peaks that nothing contradicts, and whether all have them."""
        peaked = [with_peaks(box, self._samples) for box in boxes]
        return [new or old for new, old in zip(peaked, boxes, strict=True)], None not in peaked

    def _has_base(self, box: Box) -> bool:
        """Whether a formula holds where the sizes are in use; a size of 1 is looked at later."""
        pairs = zip(self._samples.base, box.spans.values(), strict=False)
        return all(x in span or x == 1 for x, span in pairs)

    def _ranges(self) -> Laws:
        """Where the model runs, along each size."""
        samples, count = self._samples, len(self._samples.names)
        depths = tuple(Law(Range(2, depth)) for depth in samples.depths)
        asked = [self._grids.get(name) for name in samples.names]
        free = Laws((*(Law(Range(step or 2, None, step or 1)) for step in asked), *depths), count)
        if all(
            samples.runs(put(free.low, i, free.all[i].value(k)))
            for i in range(count)
            for k in (0, 1, 3)
        ):
            return free
        base = (*samples.base[:count], *(2 for _ in depths))

        def along(i: int) -> Range:
            if asked[i]:
                return free.all[i].span
            return reach(base[i], lambda x: samples.runs(put(base, i, x)))

        laws = Laws((*(Law(along(i)) for i in range(count)), *depths), count)
        if not samples.runs(laws.low):  # each can be small alone, but not all together
            for i in range(count):
                laws = laws.having(i, Law(replace(laws.all[i].span, low=base[i])))
        return laws

    def _begun(self, laws: Laws) -> Laws:
        """Floors of a size, and where its law begins, as far as its own line tells: that costs least.

        Returns:
            The laws, some of them with floors or from a little further up.
        """
        for i in range(laws.sizes):
            if laws.all[i].span.high is None and not self._straight(i, laws.all[i], laws):
                better = with_floors(i, laws, self._samples, guess=False)
                if better is not None and better.span.low == laws.all[i].span.low:
                    laws = laws.having(i, better)
                else:
                    laws = laws.having(i, self._later(i, laws))
        return laws

    def _further(self, size: str, laws: Laws) -> Laws | None:
        """The laws without some of the least values of a size: pieces of four rows, of which some are none.

        Returns:
            The laws; None where that does not help either.
        """
        if size not in self._samples.names:
            return None
        i = self._samples.names.index(size)
        later = self._later(i, laws, _FURTHER)
        return None if later is laws.all[i] else laws.having(i, later)

    def _later(self, i: int, laws: Laws, skips: tuple[int, ...] = _LATER) -> Law:
        """The law without the least values of a size, where they alone take a path of their own.

        A width of 4 for four heads is one number a head. Who asks for such a size?

        Returns:
            The law, or the one that there was.
        """
        law = laws.all[i]
        for skipped in skips:
            later = replace(law, span=replace(law.span, low=law.value(skipped)))
            if self._samples.base[i] >= later.span.low and self._straight(i, later, laws):
                return later
        return law

    def _straight(self, i: int, law: Law, laws: Laws) -> bool:
        """Whether a law of powers explains the counts along one size near its least values."""
        axis, tried = law.axis(self._samples.names[i]), [law.value(k) for k in (5, 9)]
        try:
            return not unexplained(i, axis, tried, laws, self._samples)
        except Fails:
            return False

    # Boxes --------------------------------------------------------------------------------------------

    def _boxes(self, laws: Laws, left: int = _BOXES) -> list[Box]:
        """One box where one law holds, more where it changes along a size."""
        samples = self._samples
        try:
            return [self._fitted(laws)]
        except Fails as failure:
            i = self._blame(failure.point, laws, samples.runs)
            span = self._last_that_runs(i, failure.point[i], laws)
            lost = (
                span is not None
                and samples.base[i] in laws.all[i].span
                and samples.base[i] not in span
            )
            if span is None or i >= laws.sizes or lost:
                where = samples.say(failure.point)
                blamed = samples.names[i] if i < laws.sizes else ""
                raise _Refused(
                    f"the model does not run at {where}: {failure.error}", blamed
                ) from failure
            return self._boxes(laws.having(i, replace(laws.all[i], span=span)), left - 1)
        except _Unexplained as unexplained:
            point = unexplained.point
        i = self._blame(point, laws, lambda p: self._explained(p, laws))
        end = None
        if i < laws.sizes and samples.base[i] in laws.all[i].span:
            end = self._last_explained(i, samples.base[i], point[i], laws)
        if end is None:
            return self._turned(i, point, laws, left)
        try:
            with samples.sparing():
                return self._turned(i, point, laws, left)
        except TooMany:  # too dear beyond the sizes in use: the formula ends before
            law = laws.all[i]
            return self._boxes(laws.having(i, replace(law, span=replace(law.span, high=end))), left)

    def _last_explained(self, i: int, least: int, bad: int, laws: Laws) -> int | None:
        """Of values of a size that were run anyway the last below `bad` that the law explains."""
        low, span = laws.low, laws.all[i].span
        run = {p[i] for p, _ in self._samples.known if p == put(low, i, p[i])}
        found = sorted((x for x in run if least <= x < bad and x in span), reverse=True)
        return next((x for x in found if self._explained(put(low, i, x), laws)), None)

    def _turned(self, i: int, point: Point, laws: Laws, left: int) -> list[Box]:
        """Boxes where the law does not explain a point that differs along one size."""
        samples = self._samples
        law, span, step = laws.all[i], laws.all[i].span, laws.all[i].span.step
        better = with_floors(i, laws, samples, guess=self._guess)
        if better is not None:
            above = laws.having(i, better)
            if better.span.low == span.low:
                return self._boxes(above, left)
            below = replace(law, span=replace(span, high=better.span.low - step))
            try:
                lower = self._boxes(laws.having(i, below), 2)
            except _Refused:  # the smallest sizes may go without
                if self._samples.base[i] in below.span:
                    raise
                lower = []
            return [*lower, *self._boxes(above, left - 1)]
        turn = self._turn(i, point[i], laws)
        if (
            left <= 1 or turn is None or i >= laws.sizes
        ):  # a stack has one law, up to its full depth
            raise self._no_law(point, laws, i)
        beyond = put(laws.low, i, turn)
        if not samples.runs(beyond):
            reason = f"the model runs below and above, but not at {samples.say(beyond)}"
            raise _Refused(reason, samples.names[i], of_bytes=False)
        ends = [turn, turn + step] if self._returns(i, turn, laws) else [turn]
        highs = [*(end - step for end in ends), span.high]
        found: list[Box] = []
        for low, high in zip([span.low, *ends], highs, strict=True):
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
        raise self._no_law(point, laws, blamed[-1] if blamed else None)

    def _no_law(self, point: Point, laws: Laws, i: int | None = None) -> _Refused:
        reason = (
            f"no polynomial, with floors or without, explains the counts at "
            f"{self._samples.say(point)}: the model takes another path there, or a loop halves"
        )
        where, quantities = "", {BYTES}
        try:
            law, tally = self._interpolant(laws).at(point), self._samples.tally(point)
            where = culprit(law, tally, self._samples.tally(laws.low))
            quantities = differing(law, self._samples.counts(point))
        except Fails:
            pass
        reason += f" (first: {where})" if where else ""
        names = self._samples.names
        if i is None:  # none alone is to blame: the one that most was tried along is as good as any
            size = self._samples.most_varied if names else ""
        else:
            size = names[i] if i < len(names) else ""
        return _Refused(reason + self._values(), size, of_bytes=quantities <= {BYTES, SAVED})

    def _values(self) -> str:
        """Where the model looked at values, as the end of a reason."""
        looks = self._samples.probe.looks_at_values
        if looks is None:
            return ""
        operator, where = looks
        at = f" at {where.short}" if where else ""
        remedy = f"; if it is a mask that selects, a size of the builder named {LOAD} says how many entries"
        return f"; its work depends on values: {operator}{at}{remedy if selects(operator) else ''}"

    def _explained(self, point: Point, laws: Laws) -> bool:
        try:
            return equal(self._interpolant(laws).at(point), self._samples.counts(point))
        except Fails:
            return False

    def _holds(self, found: Interpolant[Key], point: Point) -> bool:
        return self._samples.runs(point) and equal(found.at(point), self._samples.counts(point))

    def _turn(self, i: int, bad: int, laws: Laws) -> int | None:
        """The first value along a size at which the law of the low corner no longer holds."""
        step, low, found = laws.all[i].span.step, laws.low, self._interpolant(laws)
        good = found.axes[i].nodes[max(index[i] for index in found.coefficients)]
        good = self._last_explained(i, good + 1, bad, laws) or good
        if good >= bad or self._holds(found, put(low, i, bad)):
            return None
        while bad - good > step:
            middle = good + max((bad - good) // (2 * step), 1) * step
            good, bad = (middle, bad) if self._holds(found, put(low, i, middle)) else (good, middle)
        return bad

    def _returns(self, i: int, turn: int, laws: Laws) -> bool:
        """Whether the law breaks at one value alone: `if n == 100`."""
        span, found = laws.all[i].span, self._interpolant(laws)
        after = [turn + span.step * k for k in (1, 2, 3)]
        return all(x in span and self._holds(found, put(laws.low, i, x)) for x in after)

    def _last_that_runs(self, i: int, bad: int, laws: Laws) -> Range | None:
        span, low = laws.all[i].span, laws.low
        good = span.low
        while bad - good > span.step:
            middle = good + max((bad - good) // (2 * span.step), 1) * span.step
            good, bad = (middle, bad) if self._samples.runs(put(low, i, middle)) else (good, middle)
        return replace(span, high=good) if good > span.low else None

    # Fitting ------------------------------------------------------------------------------------------

    def _axes(self, laws: Laws) -> list[Axis]:
        names = (*self._samples.names, *self._samples.stacks)
        return [law.axis(name) for law, name in zip(laws.all, names, strict=True)]

    def _interpolant(self, laws: Laws) -> Interpolant[Key]:
        return Interpolant(self._samples.counts, self._axes(laws))

    def _fitted(self, laws: Laws) -> Box:
        samples, found = self._samples, self._interpolant(laws)
        self._held_out(found, laws)
        checked: list[Point] = []

        def check(point: Point) -> None:
            if not laws.hold(point) or point in found.points or not samples.bearable(point):
                return
            if not equal(found.at(point), samples.counts(point)):
                raise _Unexplained(point)
            checked.append(point)

        try:
            for point in near(found, laws):
                check(point)
        except _Unexplained:
            if not found.widen():  # low differences may vanish where high ones do not
                raise
            for point in near(found, laws):
                check(point)
        for point in far(found, laws, samples):
            check(point)
        for point, _ in samples.known:  # whatever was run in search of a law must agree with it too
            check(point)
        self._checked += [samples.sizes(point) for point in dict.fromkeys(checked)]
        spans = {name: law.span for name, law in zip(samples.names, laws.all, strict=False)}
        return Box(spans, found, found.replayed(samples.peaks), samples.depths)

    def _held_out(self, found: Interpolant[Key], laws: Laws) -> None:
        """Refuse a quartic through as many values as there are: anything is one, as powers of 2 are."""
        for i, law in enumerate(laws.all[: laws.sizes]):
            span, degree = law.span, max(index[i] for index in found.coefficients)
            if span.high is None or law.atoms or degree < HIGHEST:
                continue
            if (span.high - span.low) // span.step <= degree:
                beyond = put(laws.low, i, span.high + span.step)
                if self._samples.runs(beyond):
                    raise self._no_law(beyond, laws, i)
                name = self._samples.names[i]
                raise _Refused(
                    f"from {name}={span.low} to {span.high} there are as many values as a polynomial of "
                    f"degree {HIGHEST} takes: none is left to hold it against",
                    name,
                    of_bytes=False,
                )

    def _ones(self, laws: Laws, boxes: list[Box], one: Mapping[str, frozenset[str]]) -> list[Box]:
        """Boxes of their own for sizes that are 1 in use, where 1 takes another path than 2."""
        names, base = self._samples.names, self._samples.base
        quantities = {k.quantity for b in boxes for k in b.polynomials} | {PEAK}
        odd = [
            i
            for i, name in enumerate(names)
            if base[i] == 1 and laws.all[i].span.low == 2 and not quantities <= one[name]
        ]
        found: list[Box] = []
        for chosen in (c for size in range(1, len(odd) + 1) for c in combinations(odd, size)):
            here = laws
            for i in chosen:
                here = here.having(i, Law(Range(1, 1)))
            if self._samples.runs(here.low):
                found += self._boxes(here)
        return found

    def _from_one(self, boxes: list[Box]) -> dict[str, frozenset[str]]:
        """Quantities that the formula also has right at size 1, which often takes a path of its own.

        Each size is taken alone first, then together with those before it.

        Returns:
            The quantities, by size.
        """
        names = self._samples.names
        quantities = {k.quantity for box in boxes for k in box.polynomials} | {PEAK}
        one: dict[str, frozenset[str]] = {}
        for i, name in enumerate(names):
            others = [j for j in range(i) if one[names[j]]]
            together = [(), *((j,) for j in others), tuple(others)]
            wrong: set[str] = set()
            for box in boxes:
                if _from_two(box, name):
                    for chosen in dict.fromkeys(together):
                        ones = [k for k in (*chosen, i) if _from_two(box, names[k])]
                        wrong |= self._wrong_at_ones(box, ones, alone=not chosen)
            from_two = any(_from_two(box, name) for box in boxes)
            one[name] = frozenset(quantities - wrong) if from_two else frozenset()
        return one

    def _wrong_at_ones(self, box: Box, ones: list[int], *, alone: bool) -> set[str]:
        """The quantities that a box has wrong where some sizes are 1."""
        samples, nodes = self._samples, [axis.nodes for axis in box.found.axes]
        base = (*samples.base[: len(box.spans)], *(at[0] for at in nodes[len(box.spans) :]))
        points = [tuple(at[0] for at in nodes)]
        if alone:
            points.append(tuple(at[:2][-1] for at in nodes))
            spans = (*box.spans.values(), *(Range(at[0], at[0]) for at in nodes[len(box.spans) :]))
            large, middling = (
                tuple(Law(span).nearest(size) for span in spans) for size in (_LARGE, _MIDDLING)
            )
            few = steps_at(box.found, large) <= _STEPS
            points.append(large if few else middling)
            in_use = tuple(
                x if x in span else span.low for x, span in zip(base, spans, strict=True)
            )
            if steps_at(box.found, in_use) <= _STEPS:
                points.append(in_use)
        for i in ones:
            points = [put(point, i, 1) for point in points]
        # one row of one pixel may be too few for a statistic
        if alone and not any(map(samples.runs, points)):
            return {key.quantity for key in box.polynomials} | {PEAK}
        wrong: set[str] = set()
        for point in filter(samples.runs, chain(points, self._turns_at_ones(box, ones))):
            wrong |= differing(box.found.at(point), samples.counts(point))
            held = enumerate((box.peak_spans or box.spans).values())
            if all(i in ones or point[i] in span for i, span in held):
                off = peak_is_off(box.peaks.at(point), samples.tally(point))
                wrong |= {PEAK} if off else set()
        return wrong

    def _turns_at_ones(self, box: Box, ones: list[int]) -> Iterator[Point]:
        """Where a comparison turns that is made where some sizes are 1: `if n == 1 and m > 256`."""
        spans = [Range(1, 1) if i in ones else span for i, span in enumerate(box.spans.values())]
        depths = [Range(axis.nodes[0], axis.nodes[0]) for axis in box.found.axes[len(spans) :]]
        laws = Laws(tuple(Law(span) for span in (*spans, *depths)), len(spans))

        def affordable(point: Point) -> bool:
            return steps_at(box.found, point) <= _STEPS

        return turns(laws, self._samples, affordable)


def _from_two(box: Box, name: str) -> bool:
    return box.spans[name].low == 2 and box.spans[name].step == 1
