"""Where a tensor comes from, and by which constants it has been multiplied since."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.scale import operators


@dataclass(frozen=True)
class Lineage:
    """What a tensor is made from.

    Args:
        parameters: Names of parameters, where it is made from these (and buffers) alone.
        constant: It is a buffer, or made from buffers alone.
        origin: The record whose output it is, up to views, casts, dropout and scalar factors.
        rows: Bits: all records that it depends on.
        sizes: Bits: of these, the records whose size reaches it, past no norm.
        last: Bits: of these, the records that it is made of, past no other record.
        parts: The records whose outputs stand in its channels, each channel of one alone, pooled or not: a
            batch norm divides each of them by its own size.
        factor: The constant that the origin's output, or the parameter, is multiplied with; NaN where
            a parameter is made into something else.
        given: It is one of the model's inputs, or several side by side, up to shape and a constant.
        raw: One of the model's inputs is in it, past no product and no norm.
        signal: It depends on a record or on one of the model's inputs.
        pair: Bits: of a product of two signals, what was multiplied; a softmax of it makes these scores.
        weights: It is what a softmax returned.
        averaged: Of how many values each is the mean.
        squares: The record of whose output these are the squares.
        size: The record of whose output this is the size, up to a power, a factor and an ε: what divides by
            it normalises by hand.
    """

    parameters: tuple[str, ...] = ()
    constant: bool = False
    origin: int | None = None
    rows: int = 0
    sizes: int = 0
    last: int = 0
    parts: tuple[int, ...] = ()
    factor: float = 1.0
    given: bool = False
    raw: bool = False
    signal: bool = False
    pair: int = 0
    weights: bool = False
    averaged: float = 1.0
    squares: int | None = None
    size: int | None = None


def constant_factor(
    func: Any, name: str, args: Sequence[Any], of: Callable[[Any], Lineage]
) -> float:
    """The factor of what an operator makes of one signal or parameter: that times a constant.

    Args:
        func: The operator.
        name: Its name.
        args: Its positional arguments.
        of: The lineage of a tensor.

    Returns:
        The factor; NaN where it is something else than a view or a multiple.
    """
    given = [of(x) for x in operators.arguments(args, {})]
    before = next((x.factor for x in given if x.signal or x.parameters), 1.0)
    if operators.keeps_numbers(func, name):
        return before
    if name not in ("mul", "div") or len(args) < 2:
        return math.nan
    for x in args[:2] if name == "mul" else args[1:2]:
        number = _constant(x, of)
        if number is not None:
            usable = number != 0 and math.isfinite(number)
            return before * (1 / number if name == "div" else number) if usable else math.nan
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
