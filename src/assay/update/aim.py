"""How far the outputs are from what the loss asks of them: targets in units that no output starts with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.errors import RAISED
from assay.state import preserved, preserved_random_state
from assay.subject import Subject
from assay.update.direction import rms

FAR = 100.0  # times the outputs, or times 1: what a network puts out starts near 1
STANDARDISE = "Standardise the targets, y = (y - mean) / std, and undo it on the outputs"
_DOUBLED = 60


@dataclass(frozen=True)
class Aim:
    """Where the outputs are, and how far they have to go.

    Args:
        size: RMS of the outputs.
        distance: RMS by which they have to move, straight down their own gradient, for half the loss.
    """

    size: float
    distance: float

    @property
    def far(self) -> bool:
        """Whether no weights of usual size lead there soon."""
        return self.distance > FAR * max(1.0, self.size)


def aim(subject: Subject, seed: int = 0) -> Aim | None:
    """Measure how far the outputs have to move for the loss to halve, to a factor of two.

    Args:
        subject: With a loss; its model is left as it was.
        seed: Of the random numbers in its forward pass.

    Returns:
        Size and distance; None where the output is not one tensor, or no distance halves the loss.

    Example:
        >>> subject = Subject(torch.nn.Identity(), torch.ones(4), loss=lambda u: (u - 1025).square().mean())
        >>> aim(subject).distance
        512.0
    """
    try:
        with preserved(subject.model), preserved_random_state(seed), torch.enable_grad():
            output = subject.forward()
            if not isinstance(output, Tensor):
                return None
            values = output.detach().requires_grad_()
            loss = subject.objective(values)
            (gradient,) = torch.autograd.grad(loss, values)
            now, values = float(loss.detach()), values.detach()
            steepness = rms(gradient)
            # both: NaN and infinity have no direction, and a loss of zero nothing to halve
            if not 0 < steepness < math.inf or not 0 < now < math.inf:
                return None
            for power in range(_DOUBLED):
                moved = values - gradient / steepness * 2.0**power
                if float(subject.objective(moved).detach()) <= now / 2:
                    return Aim(rms(values), 2.0**power)
    except RAISED:  # a loss that asks for more than values, or checks their range
        return None
    return None
