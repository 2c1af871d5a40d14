"""Watches what goes into layers while a model trains: a batch counts once, when it is differentiated.

A forward pass computes the moments of what it was given and leaves them with its output; they count when a
gradient arrives there. So a pass without gradients, in evaluation mode or without a backward does not
count, and a pass that activation checkpointing repeats counts once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from assay.optim.moments import Moments, sample_rows

Inputs = Callable[
    [Any, Any, Any], Any
]  # (args, kwargs, output) to a tensor with features last, or None


@dataclass
class Bad:
    """Where an input was NaN or infinite.

    Args:
        feature: Its number.
        row: Its number, of the rows that the layer was given.
        value: What it was.
    """

    feature: int
    row: int
    value: float


class Port:
    """One input of one layer: what it was given since the last step.

    Args:
        name: As in "encoder.0".
        width: Features d.
        centred: Whether moments are about the mean.
    """

    def __init__(self, name: str, width: int, centred: bool) -> None:
        self.name, self.width, self.centred = name, width, centred
        self.pending: Moments | None = None
        self.bad: Bad | None = None

    def clear(self) -> None:
        """Forget what is pending."""
        self.pending = self.bad = None

    def receive(self, moments: Moments, bad: Bad | None) -> None:
        """Count a batch."""
        self.pending = moments if self.pending is None else self.pending.merged(moments)
        self.bad = self.bad or bad

    def read(self, x: Tensor) -> tuple[Moments, Bad | None] | None:
        """The moments of one batch, and where it is not finite.

        Args:
            x: `[..., d]`.

        Returns:
            None for an empty batch.
        """
        if x.numel() == 0:
            return None
        x = x.detach()
        moments = Moments.of(sample_rows(x), centred=self.centred)
        # elsewhere looking would wait for the device, and a step finds out anyway, without the row
        if x.device.type == "cpu" and (bool(moments.bad().any()) or not torch.isfinite(x.sum())):
            return moments, _find_bad(x)
        return moments, None


def _find_bad(x: Tensor) -> Bad | None:
    flat = x.reshape(-1, x.shape[-1])
    places = (~torch.isfinite(flat)).nonzero()
    if not len(places):
        return None
    row, feature = (int(i) for i in places[0])
    return Bad(feature, row, float(flat[row, feature]))


class Hook:
    """The forward hook of one module. Copies of the model get one that does nothing.

    Args:
        watch: Who listens; not kept alive.
        ports: What to read.
        inputs: For each port, how to find it.
    """

    def __init__(
        self,
        watch: Watch | None,
        ports: Sequence[Port],
        inputs: Sequence[Inputs],
    ) -> None:
        self.watch = weakref.ref(watch) if watch is not None else _nobody
        self.ports, self.inputs = tuple(ports), tuple(inputs)

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """After a forward pass."""
        if module.training and torch.is_grad_enabled() and self.watch() is not None:
            _observe(self, args, kwargs, output)

    def __deepcopy__(self, memo: Any) -> Hook:
        return Hook(None, (), ())

    def __reduce__(self) -> Any:
        return (Hook, (None, (), ()))


def _nobody() -> None:
    return None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _observe(hook: Hook, args: Any, kwargs: Any, output: Any) -> None:
    answer = _first_tensor(output)
    if answer is None or not answer.requires_grad:
        return
    found: list[tuple[Port, Moments, Bad | None]] = []
    with torch.no_grad():
        for port, find in zip(hook.ports, hook.inputs, strict=True):
            x = find(args, kwargs, output)
            read = port.read(x) if isinstance(x, Tensor) else None
            if read is not None:
                found.append((port, *read))

    def count(_: Tensor) -> None:
        while found:  # once, also where a graph is differentiated twice
            port, moments, bad = found.pop()
            port.receive(moments, bad)

    if found:
        answer.register_hook(count)


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, nn.utils.rnn.PackedSequence):
        return output.data
    values = output.values() if isinstance(output, dict) else output
    if isinstance(values, Sequence) or isinstance(output, dict):
        return next((t for t in map(_first_tensor, values) if t is not None), None)
    return None


class Watch:
    """All hooks of one optimizer."""

    def __init__(self) -> None:
        self.handles: dict[int, tuple[Any, nn.Module]] = {}

    def attach(self, module: nn.Module, ports: Sequence[Port], inputs: Sequence[Inputs]) -> None:
        """Listen to a module.

        Args:
            module: Its forward passes are read.
            ports: Where what it was given is counted.
            inputs: For each port, how to find it.
        """
        hook = Hook(self, ports, inputs)
        handle = module.register_forward_hook(hook, with_kwargs=True)
        self.handles[id(module)] = (handle, module)

    def close(self) -> None:
        """Take all hooks off."""
        for handle, _ in self.handles.values():
            handle.remove()
        self.handles.clear()
