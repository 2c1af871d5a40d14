"""Marks on a canvas: the few SVG elements that pictures are made of, escaped and with sane coordinates.

Everything is drawn in `currentColor`; a class such as `c1` or `bad` only sets `color`, so that a style
sheet decides about light and dark, and a picture without one is still legible.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from assay.view.prose import clean

SIZE = 12.0  # of text, in pixels; pictures are drawn for the width at which they are shown
Point = tuple[float, float]

_NARROW = frozenset("iljtfrI.,:;|!'`()[]{}/\\ ")
_BROAD = frozenset("mwMWOQG@%—…")


def text_width(text: str, size: float = SIZE) -> float:
    """About how wide `text` is, on the generous side; no font is at hand to ask.

    Args:
        text: One line.
        size: The font size in pixels.

    Returns:
        A width in pixels.
    """
    total = 0.0
    for char in text:
        if unicodedata.east_asian_width(char) in "WF":
            total += 1.0
        elif char in _NARROW:
            total += 0.34
        elif char in _BROAD:
            total += 0.9
        else:
            total += 0.7 if char.isupper() else 0.62
    return total * size


def fit(text: str, width: float, size: float = SIZE) -> str:
    """Shorten `text` in the middle, where module paths differ least, until it fits `width`.

    Args:
        text: One line.
        width: The room, in pixels.
        size: The font size in pixels.

    Returns:
        The text, with an ellipsis if anything had to go.

    Example:
        >>> fit("encoder.layers.11.self_attn.out_proj", 120)
        'encoder.l…out_proj'
    """
    text = " ".join(clean(text).split())
    if text_width(text, size) <= width:
        return text
    keep = min(len(text) - 1, max(2, int(width / (0.34 * size))))
    while keep > 2:
        head = (keep + 1) // 2
        shorter = f"{text[:head]}…{text[len(text) - (keep - head) :]}"
        if text_width(shorter, size) <= width:
            return shorter
        keep -= 1
    return f"{text[:1]}…"


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart: at least `gap` between them, inside `[low, high]`, each as near as may be.

    Args:
        wanted: Where each would like to be, in any order.
        gap: The least distance.
        low: The smallest position.
        high: The largest position; when there are too many, the gap shrinks.

    Returns:
        Positions in the order of `wanted`.

    Example:
        >>> spread([50.0, 51.0, 90.0], 10, 0, 100)
        [45.5, 55.5, 90.0]
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[
        tuple[float, int]
    ] = []  # (sum of wished starts, members), merged while they overlap
    for rank, index in enumerate(order):
        total, count = wanted[index] - rank * gap, 1
        while groups and groups[-1][0] / groups[-1][1] > total / count:
            earlier, members = groups.pop()
            total, count = total + earlier, count + members
        groups.append((total, count))
    starts = [total / count for total, count in groups for _ in range(count)]
    top = high - (len(wanted) - 1) * gap
    placed = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        placed[index] = min(max(starts[rank], low), max(top, low)) + rank * gap
    return placed


def number(value: float) -> str:
    """A coordinate: finite, one decimal.

    Args:
        value: A position; anything that is not finite becomes 0, which callers avoid by placing first.

    Returns:
        Its text.
    """
    if not math.isfinite(value):
        return "0"
    text = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def element(tag: str, content: str | Markup = "", /, **attributes: object) -> Markup:
    """One element; attribute `class_` is written class, underscores become hyphens, None is left out.

    Args:
        tag: Its name.
        content: What stands inside; escaped unless it is Markup.
        **attributes: Floats are written as coordinates, everything else is escaped.

    Returns:
        The element.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = content if isinstance(content, Markup) else escape(clean(content))
    return Markup(f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>")


def _attribute(value: object) -> str:
    return number(value) if isinstance(value, float) else str(escape(clean(value)))


def label(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    kind: str = "",
    width: float | None = None,
    size: float = SIZE,
) -> Markup:
    """A line of text with its vertical middle at `y`.

    Args:
        x: Where it is anchored.
        y: Its vertical middle.
        text: What to say; shortened to `width`, and then in full as a tooltip.
        anchor: "start", "middle" or "end".
        kind: Classes: "muted", "code", "c1"…
        width: The room for it, or None for as much as it takes.
        size: The font size in pixels.

    Returns:
        The element.
    """
    shown = clean(text) if width is None else fit(text, width, size)
    title = Markup("") if shown == clean(text) else element("title", text)
    return element(
        "text",
        title + shown,
        x=float(x),
        y=y + 0.35 * size,
        text_anchor=None if anchor == "start" else anchor,
        font_size=size,
        fill="currentColor",
        class_=kind or None,
    )


def line(a: Point, b: Point, kind: str = "", **attributes: object) -> Markup:
    """A straight line from `a` to `b`.

    Args:
        a: One end.
        b: The other.
        kind: Classes.
        **attributes: More attributes, such as `stroke_width`.

    Returns:
        The element.
    """
    ends = {"x1": float(a[0]), "y1": float(a[1]), "x2": float(b[0]), "y2": float(b[1])}
    return element("line", **ends, stroke="currentColor", class_=kind or None, **attributes)


def path(points: Iterable[Point], kind: str = "", **attributes: object) -> Markup:
    """A line through `points`.

    Args:
        points: Positions, at least one.
        kind: Classes.
        **attributes: More attributes, such as `stroke_dasharray`.

    Returns:
        The element.
    """
    data = "M" + "L".join(f"{number(x)},{number(y)}" for x, y in points)
    return curve(data, kind, **attributes)


def curve(data: str, kind: str = "", **attributes: object) -> Markup:
    """A path given as SVG path data, whose numbers the caller has written with `number`.

    Args:
        data: As in "M0,0L1,1".
        kind: Classes.
        **attributes: More attributes.

    Returns:
        The element.
    """
    return element(
        "path", d=data, fill="none", stroke="currentColor", class_=kind or None, **attributes
    )


@dataclass(frozen=True)
class Canvas:
    """A finished picture.

    Args:
        width: In pixels.
        height: In pixels.
        name: What it shows, in a sentence, for those who cannot see it.
        marks: What is on it.
    """

    width: float
    height: float
    name: str
    marks: Sequence[Markup]

    def svg(self, kind: str = "") -> Markup:
        """The `svg` element, which shrinks with its surroundings.

        Args:
            kind: A class for it.

        Returns:
            One element, well-formed XML.
        """
        name = self.name or "Picture"
        return element(
            "svg",
            element("title", name) + Markup("").join(self.marks),
            xmlns="http://www.w3.org/2000/svg",
            class_=kind or None,
            viewBox=f"0 0 {number(self.width)} {number(self.height)}",
            width=float(self.width),
            height=float(self.height),
            role="img",
            aria_label=name,
            font_size=SIZE,
        )
