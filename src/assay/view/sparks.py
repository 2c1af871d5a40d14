"""Pictures in the terminal, drawn in characters."""

from __future__ import annotations

import math

from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

from assay.view.axis import Axis, short
from assay.view.blocks import Angle, Arcs, Bars, Lines, Series
from assay.view.pieces import MARKS, MOST, Fitted, hanging, titled
from assay.view.prose import clean, counted

_LEVELS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"
_SPARK, _BAR = 48, 30


def write_lines(block: Lines) -> list[RenderableType]:
    """Lines, each as a row of columns as high as its values."""
    values = [float(v) for series in block.series for v in series.y]
    axis = Axis.of([*values, *(block.band or ())], 0.0, 1.0, log=block.log_y)
    scale = ", log scale" if block.log_y else ""
    along = [x for series in block.series for x in series.x]
    ends = f" from {short(float(min(along)))} to {short(float(max(along)))}" if along else ""
    title = titled(block.title, f"{block.y_label} over {block.x_label}{ends}{scale}")
    return [*title, Fitted(lambda width: _sparks(block, axis, width))]


def _sparks(block: Lines, axis: Axis, width: int) -> RenderableType:
    names = [Text(clean(series.name)) for series in block.series]
    ends = [_ends(series) for series in block.series]
    room = max(width - max(map(cell_len, ends), default=0) - 4, 2)
    name = min(max((text.cell_len for text in names), default=0), _share(room, _SPARK))
    grid = _pictures(name)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="dim")
    for series, text, end in zip(block.series, names, ends, strict=True):
        grid.add_row(_cut(text, name), _spark(series, axis, min(_SPARK, max(room - name, 1))), end)
    return grid


def _share(room: int, picture: int) -> int:
    """How many columns names may have: all that the picture leaves, and where that is little half of them."""
    return max(room - picture, room // 2, 1)


def _pictures(name: int) -> Grid:
    """A grid that starts with names, which are cut where they are longer."""
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(overflow="ellipsis", no_wrap=True, max_width=name)
    return grid


def _cut(name: Text, width: int) -> Text:
    """A name that is too long without its middle: those of a picture often differ at the end alone."""
    if name.cell_len <= width:
        return name
    text, last = name.plain, (width - 1) // 3
    end = text[len(text) - last :]
    while cell_len(end) > last:
        end = end[1:]
    return Text(f"{set_cell_size(text, width - 1 - last)}…{end}")


def _spark(series: Series, axis: Axis, width: int) -> str:
    """One character for every stretch of the line, as high as its last value."""
    count = len(series.y)
    width = min(count, width)
    picked = [float(series.y[(i + 1) * count // width - 1]) for i in range(width)]
    return "".join(_level(value, axis) for value in picked)


def _level(value: float, axis: Axis) -> str:
    spot = axis.place(value)
    if isinstance(spot, str):
        return {"above": "∞", "below": "_", "nowhere": "×"}[spot]
    return _LEVELS[min(int(min(max(spot, 0.0), 1.0) * len(_LEVELS)), len(_LEVELS) - 1)]


def _ends(series: Series) -> str:
    if not series.y:
        return "no values"
    return f"{short(float(series.y[0]))} → {short(float(series.y[-1]))}"


def write_bars(block: Bars) -> list[RenderableType]:
    """Bars, to an eighth of a character."""
    values = [value for _, value in block.rows]
    edge = [block.reference[0]] if block.reference else []
    start = [] if block.log_x else [0.0]
    axis = Axis.of([*values, *edge, *start], 0.0, 1.0, log=block.log_x, limits=block.limits)
    parts = [*titled(block.title, block.x_label), Fitted(lambda width: _rows(block, axis, width))]
    if len(block.rows) > MOST:
        parts.append(Text(f"… and {len(block.rows) - MOST} more", style="dim"))
    if block.reference:
        parts.append(Text(f"{clean(block.reference[1])}: {short(block.reference[0])}", style="dim"))
    return parts


def _rows(block: Bars, axis: Axis, width: int) -> RenderableType:
    rows = [(Text(clean(name)), value) for name, value in block.rows[:MOST]]
    room = max(width - max((cell_len(short(value)) for _, value in rows), default=0) - 4, 2)
    name = min(max((text.cell_len for text, _ in rows), default=0), _share(room, _BAR))
    grid = _pictures(name)
    grid.add_column(no_wrap=True, style="blue")
    grid.add_column(justify="right", no_wrap=True)
    for text, value in rows:
        share = axis.at(value) if value == value else 0.0
        grid.add_row(_cut(text, name), _bar(share, min(_BAR, max(room - name, 1))), short(value))
    return grid


def _bar(share: float, length: int) -> str:
    eighths = round(8 * length * share) if math.isfinite(share) else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def write_arcs(block: Arcs) -> list[RenderableType]:
    """Arcs, as a list of what they lead from and to."""

    def name(station: float) -> str:
        if (
            math.isfinite(station)
            and station == int(station)
            and 0 <= station < len(block.stations)
        ):
            return block.stations[int(station)]
        return short(station)

    parts = titled(
        block.title,
        f"{counted(len(block.arcs), 'skip path')} over {counted(len(block.stations), 'station')}",
    )
    for arc in block.arcs[:MOST]:
        mark, style = MARKS[{"good": "good", "bad": "bad", "plain": ""}[arc.kind]]
        text = Text(f"{clean(name(arc.start))} → {clean(name(arc.end))}", style="cyan")
        text.append(f"  {clean(arc.label)}", style="default")
        parts.append(hanging(mark or "·", text, style))
    if len(block.arcs) > MOST:
        parts.append(Text(f"… and {len(block.arcs) - MOST} more", style="dim"))
    return parts


def write_angle(block: Angle) -> list[RenderableType]:
    """Angles to the first arrow, as numbers."""
    first = block.arrows[0][0] if block.arrows else ""
    grid = Grid.grid(padding=(0, 2))
    for name, degrees in block.arrows[1:]:
        turn = f"{short(float(f'{degrees:.3g}'))}°" if math.isfinite(degrees) else "no angle"
        grid.add_row(Text(f"{clean(first)} ∠ {clean(name)}"), turn)
    return [*titled(block.title, ""), grid]
