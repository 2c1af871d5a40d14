"""Diagrams: skip paths as arcs beside a column of stations, and directions as arrows from one point."""

from __future__ import annotations

import math
from collections import Counter

from markupsafe import Markup

from assay.view.axis import short
from assay.view.blocks import Angle, Arc, Arcs
from assay.view.canvas import (
    Canvas,
    curve,
    element,
    fit,
    label,
    line,
    number,
    path,
    spread,
    text_width,
)
from assay.view.chart import COLOURS

_KINDS = {"good": "good", "bad": "bad", "plain": "c1"}
_URGENT = {"bad": 0, "plain": 1, "good": 2}  # whose label stays when there is no room for all
_TALL = 480.0


def draw_arcs(diagram: Arcs, width: float) -> Canvas:
    """Stations from top to bottom, in the order in which the signal passes them, and arcs beside them.

    Names are set horizontally, however long they are; a column of more stations than fit in a screen
    names only some of them. Arcs without a place are left out of the picture, not of the count.

    Args:
        diagram: What to draw.
        width: In pixels.

    Returns:
        The picture.
    """
    names = diagram.stations
    last = max(len(names) - 1, 0)
    step = min(24.0, _TALL / max(last, 1))
    every = max(1, math.ceil(15.0 / step))
    arcs = [arc for arc in diagram.arcs if math.isfinite(arc.start) and math.isfinite(arc.end)]
    room = min(max((text_width(name) for name in names), default=0.0), 0.38 * width)
    spine = room + 16
    top, bottom = 14.0, 14.0 + step * last

    def at(station: float) -> float:
        return top + step * min(max(station, 0.0), float(last))

    parts = [line((spine, top), (spine, bottom), "axis")]
    for index, name in enumerate(names):
        parts.append(element("circle", cx=spine, cy=at(index), r=2.5, fill="currentColor"))
        if index % every == 0:
            parts.append(label(spine - 10, at(index), name, anchor="end", width=room))
    longest = max((abs(arc.end - arc.start) for arc in arcs), default=1.0) or 1.0
    reach = min(0.3 * (width - spine), 170.0)
    apexes = [
        min(
            18 + (reach - 18) * math.sqrt(abs(a.end - a.start) / longest),
            18 + 3 * abs(at(a.end) - at(a.start)),
        )
        for a in arcs
    ]
    for arc, apex in zip(arcs, apexes, strict=True):
        parts.append(_arc(arc, spine, at(arc.start), at(arc.end), apex))
    parts += _arc_labels(
        arcs, [(at(a.start) + at(a.end)) / 2 for a in arcs], apexes, spine, width, bottom
    )
    height = bottom + 16
    lost = len(diagram.arcs) - len(arcs)
    if lost:
        parts.append(label(0, height + 4, f"{lost} arcs have no place here", kind="muted", size=11))
        height += 15
    count = f"{len(diagram.arcs)} skip paths over {len(names)} stations"
    name = f"{diagram.title}: {count}" if diagram.title else count
    return Canvas(width, height, name, parts)


def _arc(arc: Arc, spine: float, start: float, end: float, apex: float) -> Markup:
    kind = _KINDS[arc.kind]
    out = spine + apex * 4 / 3  # a cubic curve comes three quarters of the way to its handles
    data = (
        f"M{number(spine)},{number(start)}C{number(out)},{number(start)} "
        f"{number(out)},{number(end)} {number(spine)},{number(end)}"
    )
    dash = "5 4" if arc.kind == "bad" else None  # told apart without colour, too
    drawn = curve(data, stroke_width="1.75", stroke_dasharray=dash)
    tip = path([(spine + 9, end - 4), (spine + 2, end), (spine + 9, end + 4)], stroke_width="1.5")
    title = element("title", arc.label or "skip path")
    return element("g", title + drawn + tip, class_=kind)


def _arc_labels(
    arcs: list[Arc],
    middles: list[float],
    apexes: list[float],
    spine: float,
    width: float,
    bottom: float,
) -> list[Markup]:
    """Labels to the right of the arcs, in one column; where room is short, one stands for its equals."""
    texts = {i: arc.label for i, arc in enumerate(arcs) if arc.label}
    rows = max(1, int((bottom + 8) / 15))
    if len(texts) > rows:
        count = Counter((arc.label, arc.kind) for arc in arcs)
        first = {(arc.label, arc.kind): i for i, arc in reversed(list(enumerate(arcs)))}
        texts = {i: f"{key[0]} (×{count[key]})" for key, i in first.items() if key[0]}
    told = sorted(sorted(texts, key=lambda i: (_URGENT[arcs[i].kind], i))[:rows])  # bad news stays
    if not told:
        return []
    left = spine + max(apexes) + 14
    places = spread([middles[i] for i in told], 15.0, 8.0, max(bottom, 15.0 * len(told) - 7))
    parts = []
    for i, place in zip(told, places, strict=True):
        kind = _KINDS[arcs[i].kind]
        parts.append(label(left, place, texts[i], kind=kind, width=width - left - 4))
        tip = spine + apexes[i]
        if left - tip > 24 or abs(place - middles[i]) > 6:
            parts.append(
                line((tip + 3, middles[i]), (left - 4, place), "mark", stroke_width="0.75")
            )
    return parts


def draw_angle(diagram: Angle, width: float) -> Canvas:
    """Directions as arrows from one point, each turned from the first by its angle.

    Args:
        diagram: What to draw; an angle that is not finite is said in words below.
        width: In pixels.

    Returns:
        The picture.
    """
    named = [(name, float(degrees)) for name, degrees in diagram.arrows]
    drawn = [(name, degrees) for name, degrees in named if math.isfinite(degrees)]
    width = min(width, 520.0)
    turns = [degrees % 360 for _, degrees in drawn]
    left = any(90 < t < 270 for t in turns)
    length = min(0.3 * width, 150.0)
    wish = max(
        [text_width(_told(*pair)) for pair, t in zip(drawn, turns, strict=True) if 90 < t < 270],
        default=0.0,
    )
    x0 = min(length + wish + 12, width - length - 80) if left else 0.06 * width
    up = max([math.sin(math.radians(t)) for t in turns], default=0.0)
    down = max([-math.sin(math.radians(t)) for t in turns], default=0.0)
    y0 = 24 + length * max(up, 0.12)
    height = y0 + length * max(down, 0.0) + 24
    tips = [
        (x0 + length * math.cos(math.radians(t)), y0 - length * math.sin(math.radians(t)))
        for t in turns
    ]
    parts: list[Markup] = []
    for index, turn in enumerate(turns[1:], 1):
        parts.append(_opening(x0, y0, 26 + 15.0 * (index - 1), turn, f"c{index % COLOURS + 1}"))
    for index, tip in enumerate(tips):
        parts.append(_arrow((x0, y0), tip, f"c{index % COLOURS + 1}"))
    for right in (True, False):
        side = [i for i, (x, _) in enumerate(tips) if (x >= x0) is right]
        places = spread([tips[i][1] for i in side], 16.0, 10.0, height - 10)
        for i, place in zip(side, places, strict=True):
            text = drawn[i][0] if i == 0 else _told(*drawn[i])
            x = tips[i][0] + (8 if right else -8)
            room = width - x if right else x
            anchor = "start" if right else "end"
            parts.append(
                label(x, place, text, anchor=anchor, kind=f"c{i % COLOURS + 1}", width=room)
            )
    for name, _ in [pair for pair in named if not math.isfinite(pair[1])]:
        parts.append(label(0, height, fit(f"{name}: no angle", width), kind="muted"))
        height += 16
    angles = ", ".join(f"{name} {short(degrees)}°" for name, degrees in named[1:])
    title = diagram.title or "Directions"
    said = f"{title}: {angles} from {named[0][0]}" if len(named) > 1 else title
    return Canvas(width, height, said, parts)


def _told(name: str, degrees: float) -> str:
    return f"{name} {short(float(f'{degrees:.3g}'))}°"


def _arrow(a: tuple[float, float], b: tuple[float, float], kind: str) -> Markup:
    turn = math.atan2(b[1] - a[1], b[0] - a[0])
    wings = [(b[0] - 9 * math.cos(turn + s), b[1] - 9 * math.sin(turn + s)) for s in (0.4, -0.4)]
    head = path([wings[0], b, wings[1]], stroke_width="2")
    return element("g", line(a, b, stroke_width="2") + head, class_=kind)


def _opening(x0: float, y0: float, radius: float, turn: float, kind: str) -> Markup:
    """The arc of a circle from the first direction to another, the short way round."""
    signed = turn if turn <= 180 else turn - 360
    end = math.radians(signed)
    x, y = x0 + radius * math.cos(end), y0 - radius * math.sin(end)
    sweep = 0 if signed >= 0 else 1
    round_ = f"{number(radius)},{number(radius)} 0 0 {sweep}"
    data = f"M{number(x0 + radius)},{number(y0)}A{round_} {number(x)},{number(y)}"
    return curve(data, kind, stroke_width="1", stroke_opacity="0.7")
