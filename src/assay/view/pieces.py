"""What blocks in the terminal are put together from."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from assay.view.prose import clean, split_code

MARKS = {"good": ("✓", "green"), "bad": ("✗", "red"), "unknown": ("?", "yellow"), "": ("", "")}
MOST = 12  # findings, bars and arcs that are shown; a terminal is no place for more


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


def hanging(mark: str, content: RenderableType, style: str = "") -> RenderableType:
    """A mark, and beside it what may run over several lines."""
    grid = Grid.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, style=style)
    grid.add_column(overflow="fold")
    grid.add_row(mark, content)
    return grid


def titled(title: str, labels: str) -> list[RenderableType]:
    """The line above a picture: its title, and in brackets what its axes are."""
    text = Text(clean(title or labels))
    if title and labels:
        text.append(f"  ({clean(labels)})", style="dim")
    return [text] if text.plain else []


class Fitted:
    """Something that is drawn for the width that there is: no number is ever broken or cut."""

    def __init__(self, draw: Callable[[int], RenderableType]) -> None:
        self.draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.draw(options.max_width)


class Unwrapped:
    """Text whose lines stay as they are, however long: a terminal wraps what it cannot show.

    It has to be printed with `crop=False`.
    """

    def __init__(self, text: Text) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        longest = max((line.cell_len for line in self.text.split()), default=0)
        yield from console.render(
            self.text, options.update(width=max(longest, 1), no_wrap=True, overflow="ignore")
        )
