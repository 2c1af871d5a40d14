"""No choice of units changes a forecast (Theory U5, U8; problem 5)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse as sp
from streams import KINDS, apart, forecasts, model, rows, targets

CURVATURES = ("full", "diagonal")
HAVE_UNITS = ("squared", "huber", "quantile")
powers = st.lists(st.integers(-60, 60), min_size=4, max_size=4).map(lambda k: 2.0 ** np.array(k))
factors = st.lists(st.floats(-6, 6), min_size=4, max_size=4).map(lambda k: 10.0 ** np.array(k))
signs = st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4).map(np.array)
few = settings(max_examples=8, derandomize=True)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", KINDS)
@few
@given(c=powers, sign=signs)
def test_powers_of_two_change_no_bit(kind, curvature, c, sign):
    X = rows()
    y = targets(X, kind)
    for memory in (None, 30):
        here = forecasts(kind, X, y, curvature=curvature, memory=memory)
        there = forecasts(kind, X * c * sign, y, curvature=curvature, memory=memory)
        assert np.array_equal(here, there)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", KINDS)
@few
@given(c=factors)
def test_any_factor_changes_nothing_but_rounding(kind, curvature, c):
    X = rows()
    y = targets(X, kind)
    here = forecasts(kind, X, y, curvature=curvature)
    assert apart(forecasts(kind, X * c, y, curvature=curvature), here) < 1e-9


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_fahrenheit_and_any_other_zero_change_nothing_but_rounding(kind, curvature):
    X = rows()
    y = targets(X, kind)
    here = forecasts(kind, X, y, curvature=curvature)
    moved = X * 1.8 + np.array([32.0, -50.0, 1e3, 1.0]) * X.std(0)
    assert apart(forecasts(kind, moved, y, curvature=curvature), here) < 1e-9


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", HAVE_UNITS)
def test_the_target_may_have_any_unit_and_any_zero(kind, curvature):
    X = rows()
    y = targets(X, kind)
    here = forecasts(kind, X, y, curvature=curvature)
    assert np.array_equal(forecasts(kind, X, y * 2.0**40, curvature=curvature), here * 2.0**40)
    assert apart(forecasts(kind, X, y * 1000, curvature=curvature) / 1000, here) < 1e-9
    moved = forecasts(kind, X, y + 1e4, curvature=curvature) - 1e4
    assert (
        apart(moved[1:], here[1:]) < 1e-9
    )  # nothing is known of the target's zero before the first row


@pytest.mark.parametrize("kind", KINDS)
@few
@given(c=factors)
def test_sparse_streams_have_no_units_either(kind, c):
    X = rows() * (np.random.default_rng(5).random((60, 4)) < 0.3)
    y = targets(rows(), kind)
    here = forecasts(kind, sp.csr_array(X), y, curvature="diagonal")
    twos = 2.0 ** np.round(np.log2(c))
    assert np.array_equal(here, forecasts(kind, sp.csr_array(X * twos), y, curvature="diagonal"))
    assert apart(forecasts(kind, sp.csr_array(X * c), y, curvature="diagonal"), here) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_fit_has_no_units_and_no_order(kind):
    X = rows(120)
    y = targets(X, kind)

    def fitted(X, y, rows):
        m = model(kind).fit(X, y)
        return m.predict_proba(rows) if kind.endswith("classes") else m.predict(rows)

    here = fitted(X, y, X)
    c = 10.0 ** np.array([6, -6, 3, -3])
    assert apart(fitted(X * c, y, X * c), here) < 1e-6
    order = np.random.default_rng(0).permutation(len(X))
    assert apart(fitted(X[order], y[order], X), here) < 1e-6


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", ["squared", "two classes"])
def test_float32_powers_of_two_change_no_bit(kind, curvature):
    X = rows().astype(np.float32)
    y = targets(X, kind)
    c = np.float32(2.0) ** np.array([20, -20, 5, -9], np.float32)
    here = forecasts(kind, X, y, curvature=curvature)
    assert np.array_equal(here, forecasts(kind, X * c, y, curvature=curvature))


@pytest.mark.parametrize("curvature", CURVATURES)
def test_a_value_at_the_mean_is_no_sign(curvature):
    """The mean of 2 and 4 is 3, in some units up to rounding; no step may be that rounding's sign."""
    X = np.array([[2.0], [4.0], [3.0], [3.0], [2.0], [5.0], [1.0], [3.0]])
    y = np.array([1.0, 1.0, 5.0, 2.0, 4.0, 0.0, 1.0, 2.0])
    here = forecasts("squared", X, y, curvature=curvature)
    for c in 10.0 ** np.random.default_rng(0).uniform(-6, 6, 50):
        assert apart(forecasts("squared", X * c, y, curvature=curvature), here) < 1e-9


def test_rotations_change_forecasts_and_nobody_claims_otherwise():
    X = rows()
    y = targets(X, "squared")
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    z = X / X.std(0)
    assert apart(forecasts("squared", z @ Q, y), forecasts("squared", z, y)) > 1e-3
