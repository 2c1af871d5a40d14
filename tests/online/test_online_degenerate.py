"""Data as they really are: constants, extremes, jumps, holes."""

import numpy as np
import pytest
from scipy import sparse as sp
from streams import KINDS, apart, forecasts, model, rows, targets

from assay.errors import UsageError
from assay.online import UnitClassifier, UnitRegressor

CURVATURES = ("full", "diagonal")


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_constant_features_are_exactly_zero(kind, curvature):
    X = rows()
    for constant in (0.0, 0.1, -1e20, 1e-20):
        wide = np.insert(X, 2, constant, axis=1)
        y = targets(X, kind)
        m = model(kind, curvature=curvature).partial_fit(wide, y)
        assert (np.atleast_2d(m.coef_)[:, 2] == 0).all()
        without = forecasts(kind, X, y, curvature=curvature)
        assert apart(forecasts(kind, wide, y, curvature=curvature), without) < 1e-9
        m = model(kind).fit(wide, y)
        assert (np.atleast_2d(m.coef_)[:, 2] == 0).all()


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_features_of_any_size(kind, curvature):
    X = rows()
    y = targets(X, kind)
    here = forecasts(kind, X, y, curvature=curvature)
    for extreme in (1e20, 1e-20, 1e150, 1e-150):
        c = np.array([extreme, 1.0, 1.0 / extreme, extreme])
        assert apart(forecasts(kind, X * c, y, curvature=curvature), here) < 1e-9


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_that_jumps_a_million_fold_does_little_harm_and_is_learnt_again(kind, curvature):
    X = rows(1200, seed=2)
    y = targets(X, kind)
    jumped = X.copy()
    jumped[600:, 0] *= 1e6
    calm = forecasts(kind, X, y, curvature=curvature)
    p = forecasts(kind, jumped, y, curvature=curvature)
    assert np.isfinite(p).all()
    if kind.endswith("classes"):
        cost, spread = (lambda p: -np.log(p[np.arange(len(y)), y])), 1.8  # nats
    elif kind == "poisson":
        cost, spread = (lambda p: np.abs(p - y)), y.std() * 3
    else:
        cost, spread = (lambda p: np.abs(p - y)), y.std()
    assert cost(p)[600:].max() < cost(calm)[600:].max() + 8 * spread
    assert cost(p)[900:].mean() < 1.3 * cost(calm)[900:].mean() + 0.02 * spread


@pytest.mark.parametrize("curvature", CURVATURES)
def test_one_hot_and_rare_features_are_learnt_from_few_rows(curvature):
    rng = np.random.default_rng(0)
    X = np.eye(50)[rng.integers(0, 50, 2000)]
    effect = rng.normal(size=50)
    y = X @ effect + 0.1 * rng.normal(size=2000)
    p = forecasts("squared", X, y, curvature=curvature)
    assert np.square(p - y)[1000:].mean() < 0.05
    q = forecasts("squared", sp.csr_array(X), y, curvature=curvature)
    assert np.square(q - y)[1000:].mean() < 0.05


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_heavy_tails_stay_finite(kind, curvature):
    X = np.random.default_rng(0).standard_cauchy((400, 3)) ** 3
    y = targets(rows(400, 3), kind)
    p = forecasts(kind, X, y, curvature=curvature)
    assert np.isfinite(p).all()
    if not kind.endswith("classes") and kind != "poisson":
        assert np.abs(p).max() < 100 * np.abs(y).max()


def test_collinear_features_share():
    X = rows(200)
    y = targets(X, "squared")
    doubled = np.concatenate([X, X * 3.0, X[:, :1] + X[:, 1:2]], 1)
    assert apart(forecasts("squared", doubled, y), forecasts("squared", X, y)) < 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("curvature", CURVATURES)
def test_a_bad_value_is_named_and_nothing_is_learnt(value, curvature):
    X = rows()
    y = targets(X, "squared")
    m = UnitRegressor(curvature=curvature).partial_fit(X, y)
    before = m._state.copy()
    X[17, 2] = value
    with pytest.raises(UsageError, match=r"X\[17\], feature 2 = (NaN|-?inf)"):
        m.partial_fit(X, y)
    with pytest.raises(UsageError, match=r"X\[17\], feature 2"):
        m.partial_fit(sp.csr_array(X), y)
    with pytest.raises(UsageError, match=r"X\[17\], feature 2"):
        m.predict(X)
    y[5] = value
    with pytest.raises(UsageError, match=r"y\[5\]"):
        m.partial_fit(rows(), y)
    for name, array in vars(before).items():
        assert np.array_equal(array, getattr(m._state, name)), name


def test_the_first_call_may_fail_and_leave_nothing():
    m = UnitRegressor()
    with pytest.raises(UsageError, match="feature 0 = NaN"):
        m.partial_fit([[np.nan]], [1.0])
    assert not hasattr(m, "_state")
    with pytest.raises(UsageError, match="not fitted"):
        m.predict([[1.0]])
    with pytest.raises(UsageError, match="feature 'b'"):
        m.partial_fit([{"a": 1.0, "b": None}], [1.0])
    assert not hasattr(m, "_state")


def test_values_beyond_reach_are_refused():
    m = UnitRegressor().partial_fit([[1.0], [2.0]], [1.0, 2.0])
    with pytest.raises(UsageError, match="1e60 times"):
        m.partial_fit([[1e100]], [1.0])
    with pytest.raises(UsageError, match="1e60 times"):
        UnitRegressor().partial_fit([[1.0], [1e100]], [1.0, 2.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8, bool, object])
def test_any_type_of_number(dtype):
    X = (rows() > 0).astype(dtype)
    y = targets(rows(), "squared")
    assert np.array_equal(forecasts("squared", X, y), forecasts("squared", X.astype(float), y))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("curvature", CURVATURES)
def test_targets_that_are_constant(kind, curvature):
    X = rows()
    y = np.ones(60, int)
    p = model(kind, curvature=curvature).partial_fit(X, y)
    if kind.endswith("classes"):
        assert (p.predict(X) == 1).all()
    else:
        assert np.allclose(p.predict(X), 1.0, atol=0.2 if kind == "poisson" else 1e-9)
        assert np.allclose(model(kind).fit(X, y).predict(X), 1.0, atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_single_rows_and_two_rows_can_be_fitted(kind):
    for n in (1, 2, 3):
        X, y = rows(n), targets(rows(60), kind)[:n]
        model(kind).fit(X, y).predict(X)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_missing_values_say_nothing(kind, curvature):
    X = rows(300, seed=4)
    y = targets(X, kind)
    holes = X.copy()
    holes[np.random.default_rng(0).random(X.shape) < 0.2] = np.nan
    p = forecasts(kind, holes, y, curvature=curvature, missing="skip")
    assert np.isfinite(p).all()
    m = model(kind, missing="skip", curvature=curvature).fit(holes, y)
    nothing = m.predict(np.full((1, 4), np.nan))
    assert nothing.shape == (1,)
    c = 2.0 ** np.array([3, -5, 9, 1])
    assert np.array_equal(p, forecasts(kind, holes * c, y, curvature=curvature, missing="skip"))


def test_a_column_that_is_always_missing_is_no_column():
    X = rows()
    y = targets(X, "squared")
    wide = np.insert(X, 1, np.nan, axis=1)
    p = forecasts("squared", wide, y, missing="skip")
    assert apart(p, forecasts("squared", X, y)) < 1e-9


def test_wrong_usage_is_named():
    X, y = rows(), targets(rows(), "squared")
    UnitRegressor(memory=np.int64(30)).fit(X, y)  # as a search over a grid passes it
    for options, word in (
        ({"loss": "absolute"}, "loss"),
        ({"quantile": 1.5}, "quantile"),
        ({"memory": 0}, "memory"),
        ({"curvature": "half"}, "curvature"),
        ({"missing": "mean"}, "missing"),
        ({"hashing": 99}, "hashing"),
    ):
        with pytest.raises(UsageError, match=word):
            UnitRegressor(**options).partial_fit(X, y)
    with pytest.raises(UsageError, match=r"y\[3\]"):
        UnitRegressor("poisson").fit(X, np.where(np.arange(60) == 3, -1.0, 1.0))
    with pytest.raises(UsageError, match=r"sample_weight\[2\]"):
        UnitRegressor().fit(X, y, sample_weight=np.where(np.arange(60) == 2, -1.0, 1.0))
    with pytest.raises(UsageError, match="classes"):
        UnitClassifier().partial_fit(X, np.arange(60) % 3, classes=[0, 1])
    with pytest.raises(UsageError, match="Reshape"):
        UnitRegressor().fit(X[0], y[:1])
    with pytest.raises(UsageError, match="text"):
        UnitRegressor().fit([["a"], ["b"]], [1.0, 2.0])
