"""The line to write: how wide the weights of a layer should start (Theory S1, S2, S3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from assay.scale.backward import Ancestors, ancestors
from assay.scale.band import WARNING
from assay.scale.networks import longest
from assay.scale.rows import Row
from assay.scale.widths import (
    and_more,
    constant,
    constants,
    drawn,
    expression,
    has_width,
    is_a_factor,
    normal,
    ratio,
    set_by,
    width_of,
)

BUDGET = 10.0  # by how much unit variance forward may let the gradient's square grow
STANDARDISE = (
    "standardise the model's input: `x = (x - mean)/std`, for each feature over the training data"
)
_MORE = 2.5  # times: a sum over many; dropout with p = 1/2 has 2
_THERE = 1.1  # times: a width that is there already
_KEPT = 1.6  # times, between most layers: dropout


class Repair(NamedTuple):
    """What to do.

    Args:
        text: Python to write, and remarks.
        sets: The names of the parameters whose values it sets.
    """

    text: str
    sets: frozenset[str] = frozenset()

    def after(self, first: str) -> Repair:
        """The same with something to read before it."""
        return self._replace(text=first + self.text)


def keeping_the_square(row: Row) -> str:
    """The other choice, where the activation has it; "" where it has none."""
    found = row.gain
    if found is None or found.square_scale is None or not row.fan_in:
        return ""
    return f", or keep the mean square instead (Var W = {found.square_scale**2:.4g}/fan_in)"


def unfixed(rows: Sequence[Row]) -> str:
    """What to try first where batch norms with fixed statistics stand behind operators that are off.

    Args:
        rows: The operators.

    Returns:
        The beginning of a repair; "" where there is no such norm.
    """
    if not any(row.fixed for row in rows):
        return ""
    return (
        "let the batch norms take the statistics of the batch (`.train()`, `training=True`), or give them "
        "those of these inputs; or, where they stay as they are, "
    )


def repair_one(row: Row, rows: Sequence[Row] = ()) -> Repair:
    """The width that gives one operator unit variance with the input that it has: `σ² = 1/Σ_j Var x_j`.

    Args:
        row: A product or a lookup whose input is as it should stay.
        rows: All rows: whether the same matrix is both.

    Returns:
        Python to write, and a remark.
    """
    width = (row.weight_std or 0.0) * constant(row)
    if row.kind == "lookup" and 1 / _THERE < width < _THERE and not _tied(row, rows):
        return Repair(
            "nothing to draw again: the rows of the table have the width 1, and those that are looked up are "
            "few or 0, as for padding"
        )
    return Repair(_one(row, rows), weights([row]))


def _one(row: Row, rows: Sequence[Row]) -> str:
    looked_up = [r for r in rows if r.kind == "lookup" and r.parameters[:1] == row.parameters[:1]]
    if looked_up and _tied(row, rows):
        weight, width = expression(row.parameters[0]), looked_up[0].units
        now = abs(looked_up[0].factor)
        instead = "" if now == 1 else f" in place of {now:.4g}"
        return (
            f"`nn.init.normal_({weight}, std={width}**-0.5)`, and multiply what is looked up by "
            f"`math.sqrt({width})`{instead}: the embedding wants 1, the product with the same matrix 1/fan-in"
        )
    if row.kind == "lookup" or not row.fan_in:
        return drawn(row, "1.0")
    c, rest = constants(row)
    varies = (row.input_variance or 0.0) if row.variance is not None else 0.0
    size, mean = varies or row.input_second_moment, row.input_mean or 0.0
    apart = varies > 0 and row.apart > 1  # the means are more than what varies
    if size and row.level > 0 and has_width(row, c / size):
        return (
            f"`{set_by(row)}.data /= {math.sqrt(row.level / c):.3g}`{rest}: they have the width for the "
            "size of their input already, but what enters does not vary independently"
        )
    if size is None or size <= 0 or (0.5 <= size <= 2 and not apart):
        return f"{normal(row, f'{c:.4g}/{row.fan_in}')}{rest}"
    text = f"{normal(row, f'{c:.4g}/({row.fan_in}*{size:.3g})')}{rest}"
    told = f"its input has {'variance' if varies else 'mean square'} {size:.3g}"
    if not apart:
        return f"{text}; {told}"
    # wide enough for what varies, the weights would be too wide for the means
    told += f" about means of {mean / math.sqrt(size):.3g} standard deviations"
    if row.apart**2 > WARNING:  # no width is for what hardly varies
        first = f"subtract each input unit's mean, or put a batch norm in front of {row.name}"
        return f"{first}, and measure again: {told}"
    return f"subtract each input unit's mean, and {text}: {told}"


def draw_one(row: Row) -> str:
    """Weights of the width that fan-in and activation ask for.

    Args:
        row: A product or a lookup.

    Returns:
        Python to write.
    """
    if row.kind == "lookup" or not row.fan_in:
        return drawn(row, "1.0")
    return normal(row, f"{constants(row)[0]:.4g}/{row.fan_in}")


def repair_all(chain: Sequence[Row], rows: Sequence[Row] = (), off: Sequence[Row] = ()) -> Repair:
    """The widths that give a chain of operators unit variance, by the first one.

    Where that costs the gradient more than `BUDGET` going backward, the widths that keep the mean square.

    Args:
        chain: Products in order.
        rows: All rows: what lies between the products.
        off: Where it is about the signal, those of the chain that are all too small, or all too large: only
            weights that are too narrow, or too wide, are named then.

    Returns:
        Python to write, and what it costs going backward.
    """
    wanted = [row for row in chain if row.fan_in and row.kind == "product"]
    free = [row for row in wanted if not _tied(row, rows)]
    if len(free) < 2:
        return repair_one((free or wanted or list(chain))[0], rows)
    wanted = free
    between = _between(wanted, rows) if rows else None
    if between is not None:
        return Repair(between, weights(wanted))
    depth = longest(wanted, ancestors(rows)) - 1
    cost, known = price(wanted[0], depth), wanted[0].gain
    square = known.square_scale if cost > BUDGET and known is not None else None
    left = [row for row in wanted if not has_width(row, width_of(row, square is not None))]
    if not left:
        return Repair(_kept(wanted[0], depth, cost, square is not None))
    if off:
        small = off[0].level < 1
        left = [row for row in left if (ratio(row, width_of(row, square is not None)) < 1) is small]
        if not left or left[0].index > off[0].index:  # what is off comes from what is between
            each = drawn(off[0], "1/math.sqrt(fan_in * x.square().mean())")
            more = and_more(off, "so, in the order of the forward pass,")
            return Repair(f"{each} with the input x that it has{more}", weights(off))
    row = left[0]
    c, rest = constants(row)
    own = "fan-in and activation"
    if any(is_a_factor(constant(r)) for r in wanted):
        own = "fan-in, activation and constant factor"
    others = and_more(left, f"the same, each with its own {own},")
    if square is not None:
        c, rest = constants(wanted[0])
        return Repair(
            f"{normal(row, f'{width_of(row, True):.4g}/{row.fan_in}')}{others}: it keeps the mean square. "
            f"Unit variance ({c:.4g}/fan-in{rest}) would cost χ^{depth} = {cost:.3g} going backward, unless "
            "skip connections are added",
            weights(left),
        )
    text = f"{normal(row, f'{c:.4g}/{row.fan_in}')}{rest}{others}"
    too_much = ": too much without skip connections" if cost > BUDGET else ""
    told = f". Its price backward is χ^{depth} = {cost:.3g}{too_much}" if cost > 1.001 else ""
    return Repair(f"{text}{told}", weights(left))


def weights(rows: Sequence[Row]) -> frozenset[str]:
    """The names of the weights that some rows read."""
    return frozenset(row.parameters[0] for row in rows if row.parameters)


def _kept(row: Row, depth: int, cost: float, square: bool) -> str:
    """What to say where all weights have the width that would be told."""
    c, rest = constants(row)
    if square:
        return (
            "nothing to draw again: the weights keep the mean square already. Unit variance "
            f"({c:.4g}/fan-in{rest}) would cost χ^{depth} = {cost:.3g} going backward, "
            "unless skip connections are added"
        )
    own = "nothing to draw again: the weights have the width of their fan-in and activation already"
    if rest:
        return f"{own}{rest}"
    return f"{own}; the columns E u² and E g² show where it happens"


def _tied(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a matrix is looked up at one place and multiplied by at another."""
    kinds = {r.kind for r in rows if r.parameters[:1] == row.parameters[:1]}
    return {"lookup", "product"} <= kinds


def _between(chain: Sequence[Row], rows: Sequence[Row]) -> str | None:
    """The repair where something beside weights and activations changes the mean square on the way.

    Sums over many and dropout: widths from fan-in and activation alone would let the signal grow by what
    these add, layer after layer. Behind a norm nothing is passed on, and what reads several side by side, or
    runs on several inputs, reads more than the one before it: such pairs do not count.

    Returns:
        What to do, or None where there is no such thing.
    """
    gains: list[float] = []
    behind: list[float] = []  # of these, what happens before the activation
    depends = ancestors(rows, sized=True)
    pairs = [
        (a, b)
        for a, b in pairwise(chain)
        if nearest(b, rows, depends) == {a.index} and not (b.beside_input or a.calls or b.calls)
    ]
    for before, row in pairs:
        inside = [
            r
            for r in rows
            if r.kind == "activation"
            and before.index in depends[r.index]
            and r.index in depends[row.index]
        ]
        source = (inside[-1] if inside else before).second_moment
        read = inside[0].input_second_moment if inside else None
        behind.append((read or before.second_moment) / (before.second_moment or math.inf))
        gains.append(_passed_on(source, row) * behind[-1])
    if not pairs:
        return None
    if math.prod(gains) <= BUDGET:
        return None  # fan-in and activation alone keep the signal inside the band
    first = chain[0]
    weight = set_by(first)
    if max(gains) <= _MORE and median(gains) > _KEPT:
        whole = median(_passed_on(before.second_moment, row) for before, row in pairs)
        return (
            f"{normal(first, f'{1 / whole:.3g}/{first.fan_in}')}{and_more(chain)}: from one to the "
            f"next the mean square goes times {whole:.3g} (median), more than the activation "
            "leaves, as with dropout"
        )
    most = max(range(len(gains)), key=lambda k: gains[k])
    before, after = pairs[most]
    if behind[most] > _MORE:
        return (
            "one after the other, in the order of the forward pass: "
            f"`{weight}.data /= u.square().mean().sqrt()` with u what then enters the activation behind it, "
            f"and so on. Fan-in and activation alone leave a factor {math.prod(gains):.3g}: behind "
            f"{before.name} the mean square goes times {behind[most]:.3g} before the activation"
        )
    each = drawn(first, "1/math.sqrt(fan_in * x.square().mean())")
    return (
        f"one after the other, in the order of the forward pass: {each} with the input x that it then has, "
        f"and so on. Fan-in and activation alone leave a factor {math.prod(gains):.3g}: from {before.name} "
        f"to {after.name} the mean square goes times {gains[most]:.3g} by what is between them"
    )


def nearest(row: Row, rows: Sequence[Row], depends: Ancestors) -> set[int]:
    """The products that the size of a row's input comes from, but for what that comes from itself."""
    sources = {r.index for r in rows if r.kind in ("product", "lookup")} & depends[row.index]
    return sources - set[int]().union(*(depends[i] for i in sources))


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
