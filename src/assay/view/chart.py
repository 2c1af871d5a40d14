"""Charts: numbers as lines over an axis, and as named bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from assay.view.axis import Axis, short
from assay.view.blocks import Bars, Lines, Series
from assay.view.canvas import Canvas, Point, element, fit, label, line, path, spread, text_width

COLOURS = 6
_ROW = 15.0  # the least distance of two lines of text
_MANY = 800  # points of one line; more than a screen has pixels are merged, extremes kept
_DASHES = {"dashed": "5 4", "solid": None, "dots": None}


@dataclass(frozen=True)
class Plot:
    """The rectangle that a chart is drawn in, with its axes."""

    x: Axis
    y: Axis

    @property
    def left(self) -> float:
        """The left edge."""
        return self.x.start

    @property
    def right(self) -> float:
        """The right edge."""
        return self.x.stop

    @property
    def top(self) -> float:
        """The upper edge; the vertical axis points up."""
        return self.y.stop

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.y.start


def draw_lines(chart: Lines, width: float) -> Canvas:
    """A line chart: expectations dashed, measurements solid, values off the axis as marks on its edge.

    Args:
        chart: What to draw.
        width: In pixels; a narrow chart has its legend on top, a broad one at the ends of its lines.

    Returns:
        The picture.
    """
    kinds = colours(chart.series)
    direct = width >= 520 and 0 < len(chart.series) <= 8
    names = [series.name for series in chart.series]
    room = min(max((text_width(name) for name in names), default=0.0) + 14, 0.3 * width)
    legend, top = (Markup(""), 8.0) if direct else _legend(chart.series, kinds, width)
    has_names = any(name for _, name in chart.marks)
    top += (18 if direct else 26) + (
        _ROW if has_names else 0
    )  # the label of the vertical axis lies above its end
    bottom = top + min(280.0, max(170.0, 0.36 * width))

    values = [v for series in chart.series for v in series.y]
    y = Axis.of([*values, *(chart.band or ())], bottom, top, log=chart.log_y, pad=0.05)
    y_ticks = y.ticks(5)
    left = max([text_width(text) for _, text in y_ticks], default=20.0) + 10
    numbers = [v for series in chart.series for v in series.x] + [v for v, _ in chart.marks]
    right = width - (room if direct else 10)
    plot = Plot(Axis.of(numbers, left, right, log=chart.log_x, pad=0.01), y)

    parts = [legend, _band(chart, plot), _frame(plot, chart.x_label, chart.y_label, y_ticks)]
    parts += _marks(chart, plot)
    if not values:
        middle = (left + right) / 2, (top + bottom) / 2
        parts.append(label(*middle, "no values", anchor="middle", kind="muted"))
    lost = 0
    for series, kind in zip(chart.series, kinds, strict=True):
        drawn, missing = _series(series, plot, kind)
        parts.append(drawn)
        lost += missing
    if direct:
        parts += _end_labels(chart.series, kinds, plot, width - right - 12)
    height = bottom + 40
    if lost:
        kinds_of = "▲ infinite, ▼ zero or below, × not a number"
        note = f"{lost} of {len(values)} values are off this axis: {kinds_of}"
        parts.append(label(left, height + 6, note, kind="muted", size=11, width=width - left))
        height += _ROW + 4
    return Canvas(width, height, _name(chart.title, chart.y_label, chart.x_label, names), parts)


def draw_bars(chart: Bars, width: float) -> Canvas:
    """Named horizontal bars with their values; a value that cannot be drawn is said in words.

    Args:
        chart: What to draw; at most 60 rows are.
        width: In pixels; in a narrow chart each name stands above its bar.

    Returns:
        The picture.
    """
    rows = chart.rows[:60]
    over = width < 520
    wish = max((text_width(name) for name, _ in rows), default=0.0)
    left = 4.0 if over else min(wish, 0.55 * width) + 12  # the bars keep the rest
    values = [value for _, value in rows]
    right = width - max((text_width(short(v)) for v in values), default=0.0) - 14
    edge = [chart.reference[0]] if chart.reference else []
    base = [] if chart.log_x else [0.0]
    x = Axis.of([*values, *edge, *base], left, right, log=chart.log_x, limits=chart.limits)
    if chart.log_x and chart.limits is None:  # the smallest bar must not vanish
        x = Axis.of([x.low / 1.5, x.high], left, right, log=True)
    top = 8.0 + (_ROW + 2 if chart.reference else 0)
    step = 34.0 if over else max(19.0, min(26.0, 320 / max(len(rows), 1)))
    bottom = top + step * len(rows)
    axis_name = chart.x_label + x.factor
    parts: list[Markup] = []
    for spot, text in x.ticks(4 if over else 6):
        parts.append(line((spot, top), (spot, bottom), "grid"))
        parts.append(label(spot, bottom + 12, text, anchor="middle", kind="muted", size=11))
    if chart.reference:
        at, name = chart.reference
        spot = x.at(at)
        anchor, room = ("start", width - spot) if spot < width / 2 else ("end", spot)
        parts.append(line((spot, top - 4), (spot, bottom), "c2", stroke_dasharray="5 4"))
        parts.append(label(spot, top - 12, name, anchor=anchor, kind="c2", width=room))
    zero = x.at(0.0 if not chart.log_x else x.low)
    for index, (name, value) in enumerate(rows):
        middle = top + step * (index + (0.7 if over else 0.5))
        end = x.at(value)
        if over:
            parts.append(label(left, middle - 15, name, width=width - left - 4))
        else:
            parts.append(label(left - 8, middle, name, anchor="end", width=left - 10))
        if not isinstance(x.place(value), str):
            near, far = min(zero, end), max(zero, end)
            size = {"width": max(far - near, 1.0), "height": 10.0, "rx": 1.5}
            bar = {"x": near, "y": middle - 5, "fill": "currentColor", "class_": "c1"}
            parts.append(
                element("rect", element("title", f"{name}: {short(value)}"), **bar, **size)
            )
        else:
            end = zero
        parts.append(label(max(end, zero) + 6, middle, short(value), kind="halo", size=11))
    height = bottom + 24
    if len(chart.rows) > len(rows):
        more = f"… and {len(chart.rows) - len(rows)} more"
        parts.append(label(left, height + 2, more, kind="muted", size=11))
        height += _ROW
    if axis_name:
        parts.append(
            label((left + right) / 2, height + 4, axis_name, anchor="middle", kind="muted")
        )
        height += _ROW + 2
    names = [name for name, _ in chart.rows]
    return Canvas(width, height, _name(chart.title, chart.x_label, "", names), parts)


def colours(series: Sequence[Series]) -> list[str]:
    """A colour class for each line; an expectation takes that of its measurement where they pair up.

    Args:
        series: The lines.

    Returns:
        One class each: "c1" to "c6", or "plain" for expectations that stand alone.
    """
    dashed = sum(one.style == "dashed" for one in series)
    pairs = dashed > 1 and 2 * dashed == len(series)
    seen = {True: 0, False: 0}
    found = []
    for one in series:
        expectation = one.style == "dashed"
        index = seen[expectation]
        seen[expectation] += 1
        alone = expectation and not pairs and dashed < len(series)
        found.append("plain" if alone else f"c{index % COLOURS + 1}")
    return found


def _name(title: str, value: str, over: str, names: Sequence[str]) -> str:
    """What a picture shows, in a sentence for those who cannot see it."""
    what = title or (f"{value} over {over}" if over else value)
    some = ", ".join(list(names)[:6]) + ("…" if len(names) > 6 else "")
    return f"{what}: {some}" if some else what


def _join(parts: Sequence[Markup]) -> Markup:
    return Markup("").join(parts)


def _frame(plot: Plot, x_name: str, y_name: str, y_ticks: Sequence[tuple[float, str]]) -> Markup:
    parts = [line((plot.left, plot.bottom), (plot.right, plot.bottom), "axis")]
    for spot, text in y_ticks:
        parts.append(line((plot.left, spot), (plot.right, spot), "grid"))
        parts.append(label(plot.left - 6, spot, text, anchor="end", kind="muted", size=11))
    taken = -math.inf
    for spot, text in plot.x.ticks(max(3, int((plot.right - plot.left) / 90))):
        half = text_width(text, 11) / 2
        parts.append(line((spot, plot.bottom), (spot, plot.bottom + 4), "axis"))
        if spot - half > taken + 4:
            parts.append(
                label(spot, plot.bottom + 12, text, anchor="middle", kind="muted", size=11)
            )
            taken = spot + half
    middle = (plot.left + plot.right) / 2
    room = plot.right - plot.left
    below = x_name + plot.x.factor
    parts.append(label(middle, plot.bottom + 30, below, anchor="middle", kind="muted", width=room))
    parts.append(label(0, plot.top - 20, y_name + plot.y.factor, kind="muted", width=plot.right))
    return _join(parts)


def _band(chart: Lines, plot: Plot) -> Markup:
    if chart.band is None:
        return Markup("")
    low, high = sorted(plot.y.at(edge) for edge in chart.band)
    box = {
        "x": plot.left,
        "y": low,
        "width": plot.right - plot.left,
        "height": max(high - low, 1.0),
    }
    return element("rect", **box, fill="currentColor", class_="band", fill_opacity="0.1")


def _marks(chart: Lines, plot: Plot) -> list[Markup]:
    parts = []
    taken = -math.inf
    for at, name in sorted(chart.marks, key=lambda mark: mark[0] if mark[0] == mark[0] else 0.0):
        spot = plot.x.place(at)
        if isinstance(spot, str):
            continue
        parts.append(line((spot, plot.top), (spot, plot.bottom), "mark", stroke_dasharray="1 3"))
        shown = fit(name, 150, 11)
        half = text_width(shown, 11) / 2
        middle = min(max(spot, plot.left + half), plot.right - half)
        if name and middle - half > taken + 6:  # a name that would cover another is left out
            parts.append(
                label(middle, plot.top - 7, name, anchor="middle", kind="muted", size=11, width=150)
            )
            taken = middle + half
    return parts


def _series(series: Series, plot: Plot, kind: str) -> tuple[Markup, int]:
    """The line, broken where there is no value; and how many values could not be drawn."""
    runs: list[list[Point]] = [[]]
    strays: list[Markup] = []
    for x, y in zip(series.x, series.y, strict=False):
        across, up = plot.x.place(float(x)), plot.y.place(float(y))
        if isinstance(across, float) and isinstance(up, float):
            runs[-1].append((across, up))
            continue
        if runs[-1]:
            runs.append([])
        spot = plot.x.at(float(x))
        strays.append(_stray(spot, up if isinstance(up, str) else "nowhere", plot, kind))
    title = element("title", series.name)
    parts = []
    for run in runs:
        points = thin(run, _MANY)
        if len(points) > 1 and series.style != "dots":
            dash = _DASHES[series.style]
            drawn = path(
                points, kind, stroke_width="1.75", stroke_dasharray=dash, stroke_linejoin="round"
            )
            parts.append(drawn)
        if (
            series.style == "dots"
            or len(points) == 1
            or (series.style == "solid" and len(points) < 20)
        ):
            radius = 2.5 if len(points) < 60 else 1.5
            parts += [_dot(point, radius, kind) for point in points]
    return element("g", title + _join(parts + strays[:200])), len(strays)


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Merge points until there are at most `most`, keeping the lowest and highest of every stretch.

    Args:
        points: In order.
        most: The number to keep, about.

    Returns:
        Some of the points, in order.
    """
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    kept: list[Point] = []
    for start in range(0, len(points), size):
        stretch = range(start, min(start + size, len(points)))
        ends = {min(stretch, key=lambda i: points[i][1]), max(stretch, key=lambda i: points[i][1])}
        kept += [points[i] for i in sorted(ends)]
    return kept


def _dot(point: Point, radius: float, kind: str) -> Markup:
    return element("circle", cx=point[0], cy=point[1], r=radius, fill="currentColor", class_=kind)


def _stray(spot: float, edge: str, plot: Plot, kind: str) -> Markup:
    if edge == "nowhere":
        return label(spot, plot.bottom - 5, "×", anchor="middle", kind=kind)
    up = edge == "above"
    return label(
        spot,
        plot.top + 4 if up else plot.bottom - 5,
        "▲" if up else "▼",
        anchor="middle",
        kind=kind,
        size=10,
    )


def _end_labels(
    series: Sequence[Series], kinds: Sequence[str], plot: Plot, room: float
) -> list[Markup]:
    """Each line's name beside its last point, moved apart where they would overlap."""
    wanted = []
    for one in series:
        spots = [plot.y.place(float(y)) for y in one.y]
        placed = [spot for spot in spots if isinstance(spot, float)]
        wanted.append(min(max(placed[-1], plot.top), plot.bottom) if placed else plot.bottom)
    places = spread(wanted, _ROW, plot.top, plot.bottom)
    return [
        label(plot.right + 8, place, one.name, kind=kind, width=room)
        for one, kind, place in zip(series, kinds, places, strict=True)
    ]


def _legend(series: Sequence[Series], kinds: Sequence[str], width: float) -> tuple[Markup, float]:
    """Names with a piece of their line, in as many rows as they need."""
    parts: list[Markup] = []
    x, y = 0.0, 10.0
    for one, kind in zip(series, kinds, strict=True):
        name = fit(one.name, width - 34)
        need = 24 + text_width(name) + 14
        if x > 0 and x + need > width:
            x, y = 0.0, y + _ROW + 2
        if one.style == "dots":
            parts.append(_dot((x + 9, y), 2.5, kind))
        else:
            dash = _DASHES[one.style]
            parts.append(
                line((x, y), (x + 18, y), kind, stroke_width="1.75", stroke_dasharray=dash)
            )
        parts.append(label(x + 24, y, one.name, kind=kind, width=width - 34))
        x += need
    return _join(parts), y + (12 if parts else 0)
