"""Counts at sizes where no formula holds: one pass at each, and the largest that fits found by trying."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from assay.builder import Builder
from assay.cost.budget import last_that
from assay.cost.convention import CONVOLUTION, PRODUCT
from assay.cost.probe import Probe
from assay.cost.tally import (
    ADAM,
    BACKWARD,
    BYTES,
    CAUSAL,
    FLOPS,
    FORWARD,
    OPERATIONS,
    PARAMETERS,
    SAVED,
    STATES,
    TRAINABLE,
    Tally,
)
from assay.errors import CannotMeasure, UserCodeError, said, verbatim

_MOST = 1_000_000  # operators of a pass that is still made
_LONG = "a pass of that many operators takes long"
_FARTHEST = 1 << 40  # a size that no memory holds: what fits there does not grow
_FALLING = 4  # doublings at which a cost that falls is noticed


class Counter:
    """Counts passes of one builder, each at sizes of its own, and remembers them.

    Args:
        builder: The builder.
        way: How it is run without data, as `Cost.way` says.
        fused: Whether attention and dropout are the single kernels that a GPU runs.
    """

    def __init__(self, builder: Builder, way: str, *, fused: bool = False) -> None:
        self._builder, self._way, self._fused = builder, way, fused
        self._seen: dict[tuple[int, ...], Tally] = {}

    @property
    def base(self) -> Mapping[str, int]:
        """The sizes in use."""
        return self._builder.sizes

    @property
    def held(self) -> Mapping[str, int]:
        """The integers that the builder was given with `-a`: sizes that are held."""
        given = self._builder.arguments.items()
        return {name: value for name, value in given if type(value) is int}

    def tally(self, sizes: Mapping[str, int]) -> Tally:
        """One pass, forward and backward, without data.

        Args:
            sizes: A value for every size.

        Returns:
            The tally.

        Raises:
            AssayError: What the model raises there.
            CannotMeasure: If it runs with data alone, and would be larger than in use: memory and time are
                those of a real step.
        """
        beyond = any(value > self.base[name] for name, value in sizes.items())
        if self._way == "real" and beyond:
            raise CannotMeasure(
                "model",
                verbatim("code that looks at values"),
                "one that runs without data, to be counted at any size",
                "Start at these sizes with --size, and it is run there.",
            )
        at = tuple(sizes.values())
        if at not in self._seen:
            probe = Probe(self._builder, fused=self._fused)
            probe.way = self._way
            self._seen[at] = probe(sizes)
        return self._seen[at]

    def numbers(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """What `Cost.formulas` names, counted.

        Args:
            sizes: A value for every size.

        Returns:
            A number for each name.

        Raises:
            AssayError: As `tally`.
        """
        tally = self.tally(sizes)

        def total(quantity: str, phase: str = "", kinds: tuple[str, ...] = ()) -> int:
            return sum(
                value
                for key, value in tally.counts.items()
                if key.quantity == quantity
                and phase in ("", key.phase)
                and (not kinds or key.kind in kinds)
            )

        found = {"saved bytes": total(SAVED), "peak bytes": tally.peak}
        found["parameters"] = total(PARAMETERS)
        for phase in (FORWARD, BACKWARD):
            for name, quantity in (("flops", FLOPS), ("operations", OPERATIONS), ("bytes", BYTES)):
                found[f"{name}, {phase}"] = total(quantity, phase)
            found[f"products, {phase}"] = total(OPERATIONS, phase, (PRODUCT, CONVOLUTION))
            found[f"flops, {phase}, causal"] = total(FLOPS, phase) - total(CAUSAL, phase)
        return found

    def flops(self, sizes: Mapping[str, int]) -> int:
        """The flops of a training step.

        Args:
            sizes: A value for every size.

        Returns:
            How many.

        Raises:
            AssayError: As `tally`.
        """
        return sum(v for key, v in self.tally(sizes).counts.items() if key.quantity == FLOPS)

    def memory(self, sizes: Mapping[str, int]) -> int:
        """The peak of a training step with Adam's state.

        Args:
            sizes: A value for every size.

        Returns:
            Bytes.

        Raises:
            AssayError: As `tally`.
        """
        tally = self.tally(sizes)
        trainable = sum(v for key, v in tally.counts.items() if key.quantity == TRAINABLE)
        return tally.peak + STATES[ADAM] * trainable

    def largest(
        self,
        size: str,
        sizes: Mapping[str, int],
        below: int,
        amount: Callable[[Mapping[str, int]], int],
    ) -> tuple[int, str]:
        """The largest value of one size at which an amount fits a budget, by doubling and halving.

        Args:
            size: The size.
            sizes: A value for every size; for `size` one at which the model runs.
            below: The budget.
            amount: What is to fit, at sizes; it grows with every size.

        Returns:
            The value, and why the search ended there: "" where the next value does not fit.

        Raises:
            CannotMeasure: If not even 1 fits, the model runs at no value that does, or the amount falls.
        """
        least, good, bad = sizes[size], 0, sizes[size]
        search = _Search(size, sizes, below, amount)
        while search.fits(bad):
            good, bad = bad, 2 * bad
            if self.tally({**sizes, size: good}).steps * 2 > _MOST:
                return good, f"A larger {size} was not tried: {_LONG}."
            if bad > _FARTHEST:
                raise CannotMeasure(
                    f"solve {size}",
                    verbatim(f"a budget of {below:,}"),
                    f"a cost that grows with {size}",
                    f"It fits at every doubling from {least:,} to {good:,}: solve for another size.",
                )
        good = last_that(search.fits, good, bad)
        if not good:
            raise self._nothing(search, least)
        return good, search.why_not(good + 1)

    def between(
        self,
        size: str,
        sizes: Mapping[str, int],
        below: int,
        amount: Callable[[Mapping[str, int]], int],
        good: int,
        bad: int,
    ) -> tuple[int, str]:
        """The largest value of one size between two at which an amount fits, by halving.

        Args:
            size: The size.
            sizes: A value for every size; for `size` one at which the model runs.
            below: The budget.
            amount: What is to fit, at sizes; it grows with every size.
            good: A value that fits, or 0.
            bad: A larger one that does not.

        Returns:
            The value, `good` where none above it fits; and why the search ended there, as `largest` says it.

        Raises:
            AssayError: As `tally`, but for what the model raises.
            CannotMeasure: If a pass there would take long.
        """
        if self._steps(size, sizes, bad) > _MOST:
            raise CannotMeasure(
                f"solve {size}",
                verbatim(f"values up to {bad:,}"),
                "a model that runs fewer operators there",
                f"Ask for a smaller budget: {_LONG}.",
            )
        search = _Search(size, sizes, below, amount)
        found = last_that(search.fits, good, bad)
        return found, search.why_not(found + 1)

    def _steps(self, size: str, sizes: Mapping[str, int], value: int) -> int:
        """About how many operators a pass runs at one value: as many more for each step of the size."""
        start = sizes[size]
        some = self.tally(sizes).steps
        try:
            more = self.tally({**sizes, size: 2 * start}).steps
        except UserCodeError:  # a window, or a table, may end before
            more = 2 * some
        return some + (more - some) * max(0, value - start) // start

    def _nothing(self, search: _Search, least: int) -> CannotMeasure:
        """Why nothing up to a value fits: the budget is small, or the amount falls as the size grows."""
        size = search.size
        expected = f"a budget that fits some {size}"
        remedy = "Raise the budget, or lower the other sizes."
        larger = (least << k for k in range(1, _FALLING + 1))
        with suppress(CannotMeasure, StopIteration):  # what runs with data alone is not run larger
            first = next(value for value in larger if search.fits(value))
            expected = f"a cost that grows with {size}"
            remedy = f"It falls from {least:,} on, and {first:,} fits: solve for another size."
        return CannotMeasure(
            f"solve {size}", verbatim(f"a budget of {search.below:,}"), expected, remedy
        )


class _Search:
    """Whether values of a size fit a budget; where the model does not run, they do not.

    Args:
        size: The size.
        sizes: Values of all sizes.
        below: The budget.
        amount: What is to fit.
    """

    def __init__(
        self,
        size: str,
        sizes: Mapping[str, int],
        below: int,
        amount: Callable[[Mapping[str, int]], int],
    ) -> None:
        self.size, self.below = size, below
        self._sizes, self._amount = sizes, amount
        self._raised: dict[int, str] = {}

    def fits(self, value: int) -> bool:
        """Whether a value fits."""
        try:
            return self._amount({**self._sizes, self.size: value}) <= self.below
        except UserCodeError as error:
            self._raised[value] = said(error.__cause__ or error)
            return False

    def why_not(self, value: int) -> str:
        """Why a value does not fit, where it is not for the budget; "" where it is."""
        why = self._raised.get(value)
        return f"At {self.size} = {value:,} the model does not run: {why}." if why else ""
