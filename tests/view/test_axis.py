import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.view.axis import Axis, short

anything = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (0.6833322, "0.6833"),
        (-0.5, "−0.5"),
        (123456.0, "123456"),
        (1e6, "10⁶"),
        (-2.5e9, "−2.5·10⁹"),
        (1.8e-21, "1.8·10⁻²¹"),
        (math.nan, "not a number"),
        (math.inf, "infinite"),
        (-math.inf, "−infinite"),
    ],
)
def test_short_numbers(value, text):
    assert short(value) == text


@given(st.floats(-1e307, 1e307))
@settings(max_examples=100)
def test_short_keeps_three_digits(value):
    text = short(value).replace("−", "-").replace("·10", "e")
    if text.startswith(("10", "-10")) and any(c in text for c in "⁰¹²³⁴⁵⁶⁷⁸⁹"):
        text = text.replace("10", "1e", 1)
    back = float(text.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    assert back == pytest.approx(value, rel=5e-3, abs=1e-323)


def test_linear_ticks_are_one_two_five():
    labels = [label for _, label in Axis.of([0, 2.5e9], 0, 100).ticks()]
    assert labels == ["0", "0.5", "1.0", "1.5", "2.0", "2.5"]
    assert Axis.of([0, 2.5e9], 0, 100).factor == " (×10⁹)"
    assert [label for _, label in Axis.of([-3e-5, 3e-5], 0, 100).ticks(3)] == ["−20", "0", "20"]
    assert Axis.of([0, 20], 0, 1).factor == ""


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1e-21, 1.0, ["10⁻²⁰", "10⁻¹⁶", "10⁻¹²", "10⁻⁸", "10⁻⁴", "1"]),
        (1.0, 1000.0, ["1", "10", "100", "1000"]),
        (0.2, 40.0, ["0.2", "0.5", "1", "2", "5", "10", "20"]),
        (2.0, 5.0, ["2", "3", "4", "5"]),
        (0.9, 1.1, ["0.90", "0.95", "1.00", "1.05", "1.10"]),
    ],
)
def test_logarithmic_ticks_are_decades(low, high, labels):
    assert [label for _, label in Axis.of([low, high], 0, 100, log=True).ticks()] == labels


def test_logarithmic_places():
    axis = Axis.of([1e-4, 1.0], 0, 100, log=True)
    assert axis.place(1e-2) == pytest.approx(50)
    assert axis.place(0.0) == "below"
    assert axis.place(-1.0) == "below"
    assert axis.place(math.inf) == "above"
    assert axis.place(math.nan) == "nowhere"
    assert (axis.at(0.0), axis.at(math.inf), axis.at(math.nan), axis.at(1e9)) == (0, 100, 0, 100)


def test_limits_are_used_when_they_can_be():
    assert Axis.of([5.0], 0, 1, limits=(0.0, 10.0)).place(5.0) == 0.5
    upside_down = Axis.of([5.0, 6.0], 0, 1, limits=(10.0, 0.0))
    assert (upside_down.low, upside_down.high) == (5.0, 6.0)
    assert Axis.of([0.5], 0, 1, log=True, limits=(0.0, 1.0)).low > 0


@pytest.mark.parametrize("log", [False, True])
@given(values=st.lists(anything, max_size=6))
@settings(max_examples=100)
def test_an_axis_of_anything_has_increasing_ticks_inside(log, values):
    axis = Axis.of(values, 10.0, 90.0, log=log, pad=0.05)
    spots = [spot for spot, _ in axis.ticks()]
    assert spots == sorted(spots)
    assert all(9.99 <= spot <= 90.01 for spot in spots)
    assert len(spots) <= 20
    for value in values:
        spot = axis.place(value)
        assert isinstance(spot, str) or 9.99 <= spot <= 90.01
