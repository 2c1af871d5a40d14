"""What a reader sees of the skip paths: the longest drawn, gradients by steps, all in a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.highway.highways import Highways
from assay.highway.paths import PlainPath, SkipPath
from assay.highway.rules import FACTOR, LONG, kept
from assay.view.blocks import Arc, Arcs, Block, Cell, Column, Lines, Mark, Series, Table, View

_STATIONS = 16
_LINES = 4
_POINTS = 200
_PROJECTION = "Without a loss, the gradient is that of a fixed random projection of the output"


def picture(highways: Highways) -> View:
    """The section "Highway".

    Args:
        highways: The measured paths.

    Returns:
        The view.
    """
    blocks: list[Block] = []
    longest = highways.longest
    if longest is not None:
        blocks.append(_arcs(longest))
    lines = _lines(highways)
    if lines is not None:
        blocks.append(lines)
    if highways.paths or highways.plain:
        blocks.append(_table(highways))
    return View(
        title="Highway",
        question="Do long paths keep signal and gradient, and is a gate needed?",
        answer=_answer(highways),
        blocks=tuple(blocks),
        notes=_notes(highways),
    )


def _answer(highways: Highways) -> str:
    path, plain = highways.longest, highways.plain
    if path is None:
        if plain is None and highways.opaque:
            return "No skip path was found, but the graph could not be looked into."
        if plain is None:
            return "No skip path, and no parametrised operator that could need one."
        unit = plain.unit if plain.length > 1 else plain.unit.removesuffix("s")
        return (
            f"No skip path. The longest stretch without one has {plain.length} {unit}"
            f"{_fate(plain, 'it')}."
        )
    total = sum(p.count for p in highways.paths)
    number = "One skip path" if total == 1 else f"{total} skip paths"
    subject = "It" if total == 1 else "The longest"
    what = "addition" if path.is_sum else "concatenation"
    own = "share their weights" if path.tied else "have weights of their own"
    chain = f"chains {path.length} {what}s whose diversions {own}"
    if path.length == 1:
        chain = f"is a single {what} whose diversion has weights of its own"
    gate = {None: "no gate", "constant": "a constant factor", "data": "a gate driven by data"}
    norm = " and a norm" if path.norm_on_skip else ""
    answer = (
        f"{number}. {subject} {chain}, with {gate[path.gate]}{norm} on the skip{_fate(path, 'it')}"
    )
    if _half_life(path) < math.inf:
        answer += f" (half-life {_number(path.half_life)} {what}s)"
    if plain is not None and plain.length >= LONG:
        answer += (
            f". Beside it, {plain.length} {plain.unit} have no skip path{_fate(plain, 'them')}"
        )
    return f"{answer}."


def _half_life(path: SkipPath | PlainPath) -> float:
    """The half-life, where more than a thousandth of a halving is lost from end to end."""
    return math.inf if path.half_life > 1000 * path.length else path.half_life


def _fate(path: SkipPath | PlainPath, it: str) -> str:
    """What becomes of the gradient on a path, as the end of a sentence."""
    if not path.gradient:
        return ", whose gradient was not measured"
    if not math.isfinite(path.retention):
        return ": the gradient is not finite"
    return f": {kept(path.retention, it)}"


def _arcs(path: SkipPath) -> Arcs:
    names = [_short(name) for name in path.modules]
    if path.tied or len(set(names)) < len(names):
        names = [f"step {k + 1}" for k in range(path.length)]
    shown = list(range(path.length))
    if path.length > _STATIONS - 1:
        head = _STATIONS // 2
        shown = [*shown[:head], -1, *shown[-(_STATIONS - head - 2) :]]
    stations = ["start", *("…" if k < 0 else names[k] for k in shown)]
    kind = "bad" if _judge(path) == "bad" else "good" if _judge(path) == "good" else "plain"
    label = {None: "+", "constant": "× constant, +", "data": "× gate, +"}[path.gate]
    if not path.is_sum:
        label = "concatenated"
    arcs = tuple(
        Arc(i, i + 1, label if i == 0 else "", kind)  # type: ignore[arg-type]
        for i, k in enumerate(shown)
        if k >= 0
    )
    what = ("addition" if path.is_sum else "concatenation") + "s" * (path.length != 1)
    title = f"The longest skip path: {path.length} {what} at {path.name}"
    return Arcs(tuple(stations), arcs, title)


def _short(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[-2:]) if len(parts) > 1 else module


def _judge(path: SkipPath | PlainPath) -> Mark:
    if not path.gradient:
        return "unknown"
    if not math.isfinite(path.retention):
        return "bad"
    if isinstance(path, SkipPath) and path.gate is not None and path.tied:
        return "bad" if path.length >= LONG and path.half_life < path.length / 4 else "good"
    if path.length < LONG:
        return ""
    return "good" if 1 / FACTOR <= path.retention <= FACTOR else "bad"


def _lines(highways: Highways) -> Lines | None:
    series: list[Series] = []
    for path in highways.paths:
        if len(path.gradient) > 2 and len(series) < _LINES:
            series.append(_series(f"{path.name} ({path.length})", path.gradient))
    plain = highways.plain
    if plain is not None and len(plain.gradient) > 2 and plain.length >= LONG:
        series.append(_series(f"no skip ({plain.length})", plain.gradient, dashed=True))
    series = [one for one in series if len(one.x) > 1]
    if not series:
        return None
    return Lines(
        tuple(series),
        x_label="steps back from the end of the path",
        y_label="gradient norm, fraction of that at the end",
        title="What survives of the gradient",
        log_y=True,
    )


def _series(name: str, gradient: tuple[float, ...], *, dashed: bool = False) -> Series:
    stride = max(1, math.ceil(len(gradient) / _POINTS))
    points = [
        (float(k), value)
        for k, value in enumerate(gradient)
        if value > 0 and math.isfinite(value) and (k % stride == 0 or k == len(gradient) - 1)
    ]
    x, y = [p[0] for p in points], [p[1] for p in points]
    return Series(name, x, y, "dashed" if dashed else "solid")


def _table(highways: Highways) -> Table:
    rows: list[tuple[str | Cell, ...]] = []
    for path in highways.paths:
        count = f" (×{path.count})" if path.count > 1 else ""
        rows.append(
            (
                path.name + count,
                _span(path.modules),
                path.kind,
                str(path.length),
                "shared" if path.tied else "own",
                _number(_half_life(path), path.gradient),
                Cell(_number(path.retention, path.gradient), _judge(path)),
            )
        )
    plain = highways.plain
    if plain is not None and (plain.length >= LONG or not highways.paths):
        rows.append(
            (
                plain.where.short if plain.where else "",
                _span(plain.modules),
                "no skip path",
                str(plain.length),
                "shared" if plain.tied else "own",
                _number(_half_life(plain), plain.gradient),
                Cell(_number(plain.retention, plain.gradient), _judge(plain)),
            )
        )
    columns = (
        Column("line", code=True),
        Column("modules", code=True),
        Column("kind"),
        Column("length", align="right"),
        Column("weights"),
        Column("half-life", "steps", "right"),
        Column("kept", align="right"),
    )
    caption = (
        "Length in additions; half-life: additions until the gradient's norm halves; kept: its norm at "
        "the start of the path over that at the end, for a gradient that enters at the end alone."
    )
    return Table(columns, tuple(rows), caption)


def _number(value: float, measured: Sequence[float] = ()) -> str:
    if math.isnan(value):
        return "not finite" if measured else "not measured"
    return "∞" if math.isinf(value) else f"{value:.3g}"


def _span(modules: tuple[str, ...]) -> str:
    names = [name or "(model)" for name in modules]
    if not names:
        return ""
    return names[0] if names[0] == names[-1] else f"{names[0]} … {names[-1]}"


def _notes(highways: Highways) -> tuple[str, ...]:
    notes = [
        "Read off the autograd graph of one forward pass in the model's own mode; fused recurrent "
        "kernels were off.",
        "A skip path carries a value element by element; its diversions are computed from it through "
        "weights, or write to a gated state.",
        ("The gradient is that of the loss" if highways.loss else _PROJECTION)
        + " at the end of a path, or a random one where it does not reach that end.",
        "A gate driven by data is for shared weights and a state that is overwritten by choice; with "
        "weights of its own a diversion weights itself.",
    ]
    if any(not path.gradient for path in highways.paths):
        notes.append("Gradients are measured on the 24 longest paths, and not on the meta device.")
    if highways.opaque:
        notes.append(
            "Could not be looked into, so a skip path inside is not seen: "
            + ", ".join(f"`{name}`" for name in highways.opaque)
            + "."
        )
    if not highways.tracked:
        notes.append(
            "The model refuses inputs that carry a gradient, so an addition to an input itself is not seen."
        )
    return tuple(notes)
