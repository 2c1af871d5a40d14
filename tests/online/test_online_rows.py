"""A batch is its rows; a forecast is what predict says; forgetting is a matter of weights."""

import numpy as np
import pytest
from scipy import sparse as sp
from streams import KINDS, apart, forecasts, model, rows, targets

from assay.online import UnitClassifier, UnitRegressor


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("curvature", ["full", "diagonal"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_rows_bit_by_bit(kind, curvature, layout):
    X = rows()
    y = targets(X, kind)
    known = {"classes": np.unique(y)} if kind.endswith("classes") else {}
    together = forecasts(kind, layout(X), y, curvature=curvature)
    one = model(kind, curvature=curvature)
    apart_ = [
        one.predict_then_learn(layout(X[t : t + 1]), y[t : t + 1], **known) for t in range(len(X))
    ]
    assert np.array_equal(together, np.concatenate(apart_))


@pytest.mark.parametrize("curvature", ["full", "diagonal"])
@pytest.mark.parametrize("kind", KINDS)
def test_predict_says_what_the_next_forecast_will_be_and_learns_nothing(kind, curvature):
    X = rows()
    y = targets(X, kind)
    m = model(kind, curvature=curvature)
    m.partial_fit(X[:40], y[:40])
    predict = m.predict_proba if kind.endswith("classes") else m.predict
    first = predict(X[40:41])
    assert np.array_equal(first, predict(X[40:41]))
    assert np.array_equal(first, m.predict_then_learn(X[40:41], y[40:41]))


def test_sparse_and_dense_are_the_same_stream_where_zero_is_a_value():
    X = rows() * (np.random.default_rng(5).random((60, 4)) < 0.5)
    y = targets(rows(), "squared")
    dense = forecasts("squared", X, y)
    assert np.array_equal(dense, forecasts("squared", sp.csr_array(X), y))


def test_a_weight_of_zero_is_no_row():
    X = rows()
    y = targets(X, "squared")
    w = np.ones(60)
    w[::3] = 0
    a = UnitRegressor().partial_fit(X, y, sample_weight=w)
    b = UnitRegressor().partial_fit(X[w > 0], y[w > 0])
    assert np.array_equal(a.predict(X), b.predict(X))


def test_a_weight_of_two_is_the_row_twice_in_the_second_order():
    X = rows()
    y = targets(X, "squared")
    w = np.random.default_rng(0).integers(1, 4, 60)
    a = UnitRegressor().partial_fit(X, y, sample_weight=w)
    b = UnitRegressor().partial_fit(np.repeat(X, w, 0), np.repeat(y, w))
    for state in (a._state, b._state):
        state.refresh()
    assert np.allclose(a._state.W, b._state.W, rtol=1e-9)


def test_memory_forgets_a_changed_world():
    X = rows(600, seed=3)
    z = (X - X.mean(0)) / X.std(0)
    truth = np.array([3.0, 1.0, -2.0, 0.5])
    y = np.where(np.arange(600) < 300, 1.0, -1.0) * (z @ truth)
    second = [UnitRegressor(memory=m).partial_fit(X, y)._state for m in (None, 40)]
    for state in second:
        state.shares[:] = np.eye(len(state.shares))[0]
    late = [state.linear()[0][0] * X.std(0) for state in second]
    assert np.abs(late[1] + truth).max() < 0.3
    assert np.abs(late[0] + truth).max() > 1.0  # without memory both halves count


def test_memory_is_exponential_weights_exactly():
    """The second order with a memory is ridge regression with weights keep^age: a slow, obvious twin."""
    X = rows(80)
    y = targets(X, "squared")
    m = UnitRegressor(memory=20).partial_fit(X, y)
    w = (1 - 1 / 20) ** np.arange(79, -1, -1.0)
    twin = UnitRegressor().fit(X, y, sample_weight=w)
    m._state.refresh()
    ours = m._state.W[:, 1:] * m._state.table[:, 6]
    assert np.allclose(ours, twin._state.W[:, 1:] * twin._state.table[:, 6], rtol=1e-6)


def test_very_long_forgetting_streams_keep_counting():
    X = np.tile(rows(), (80, 1))
    y = np.tile(targets(rows(), "squared"), 80)
    p = forecasts("squared", X, y, memory=4)
    assert np.isfinite(p).all()


def test_following_intercepts_follow():
    """A level that wanders is followed without being asked to; rows in no order are not."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 2))
    level = np.cumsum(rng.normal(size=2000))
    y = X @ [1.0, 2.0] + level
    p = forecasts("squared", X, y)
    assert np.square(p - y)[100:].mean() < 4.0
    assert np.square(p - y)[100:].mean() < 0.1 * np.var(level)
    still = X @ [1.0, 2.0] + rng.normal(size=2000)
    excess = np.square(forecasts("squared", X, still) - still)[100:].mean()
    assert excess < 1.15


def test_classes_may_appear_one_by_one():
    X = rows(90)
    y = np.array(["a", "b", "c"])[targets(X, "three classes")]
    growing = UnitClassifier()
    for t in range(90):
        growing.partial_fit(X[t : t + 1], y[t : t + 1])
    assert sorted(growing.classes_) == ["a", "b", "c"]
    known = UnitClassifier().partial_fit(X, y, classes=["a", "b", "c"])
    assert growing.score(X, y) > known.score(X, y) - 0.1
    assert np.allclose(growing.predict_proba(X).sum(1), 1)


def test_one_class_alone_is_certain():
    m = UnitClassifier().partial_fit([[1.0], [2.0]], ["x", "x"])
    assert m.predict([[3.0]]).tolist() == ["x"]
    assert m.predict_proba([[3.0]]).tolist() == [[1.0]]


def test_linear_function_of_the_squared_loss_is_what_is_predicted():
    X = rows(300)
    y = targets(X, "squared")
    m = UnitRegressor().partial_fit(X, y)
    inner = np.abs(m.predict(X) - (X @ m.coef_ + m.intercept_)) / y.std()
    assert (
        np.median(inner) < 0.02
    )  # a forecast counts its own row into the statistics; this one does not
    assert apart(m.predict(X), X @ m.coef_ + m.intercept_) < 0.5
