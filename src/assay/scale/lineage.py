"""Where a tensor comes from."""

from __future__ import annotations

from dataclasses import dataclass

from assay.scale.saturated import Scores


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
        mapped: It is what a fixed map of each channel, a batch norm in evaluation mode, made of that output.
        given: It is one of the model's inputs, or several side by side, up to shape and a constant.
        beside: The mean square of those of the model's inputs that stand in it side by side with something
            else, of several the largest; None where it is nothing of the kind.
        raw: One of the model's inputs is in it, past no product and no norm.
        signal: It depends on a record or on one of the model's inputs.
        pair: Bits: of a product of two signals, what was multiplied; a softmax of it makes these scores.
        scores: What is known of that product, the factor included.
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
    mapped: bool = False
    given: bool = False
    beside: float | None = None
    raw: bool = False
    signal: bool = False
    pair: int = 0
    scores: Scores | None = None
    weights: bool = False
    averaged: float = 1.0
    squares: int | None = None
    size: int | None = None


DATA = Lineage()  # of a tensor that nothing is known of
INPUT = Lineage(signal=True, given=True, raw=True)
