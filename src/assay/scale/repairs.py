"""The line to write: how wide the weights of a layer should start (Theory S1, S2, S3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from assay.scale.gain import Gain
from assay.scale.rows import Row

BUDGET = 10.0  # by how much unit variance forward may let the gradient's square grow
_MORE = 2.5  # times: a sum over many; dropout with p = 1/2 has 2
_KEPT = 1.6  # times, between most layers: dropout


def expression(parameter: str) -> str:
    """How the user writes a parameter: `layers.0.weight` is `model.layers[0].weight`.

    Returns:
        A Python expression.

    Example:
        >>> expression("layers.0.weight")
        'model.layers[0].weight'
    """
    return "model" + "".join(
        f"[{part}]" if part.isdigit() else f".{part}" for part in parameter.split(".")
    )


def repair_one(row: Row) -> str:
    """The width that gives one operator unit variance with the input that it has: `σ² = 1/Σ_j E x_j²`.

    Args:
        row: A product or a lookup whose input is as it should stay.

    Returns:
        Python to write, and a remark.
    """
    if row.kind == "lookup" or not row.fan_in:
        return f"nn.init.normal_({expression(row.parameters[0])}, std=1.0)"
    c, rest = _constants(row)
    size = row.input_second_moment
    if size is None or size <= 0 or 0.5 <= size <= 2:
        return f"{_normal(row, f'{c:.4g}/{row.fan_in}')}{rest}"
    return f"{_normal(row, f'{c:.4g}/({row.fan_in}*{size:.3g})')}{rest}; its input has mean square {size:.3g}"


def repair_all(chain: Sequence[Row], rows: Sequence[Row] = ()) -> str:
    """The widths that give a chain of operators unit variance, by the first one.

    Where that costs the gradient more than `BUDGET` going backward, the widths that keep the mean square.

    Args:
        chain: Products in order.
        rows: All rows: what lies between the products.

    Returns:
        Python to write, and what it costs going backward.
    """
    wanted = [row for row in chain if row.fan_in and row.kind == "product"]
    if len(wanted) < 2:
        return repair_one((wanted or list(chain))[0])
    between = _between(wanted, rows) if rows else None
    if between is not None:
        return between
    row, depth = wanted[0], len(wanted) - 1
    c, rest = _constants(row)
    cost = price(row, depth)
    others = f"; the same, each with its own fan-in and activation, for {depth} more"
    if cost > BUDGET and row.gain is not None and row.gain.square_scale is not None:
        square = row.gain.square_scale**2
        return (
            f"{_normal(row, f'{square:.4g}/{row.fan_in}')}{others}: it keeps the mean square. Unit variance "
            f"({c:.4g}/fan-in{rest}) would cost χ^{depth} = {cost:.3g} going backward, unless skip "
            "connections are added"
        )
    text = f"{_normal(row, f'{c:.4g}/{row.fan_in}')}{rest}{others}"
    too_much = ": too much without skip connections" if cost > BUDGET else ""
    return (
        f"{text}. Its price backward is χ^{depth} = {cost:.3g}{too_much}" if cost > 1.001 else text
    )


def _between(chain: Sequence[Row], rows: Sequence[Row]) -> str | None:
    """The repair where something beside weights and activations changes the mean square on the way.

    Sums over many, dropout, concatenations: widths from fan-in and activation alone would let the signal
    grow by what these add, layer after layer.

    Returns:
        What to do, or None where there is no such thing.
    """
    gains: list[float] = []
    for before, row in pairwise(chain):
        inside = [r for r in rows if before.index < r.index < row.index and r.kind == "activation"]
        source = (inside[-1] if inside else before).second_moment
        gains.append(_passed_on(source, row))
    if median(gains) <= _KEPT and max(gains) <= _MORE:
        return None
    first, weight = chain[0], expression(chain[0].parameters[0])
    if max(gains) <= _MORE:
        whole = median(_passed_on(before.second_moment, row) for before, row in pairwise(chain))
        return (
            f"{_normal(first, f'{1 / whole:.3g}/{first.fan_in}')}; the same, each with its own fan-in, for "
            f"{len(gains)} more: from one to the next the mean square goes times {whole:.3g} (median), more "
            "than the activation leaves, as with dropout"
        )
    most = max(range(len(gains)), key=lambda k: gains[k])
    return (
        f"one after the other, in the order of the forward pass: nn.init.normal_({weight}, "
        "std=1/math.sqrt(fan_in * x.square().mean())) with the input x that it then has, and so on. Fan-in "
        f"and activation alone would not do: from {chain[most].name} to {chain[most + 1].name} the mean "
        f"square goes times {gains[most]:.3g} by what is between them (a sum over many, a concatenation)"
    )


def _passed_on(source: float, row: Row) -> float:
    """The mean square that a product reads, as a multiple of one before it."""
    return (row.input_second_moment or 0.0) / (source or math.inf)


def price(row: Row, depth: int) -> float:
    """χ^depth: how far per-unit normalisation makes the gradient's square grow by itself (Theory S4).

    Args:
        row: A row whose activation every layer has.
        depth: Number of layers.

    Returns:
        The factor; 1 where the activation is not known.
    """
    found = row.gain
    if found is None:
        return 1.0
    chi = found.chi if found.input_chi is None else found.input_chi
    return float(chi**depth) if chi > 0 else 1.0


def _normal(row: Row, square: str) -> str:
    return f"nn.init.normal_({expression(row.parameters[0])}, std=math.sqrt({square}))"


def _constants(row: Row) -> tuple[float, str]:
    """The c of the activation that reads this row, and what to do to its output."""
    found = row.gain
    if found is None:
        return 1.0, ""
    if found.input_scale is not None:
        return found.input_scale**2, centre(found, row.activation)
    rest = f"; multiply the output of {row.activation} by {found.output_gain:.4g}"
    return 1.0, rest + (f" and subtract {found.shift:.4g}" if abs(found.shift) > 1e-3 else "")


def centre(found: Gain, activation: str) -> str:
    """What to subtract behind weights of the input scale; "" where the mean is 0.

    Args:
        found: The activation's gain.
        activation: Its name.

    Returns:
        "; subtract 0.6833 after ReLU".
    """
    shift = found.input_shift or 0.0
    return f"; subtract {shift:.4g} after {activation}" if abs(shift) > 1e-3 else ""
