"""Tables and formulas in the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

from assay.view.blocks import Cell, Column, Formulas, Table
from assay.view.pieces import MARKS, Fitted, prose
from assay.view.prose import clean

_WORDS, _NAMES = 13, 24  # columns of words may become as narrow as this


def write_table(block: Table) -> list[RenderableType]:
    """A table, of which at most the rows that it says are shown."""
    shown = max(block.shown, 1)
    heads = [_head(column) for column in block.columns]
    rows = [
        [_cell(cell, column.code) for cell, column in zip(row, block.columns, strict=False)]
        for row in block.rows[:shown]
    ]
    parts: list[RenderableType] = [prose(block.caption, "dim")] if block.caption else []
    if rows:
        parts.append(Fitted(lambda width: _grid(block.columns, heads, rows, width)))
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
    whole = [
        max([few, *(min(cell_len(w), _NAMES) for row in rows for w in _words(row, i))])
        for i, few in enumerate(least)
    ]
    for i in sorted(range(len(least)), key=lambda i: whole[i] - least[i]):
        # prose gives way before a path or a name is cut, and of these the longest is cut first
        if sum(least) + whole[i] - least[i] + gap * (len(heads) - 1) <= width:
            least[i] = whole[i]
    wide = _shared(least, natural, width - gap * (len(heads) - 1)) if tight else natural
    grid = Grid(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="dim",
        padding=(0, gap // 2),
    )
    for column, head, own in zip(columns, heads, wide, strict=True):
        grid.add_column(head, justify=column.align, overflow="fold", width=own)
    for row in rows:
        grid.add_row(*(_broken(cell, own) for cell, own in zip(row, wide, strict=False)))
    return grid


def _shared(least: list[int], natural: list[int], room: int) -> list[int]:
    """Widths of columns: what is left goes to those that lack most of what they would take."""
    wide = list(least)
    for _ in range(room - sum(wide)):
        lacking = [have / want if want else 1.0 for have, want in zip(wide, natural, strict=True)]
        wide[lacking.index(min(lacking))] += min(lacking) < 1
    return wide


def _broken(cell: Text, width: int) -> Text:
    """A cell in which paths that are too long for a line break behind a dot, a slash or an underscore."""
    ends: list[int] = []
    for word in re.finditer(r"\S+", cell.plain):
        start = word.start()
        while word.end() - start > width:
            line = cell.plain[start : start + width]
            parts = max(line.rfind(mark) for mark in "./_") + 1
            if parts <= width // 3:
                break
            start += parts
            ends.append(start)
    return Text("\n").join(cell.divide(ends)) if ends else cell


def _words(row: list[Text], column: int) -> list[str]:
    return row[column].plain.split() if column < len(row) else []


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


def write_formulas(block: Formulas) -> list[RenderableType]:
    """Formulas with their names, one below the other."""
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold", style="cyan")
    for name, formula in block.rows:
        grid.add_row(Text(clean(name)), Text(clean(formula)))
    return [*([prose(block.caption, "dim")] if block.caption else []), grid]
