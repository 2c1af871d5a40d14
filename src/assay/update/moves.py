"""How far each parameter moved in one step, from what, and along which gradient: four sums a parameter."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Move:
    """Sums over the entries of one parameter, in float64 where the device has it.

    Args:
        name: The parameter.
        weights: `Σ W²` before the step.
        step: `Σ ΔW²`.
        gradient: `Σ g²`.
        along: `Σ ΔW g`.
    """

    name: str
    weights: float
    step: float
    gradient: float
    along: float


@dataclass
class Snapshot:
    """Weights and gradients before a step; copies, because optimizers write into both.

    Args:
        parameters: By name.
        weights: Their values.
        gradients: Their gradients; None where there is none.
        seconds: What watching closures has taken so far.
    """

    parameters: Mapping[str, Tensor]
    weights: list[Tensor]
    gradients: list[Tensor | None]
    seconds: float = 0.0
    _seen: bool = field(default=False)

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor]) -> Snapshot:
        """The present state of `parameters`."""
        with torch.no_grad():
            weights = [_local(p).detach().clone() for p in parameters.values()]
            return cls(parameters, weights, _gradients(parameters))

    def watch_closure(self, closure: Callable[..., Any]) -> Callable[..., Any]:
        """Take the gradients from a closure instead, if its first call finds the weights unmoved.

        L-BFGS is given gradients of an earlier step, and its closure those of this one; a sharpness-aware
        optimizer is given those of this step, and its closure differentiates elsewhere.

        Args:
            closure: What the user gave to `step`.

        Returns:
            A function that does the same.
        """

        def watched(*args: Any, **kwargs: Any) -> Any:
            if self._seen:
                return closure(*args, **kwargs)
            self._seen = True
            start = time.perf_counter()
            pairs = zip(self.parameters.values(), self.weights, strict=True)
            unmoved = all(torch.equal(_local(p), w) for p, w in pairs)
            self.seconds += time.perf_counter() - start
            value = closure(*args, **kwargs)
            start = time.perf_counter()
            if unmoved:
                self.gradients = _gradients(self.parameters)
            self.seconds += time.perf_counter() - start
            return value

        return watched

    @torch.no_grad()
    def moves(self) -> list[Move]:
        """The sums of every parameter that had a gradient or moved, read from the device at once."""
        names, sums = [], []
        for (name, p), old, grad in zip(
            self.parameters.items(), self.weights, self.gradients, strict=True
        ):
            new = _local(p).detach()
            if new.shape != old.shape or (grad is None and torch.equal(new, old)):
                continue
            weights, slope = _wide(old), _wide(torch.zeros_like(old) if grad is None else grad)
            step = _wide(new) - weights
            pairs = ((weights, weights), (step, step), (slope, slope), (step, slope))
            names.append(name)
            sums.append(torch.stack([a.dot(b) for a, b in pairs]))
        if not sums:
            return []
        table = torch.stack([row.to(sums[0].device) for row in sums]).tolist()
        return [Move(name, *row) for name, row in zip(names, table, strict=True)]


def _gradients(parameters: Mapping[str, Tensor]) -> list[Tensor | None]:
    found: list[Tensor | None] = []
    for p in parameters.values():
        grad = None if p.grad is None else _local(p.grad).detach()
        if grad is not None:
            grad = grad.to_dense() if grad.is_sparse else grad.clone()
        found.append(grad)
    return found


def _local(tensor: Tensor) -> Tensor:
    """This rank's shard of a DTensor; any other tensor as it is. A shard needs no communication."""
    to_local: Callable[[], Tensor] | None = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()


def _wide(tensor: Tensor) -> Tensor:
    """Flat, and in float64 where the device has it: an angle near 0° needs twice its digits."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    wide = torch.float32 if tensor.device.type == "mps" else torch.float64
    return tensor.reshape(-1).to(wide)
