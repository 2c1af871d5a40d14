import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.view.blocks import Angle, Arc, Arcs, Bars, Lines, Series
from assay.view.canvas import fit, number, spread, text_width
from assay.view.chart import colours, thin
from assay.view.svg import BROAD, NARROW, to_svg

NS = "{http://www.w3.org/2000/svg}"
anything = st.floats(allow_nan=True, allow_infinity=True, width=64)
names = st.text(max_size=30)
series = st.builds(
    lambda name, points, style: Series(name, [x for x, _ in points], [y for _, y in points], style),
    names,
    st.lists(st.tuples(anything, anything), max_size=12),
    st.sampled_from(["solid", "dashed", "dots"]),
)
charts = st.builds(
    Lines,
    st.lists(series, max_size=4).map(tuple),
    names,
    names,
    names,
    st.booleans(),
    st.booleans(),
    st.none() | st.tuples(anything, anything),
    st.lists(st.tuples(anything, names), max_size=3).map(tuple),
)
bars = st.builds(
    Bars,
    st.lists(st.tuples(names, anything), max_size=6).map(tuple),
    names,
    names,
    st.booleans(),
    st.none() | st.tuples(anything, anything),
    st.none() | st.tuples(anything, names),
)
arcs = st.builds(
    Arcs,
    st.lists(names, max_size=6).map(tuple),
    st.lists(
        st.builds(Arc, anything, anything, names, st.sampled_from(["good", "bad", "plain"])),
        max_size=5,
    ).map(tuple),
    names,
)
angles = st.builds(Angle, st.lists(st.tuples(names, anything), max_size=5).map(tuple), names)


def parse(picture, width=BROAD):
    """The picture as a tree, after checking what holds for every one of them."""
    tree = ET.fromstring(to_svg(picture, width))
    for node in tree.iter():
        for name, value in node.attrib.items():
            if name in ("aria-label", "class"):
                continue
            assert not re.search("nan|inf|None", value), (node.tag, name, value)
    assert tree.find(f"{NS}title").text
    assert tree.get("aria-label")
    return tree


@pytest.mark.parametrize("width", [BROAD, NARROW])
@given(picture=charts | bars | arcs | angles)
@settings(max_examples=80)
def test_any_numbers_and_names_give_a_well_formed_picture(width, picture):
    parse(picture, width)


def texts(tree):
    return ["".join(node.itertext()) for node in tree.iter(f"{NS}text")]


def test_a_line_breaks_where_there_is_no_value():
    values = [1.0, 2.0, math.nan, 3.0, 4.0, math.inf, 5.0, 6.0]
    tree = parse(Lines((Series("loss", range(8), values),), "step", "loss"))
    assert len(list(tree.iter(f"{NS}path"))) == 3
    assert any("2 of 8 values are off this axis" in text for text in texts(tree))
    assert {"×", "▲"} <= set(texts(tree))


def test_zero_falls_off_a_logarithmic_axis():
    tree = parse(Lines((Series("g", (0, 1), (0.0, 1.0)),), "step", "norm", log_y=True))
    assert "▼" in texts(tree)


def test_an_empty_chart_says_so():
    assert "no values" in texts(parse(Lines((), "x", "y")))


def test_line_labels_stay_apart():
    same = tuple(Series(f"line {i}", (0, 1), (1.0, 1.0 + i / 1000)) for i in range(6))
    tree = parse(Lines(same, "x", "y"))
    spots = sorted(
        float(n.get("y")) for n in tree.iter(f"{NS}text") if "line" in "".join(n.itertext())
    )
    assert min(b - a for a, b in pairwise(spots)) >= 14.9


def test_a_narrow_chart_keeps_its_names_inside():
    long = Series(
        "a name that is far too long for a telephone to show in one line of text", (0, 1), (0, 1)
    )
    tree = parse(Lines((long,), "x", "y"), NARROW)
    (shown,) = [text for text in texts(tree) if text.startswith("a name") and "…" in text]
    assert long.name in shown  # in full, as a tooltip


def test_bars_say_what_they_cannot_draw():
    tree = parse(Bars((("a", 2.0), ("b", math.nan), ("c", math.inf)), "loss"))
    assert {"2", "not a number", "infinite"} <= set(texts(tree))
    assert len(list(tree.iter(f"{NS}rect"))) == 1


def test_bars_are_as_long_as_their_values():
    tree = parse(Bars((("a", 2.0), ("b", 1.0)), "loss"))
    a, b = (float(node.get("width")) for node in tree.iter(f"{NS}rect"))
    assert a == pytest.approx(2 * b, rel=0.01)


def test_too_many_bars_are_counted():
    tree = parse(Bars(tuple((f"row {i}", 1.0) for i in range(70)), ""))
    assert "… and 10 more" in texts(tree)


def test_logarithmic_bars_reach_the_smallest_value():
    tree = parse(Bars((("a", 1.0), ("b", 1e-9)), "variance", log_x=True))
    assert all(float(node.get("width")) > 1 for node in tree.iter(f"{NS}rect"))


def test_equal_arc_labels_are_told_once_when_there_is_no_room():
    many = tuple(Arc(i, i + 1, "tied", "bad" if i % 9 == 0 else "good") for i in range(99))
    shown = texts(parse(Arcs(tuple(f"h{i}" for i in range(100)), many)))
    assert "tied (×11)" in shown
    assert "tied (×88)" in shown
    assert sum(text.startswith("h") for text in shown) < 50


def test_arcs_without_a_place_are_counted():
    shown = texts(parse(Arcs(("a", "b"), (Arc(0, 1, "skip"), Arc(math.nan, 1, "lost")))))
    assert "1 arcs have no place here" in shown
    assert "lost" not in shown


def test_angles_are_drawn_as_they_are():
    tree = parse(Angle((("SGD", 0.0), ("RMSProp", 90.0), ("Adam", 180.0), ("NaN", math.nan))))
    x0, y0 = None, None
    tips = []
    for node in tree.iter(f"{NS}line"):
        x0, y0 = float(node.get("x1")), float(node.get("y1"))
        tips.append((float(node.get("x2")) - x0, y0 - float(node.get("y2"))))
    turns = [math.degrees(math.atan2(up, across)) % 360 for across, up in tips]
    assert turns == pytest.approx([0, 90, 180], abs=0.1)
    assert "NaN: no angle" in texts(tree)


@pytest.mark.parametrize(
    ("styles", "expected"),
    [
        (["solid", "solid", "dashed"], ["c1", "c2", "plain"]),
        (["solid", "solid", "dashed", "dashed"], ["c1", "c2", "c1", "c2"]),
        (["dashed"], ["c1"]),
        (["solid"] * 7, ["c1", "c2", "c3", "c4", "c5", "c6", "c1"]),
    ],
)
def test_expectations_share_the_colour_of_their_measurement(styles, expected):
    assert colours([Series("", (), (), style) for style in styles]) == expected


@given(st.lists(st.floats(0, 100), max_size=12), st.floats(1, 20))
@settings(max_examples=80)
def test_spread_keeps_order_gap_and_room(wanted, gap):
    placed = spread(wanted, gap, 0.0, 100.0)
    gap = min(gap, 100 / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    for a, b in pairwise(order):
        assert placed[b] - placed[a] >= gap - 1e-6
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in placed)


def test_thin_keeps_the_extremes():
    points = [(float(x), math.sin(x)) for x in range(10000)]
    kept = thin(points, 500)
    assert len(kept) <= 510
    assert max(points, key=lambda p: p[1]) in kept
    assert kept == sorted(kept)


@given(st.text(min_size=1, max_size=60), st.floats(30, 300))
@settings(max_examples=60)
def test_fit_fits_and_tells_that_it_shortened(text, width):
    shown = fit(text, width)
    if text_width(" ".join(text.split())) > width:
        assert "…" in shown


def test_coordinates_are_finite_and_short():
    assert [number(x) for x in (1.0, 1.25, -0.01, math.nan, math.inf)] == [
        "1",
        "1.2",
        "0",
        "0",
        "0",
    ]
