"""Choosing the grid of every tensor so that the bound is small.

Steps are part of the code word, so any way of choosing them is honest, also by looking at the
examples. The search scans grids from coarse to fine, with one step for all tensors and with steps in
proportion to each tensor's size, then coarsens tensors one at a time. Among choices that lose at most
`slack` of the examples it keeps the smallest bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assay.certificate import integers
from assay.certificate.bounds import bound
from assay.certificate.evaluate import count_errors
from assay.certificate.integers import WEIGHT, WHOLE, Counts, Symbols
from assay.certificate.language import POOL, STEPS, Coded, Mode, numbers, step_size
from assay.certificate.prior import Slot, raw_bytes
from assay.certificate.prior import slots as slots_of
from assay.errors import CannotMeasure, verbatim
from assay.progress import Progress, silent
from assay.subject import Examples, Subject

LEVELS = 16  # powers of two that a scan tries at most
DEAD_ZONE = 0.15  # rounding towards zero from 0.65 steps saves more bits than it costs errors

_NOTHING: Symbols = np.zeros(0, dtype=np.int64)
_Choice = tuple[int, float]  # step index, dead zone


@dataclass(frozen=True)
class Cost:
    """What a tensor costs at one step."""

    mode: Mode
    counts: Counts
    even: int

    @property
    def bits(self) -> float:
        """Bits with contexts of its own."""
        return integers.length(self.counts, self.even)


class Quantiser:
    """Codes one trained tensor at any step.

    Args:
        slot: The tensor as built: name, shape, type.
        trained: Its trained value.
        built: Its value as built, or None where a code may not refer to it.

    Raises:
        CannotMeasure: If a trained number is NaN or infinite, or an integer too large.
    """

    def __init__(self, slot: Slot, trained: Tensor, built: Tensor | None) -> None:
        self.slot, self._trained, self._built = slot, trained, built
        same = built is not None and raw_bytes(trained) == raw_bytes(built)
        self.free = slot.continuous and not same  # whether there is a step to choose
        self._fixed = None if self.free else self._exact(same)
        self._costs: dict[_Choice, Cost] = {}
        self.scale = 0.0
        if self.free:
            self._require_finite()
            moved = numbers(trained) - (numbers(built) if built is not None else 0.0)
            self.scale = float(np.sqrt(np.mean(moved**2)))
            largest = float(np.abs(numbers(trained)).max())
            room = 2 ** (WEIGHT - 1) / max(largest, 1e-300)
            self._finest = min(STEPS.stop - 1, int(np.floor(2 * np.log2(room))))

    def clamp(self, step: int) -> int:
        """The nearest step whose symbols fit the language."""
        return max(STEPS.start, min(step, self._finest)) if self.free else 0

    def code(self, choice: _Choice) -> Coded:
        """The tensor on a grid.

        Args:
            choice: Index of its step, and dead zone.

        Returns:
            What the message says of it.
        """
        if self._fixed is not None:
            return self._fixed
        mode = self.cost(choice).mode
        if mode is Mode.BUILT:
            return Coded(mode, 0, _NOTHING)
        return Coded(mode, choice[0], self._symbols(mode, choice))

    def cost(self, choice: _Choice) -> Cost:
        """What that takes, by closed form.

        Args:
            choice: Index of its step, and dead zone.

        Returns:
            The cheaper of its ways to be said.
        """
        if choice not in self._costs:
            self._costs[choice] = self._cheapest(choice)
        return self._costs[choice]

    def _cheapest(self, choice: _Choice) -> Cost:
        if self._fixed is not None:
            width = WEIGHT if self.slot.continuous else WHOLE
            return Cost(self._fixed.mode, *integers.tally(self._fixed.symbols, width))
        symbols = self._symbols(Mode.GRID, choice)
        best = Cost(Mode.GRID, *integers.tally(symbols, WEIGHT))
        if self._built is not None:
            change = self._symbols(Mode.CHANGE, choice)
            if not change.any():
                return Cost(Mode.BUILT, np.zeros((1, 2), dtype=np.int64), 0)
            other = Cost(Mode.CHANGE, *integers.tally(change, WEIGHT))
            best = min(best, other, key=lambda cost: cost.bits)
        return best

    def _symbols(self, mode: Mode, choice: _Choice) -> Symbols:
        step, dead = choice
        value = numbers(self._trained)
        if mode is Mode.CHANGE and self._built is not None:
            value -= numbers(self._built)
        size = np.floor(np.abs(value) / step_size(step) + (0.5 - dead))
        symbols: Symbols = np.copysign(np.minimum(size, 2**WEIGHT - 1), value).astype(np.int64)
        return symbols

    def _exact(self, same: bool) -> Coded:
        if same:
            return Coded(Mode.BUILT, 0, _NOTHING)
        symbols = self._trained.detach().cpu().long().reshape(-1).numpy()
        if np.any(symbols >= 2**WHOLE) or np.any(symbols <= -(2**WHOLE)):
            raise CannotMeasure(
                self.slot.name, verbatim("an integer beyond 2^62"), "smaller integers", "Drop it."
            )
        return Coded(Mode.GRID, 0, symbols)

    def _require_finite(self) -> None:
        bad = int((~torch.isfinite(self._trained)).sum())
        if bad:
            raise CannotMeasure(
                self.slot.name,
                verbatim(f"{bad} of {self._trained.numel()} numbers are NaN or infinite"),
                "finite weights",
                "Look at the training loss: it diverged. Smaller learning rates or clipping help.",
            )


class Search:
    """Finds steps whose bound is small.

    Args:
        subject: A fresh model, to try codes in; it ends up with some of them.
        trained: Trained values, one for every slot of it.
        built: Values as built, or None where the code may not refer to them.
        examples: All training examples; trials run on evenly spaced ones.
        delta: The bound's.
        slack: Share of examples that quantisation may cost.
        trials: Forward passes over `rows` examples at most.
        rows: Examples in a trial.
        seed: Random seed of evaluation.
        progress: Told after every trial.
    """

    def __init__(
        self,
        subject: Subject,
        trained: Sequence[Tensor],
        built: Sequence[Tensor] | None,
        examples: Examples,
        *,
        delta: float,
        slack: float,
        trials: int,
        rows: int = 2048,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        self._subject, self._trained, self._built = subject, trained, built
        self._slots = slots_of(subject.model)
        self._values = [slot.tensor.detach().clone() for slot in self._slots]
        self._quantisers = [
            Quantiser(slot, value, built[i] if built is not None else None)
            for i, (slot, value) in enumerate(zip(self._slots, trained, strict=True))
        ]
        self._total = len(examples)
        pick = torch.linspace(0, self._total - 1, min(rows, self._total)).round().long()
        self._sample = examples[pick]
        self._delta, self._slack, self._seed = delta, slack, seed
        self._trials, self._done, self._progress = trials, 0, progress
        self._loaded: list[_Choice | None] = [None] * len(self._slots)

    def run(self) -> tuple[Coded, ...]:
        """Choose.

        Returns:
            One coded tensor for every slot.
        """
        if not any(quantiser.free for quantiser in self._quantisers):
            return self._coded([(0, 0.0)] * len(self._slots))
        load(self._slots, self._trained)
        self._allowed = self._count() + int(self._slack * len(self._sample))
        scales = [q.scale for q in self._quantisers if q.free and q.scale]
        common = float(np.exp(np.mean(np.log(scales)))) if scales else 1.0
        best = min(
            self._scan([q.scale or common for q in self._quantisers]),
            self._scan([common] * len(self._quantisers)),
            key=lambda found: found[0],
        )
        return self._coded(self._coarsen(*best))

    def _scan(self, scales: list[float]) -> tuple[tuple[float, ...], list[_Choice]]:
        """Halve all steps until it no longer helps."""
        best: tuple[tuple[float, ...], list[_Choice]] | None = None
        for level in range(LEVELS):
            plan = [
                (q.clamp(round(2 * (level - 1 - np.log2(scale)))), 0.0)
                for q, scale in zip(self._quantisers, scales, strict=True)
            ]
            score = self._score(plan)
            if best is None or score < best[0]:
                best = (score, plan)
            elif not best[0][0]:  # worse than a level that kept the errors
                break
            if self._done >= self._trials // 2 and not best[0][0]:
                break
        assert best is not None
        return best

    def _coarsen(self, score: tuple[float, ...], plan: list[_Choice]) -> list[_Choice]:
        """Greedy descent: a dead zone for all, half a level for all, then tensors one by one."""
        everywhere = range(len(plan))
        self._order = sorted(
            (i for i in everywhere if self._quantisers[i].free),
            key=lambda i: -self._quantisers[i].cost(plan[i]).bits,
        )
        moves: list[tuple[Sequence[int], int, float]] = [
            (everywhere, 0, DEAD_ZONE),
            (everywhere, -1, 0.0),
            (everywhere, 1, 0.0),
            *(([i], -2, 0.0) for i in self._order),
            *(([i], -1, 0.0) for i in self._order),
        ]
        for which, shift, dead in moves:
            if self._done >= self._trials:
                break
            moved = list(plan)
            for i in which:
                moved[i] = (self._quantisers[i].clamp(plan[i][0] + shift), plan[i][1] + dead)
            if moved != plan and (found := self._score(moved)) < score:
                score, plan = found, moved
        return plan

    def _score(self, plan: list[_Choice]) -> tuple[float, ...]:
        """Smaller is better: first whether too many examples are lost, then the bound, then bits."""
        for i, choice in enumerate(plan):
            if self._loaded[i] != choice:
                value = self._quantisers[i].code(choice).values(self._values[i])
                load([self._slots[i]], [value])
                self._loaded[i] = choice
        errors, bits = self._count(), self._bits(plan)
        if errors > self._allowed:
            return (1, errors, bits)
        scaled = errors * self._total // len(self._sample)
        return (0, bound(scaled, self._total, math.ceil(bits), self._delta).best, bits)

    def _count(self) -> int:
        errors = count_errors(self._subject, self._sample, seed=self._seed).errors
        self._done += 1
        note = f"error {errors / len(self._sample):.3f}"
        self._progress("choosing steps", min(self._done, self._trials), self._trials, note)
        return errors

    def _bits(self, plan: list[_Choice]) -> float:
        total = 0.0
        pools: dict[bool, Counts] = {}
        for quantiser, choice in zip(self._quantisers, plan, strict=True):
            cost = quantiser.cost(choice)
            if cost.mode is Mode.BUILT:
                continue
            if quantiser.slot.size >= POOL:
                total += cost.bits
                continue
            kind = quantiser.slot.continuous
            pools[kind] = pools.get(kind, np.zeros_like(cost.counts)) + cost.counts
            total += cost.even
        return total + sum(integers.length(counts) for counts in pools.values())

    def _coded(self, plan: list[_Choice]) -> tuple[Coded, ...]:
        return tuple(
            quantiser.code(choice) for quantiser, choice in zip(self._quantisers, plan, strict=True)
        )


def load(slots: Sequence[Slot], values: Sequence[Tensor]) -> None:
    """Write values into a model's tensors.

    Args:
        slots: The model's own tensors.
        values: As many tensors of the same shapes.
    """
    with torch.no_grad():
        for slot, value in zip(slots, values, strict=True):
            slot.tensor.copy_(value)
