"""What runs in eights and panels against numpy, and the short way of single rows against the long one."""

import numpy as np
import pytest
from streams import KINDS, model, rows, targets

from assay.errors import UsageError
from assay.online import UnitClassifier, UnitRegressor, losses, panels


def spd(A, seed=0):
    """A positive definite matrix `[A, A]` of an ill-chosen scale, and a vector."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(3 * A, A)) * 10.0 ** rng.uniform(-3, 3, A)
    return X.T @ X, rng.normal(size=A)


def wide(v):
    """A vector with zeros up to whole panels."""
    return np.pad(v, (0, -len(v) % panels.WIDTH))


@pytest.mark.parametrize("A", [1, 2, 15, 16, 17, 33])
def test_panels_are_symmetric_matrices(A):
    M, v = spd(A)
    P = panels.from_square(M[None])[0]
    assert np.array_equal(panels.to_square(P[None])[0], M)
    out = np.zeros(len(wide(v)))
    panels.project(P, wide(v), out)
    assert np.allclose(out, wide(M @ v))
    both = P.copy()
    panels.downdate(P, wide(v))
    assert np.allclose(panels.to_square(P[None])[0], M - np.outer(v, v))
    panels.downdate_project(both, wide(v), wide(v), out)
    assert np.array_equal(both, P)
    alone = out.copy()
    panels.project(P, wide(v), alone)
    assert np.array_equal(out, alone)
    four = np.random.default_rng(1).normal(size=(4, A))
    panels.add_outer(P, *(wide(u) for u in four))
    assert np.allclose(panels.to_square(P[None])[0], M - np.outer(v, v) + four.T @ four)


@pytest.mark.parametrize("A", [1, 5, 16, 40])
def test_sweeps_invert_what_is_live(A):
    M, _ = spd(A)
    live = np.random.default_rng(2).random(A) < 0.7
    live[0] = True
    M = M * live * live[:, None]
    P = panels.from_square(M[None])[0]
    panels.invert(P, wide(live.astype(float)), np.zeros(len(wide(live))))
    inverse = panels.to_square(P[None])[0]
    size = np.sqrt(np.diag(M)[live])
    part = M[np.ix_(live, live)]
    assert np.allclose(
        inverse[np.ix_(live, live)] @ part * size[:, None] / size, np.eye(live.sum())
    )
    assert not inverse[~live].any()


def test_four_rows_at_a_time_are_one_after_another_bit_by_bit():
    M, _ = spd(9)
    four = np.random.default_rng(3).normal(size=(4, 16)) * (np.arange(16) < 9)
    together, apart = (panels.from_square(M[None])[0] for _ in range(2))
    none = np.zeros(16)
    panels.add_outer(together, *four)
    for v in four:
        panels.add_outer(apart, none, v, none, none)
    assert np.array_equal(together, apart)


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_eight_implicit_logistic_steps_are_eight_single_ones(y):
    rng = np.random.default_rng(4)
    for _ in range(100):
        e, q = rng.normal(size=8) * 10.0 ** rng.uniform(-1, 2.5), 10.0 ** rng.uniform(-8, 8, 8)
        ours = losses.implicit_logistic(tuple(e), tuple(q), y)
        for i in range(8):
            after = losses.implicit(losses.LOGISTIC, e[i], q[i], y, 0.5, 0.0)
            truth = losses.sigmoid(after) - y if y == 0.0 else -losses.sigmoid(-after)
            assert np.isclose(ours[i], truth, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("curvature", ["full", "diagonal"])
@pytest.mark.parametrize("kind", KINDS)
def test_single_dictionaries_are_learnt_as_batches_of_one(kind, curvature):
    """Names that come late, that are missing, or that a forecast does not know."""
    X = rows(60, 6)
    y = targets(X, kind).tolist()
    given = [
        {name: v for name, v in zip("abcdef", map(float, row), strict=True) if v and t % 7 > i - 4}
        for t, row in enumerate(X)
        for i in [t % 6]
    ]
    for t, row in enumerate(given):
        if t < 20:
            row.pop("c", None)
    short, long = model(kind, curvature=curvature), model(kind, curvature=curvature)
    known = {"classes": sorted(set(y))} if kind.endswith("classes") else {}
    short.partial_fit(given[:1], y[:1], **known)
    long.partial_fit(given[:1], y[:1], **known)
    for t in range(1, 60):
        predict = ("predict_proba" if kind.endswith("classes") else "predict",)
        a, b = getattr(short, *predict), getattr(long, *predict)
        assert np.array_equal(a({**given[t], "strange": 1.0}), b([given[t]]))
        short.partial_fit(given[t], y[t])
        long.partial_fit([given[t]], [y[t]])
    assert short._names.index == long._names.index
    assert np.array_equal(short._state._flat, long._state._flat)


def test_a_refused_single_row_leaves_no_trace():
    m = UnitClassifier().partial_fit([{"a": 1.0}, {"a": 2.0, "b": 1.0}], ["x", "y"])
    before, names = m._state._flat.copy(), dict(m._names.index)
    for bad in ({"a": float("nan")}, {"new": float("inf"), "a": 1.0}, {"new": 1.0, "a": 1e200}):
        with pytest.raises(UsageError, match=r"X\[0\], feature"):
            m.partial_fit(bad, "x")
        with pytest.raises(UsageError, match=r"X\[0\]"):
            m.partial_fit({"a": 1.0, "c": [1]}, "x")
        assert np.array_equal(m._state._flat, before)
        assert m._names.index == names
    r = UnitRegressor().partial_fit([{"a": 1.0}], [1.0])
    with pytest.raises(UsageError, match="y"):
        r.partial_fit({"a": 1.0}, float("nan"))
