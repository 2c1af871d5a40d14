"""What is shown, free of where: a pillar describes its picture here, a renderer draws it.

Every picture carries the numbers it draws, never coordinates, so that the terminal, the page and the
JSON output tell the same story.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Mark = Literal["good", "bad", "unknown", ""]


@dataclass(frozen=True)
class Cell:
    """A table cell with a judgement: drawn with a mark (✓ ✗ ?) and a colour."""

    text: str
    mark: Mark = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Column:
    """A table column. `unit` stands in the header; `align` is "left" for words, "right" for numbers."""

    name: str
    unit: str = ""
    align: Literal["left", "right"] = "left"
    code: bool = False  # file names, module paths and formulas are set in a fixed-width face


@dataclass(frozen=True)
class Table:
    """Rows under columns. `caption` says what the numbers are and how they were obtained.

    `shown` rows are visible at first in the page and in the terminal; the rest folds away.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    caption: str = ""
    shown: int = 12


@dataclass(frozen=True)
class Paragraph:
    """Plain prose. Text between backticks is code."""

    text: str


@dataclass(frozen=True)
class Formulas:
    """Named formulas, set one under the other: (name, formula) pairs."""

    rows: tuple[tuple[str, str], ...]
    caption: str = ""


@dataclass(frozen=True)
class Series:
    """A named run of points. `style` "dashed" is for expectations, "solid" for measurements."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: Literal["solid", "dashed", "dots"] = "solid"


@dataclass(frozen=True)
class Lines:
    """A line chart. `band` shades the y range where nothing is wrong; `marks` are named x positions."""

    series: tuple[Series, ...]
    x_label: str
    y_label: str
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    band: tuple[float, float] | None = None
    marks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Bars:
    """Named horizontal bars on one axis. `reference` draws a labelled vertical line."""

    rows: tuple[tuple[str, float], ...]
    x_label: str
    title: str = ""
    log_x: bool = False
    limits: tuple[float, float] | None = None
    reference: tuple[float, str] | None = None


@dataclass(frozen=True)
class Arc:
    """A path that skips from position `start` to position `end` of the row of stations."""

    start: float
    end: float
    label: str
    kind: Literal["good", "bad", "plain"] = "plain"


@dataclass(frozen=True)
class Arcs:
    """Skip paths drawn as arcs over a row of stations (modules, or steps in time)."""

    stations: tuple[str, ...]
    arcs: tuple[Arc, ...]
    title: str = ""


@dataclass(frozen=True)
class Angle:
    """Two or more directions drawn as arrows from one point; `degrees` from the first one."""

    arrows: tuple[tuple[str, float], ...]  # (name, degrees from the first arrow)
    title: str = ""


Block = Table | Paragraph | Formulas | Lines | Bars | Arcs | Angle


@dataclass(frozen=True)
class View:
    """One section as a reader sees it.

    Args:
        title: One or two words, "Cost".
        question: The question that the section answers, as a user would ask it.
        answer: The answer in one or two sentences, with the numbers in it.
        blocks: Pictures and tables, most important first.
        notes: Conventions, methods, and what could not be had, one sentence each.
    """

    title: str
    question: str
    answer: str
    blocks: tuple[Block, ...] = ()
    notes: tuple[str, ...] = ()
