"""Results in the terminal: the same blocks as the page, in characters."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from assay.finding import Finding, Number, ranked
from assay.view.axis import Axis, short
from assay.view.blocks import (
    Angle,
    Arcs,
    Bars,
    Block,
    Cell,
    Column,
    Formulas,
    Lines,
    Paragraph,
    Series,
    Table,
    View,
)
from assay.view.prose import clean, counted, split_code

WIDTH = 100  # of the plain text, so that it is the same on every machine
FINDINGS = 12  # shown in full; a terminal is no place for more

MARKS = {"good": ("✓", "green"), "bad": ("✗", "red"), "unknown": ("?", "yellow"), "": ("", "")}
SEVERITIES = {
    "error": ("✗", "bold red"),
    "warning": ("!", "bold yellow"),
    "note": ("·", "bold cyan"),
}
_LEVELS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"
_SPARK, _BAR = 48, 30
_WORDS, _NAMES = 12, 24  # columns of words may become as narrow as this


def to_text(view: View, findings: Sequence[Finding] = ()) -> str:
    """Plain text, 100 columns wide, without colour: the same on every machine.

    Args:
        view: What to show.
        findings: What broke an expectation.

    Returns:
        The text; it ends without a newline.

    Example:
        >>> print(to_text(View("Cost", "What does a step cost?", "`2*n` operations.")))
        Cost
        What does a step cost?
        <BLANKLINE>
        2*n operations.
    """
    return render(to_rich(view, findings))


def render(content: RenderableType) -> str:
    """Print any rich renderable as the plain text of `to_text`.

    Args:
        content: What to print.

    Returns:
        The text, without trailing spaces.
    """
    console = Console(
        file=io.StringIO(),
        width=WIDTH,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
        _environ={},  # neither COLUMNS nor FORCE_COLOR changes a result's text
    )
    with console.capture() as captured:
        console.print(content)
    return "\n".join(row.rstrip() for row in captured.get().splitlines()).strip("\n")


def to_rich(view: View, findings: Sequence[Finding] = ()) -> RenderableType:
    """What a rich console prints: answer first, then findings, pictures, tables and notes.

    Args:
        view: What to show.
        findings: What broke an expectation.

    Returns:
        A rich renderable.
    """
    parts: list[RenderableType] = [Text(clean(view.title), style="bold")]
    if view.question:
        parts.append(prose(view.question, "dim"))
    parts += [Text(""), prose(view.answer, "bold")]
    parts += findings_block(findings)
    for block in view.blocks:
        parts += [Text(""), *_block(block)]
    if view.notes:
        parts.append(Text(""))
        parts += [_hanging("·", prose(note, "dim"), "dim") for note in view.notes]
    return Group(*parts)


def prose(text: str, style: str = "") -> Text:
    """A line of prose whose code, which stands between backticks, is coloured.

    Args:
        text: The prose.
        style: The style of what is not code.

    Returns:
        The text, without backticks.
    """
    found = Text(style=style)
    for piece, code in split_code(text):
        found.append(piece, style="cyan" if code else "")
    return found


def findings_block(findings: Sequence[Finding]) -> list[RenderableType]:
    """Findings in the order of their importance, the first dozen in full.

    Args:
        findings: In any order.

    Returns:
        Renderables, with an empty line before each finding.
    """
    parts: list[RenderableType] = []
    order = ranked(tuple(findings))
    for finding in order[:FINDINGS]:
        parts += [Text(""), _finding(finding)]
    if len(order) > FINDINGS:
        parts += [Text(""), Text(f"… and {len(order) - FINDINGS} more findings", style="dim")]
    return parts


def _finding(finding: Finding) -> RenderableType:
    mark, style = SEVERITIES[finding.severity]
    head = Text(f"{mark} {finding.severity}", style=style)
    head.append(f"  {clean(finding.rule)}", style="dim")
    if finding.where is not None:
        head.append(f"  {clean(finding.where.short)}", style="cyan")
    if finding.module:
        head.append(f"  {clean(finding.module)}", style="dim")
    rows: list[tuple[str, RenderableType]] = []
    if finding.where is not None and finding.where.code:
        rows.append(("code", Text(clean(finding.where.code), style="cyan")))
    rows.append(("expected", _number(finding.expected, finding.theory)))
    rows.append(("measured", _number(finding.measured)))
    if finding.repair:
        rows.append(("repair", prose(finding.repair, "green")))
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, content in rows:
        grid.add_row(name, content)
    return Group(head, Padding(prose(finding.message), (0, 0, 0, 2)), Padding(grid, (0, 0, 0, 2)))


def origin(value: Number, theory: str = "") -> str:
    """How a number was had, in a few words; "measured" goes without saying beside a measurement.

    Args:
        value: The number.
        theory: The row of the theory that an expectation rests on.

    Returns:
        As in "formula, ratio of RMS norms, theory H2".
    """
    method = "" if value.method == "measured" else value.method
    return ", ".join(
        part for part in (method, value.convention, theory and f"theory {theory}") if part
    )


def _number(value: Number, theory: str = "") -> Text:
    text = Text(clean(value), style="bold")
    said = clean(origin(value, theory))
    return text.append(f"  ({said})", style="dim not bold") if said else text


def _hanging(mark: str, content: RenderableType, style: str = "") -> RenderableType:
    grid = Grid.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, style=style)
    grid.add_column(overflow="fold")
    grid.add_row(mark, content)
    return grid


def _block(block: Block) -> list[RenderableType]:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Paragraph):
        return [prose(block.text)]
    if isinstance(block, Formulas):
        return _formulas(block)
    if isinstance(block, Lines):
        return _lines(block)
    if isinstance(block, Bars):
        return _bars(block)
    if isinstance(block, Arcs):
        return _arcs(block)
    return _angle(block)


class _Fitted:
    """Something that is drawn for the width that there is: no number is ever broken or cut."""

    def __init__(self, draw: Callable[[int], RenderableType]) -> None:
        self.draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.draw(options.max_width)


def _table(block: Table) -> list[RenderableType]:
    shown = max(block.shown, 1)
    heads = [_head(column) for column in block.columns]
    rows = [
        [_cell(cell, column.code) for cell, column in zip(row, block.columns, strict=False)]
        for row in block.rows[:shown]
    ]
    parts: list[RenderableType] = [prose(block.caption, "dim")] if block.caption else []
    if rows:
        parts.append(_Fitted(lambda width: _grid(block.columns, heads, rows, width)))
    else:
        parts.append(Text("None.", style="dim"))
    if len(block.rows) > shown:
        parts.append(Text(f"… and {len(block.rows) - shown} more rows", style="dim"))
    return parts


def _head(column: Column) -> Text:
    unit = f" [{clean(column.unit)}]" if column.unit not in ("", "1") else ""
    return Text(clean(column.name) + unit)


def _grid(
    columns: Sequence[Column], heads: list[Text], rows: list[list[Text]], width: int
) -> RenderableType:
    """A table; where it is too wide, words give way to numbers; in the end every row is a list."""
    cells = [
        max((row[i].cell_len for row in rows if i < len(row)), default=0) for i in range(len(heads))
    ]
    natural = [max(cell, head.cell_len) for cell, head in zip(cells, heads, strict=True)]
    words = [max((cell_len(w) for w in head.plain.split()), default=0) for head in heads]
    least = [
        max(cell if column.align == "right" else min(cell, _WORDS), word)
        for cell, word, column in zip(cells, words, columns, strict=True)
    ]
    gap = 3 if sum(least) + 3 * len(heads) - 3 <= width else 1
    if sum(least) + gap * (len(heads) - 1) > width:
        return _records(heads, rows)
    tight = sum(natural) + gap * (len(heads) - 1) > width
    grid = Grid(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="dim",
        padding=(0, gap // 2),
    )
    for column, head, few in zip(columns, heads, least, strict=True):
        fixed = few if tight and column.align == "right" else None
        grid.add_column(head, justify=column.align, overflow="fold", width=fixed)
    for row in rows:
        grid.add_row(*row)
    return grid


def _records(heads: list[Text], rows: list[list[Text]]) -> RenderableType:
    """One row under the other, each as a list of names and values."""
    grid = Grid.grid(padding=(0, 1))
    grid.add_column(style="dim", overflow="fold", max_width=_NAMES)
    grid.add_column(overflow="fold")
    for index, row in enumerate(rows):
        if index:
            grid.add_row("", "")
        for head, cell in zip(heads, row, strict=False):
            grid.add_row(head, cell)
    return grid


def _cell(cell: str | Cell, code: bool) -> Text:
    if isinstance(cell, Cell):
        mark, style = MARKS[cell.mark]
        return Text(f"{mark} {clean(cell.text)}".strip(), style=style)
    return Text(clean(cell), style="cyan") if code else prose(cell)


def _formulas(block: Formulas) -> list[RenderableType]:
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold", style="cyan")
    for name, formula in block.rows:
        grid.add_row(Text(clean(name)), Text(clean(formula)))
    return [*([prose(block.caption, "dim")] if block.caption else []), grid]


def _titled(title: str, labels: str) -> list[RenderableType]:
    text = Text(clean(title or labels))
    if title and labels:
        text.append(f"  ({clean(labels)})", style="dim")
    return [text] if text.plain else []


def _lines(block: Lines) -> list[RenderableType]:
    values = [float(v) for series in block.series for v in series.y]
    axis = Axis.of([*values, *(block.band or ())], 0.0, 1.0, log=block.log_y)
    scale = ", log scale" if block.log_y else ""
    title = _titled(block.title, f"{block.y_label} over {block.x_label}{scale}")
    return [*title, _Fitted(lambda width: _sparks(block, axis, width))]


def _sparks(block: Lines, axis: Axis, width: int) -> RenderableType:
    names = [Text(clean(series.name)) for series in block.series]
    ends = [_ends(series) for series in block.series]
    room = max(width - max(map(cell_len, ends), default=0) - 4, 2)
    name = min(max((text.cell_len for text in names), default=0), 28, max(room // 2, 1))
    grid = _pictures(name)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="dim")
    for series, text, end in zip(block.series, names, ends, strict=True):
        grid.add_row(text, _spark(series, axis, min(_SPARK, max(room - name, 1))), end)
    return grid


def _pictures(name: int) -> Grid:
    """A grid that starts with names, which are cut where they are longer."""
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(overflow="ellipsis", no_wrap=True, max_width=name)
    return grid


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


def _bars(block: Bars) -> list[RenderableType]:
    values = [value for _, value in block.rows]
    edge = [block.reference[0]] if block.reference else []
    start = [] if block.log_x else [0.0]
    axis = Axis.of([*values, *edge, *start], 0.0, 1.0, log=block.log_x, limits=block.limits)
    parts = [*_titled(block.title, block.x_label), _Fitted(lambda width: _rows(block, axis, width))]
    if len(block.rows) > FINDINGS:
        parts.append(Text(f"… and {len(block.rows) - FINDINGS} more", style="dim"))
    if block.reference:
        parts.append(Text(f"{clean(block.reference[1])}: {short(block.reference[0])}", style="dim"))
    return parts


def _rows(block: Bars, axis: Axis, width: int) -> RenderableType:
    rows = [(Text(clean(name)), value) for name, value in block.rows[:FINDINGS]]
    room = max(width - max((cell_len(short(value)) for _, value in rows), default=0) - 4, 2)
    name = min(max((text.cell_len for text, _ in rows), default=0), 36, max(room // 2, 1))
    grid = _pictures(name)
    grid.add_column(no_wrap=True, style="blue")
    grid.add_column(justify="right", no_wrap=True)
    for text, value in rows:
        share = axis.at(value) if value == value else 0.0
        grid.add_row(text, _bar(share, min(_BAR, max(room - name, 1))), short(value))
    return grid


def _bar(share: float, length: int) -> str:
    eighths = round(8 * length * share) if math.isfinite(share) else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _arcs(block: Arcs) -> list[RenderableType]:
    def name(station: float) -> str:
        if (
            math.isfinite(station)
            and station == int(station)
            and 0 <= station < len(block.stations)
        ):
            return block.stations[int(station)]
        return short(station)

    parts = _titled(
        block.title,
        f"{counted(len(block.arcs), 'skip path')} over {counted(len(block.stations), 'station')}",
    )
    for arc in block.arcs[:FINDINGS]:
        mark, style = MARKS[{"good": "good", "bad": "bad", "plain": ""}[arc.kind]]
        text = Text(f"{clean(name(arc.start))} → {clean(name(arc.end))}", style="cyan")
        text.append(f"  {clean(arc.label)}", style="default")
        parts.append(_hanging(mark or "·", text, style))
    if len(block.arcs) > FINDINGS:
        parts.append(Text(f"… and {len(block.arcs) - FINDINGS} more", style="dim"))
    return parts


def _angle(block: Angle) -> list[RenderableType]:
    first = block.arrows[0][0] if block.arrows else ""
    grid = Grid.grid(padding=(0, 2))
    for name, degrees in block.arrows[1:]:
        turn = f"{short(float(f'{degrees:.3g}'))}°" if math.isfinite(degrees) else "no angle"
        grid.add_row(Text(f"{clean(first)} ∠ {clean(name)}"), turn)
    return [*_titled(block.title, ""), grid]
