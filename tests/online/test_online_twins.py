"""What the fast loops compute, computed slowly and obviously."""

import numpy as np
import pytest
from scipy.optimize import minimize
from streams import KINDS, apart, forecasts, model, rows, targets

from assay.online import UnitClassifier, UnitRegressor, experts, newton, panels, rates
from assay.online import rows as loops


def ridge(X, y, prior=newton.PRIOR):
    """Ridge regression with the prior of the moments, from scratch."""
    D = X - X.mean(0)
    live = D.std(0) > 0
    R = np.diag(prior * (D**4).sum(0)[live] / (D**2).sum(0)[live])
    w = np.zeros(X.shape[1])
    w[live] = np.linalg.solve(D[:, live].T @ D[:, live] + R, D[:, live].T @ (y - y.mean()))
    return w


def test_the_second_order_is_ridge_regression_on_all_rows_so_far():
    X = rows(200, 6)
    y = targets(X, "squared")
    stream = UnitRegressor(curvature="full").partial_fit(X, y)._state
    stream.refresh()
    unit = stream.table[:, 6]
    assert np.allclose(stream.W[0, 1:] * unit, ridge(X, y), rtol=1e-7)
    fitted = UnitRegressor().fit(X, y)
    assert np.allclose(fitted._state.W[0, 1:] * fitted._state.table[:, 6], ridge(X, y), rtol=1e-8)


def test_the_inverse_stays_the_inverse_between_refreshes():
    X = rows(300, 6)
    y = targets(X, "two classes")
    state = UnitClassifier(curvature="full").partial_fit(X, y)._state
    G, P = panels.to_square(state.G)[0], panels.to_square(state.P)[0]
    R = np.linalg.inv(P) - G
    assert np.abs(R - np.diag(np.diag(R))).max() < 1e-6 * np.abs(np.diag(R)).max()


def adagrad(X, y, rate):
    """One expert of the first order on the squared loss: standardise, step implicitly; all from scratch."""
    n, d = X.shape
    v, squares, out = np.zeros(d + 1), np.zeros(d + 1), np.zeros(n)
    for t in range(n):
        seen = X[: t + 1]
        sd = seen.std(0)
        z = np.ones(d + 1)
        z[1:] = np.where(sd > 0, (X[t] - seen.mean(0)) / np.where(sd > 0, sd, 1), 0)
        out[t] = v @ z + (y[:t].mean() if t else 0.0)
        if t == 0:
            continue
        e = v @ z + y[: t + 1].mean()
        squares += ((e - y[t]) * z) ** 2
        inverse = (
            rate
            * y[: t + 1].std()
            * np.divide(1, np.sqrt(squares), out=np.zeros(d + 1), where=squares > 0)
        )
        q = inverse @ z**2
        v -= inverse * z * (e - y[t]) / (1 + q)
    return out


def test_the_first_order_is_adagrad_on_standardised_features():
    X = rows(50)
    y = targets(X, "squared")
    m = UnitRegressor(curvature="diagonal")
    ours = np.zeros((50, rates.COUNT))
    for t in range(50):
        if t:
            state = m._state
            for r in range(rates.COUNT):
                lone = state.copy()
                lone.shares[:] = np.eye(len(lone.shares))[experts.FOLLOWERS + r]
                ours[t, r] = lone.run(X[t : t + 1], np.zeros(0), np.ones(1), False)[0, 0]
        m.partial_fit(X[t : t + 1], y[t : t + 1])
    for r, rate in enumerate(rates.RATES):
        assert np.allclose(ours[:, r], adagrad(X, y, rate), rtol=1e-8, atol=1e-8 * y.std())


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_loops_are_their_plain_lines(kind, monkeypatch):
    X = rows(25, 3)
    y = targets(X, kind)
    fast = forecasts(kind, X, y)
    if not hasattr(loops.dense, "py_func"):
        pytest.skip("numba is not installed: the plain lines are what runs")
    monkeypatch.setattr("assay.online.state.dense", loops.dense.py_func)
    assert apart(forecasts(kind, X, y), fast) < 1e-9


@pytest.mark.parametrize("kind", ["two classes", "poisson", "three classes"])
def test_fit_is_the_minimum_of_the_penalised_loss(kind):
    X = rows(150)
    y = targets(X, kind)
    m = model(kind).fit(X, y)
    D = X - X.mean(0)
    A = np.concatenate([np.ones((150, 1)), D], 1)
    R = np.concatenate(
        [[0.01 if kind == "poisson" else 0.25], newton.PRIOR * (D**4).sum(0) / (D**2).sum(0)]
    )
    K = 3 if kind == "three classes" else 1
    size = np.concatenate([[1.0], X.std(0)])

    def value(flat):
        W = flat.reshape(K, -1) / size
        e = A @ W.T
        if kind == "two classes":
            loss = np.logaddexp(0, e[:, 0]) - y * e[:, 0]
        elif kind == "poisson":
            loss = np.exp(e[:, 0]) - y * e[:, 0]
        else:
            loss = np.logaddexp.reduce(e, 1) - e[np.arange(150), y]
        return loss.sum() + 0.5 * (R * W**2).sum()

    state = m._state
    ours = np.concatenate([state.W[:, :1], state.W[:, 1:] * state.table[:, 6]], 1) * size
    best = minimize(value, ours.ravel() * 0.9 + 0.01, method="BFGS", options={"gtol": 1e-6})
    assert value(ours.ravel()) <= best.fun + 1e-7
    assert np.allclose(ours.ravel(), best.x, atol=1e-3)


def test_quantile_has_its_share_below_and_huber_is_not_moved_by_outliers():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 3))
    y = X @ [1.0, 2.0, 3.0] + 2 * rng.exponential(size=3000)
    for level in (0.1, 0.5, 0.9):
        m = UnitRegressor("quantile", quantile=level)
        below = np.mean(y[500:] < m.predict_then_learn(X, y)[500:])
        assert abs(below - level) < 0.04
    wild = y.copy()
    wild[::10] += 1e6
    robust = UnitRegressor("huber").fit(X, wild)
    assert np.allclose(robust.coef_, [1, 2, 3], atol=0.3)
    assert np.abs(UnitRegressor().fit(X, wild).coef_ - [1, 2, 3]).max() > 100
