import json
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.finding import Finding, Number, Result, plain, ranked
from assay.view.blocks import View
from assay.where import Location

ONE = Number(1.0, "1", "formula")


def finding(**values):
    return Finding(
        **{"rule": "scale.x", "message": "m", "expected": ONE, "measured": ONE, **values}
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Number(2.9338837, "1", "formula"), "2.934"),
        (Number(12, "bits", "measured"), "12 bits"),
        (Number("2*n", "operations", "formula"), "2*n operations"),
        (Number(1e-9, "", "bound"), "1e-09"),
    ],
)
def test_numbers_say_their_unit(number, text):
    assert str(number) == text


def test_findings_are_ranked_by_severity_then_weight():
    notes = finding(severity="note", weight=9)
    small, large = finding(severity="warning"), finding(severity="warning", weight=2)
    worst = finding(severity="error")
    assert ranked((notes, small, large, worst)) == (worst, large, small, notes)
    assert [f.fails for f in (notes, small, worst)] == [False, True, True]


@pytest.mark.parametrize("bad", [{"severity": "fatal"}, {"rule": "nopillar"}])
def test_bad_findings_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        finding(**bad)


@dataclass(frozen=True, repr=False)
class Toy(Result):
    value: Fraction
    where: Location

    def view(self):
        return View("Toy", "What is it?", f"It is {self.value}.")


def test_a_result_is_its_own_report():
    toy = Toy(Fraction(1, 3), Location("a.py", 2), findings=(finding(message="look here"),))
    assert "It is 1/3." in str(toy)
    assert repr(toy) == str(toy)
    assert "look here" in str(toy)
    assert "It is 1/3." in toy._repr_html_()
    assert toy.__rich__() is not None
    assert toy.to_dict()["value"] == "1/3"
    json.dumps(toy.to_dict(), allow_nan=False)


def test_a_result_without_a_view_is_unfinished():
    with pytest.raises(NotImplementedError):
        Result().view()


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.fractions()


@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_plain_data_is_json(value):
    json.dumps(plain(value), allow_nan=False)


def test_plain_knows_arrays_and_strangers():
    assert plain(np.array([1.5, np.inf])) == [1.5, "inf"]
    assert plain(frozenset({1})) == [1]
    assert plain(object).startswith("<class")
