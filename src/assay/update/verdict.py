"""Same trajectory or not: a deviation judged against what round-off alone does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from assay.update.trajectory import Trajectory

Answer = Literal["invariant", "not invariant", "undetermined"]

MARGIN = 100.0  # a change of units rounds more often than the jitter does: sums are taken in other orders
RESOLUTION = (
    1e-3  # a run whose round-off grows beyond this share of the movement proves no invariance
)
LEAK = (
    1e-5  # an ε that moves the trajectory by less than this share is reported, not held against it
)


@dataclass(frozen=True)
class Verdict:
    """One row of the card.

    Args:
        row: The change of units.
        verdict: "invariant", "not invariant" or "undetermined".
        deviation: Largest RMS difference of outputs along the two trajectories, as a share of the RMS
            distance that training moved the outputs: 0 is the same function at every step. Of the changes
            tried with moderate factors it is the largest where invariant, that of the mildest otherwise.
        control: The same between runs whose first weights differ by round-off.
        bitwise: Whether the outputs were equal bit by bit at every step (with factors that are powers of
            two, where the row has factors).
        law: What holds, or what would make it invariant; verified by running it.
        reason: Why it is undetermined, or at which step the trajectories part.
        losses: Loss after every step in the changed units, in the reference's unit.
    """

    row: str
    verdict: Answer
    deviation: float = float("nan")
    control: float = float("nan")
    bitwise: bool = False
    law: str = ""
    reason: str = ""
    losses: tuple[float, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Two trajectories: how far apart they are after every step, as a share of the movement so far."""

    deviation: tuple[float, ...]
    bitwise: bool
    matched: bool  # whether they started as the same function

    @property
    def last(self) -> float:
        """Largest deviation over all steps."""
        return self.deviation[-1] if self.deviation else float("nan")


def compare(reference: Trajectory, twin: Trajectory) -> Comparison:
    """Compare two runs in function space.

    Args:
        reference: A run in the reference's units; finite.
        twin: A run in other units; where it ends early, the deviation from there on is infinite.

    Returns:
        For every step t ≥ 1 the largest RMS difference up to t over the largest RMS movement up to t.
    """
    steps = len(reference.outputs)
    a, b = reference.outputs.double(), twin.outputs.double()
    shared = min(steps, len(b))
    difference = _rms(a[:shared] - b[:shared])
    movement = _rms(a - a[:1]).cummax(0).values
    start = float(difference[0]) <= 1e-3 * RESOLUTION * float(_rms(a[:1])[0])
    grown = torch.nan_to_num(difference, nan=float("inf")).cummax(0).values
    share = [_ratio(float(grown[t]), float(movement[t])) for t in range(1, shared)]
    share += [float("inf")] * (steps - shared)
    bitwise = shared == steps and torch.equal(reference.outputs, twin.outputs)
    return Comparison(tuple(share), bitwise, start)


def thresholds(reference: Trajectory, controls: Sequence[Comparison]) -> tuple[float, ...]:
    """Deviation after every step up to which two trajectories count as the same.

    Args:
        reference: The run that the controls jitter.
        controls: Its comparisons with jittered runs.

    Returns:
        `MARGIN` times the larger of the controls and the round-off of the outputs themselves.
    """
    eps = torch.finfo(reference.outputs.dtype).eps
    outputs = reference.outputs.double()
    size, movement = float(_rms(outputs).max()), _rms(outputs - outputs[:1]).cummax(0).values
    found = []
    for t in range(1, len(outputs)):
        floor = _ratio(2 * eps * size, float(movement[t]))
        found.append(MARGIN * max(floor, *(c.deviation[t - 1] for c in controls)))
    return tuple(found)


def judge(comparison: Comparison, threshold: Sequence[float]) -> tuple[Answer, int]:
    """Decide, at every step for as long as round-off leaves something to see.

    A trajectory is called different as soon as at one step the deviation exceeds the threshold of that
    step, which a chaotic one cannot bring about by itself; it is called the same when at no step it does
    and the threshold of the last step is still below `RESOLUTION`.

    Args:
        comparison: Reference and twin.
        threshold: From `thresholds`.

    Returns:
        The answer, and the first step at which the trajectories part (0 where they do not).
    """
    for t, (deviation, limit) in enumerate(zip(comparison.deviation, threshold, strict=True), 1):
        if deviation > limit and limit <= 1.0:
            return "not invariant", t
    if comparison.bitwise or (threshold and threshold[-1] <= RESOLUTION):
        return "invariant", 0
    return "undetermined", 0


def _rms(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(1).sqrt()


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else (0.0 if a == 0 else float("inf"))
