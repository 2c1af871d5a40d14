"""By what a norm divides: the size of its input, or the ε that keeps it from dividing by zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from assay.scale.operators import is_normaliser, mean_square

_NAMES = ("eps", "epsilon", "variance_epsilon")


@dataclass(frozen=True)
class Divisor:
    """A norm divides by `√(size + ε)`.

    Args:
        epsilon: ε.
        size: The variance of its input, over what it normalises; of an RMS norm the mean square.
    """

    epsilon: float
    size: float

    @property
    def kept(self) -> float:
        """The mean square of what comes out, before the affine map: 1 where ε is small."""
        return self.size / (self.size + self.epsilon) if self.size > 0 else 0.0


def divisor(
    operator: Any, name: str, args: Sequence[Any], module: nn.Module | None, out: Any
) -> Divisor | None:
    """What one norm divides by.

    Args:
        operator: The dispatched operator: the norm as a whole, or the first step of a norm module.
        name: Its name.
        args: Its positional arguments.
        module: The module that is running.
        out: What it returned.

    Returns:
        The divisor; None where it is not known.
    """
    x = args[0] if args and isinstance(args[0], Tensor) else None
    if x is None or not x.is_floating_point():
        return None
    if not is_normaliser(name):
        epsilon = next((e for n in _NAMES if (e := getattr(module, n, None)) is not None), None)
        return Divisor(float(epsilon), mean_square(x)) if isinstance(epsilon, float) else None
    places = [i for i, a in enumerate(operator._schema.arguments) if a.name in _NAMES]
    if not places or places[0] >= len(args) or not isinstance(args[places[0]], int | float):
        return None
    means = out[1] if isinstance(out, tuple | list) and len(out) > 2 else None
    if not isinstance(means, Tensor) or not means.numel():
        return None
    return Divisor(float(args[places[0]]), max(0.0, mean_square(x) - mean_square(means)))
