"""The line to write: how wide the weights of a layer should start (Theory S1, S2, S3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from assay.scale.backward import ancestors
from assay.scale.gain import Gain
from assay.scale.rows import Row

BUDGET = 10.0  # by how much unit variance forward may let the gradient's square grow
STANDARDISE = (
    "standardise the model's input: `x = (x - mean)/std`, for each feature over the training data"
)
_CLOSED = 1e-2  # mean square of a gate that lets less than a tenth through
_MORE = 2.5  # times: a sum over many; dropout with p = 1/2 has 2
_NEAR = 1.25  # times: a mean is what the activation's theory says
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


def closed_gate(row: Row, rows: Sequence[Row]) -> Row | None:
    """The gate on the way to a row that lets hardly anything through; None where there is none.

    Args:
        row: A row with a small signal.
        rows: All rows.

    Returns:
        The activation that is multiplied with the signal.
    """
    by, before = {r.index: r for r in rows}, ancestors(rows)[row.index]
    gates = [
        r
        for i in sorted(before)
        if (r := by.get(i)) is not None
        and r.kind == "activation"
        and r.gate
        and r.second_moment < _CLOSED * min(1.0, r.input_second_moment or 0.0)
    ]
    return min(gates, key=lambda r: r.second_moment, default=None)


def open_gate(gate: Row, rows: Sequence[Row]) -> str:
    """What lets a gate begin open: the bias in front of it.

    Args:
        gate: The activation.
        rows: All rows.

    Returns:
        Python to write.
    """
    source = [r for r in rows if r.index in gate.follows and r.parameters]
    names = source[-1].parameters if source else ()
    if len(names) < 2:
        return f"let {gate.name} begin open: what enters it should be near 0, not far below"
    return f"let the gate begin open: `nn.init.zeros_({expression(names[1])})`"


def keeping_the_square(row: Row) -> str:
    """The other choice, where the activation has it; "" where it has none."""
    found = row.gain
    if found is None or found.square_scale is None or not row.fan_in:
        return ""
    return f", or keep the mean square instead (Var W = {found.square_scale**2:.4g}/fan_in)"


def repair_one(row: Row, rows: Sequence[Row] = ()) -> str:
    """The width that gives one operator unit variance with the input that it has: `σ² = 1/Σ_j E x_j²`.

    Args:
        row: A product or a lookup whose input is as it should stay.
        rows: All rows: whether the same matrix is both.

    Returns:
        Python to write, and a remark.
    """
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
        return _drawn(row, "1.0")
    c, rest = _constants(row)
    size = row.input_second_moment
    if size and row.level > 0 and _has(row, c / size):
        return (
            f"`{_set_by(row)}.data /= {math.sqrt(row.level / c):.3g}`{rest}: they have the width for the "
            "size of their input already, but what enters does not vary independently"
        )
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
    free = [row for row in wanted if not _tied(row, rows)]
    if len(free) < 2:
        return repair_one((free or wanted or list(chain))[0], rows)
    wanted = free
    between = _between(wanted, rows) if rows else None
    if between is not None:
        return between
    depth = len(wanted) - 1
    cost, known = price(wanted[0], depth), wanted[0].gain
    square = known.square_scale if cost > BUDGET and known is not None else None
    left = [row for row in wanted if not _has(row, _width(row, square is not None))]
    if not left:
        return _kept(wanted[0], depth, cost, square is not None)
    row = left[0]
    c, rest = _constants(row)
    own = "fan-in and activation"
    if any(constant(r) != 1 for r in wanted):
        own = "fan-in, activation and constant factor"
    others = f"; the same, each with its own {own}, for {len(left) - 1} more" * (len(left) > 1)
    if square is not None:
        c, rest = _constants(wanted[0])
        return (
            f"{_normal(row, f'{_width(row, True):.4g}/{row.fan_in}')}{others}: it keeps the mean square. "
            f"Unit variance ({c:.4g}/fan-in{rest}) would cost χ^{depth} = {cost:.3g} going backward, unless "
            "skip connections are added"
        )
    text = f"{_normal(row, f'{c:.4g}/{row.fan_in}')}{rest}{others}"
    too_much = ": too much without skip connections" if cost > BUDGET else ""
    return (
        f"{text}. Its price backward is χ^{depth} = {cost:.3g}{too_much}" if cost > 1.001 else text
    )


def _width(row: Row, square: bool) -> float:
    """What the variance of the weights times their fan-in should be, for unit variance or the mean square."""
    known = row.gain.square_scale if row.gain is not None else None
    return known**2 if square and known is not None and not row.readout else _constants(row)[0]


def _has(row: Row, width: float) -> bool:
    """Whether weights have a width already, as nearly as drawing them again would give it."""
    size = (row.weight_std or 0.0) * abs(row.factor)
    near = 1.05 + 3 / math.sqrt(2 * max(1, row.units * (row.fan_in or 1)))  # what chance leaves
    return 1 / near < size * math.sqrt((row.fan_in or 0) / width) < near


def _kept(row: Row, depth: int, cost: float, square: bool) -> str:
    """What to say where all weights have the width that would be told."""
    c, rest = _constants(row)
    if square:
        return (
            f"the weights keep the mean square already. Unit variance ({c:.4g}/fan-in{rest}) would cost "
            f"χ^{depth} = {cost:.3g} going backward, unless skip connections are added"
        )
    own = "the weights have the width of their fan-in and activation already"
    if rest:
        return f"{own}{rest}"
    return f"{own}: see in the columns E u² and E g² where it happens"


def spread(activation: Row, gain: Gain, rows: Sequence[Row]) -> str:
    """How wide the weights in front of an activation should be, for units with unit variance behind it.

    Args:
        activation: The row of the activation.
        gain: Its gain, with an input scale.
        rows: All rows: which weights these are.

    Returns:
        What to do; "" where the weights have that width and what comes out is centred by nothing else.
    """
    width, name = (gain.input_scale or 1.0) ** 2, activation.operator
    in_front = _nearest(activation, rows, ancestors(rows, sized=True))
    found = [r for r in rows if r.index in in_front and r.fan_in and not r.frozen]
    wide = [r for r in found if not _has(r, width)]
    rest = centre(gain, name)
    if found and not wide:
        mean, shift = activation.mean, gain.input_shift or 0.0
        return rest.removeprefix("; ") if 1 / _NEAR < mean / (shift or math.inf) < _NEAR else ""
    text = f"draw the weights in front of {name} with Var W = {width:.4g}/fan_in"
    if wide and wide[0].divided:  # of these a factor counts, and no new draw
        text = f"{_normal(wide[0], f'{width:.4g}/{wide[0].fan_in}')}, in front of {name}"
    return text + rest


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
        if _nearest(b, rows, depends) == {a.index} and not (b.beside_input or a.calls or b.calls)
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
    weight = _set_by(first)
    if max(gains) <= _MORE and median(gains) > _KEPT:
        whole = median(_passed_on(before.second_moment, row) for before, row in pairs)
        return (
            f"{_normal(first, f'{1 / whole:.3g}/{first.fan_in}')}; the same, each with its own fan-in, for "
            f"{len(gains)} more: from one to the next the mean square goes times {whole:.3g} (median), more "
            "than the activation leaves, as with dropout"
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
    each = _drawn(first, "1/math.sqrt(fan_in * x.square().mean())")
    return (
        f"one after the other, in the order of the forward pass: {each} with the input x that it then has, "
        f"and so on. Fan-in and activation alone leave a factor {math.prod(gains):.3g}: from {before.name} "
        f"to {after.name} the mean square goes times {gains[most]:.3g} by what is between them"
    )


def _nearest(row: Row, rows: Sequence[Row], depends: Mapping[int, set[int]]) -> set[int]:
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


def constant(row: Row) -> float:
    """What a parameter is multiplied with on its way to what reads the product, before and behind it.

    Returns:
        The factor's size; NaN where the weight is made of the parameter otherwise.
    """
    return abs(row.weight_factor * row.factor)


def _set_by(row: Row) -> str:
    """The parameter whose factor is one on the weights."""
    return expression((row.scaled_by or row.parameters)[0])


def _drawn(row: Row, std: str) -> str:
    """Weights of a standard deviation, whatever constants they are multiplied with."""
    factor, weight = constant(row), expression(row.parameters[0])
    if math.isnan(factor):
        over = f"/{abs(row.factor):.4g}" if row.factor != 1 else ""
        if row.divided and row.weight_std:
            times, drawn = f"{std}{over}/{row.weight_std:.4g}", expression(row.divided[0])
            set_by = f"`{expression(row.scaled_by[0])}.data *= {times}`" if row.scaled_by else ""
            return (
                f"{set_by or f'multiply the weights that are made of `{drawn}` by `{times}`'} (to draw "
                f"`{drawn}` again changes nothing: it is divided by its own size)"
            )
        return f"give the weights that are made of `{weight}` the standard deviation `{std}{over}`"
    over = f"/{factor:.4g}" if factor != 1 else ""
    return f"`nn.init.normal_({weight}, std={std}{over})`"


def orthogonal(row: Row) -> str:
    """The same of an orthogonal matrix.

    Returns:
        Python to write.
    """
    factor, weight = constant(row), expression(row.parameters[0])
    if math.isnan(factor):
        return f"make what comes of `{weight}` orthogonal"
    gain = f", gain={1 / factor:.4g}" if factor != 1 else ""
    return f"`nn.init.orthogonal_({weight}{gain})`"


def _normal(row: Row, square: str) -> str:
    return _drawn(row, f"math.sqrt({square})")


def _constants(row: Row) -> tuple[float, str]:
    """The c of the activation that reads this row, and what to do to its output."""
    found = row.gain
    if found is None or row.readout:  # what the model returns is as it should be
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
