"""Seconds of forward and backward passes at given sizes: real weights, the model's own type and device."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from assay.builder import Builder
from assay.errors import RAISED, UserCodeError
from assay.state import preserved, preserved_random_state
from assay.subject import Subject, tensors

Clock = Callable[[], float]

_LEAST, _MOST = 3, 15  # repeats of one point
_ENOUGH = 0.3  # seconds of repeats after which a median is trusted


@dataclass(frozen=True)
class Timing:
    """Seconds at one point.

    Args:
        sizes: Where.
        forward: Median seconds of the forward pass, the loss included.
        backward: Median seconds of the backward pass; None where there is nothing to differentiate.
        repeats: How many passes the medians are of; one more ran before, to warm up.
        device: Where it ran.
    """

    sizes: Mapping[str, int]
    forward: float
    backward: float | None
    repeats: int
    device: str

    @property
    def both(self) -> float:
        """Seconds of one training step, without the optimizer."""
        return self.forward + (self.backward or 0.0)


def take_time(
    build: Builder, sizes: Mapping[str, int], until: float, clock: Clock = time.perf_counter
) -> Timing:
    """Run a model a few times at given sizes.

    Args:
        build: Its builder.
        sizes: A value for every size.
        until: The time of `clock` after which no further pass is begun; one is always timed.
        clock: Seconds that go by.

    Returns:
        The medians.

    Raises:
        AssayError: If the model does not build or run at these sizes.
    """
    with preserved_random_state(0):
        subject = build(**sizes)
    with preserved(subject.model), _no_collection():
        device = _device(subject)
        _pass(subject, device, clock)  # the first one allocates, compiles, and fills caches
        start, passes = clock(), [_pass(subject, device, clock)]
        while len(passes) < _MOST and clock() < until:
            if len(passes) >= _LEAST and clock() - start > _ENOUGH:
                break
            passes.append(_pass(subject, device, clock))
    back = [seconds for _, seconds in passes if seconds is not None]
    return Timing(
        dict(sizes),
        median(seconds for seconds, _ in passes),
        median(back) if back else None,
        len(passes),
        str(device),
    )


def _pass(subject: Subject, device: torch.device, clock: Clock) -> tuple[float, float | None]:
    """Seconds of one forward and one backward pass."""
    for tensor in _leaves(subject):
        tensor.grad = None  # adding to an old gradient would be one more pass over it
    _wait(device)
    start = clock()
    objective = subject.objective(subject.forward())
    _wait(device)
    middle = clock()
    if not objective.requires_grad:
        return middle - start, None
    try:
        objective.backward()
    except RAISED as error:
        raise UserCodeError("backward", subject.name, error) from error
    _wait(device)
    return middle - start, clock() - middle


def _leaves(subject: Subject) -> Iterator[Tensor]:
    yield from subject.model.parameters()
    for tensor in tensors([subject.inputs, dict(subject.kwargs or {})]):
        if tensor.is_leaf:
            yield tensor


def _device(subject: Subject) -> torch.device:
    held = (*subject.model.parameters(), *tensors([subject.inputs, dict(subject.kwargs or {})]))
    return next((tensor.device for tensor in held), torch.device("cpu"))


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from starting in the middle of a pass."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
