"""Counts at points: every point is run once, and what was run is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from time import process_time
from types import CodeType

from assay.cost.foretold import foretold
from assay.cost.groups import Wanted
from assay.cost.interpolate import Interpolant, Point
from assay.cost.law import Laws
from assay.cost.piece import Range
from assay.cost.probe import ModulesChanged, Probe
from assay.cost.tally import FORWARD, PEAK, TRAINABLE, WEIGHTS, Key, Tally
from assay.errors import AssayError, CannotMeasure, UserCodeError, said, say, verbatim
from assay.memory import available_memory
from assay.progress import Progress

STEPS = "steps"  # operators run: grows with loops, so it tells what a larger probe will take
_SUMS = {Key(quantity, FORWARD) for quantity in (STEPS, WEIGHTS, TRAINABLE)}  # of the whole model
_REPEATS = 12  # runs of a model that draws random numbers in Python


class Fails(Exception):
    """The model does not run at a point."""

    def __init__(self, point: Point, error: AssayError) -> None:
        self.point, self.error = point, error

    @property
    def said(self) -> str:
        """What the user's code raised, or why else it does not run."""
        cause = self.error.__cause__
        return said(cause) if isinstance(self.error, UserCodeError) and cause else str(self.error)


class TooMany(Exception):
    """Sizes after sizes were run, and no law was found."""


class Samples:
    """What a model costs at points: the sizes, and behind them the depths of stacks of equal layers.

    Args:
        probe: Runs the model.
        base: The sizes in use.
        stacks: Paths of the stacks that are cut.
        wanted: Which counts are to be explained.
        first: The tally at the base.
        progress: Told as probes are run.
        known: What was counted before, by point, the same stacks cut.
        room: Operators that may run before it is given up.
    """

    def __init__(
        self,
        probe: Probe,
        base: Mapping[str, int],
        stacks: tuple[str, ...],
        wanted: Wanted,
        first: Tally,
        progress: Progress,
        known: dict[Point, Tally | AssayError],
        room: int,
    ) -> None:
        self.probe, self.names, self.stacks, self.wanted = probe, tuple(base), stacks, wanted
        depths = {stack.path: stack.depth for stack in probe.stacks}
        self.depths = tuple(depths[path] for path in stacks)
        self.base: Point = (*base.values(), *self.depths)
        self._known, self._room = known, room
        self.spared = False  # whether turns were left out for the sake of what else is to be run
        self._known[self.base] = first
        self._progress = progress
        self._seconds: dict[Point, float] = {}
        self._drawn: set[tuple[CodeType, int]] = set()  # places that compare what is drawn
        self._summed: dict[Point, dict[Key, int]] = {}
        with_data = probe.allocates or probe.way in ("moved", "real")
        self._bytes = _bytes_for_data() if with_data else None

    def sizes(self, point: Point) -> dict[str, int]:
        """The sizes of a point, by name."""
        return dict(zip(self.names, point, strict=False))

    def say(self, point: Point) -> str:
        """The sizes of a point, in words."""
        return say(self.sizes(point))

    def runs(self, point: Point) -> bool:
        """Whether the model runs there."""
        return isinstance(self._at(point), Tally)

    def tally(self, point: Point) -> Tally:
        """The tally at a point.

        Returns:
            The tally.

        Raises:
            Fails: If the model does not run there.
        """
        tally = self._at(point)
        if isinstance(tally, AssayError):
            raise Fails(point, tally)
        return tally

    def counts(self, point: Point) -> dict[Key, int]:
        """Everything that is to be explained; if that is all, also how many operators ran."""
        found = self._summed.get(point)
        if found is None:
            found = self._summed[point] = self._sums(self.tally(point))
        return found

    @contextmanager
    def wanting(self, wanted: Wanted) -> Iterator[None]:
        """For a while other counts are to be explained."""
        before = self.wanted, self._summed
        self.wanted, self._summed = wanted, {}
        try:
            yield
        finally:
            self.wanted, self._summed = before

    def _sums(self, tally: Tally) -> dict[Key, int]:
        sums = {k: v for k, v in tally.counts.items() if k in self.wanted}
        if self.wanted.all:
            sums[Key(STEPS, FORWARD)] = tally.steps
        return sums

    @property
    def foretell(self) -> Mapping[Key, Callable[[Point], int]]:
        """How many operators will run anywhere: where some counts have no law, they may have none either."""
        return {} if self.wanted.all else {Key(STEPS, FORWARD): self._steps}

    def _steps(self, point: Point) -> int:
        return foretold(point, {known: tally.steps for known, tally in self.known})

    def interpolant(self, laws: Laws) -> Interpolant[Key]:
        """What laws make of the counts at their low corner."""
        axes = laws.axes((*self.names, *self.stacks))
        return Interpolant(self.counts, axes, sums=_SUMS)

    def peaks(self, point: Point) -> dict[Key, int]:
        """What was alive after the operators of each line."""
        return {k: v for k, v in self.tally(point).counts.items() if k.quantity == PEAK}

    @property
    def known(self) -> list[tuple[Point, Tally]]:
        """Every point at which the model ran."""
        return [(point, tally) for point, tally in self._known.items() if isinstance(tally, Tally)]

    def within(self, spans: Mapping[str, Range]) -> list[tuple[Point, Tally]]:
        """Every point at which the model ran, whose sizes are in some ranges."""
        return [(point, tally) for point, tally in self.known if inside(point, spans)]

    @property
    def most_varied(self) -> str:
        """The size of which most values were tried."""
        points = list(self._known)
        values = [len({point[i] for point in points}) for i in range(len(self.names))]
        return self.names[values.index(max(values))]

    def seconds(self, point: Point) -> float:
        """How long a run took; 0 where it was another search's."""
        return self._seconds.get(point, 0.0)

    def time_again(self, point: Point) -> None:
        """Run once more where the model ran, and keep the shorter time: the first may have been disturbed."""
        began = process_time()
        self.probe(self.sizes(point), self._cuts(point))
        self._seconds[point] = min(self.seconds(point), process_time() - began)

    def bearable(self, point: Point) -> bool:
        """Whether memory lasts for a run there: without data it does."""
        if self._bytes is None or isinstance(self._known.get(point), Tally):
            return True
        return self._foretold(point) <= self._bytes

    def _foretold(self, point: Point) -> int:
        return foretold(point, {known: tally.peak for known, tally in self.known})

    def repeats(self, point: Point) -> bool:
        """Whether another run at the same point, with other random numbers, costs the same.

        Returns:
            Whether.

        Raises:
            ModulesChanged: If integers that note comparisons were the difference; they no longer do.
        """
        probe, first = self.probe, self.counts(point)
        by_chance = probe.draws or probe.way == "real"  # with data each seed is other data
        if by_chance and probe.notes:
            self._forget_chance(point)
        for seed in range(1000, 1000 + (_REPEATS if by_chance else 1)):
            again = self._plainly(point, seed)
            if equal(first, again):
                continue
            if probe.notes and equal(again, self._plainly(point, seed + _REPEATS)):
                probe.notes = False
                raise ModulesChanged
            return False
        return True

    @property
    def room(self) -> int:
        """Operators that may still run."""
        return self._room

    @contextmanager
    def sparing(self) -> Iterator[None]:
        """Take at most half of what may still run, and give the rest back."""
        kept = self._room // 2
        self._room -= kept
        try:
            yield
        finally:
            self._room += kept

    def _plainly(self, point: Point, seed: int) -> dict[Key, int]:
        """What is counted at a point with integers that note nothing."""
        probe = self.probe
        notes, probe.notes = probe.notes, False
        try:
            return self._sums(probe(self.sizes(point), self._cuts(point), seed=seed))
        finally:
            probe.notes = notes

    def _forget_chance(self, point: Point) -> None:
        """Take out comparisons of what was drawn, as `x.sum() != 0`: they turn anywhere, at no size."""
        noted = self.tally(point).compared
        again = self.probe(self.sizes(point), self._cuts(point), seed=999).compared
        self._drawn |= {c[:2] for c in noted.keys() & again.keys() if noted[c] != again[c]}
        for known, tally in self.known:
            self._known[known] = self._steady(tally)

    def _steady(self, tally: Tally) -> Tally:
        if not self._drawn:
            return tally
        compared = {c: d for c, d in tally.compared.items() if c[:2] not in self._drawn}
        return tally._replace(compared=compared)

    def _too_large(self, point: Point) -> AssayError:
        return CannotMeasure(
            "sizes",
            verbatim(f"{self.say(point)}, about {self._foretold(point) / 1e9:.2g} GB with data"),
            f"at most {(self._bytes or 0) / 1e9:.2g} GB, half of the memory that is free",
            "Ask on a larger machine, or hold a size at a value with -a name=value.",
        )

    def _cuts(self, point: Point) -> dict[str, int]:
        return dict(zip(self.stacks, point[len(self.names) :], strict=True))

    def _at(self, point: Point) -> Tally | AssayError:
        if point not in self._known:
            if self._room <= 0:
                raise TooMany
            if not self.bearable(point):
                self._known[point] = self._too_large(point)
                return self._known[point]
            probe, began = self.probe, process_time()
            self._progress("counting", probe.runs, probe.runs + 8, self.say(point))
            try:
                tally = probe(self.sizes(point), self._cuts(point), seed=probe.runs)
                self._known[point] = self._steady(tally)
            except AssayError as error:
                self._known[point] = _without_frames(error)
            else:
                self._room -= tally.steps
                self._seconds[point] = process_time() - began
        return self._known[point]


def _without_frames(error: AssayError) -> AssayError:
    """The error without its frames, which hold the whole model and its activations."""
    raised: BaseException | None = error
    while raised is not None:
        raised.__traceback__ = None
        raised = raised.__cause__ or raised.__context__
    return error


def _bytes_for_data() -> float | None:
    free = available_memory()
    return None if free is None else free / 2


def steps_at(found: Interpolant[Key], point: Point) -> int | Fraction:
    """How many operators a run at a point will take, by what was fitted."""
    return found.one(Key(STEPS, FORWARD), point)


def off(explained: Mapping[Key, object], counted: Mapping[Key, int]) -> set[Key]:
    """The keys in which an explanation and a count differ; how many operators ran is none of them."""
    return {
        key
        for key in {*explained, *counted}
        if key.quantity != STEPS and explained.get(key, 0) != counted.get(key, 0)
    }


def differing(explained: Mapping[Key, object], counted: Mapping[Key, int]) -> set[str]:
    """The quantities in which an explanation and a count differ."""
    return {key.quantity for key in off(explained, counted)}


def equal(explained: Mapping[Key, object], counted: Mapping[Key, int]) -> bool:
    """Whether an explanation is exact."""
    return not off(explained, counted)


def inside(point: Point, spans: Mapping[str, Range]) -> bool:
    """Whether the sizes of a point, whatever the depths behind them, are in some ranges."""
    return all(x in span for x, span in zip(point, spans.values(), strict=False))


def put(point: Point, i: int, value: int) -> Point:
    """A point with another coordinate."""
    return (*point[:i], value, *point[i + 1 :])
