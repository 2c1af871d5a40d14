"""One operator that is about to run: its operands, where they come from, and what it makes of constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from assay.scale import operators
from assay.scale.lineage import Lineage
from assay.scale.saturated import Scores

Finish = Callable[[Any], None]  # what is left to do with the output, once the operator has run


@dataclass(eq=False)  # not frozen, which costs time: one is made for every operator that runs
class Operation:
    """An operator with its operands.

    Args:
        func: The dispatched operator.
        name: Its name, without namespace, overload and underscore.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        given: Every tensor among the arguments, in order.
        lines: Where these come from.
    """

    func: Any
    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    given: Sequence[Tensor]
    lines: Sequence[Lineage]

    @cached_property
    def weights(self) -> list[tuple[Tensor, Lineage]]:
        """The operands that are made of parameters alone."""
        pairs = zip(self.given, self.lines, strict=True)
        return [(x, line) for x, line in pairs if line.parameters]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters that feed it."""
        return tuple(dict.fromkeys(n for _, line in self.weights for n in line.parameters))

    @cached_property
    def signals(self) -> list[Lineage]:
        """Of the operands, those that depend on a record or on one of the model's inputs."""
        return [line for line in self.lines if line.signal]

    @property
    def is_constant(self) -> bool:
        """Whether it makes something of parameters and buffers alone, and looks nothing up."""
        if not self.given or (self.weights and self.name in operators.LOOKUPS):
            return False
        return all(line.parameters or line.constant for line in self.lines)

    @cached_property
    def on(self) -> Lineage:
        """What comes of the operands together, where nothing more is known of the operator."""
        rows, sizes, last, signal, raw = 0, 0, 0, False, False
        for line in self.lines:
            rows, sizes, last = rows | line.rows, sizes | line.sizes, last | line.last
            signal, raw = signal or line.signal, raw or line.raw
        if self.name == "exp" or self.name in operators.SOFTMAX:
            sizes = 0  # what comes out is no multiple of what goes in
        together = self.name in operators.STRUCTURAL
        given = together and signal and all(x.given for x in self.signals)
        return Lineage(
            rows=rows,
            sizes=sizes,
            last=last,
            signal=signal,
            given=given,
            beside=self._beside() if together and not given else None,
            raw=raw,
        )

    def _beside(self) -> float | None:
        """The mean square of those of the model's inputs that it puts beside something else."""
        pairs = zip(self.given, self.lines, strict=True)
        sizes = [x.beside for x in self.lines if x.beside is not None]
        with torch.no_grad():
            sizes += [
                operators.mean_square(x)
                for x, line in pairs
                if line.given and x.is_floating_point()
            ]
        return max(sizes, default=None)

    @property
    def pair(self) -> int:
        """Bits: what was multiplied in the products of two signals among the operands."""
        pair = 0
        for line in self.lines:
            pair |= line.pair
        return pair

    @property
    def scores(self) -> Scores | None:
        """What is known of the product of two signals among the operands."""
        return next((line.scores for line in self.lines if line.scores is not None), None)

    @property
    def parts(self) -> tuple[int, ...]:
        """The records whose outputs it pools, or puts side by side as channels; none if it does neither."""
        if self.name == "cat":
            dim = self.args[1] if len(self.args) > 1 else 0
            if self.given[0].dim() < 2 or dim % self.given[0].dim() != 1:
                return ()
        elif self.name not in operators.POOLS:
            return ()
        found = [x.parts if x.origin is None else (x.origin,) for x in self.lines]
        return tuple(dict.fromkeys(part for parts in found for part in parts))

    def factor(self, of: Callable[[Any], Lineage]) -> float:
        """The factor of what it makes of one signal or parameter: that times a constant.

        Args:
            of: The lineage of a tensor.

        Returns:
            The factor; NaN where it is something else than a view or a multiple.
        """
        before = next((x.factor for x in self.lines if x.signal or x.parameters), 1.0)
        if operators.keeps_numbers(self.func, self.name):
            return before
        if self.name not in ("mul", "div") or len(self.args) < 2:
            return math.nan
        for x in self.args[:2] if self.name == "mul" else self.args[1:2]:
            number = _constant(x, of)
            if number is not None:
                usable = number != 0 and math.isfinite(number)
                return (
                    before * (1 / number if self.name == "div" else number) if usable else math.nan
                )
        return math.nan


def _constant(x: Any, of: Callable[[Any], Lineage]) -> float | None:
    """A number, also as a tensor; a mask for a batch of one example is none."""
    if isinstance(x, Tensor):
        line = of(x)
        one = x.numel() == 1 and (not x.dim() or line.constant)
        if line.signal or line.parameters or not one or x.is_complex():
            return None
        with torch.no_grad():
            return float(x)
    return float(x) if isinstance(x, int | float) else None
