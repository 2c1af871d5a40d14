"""Loss and outputs of a model at displaced weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from assay.errors import UserCodeError
from assay.state import preserved, preserved_random_state
from assay.subject import Subject, prediction
from assay.update.direction import Direction, rms


@dataclass(frozen=True)
class Probe:
    """Loss and outputs at displaced weights, with the same random numbers every time.

    Args:
        subject: With a copy of the model, at the common weights.
        step: Which seed to use.
        seed: First seed.
    """

    subject: Subject
    step: int
    seed: int
    _common: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        # kept for all evaluations: to copy large weights for each takes longer than to run the model
        named = self.subject.model.named_parameters()
        self._common.update((name, p.detach().clone()) for name, p in named)

    def at(self, direction: Direction | None = None, scale: float = 1.0) -> tuple[float, Tensor]:
        """Objective and what the model predicts at `weights + scale · direction`.

        Returns:
            A float and a tensor of the output's shape, in float64; NaN both where model or loss raise at
            displaced weights (a loss that checks its range): there they have no value.

        Raises:
            UserCodeError: If model or loss raise at the common weights.
        """
        with preserved(self.subject.model), self._displaced(direction, scale):
            # with gradients on: a model may differentiate inside its forward pass, as force fields do
            with preserved_random_state(self.seed + self.step), torch.enable_grad():
                try:
                    output = self.subject.forward()
                    value = self.subject.objective(output)
                except UserCodeError:
                    if direction is None:
                        raise
                    return math.nan, torch.tensor(math.nan, dtype=torch.float64)
            return float(value.detach()), prediction(output).detach().double().clone()

    @contextmanager
    def _displaced(self, direction: Direction | None, scale: float) -> Iterator[None]:
        named = dict(self.subject.model.named_parameters())
        trained = (name for name, p in named.items() if p.requires_grad)
        try:
            if direction is not None:
                with torch.no_grad():
                    for name, d in zip(trained, direction, strict=True):
                        torch.add(self._common[name], d, alpha=scale, out=named[name])
            yield
        finally:
            with torch.no_grad():
                for name, p in named.items():
                    p.copy_(self._common[name])

    def change(self, direction: Direction, scale: float, start: Tensor) -> float:
        """RMS change of the output from `start` at `weights + scale · direction`; infinite for NaN."""
        changed = rms(self.at(direction, scale)[1] - start)
        return math.inf if math.isnan(changed) else changed


def scale_to_function_norm(
    probe: Probe, direction: Direction, start: Tensor, target: float
) -> float | None:
    """The factor at which a step changes the outputs by `target` in RMS.

    The change grows with the factor for small steps; the first crossing is bracketed by doubling and then
    halved in the logarithm to four digits.

    Args:
        probe: Evaluates the model.
        direction: The step.
        start: Outputs at the common weights.
        target: RMS change to reach.

    Returns:
        The factor, or None where no factor within 2^±40 reaches it with finite outputs.
    """
    low, high = 1.0, 1.0
    for _ in range(40):
        if probe.change(direction, low, start) < target:
            break
        low /= 2
    else:
        return None
    for _ in range(40):
        if probe.change(direction, high, start) >= target:
            break
        low, high = high, high * 2
    else:
        return None
    if low == high:  # pragma: no cover - `low` was below the target and `high` is not
        return low
    for _ in range(30):
        middle = math.sqrt(low * high)
        if probe.change(direction, middle, start) < target:
            low = middle
        else:
            high = middle
        if high / low < 1 + 1e-4:
            break
    if math.isinf(probe.change(direction, high, start)):
        return None  # the outputs jump to where they have no value
    return math.sqrt(low * high)
