"""Losses against finite differences, implicit steps against bisection, moments against numpy."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from assay.online import exponential, losses, moments

number = st.floats(-20, 20)
LOSSES = sorted(losses.CODES)


def plain(function):
    """The lines of a compiled function as Python runs them: the slow twin."""
    return getattr(function, "py_func", function)


def target(name, y):
    return {"logistic": float(y > 0), "poisson": float(round(abs(y)))}.get(name, y)


@pytest.mark.parametrize("name", LOSSES)
@settings(derandomize=True, max_examples=40)
@given(e=number, y=number, level=st.floats(0.05, 0.95), spread=st.floats(0.1, 10))
def test_gradients_are_slopes_of_costs(name, e, y, level, spread):
    code, y = losses.CODES[name], target(name, y)
    step = 1e-6
    if name == "quantile":  # its corner is smoothed in the gradient alone
        assume(abs(e - y) > losses.WIDTH * spread + 2 * step)
    up, down = (losses.cost(code, e + d, y, level, spread) for d in (step, -step))
    slope = (up - down) / (2 * step)
    slope *= {"squared": 0.5, "huber": 0.5, "quantile": spread}.get(name, 1.0)
    ours = losses.gradient(code, e, y, level, spread)
    assert math.isclose(ours, slope, rel_tol=1e-4, abs_tol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@settings(derandomize=True, max_examples=60)
@given(e=number, q=st.floats(1e-6, 1e6), y=number, level=st.floats(0.05, 0.95))
def test_an_implicit_step_ends_where_its_gradient_is_taken(name, e, q, y, level):
    code, y = losses.CODES[name], target(name, y)

    def rest(now):
        return now - e + q * losses.gradient(code, now, y, level, 1.0)

    after = losses.implicit(code, e, q, y, level, 1.0)
    g = losses.gradient(code, e, y, level, 1.0)
    low, high = sorted((e, e - q * g))
    twin = brentq(rest, low - 1e-6, high + 1e-6, xtol=1e-13, rtol=1e-14)
    assert math.isclose(after, twin, rel_tol=1e-6, abs_tol=1e-6)
    assert plain(losses.cost)(code, after, y, level, 1.0) <= plain(losses.cost)(
        code, e, y, level, 1.0
    ) + (losses.WIDTH if name == "quantile" else 1e-9)


def test_implicit_steps_of_classes_end_where_their_gradients_are_taken():
    rng = np.random.default_rng(0)
    for _ in range(300):
        K = rng.integers(3, 30)
        e, q = rng.normal(size=K) * 10.0 ** rng.uniform(-1, 2), 10.0 ** rng.uniform(-3, 4, K)
        after, p = np.empty(K), np.empty(K)
        losses.implicit_classes(e, q, 1, after, p)
        assert np.allclose(p, np.exp(after - np.logaddexp.reduce(after)))
        assert np.allclose(after, e - q * (p - np.eye(K)[1]), rtol=1e-6, atol=1e-5)


def test_exponentials_are_numpys_but_for_the_last_place():
    x = np.concatenate([np.linspace(-745, 709, 3001), np.linspace(-2, 2, 1001), [0.0]])
    ours = x.copy()
    exponential.exps_(ours)
    assert np.allclose(ours, np.exp(x), rtol=2**-51, atol=5e-324)
    for function in (exponential.exp, plain(exponential.exp)):
        assert [function(v) for v in (np.nan, -np.inf, 0.0)] == [5e-324, 5e-324, 1.0]
        assert function(np.inf) == function(709.0)


@settings(derandomize=True, max_examples=50)
@given(
    x=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30),
    seed=st.integers(0, 99),
)
def test_moments_are_numpys_and_merge(x, seed):
    x = np.array(x)
    w = np.random.default_rng(seed).uniform(0.1, 3, len(x))
    row = np.zeros(moments.COLUMNS)
    for value, weight in zip(x, w, strict=True):
        moments.absorb(row, value, weight)
    mean = np.average(x, weights=w)
    size = max(1.0, np.abs(x - mean).max())
    for k, column in ((2, moments.M2), (3, moments.M3), (4, moments.M4)):
        assert math.isclose(row[column], w @ (x - mean) ** k, rel_tol=1e-8, abs_tol=1e-8 * size**k)
    halves = [np.zeros((1, moments.COLUMNS)) for _ in range(2)]
    cut = len(x) // 2
    for i, (value, weight) in enumerate(zip(x, w, strict=True)):
        moments.absorb(halves[i >= cut][0], value, weight)
    merged = moments.merge_moments(*halves)[0]
    sizes = size ** np.array([0, 1, 2, 3, 4])
    assert np.allclose(merged[:5] / sizes, row[:5] / sizes, atol=1e-8)


def test_the_median_of_sizes_is_tracked_in_any_unit():
    sizes = np.abs(np.random.default_rng(0).standard_cauchy(5000))
    from assay.online.scalars import track_median

    for unit in (1.0, 1e-20, 1e20):
        now = 0.0
        for t, size in enumerate(sizes * unit):
            now = track_median(now, size, float(t))
        assert 0.8 < now / unit < 1.25
