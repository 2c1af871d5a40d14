"""The law of wall-clock time: how seconds grow with each size, beside the growth of what was derived."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from assay.builder import Builder, as_builder
from assay.cost.blend import Part, blend
from assay.cost.cost import Cost, strict_cost
from assay.cost.formula import Formula
from assay.cost.growth import on_grid
from assay.cost.slope import Slope, fit_slope
from assay.cost.stopwatch import Clock, Timing, take_time
from assay.errors import AssayError, CannotMeasure, UsageError, said, verbatim
from assay.finding import Result
from assay.progress import Progress, silent
from assay.view.blocks import View

_STEP = 2**0.5  # from one value of a size to the next
_FITTED = 6  # points at the large end that an exponent is fitted to: a factor of 5.7
_WANTED = 6  # points along a size; below the base where they cannot be had above it
_POINTS = 24  # at the most along a size: a factor of 3,000
_PASSES = 4  # of one point: to warm up, and three for a median
_APART = 0.2  # exponents that differ by less tell nothing apart
_NOISE = 0.1  # a measured exponent is never trusted more than this
_MOST = 0.5  # of the seconds: then bytes decide
_QUANTITIES = ("bytes", "operations", "calls")


@dataclass(frozen=True)
class TimeLaw:
    """How seconds of one phase grow with one size, the others at their base.

    Args:
        size: The size.
        phase: "forward" or "backward".
        values: The values of the size that the exponents are of, the largest that were measured.
        measured: The exponent of the seconds.
        predicted: Exponents of "products" (flops), "bytes", "operations" and "calls" of operators over the
            same values, by the derived formulas; those that are zero or have no formula are left out.
        orders: The derived orders of the same, for a large size.
        follows: Those that the seconds grow like; all that are alike, none where none is near.
        moving: The part of the seconds at the largest size that goes with the bytes; None where bytes grow
            like the work, so that nothing tells them apart.
    """

    size: str
    phase: str
    values: tuple[int, ...]
    measured: Slope
    predicted: Mapping[str, float]
    orders: Mapping[str, str]
    follows: tuple[str, ...]
    moving: Part | None = None

    @property
    def work(self) -> str:
        """What the phase is for: "products", or all "operations" where there are none."""
        return "products" if "products" in self.orders else "operations"

    @property
    def by_bytes(self) -> bool:
        """Whether bytes grow faster than the work, and most of the seconds go with them."""
        return self.moving is not None and self.moving.low > _MOST

    @property
    def outgrows(self) -> bool:
        """Whether the seconds grow faster than everything that was derived, beyond doubt."""
        return bool(self.predicted) and self.measured.low > max(self.predicted.values()) + _APART


@dataclass(frozen=True, repr=False)
class Seconds(Result):
    """Seconds that were measured, and the laws that they follow.

    Args:
        name: What was timed.
        base: Its base sizes.
        timings: All points.
        laws: One for each size and phase.
        stopped: Why no larger sizes were measured, by size.
        budget: Seconds that the measurement was given.
        threads: Of the CPU that torch used.
        cost: The formulas beside them.
    """

    name: str
    base: Mapping[str, int]
    timings: tuple[Timing, ...]
    laws: tuple[TimeLaw, ...]
    stopped: Mapping[str, str]
    budget: float
    threads: int
    cost: Cost

    def view(self) -> View:
        """Seconds against each size, and exponents beside what was derived.

        Returns:
            The view.
        """
        from assay.cost.show_seconds import show_seconds

        return show_seconds(self)


def measure_seconds(
    build: Any,
    /,
    *,
    budget: float = 60.0,
    memory: int | None = None,
    cost: Cost | None = None,
    progress: Progress = silent,
    clock: Clock = time.perf_counter,
    **base_sizes: int,
) -> Seconds:
    """Time forward and backward at growing sizes, and say which of the derived laws the seconds follow.

    One size at a time grows from its base by steps of √2, the others held. At every point a model is built
    and run for real: once to warm up, then three times or more, of which the median counts. The exponent is
    the slope of log seconds at the six largest sizes. Beside it stand the exponents that the exact formulas
    have over the same sizes. Where bytes grow faster than products, the seconds are also fitted by a sum of
    products, bytes and calls: where most of them go with the bytes, memory is what is waited for.

    Args:
        build: A builder with sizes.
        budget: Seconds that the measurement may take, about; the derivation of the formulas comes before.
        memory: Bytes that a training step may hold at its peak; no bound by default.
        cost: The formulas, where they were derived before.
        progress: Told the seconds that went by.
        clock: Seconds that go by.
        **base_sizes: Values of sizes in place of the builder's defaults.

    Returns:
        Points and laws.

    Raises:
        UsageError: If the budget is not a positive number, or a size is unknown.
        CannotMeasure: If there is no size to vary, or fewer than three points can be had along any.
        AssayError: What the model raises at the base sizes.
    """
    if not 0 < budget < float("inf"):
        raise UsageError("budget", budget, "a finite number of seconds above 0", "Give 60, say.")
    builder = as_builder(build)
    builder = builder.with_(sizes=base_sizes) if base_sizes else builder
    if not builder.sizes:
        raise CannotMeasure(
            "sizes",
            verbatim(f"{builder.name} has none"),
            "a builder with at least one size to vary",
            "Give a function with an integer parameter: `def build(n: int = 16): …`.",
        )
    cost = cost or strict_cost(builder, progress)
    course = _Course(builder, cost, memory, progress, clock, budget)
    laws = []
    varied = [name for name in builder.sizes if _depends(cost, name)]
    for left, name in zip(range(len(varied), 0, -1), varied, strict=True):
        course.along(name, left)
        laws += _laws(cost, name, course.points(name))
    if not laws:
        reasons = "; ".join(course.stopped.values()) or "no cost depends on a size"
        raise CannotMeasure(
            "seconds",
            verbatim(f"too few points ({reasons})"),
            f"three points along one of {', '.join(builder.sizes)} within {budget:g} seconds",
            "Raise --budget, or lower the base with --size.",
        )
    found = Seconds(
        name=builder.name,
        base=dict(builder.sizes),
        timings=tuple(course.known.values()),
        laws=tuple(laws),
        stopped=course.stopped,
        budget=budget,
        threads=torch.get_num_threads(),
        cost=cost,
    )
    from assay.cost.judge_seconds import judge_seconds

    return replace(found, findings=judge_seconds(found))


class _Course:
    """Points along the sizes, one after another, within a budget."""

    def __init__(
        self,
        build: Builder,
        cost: Cost,
        memory: int | None,
        progress: Progress,
        clock: Clock,
        budget: float,
    ) -> None:
        self.known: dict[tuple[int, ...], Timing] = {}
        self.stopped: dict[str, str] = {}
        self._build, self._cost, self._memory = build, cost, memory
        self._progress, self._clock, self._budget = progress, clock, budget
        self._start = clock()

    def points(self, size: str) -> list[Timing]:
        """What is known along one size, in its order."""
        base = self._build.sizes
        found = [t for t in self.known.values() if {**t.sizes, size: base[size]} == base]
        return sorted(found, key=lambda timing: timing.sizes[size])

    def along(self, size: str, left: int) -> None:
        """Measure along one size: up from the base, and down where there are too few points.

        Args:
            size: The size.
            left: How many sizes share the time that is left, this one among them.
        """
        now, base = self._clock(), self._build.sizes[size]
        until = now + (self._start + self._budget - now) / left
        value, reason = base, self._try(size, base, until)
        while not reason:
            following = self._on_grid(size, round(_STEP * value))
            if following <= value:  # a multiple of the heads, say
                following = self._on_grid(size, 2 * value)
            if following <= value:
                reason = "no formula holds beyond"
            elif len(self.points(size)) >= _POINTS:
                reason = "these are points enough"
            else:
                reason = self._try(size, following, until)
                value = following
        self.stopped[size] = f"{size} = {value:,}: {reason}"
        lower = self._on_grid(size, int(base / _STEP))
        while self.points(size) and len(self.points(size)) < _WANTED and 0 < lower < base:
            if self._try(size, lower, until):
                return
            lower = self._on_grid(size, int(lower / _STEP))

    def _on_grid(self, size: str, value: int) -> int:
        total = self._cost.operations.total
        others = {name: v for name, v in self._build.sizes.items() if name != size}
        return on_grid(total, size, value, others) if total.pieces else value

    def _try(self, size: str, value: int, until: float) -> str:
        """Measure at a value of a size.

        Returns:
            Why there is no point, "" where there is one.

        Raises:
            AssayError: What the model raises at the base sizes, which are in every line.
        """
        sizes = {**self._build.sizes, size: value}
        where = tuple(sizes.values())
        if where in self.known:
            return ""
        reason = self._refusal(size, sizes, until)
        if reason:
            return reason
        try:
            self.known[where] = take_time(self._build, sizes, until, self._clock)
        except AssayError as error:
            if sizes == self._build.sizes:  # no line has a point then
                raise
            return f"it does not run there: {said(error.__cause__ or error)}"
        spent, seconds = self._clock() - self._start, self.known[where].both
        note = f"{size}={value}: {1e3 * seconds:.3g} ms"
        self._progress("measuring", min(int(spent), int(self._budget)), int(self._budget), note)
        return ""

    def _refusal(self, size: str, sizes: Mapping[str, int], until: float) -> str:
        """Why a point should not be tried, "" where it may be."""
        points, peak = self.points(size), self._cost.peak_bytes
        if self._memory is not None and peak.holds(**sizes) and peak(**sizes) > self._memory:
            return f"it would hold {peak(**sizes):,} bytes, and {self._memory:,} are to be had"
        if points:
            near = min(points, key=lambda timing: abs(timing.sizes[size] - sizes[size]))
            wanted = _PASSES * near.both * self._growth(near.sizes, sizes, size)
            # going up may take half of what is left, so that there is time to go down
            part = 0.5 if sizes[size] > self._build.sizes[size] else 1.0
            if wanted > part * (until - self._clock()):
                return "the time that was given does not last"
        return ""

    def _growth(self, known: Mapping[str, int], sizes: Mapping[str, int], size: str) -> float:
        """How many times as long another point may take."""
        formulas = (self._cost.operations.total, self._cost.bytes.total)
        amounts = [
            (f(**sizes), f(**known)) for f in formulas if f.holds(**known) and f.holds(**sizes)
        ]
        return max([sizes[size] / known[size], *(new / max(old, 1) for new, old in amounts)])


def _depends(cost: Cost, size: str) -> bool:
    found = (cost.operations.total, cost.bytes.total)
    return any(not formula.pieces or formula.degree(size) for formula in found)


def _laws(cost: Cost, size: str, points: Sequence[Timing]) -> list[TimeLaw]:
    """The laws of both phases along one size, none where there are too few points."""
    laws = []
    for phase in ("forward", "backward"):
        timed = [(t, s) for t in points if (s := getattr(t, phase)) is not None and s > 0]
        if len(timed) < 3:
            continue
        fitted = timed[-_FITTED:]
        values = tuple(t.sizes[size] for t, _ in fitted)
        measured = fit_slope(values, [seconds for _, seconds in fitted])
        amounts, orders = _derived(cost, phase, size)
        predicted = _exponents(amounts, size, [t.sizes for t, _ in fitted])
        follows = _followed(measured, predicted)
        law = TimeLaw(size, phase, values, measured, predicted, orders, follows)
        if predicted.get("bytes", 0.0) - predicted.get(law.work, math.inf) > _APART:
            law = replace(law, moving=_moving(amounts, law.work, timed))
        laws.append(law)
    return laws


def _derived(cost: Cost, phase: str, size: str) -> tuple[dict[str, Formula], dict[str, str]]:
    """The formulas of one phase, and their orders in a size."""
    whole = cost.parts.split(lambda part: "") if cost.parts else {}
    found: dict[str, Formula] = {
        name: getattr(getattr(share, name), phase)
        for share in whole.values()
        for name in _QUANTITIES
    }
    found = {"products": getattr(cost.products, phase), **found} if whole else {}
    found = {n: formula for n, formula in found.items() if formula.pieces and not formula.is_zero}
    return found, {name: formula.order_in(size) for name, formula in found.items()}


def _amounts(formula: Formula, points: Sequence[Mapping[str, int]]) -> list[int]:
    """The values of a formula at points; empty where it is not positive at all of them."""
    found = [formula(**at) if formula.holds(**at) else 0 for at in points]
    return found if min(found) > 0 else []


def _exponents(
    formulas: Mapping[str, Formula], size: str, points: Sequence[Mapping[str, int]]
) -> dict[str, float]:
    amounts = {name: _amounts(formula, points) for name, formula in formulas.items()}
    values = [at[size] for at in points]
    return {name: fit_slope(values, found).exponent for name, found in amounts.items() if found}


def _moving(
    formulas: Mapping[str, Formula], work: str, timed: Sequence[tuple[Timing, float]]
) -> Part | None:
    """The part of the seconds that goes with the bytes, beside the work and the calls.

    Points at which one of the three has no number, as calls often at a size of 1, are left out: there the
    seconds that go with it would fall to the bytes.

    Returns:
        The part; None where too few points are left.
    """
    names = ("bytes", work, "calls")
    if not formulas.keys() >= {*names}:
        return None
    known = [(t.sizes, s) for t, s in timed if all(formulas[n].holds(**t.sizes) for n in names)]
    amounts = {name: _amounts(formulas[name], [sizes for sizes, _ in known]) for name in names}
    return blend([seconds for _, seconds in known], amounts).get("bytes") if known else None


def _followed(measured: Slope, predicted: Mapping[str, float]) -> tuple[str, ...]:
    """Which of the derived exponents the measured one is like."""
    room = max(_NOISE, min((measured.high - measured.low) / 2, _APART))
    return tuple(
        n for n, exponent in predicted.items() if abs(measured.exponent - exponent) <= room
    )
