"""Arrays, tables, compressed rows, dictionaries with names that come and go, hashes; files; merged parts."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import KINDS, apart, forecasts, model, rows, targets

from assay.errors import UsageError
from assay.online import UnitClassifier, UnitRegressor, merge
from assay.online.state import takes_second_order


def as_dictionaries(X, names="abcdefghij"):
    return [dict(zip(names, map(float, row), strict=False)) for row in X]


@pytest.mark.parametrize("kind", KINDS)
def test_dictionaries_are_columns_by_name(kind):
    X = rows()
    y = targets(X, kind)
    array = forecasts(kind, X, y)
    assert np.array_equal(array, forecasts(kind, as_dictionaries(X), y))
    shuffled = [dict(reversed(row.items())) for row in as_dictionaries(X)]
    assert apart(forecasts(kind, shuffled, y), array) < 1e-9


def test_absent_is_zero_text_is_a_category_and_none_is_missing():
    given = [{"a": 1.0, "c": "x"}, {"a": 2.0}, {"a": 3.0, "c": "y"}, {"c": "x"}] * 10
    a, x, y = [1.0, 2.0, 3.0, 0.0], [1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]
    columns = np.tile(np.array([a, x, y]).T, (10, 1))
    target = np.arange(40.0) % 7
    assert np.array_equal(
        forecasts("squared", given, target), forecasts("squared", columns, target)
    )
    holes = [dict(row, a=None) if t % 5 == 0 else row for t, row in enumerate(given)]
    columns[::5, 0] = np.nan
    one = forecasts("squared", holes, target, missing="skip")
    assert np.array_equal(one, forecasts("squared", columns, target, missing="skip"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_that_appears_late_was_zero_before(kind):
    X = rows(100)
    y = targets(X, kind)
    X[:50, 2] = 0.0
    late = as_dictionaries(X)
    for row in late[:50]:
        del row["c"]
    m = model(kind)
    known = {"classes": np.unique(y)} if kind.endswith("classes") else {}
    parts = [m.predict_then_learn(late[t], y[t], **known) for t in range(100)]
    # columns are in the order of first appearance; the sums over them in another
    assert apart(np.concatenate(parts), forecasts(kind, X, y)) < 1e-9
    assert m.n_features_in_ == 4


@pytest.mark.parametrize("curvature", ["full", "diagonal"])
def test_a_row_that_is_learnt_after_it_was_predicted_is_read_once_and_right(curvature):
    """The short way of single rows, beside batches of two that take the long way."""
    X = rows()
    y = targets(X, "squared")
    given = [dict(row, kind="ab"[t % 2]) for t, row in enumerate(as_dictionaries(X))]
    one, two = UnitRegressor(curvature=curvature), UnitRegressor(curvature=curvature)
    for t in range(0, 60, 2):
        for i in (t, t + 1):
            if t:
                one.predict(given[i])
            one.partial_fit(given[i], y[i])
        two.partial_fit(given[t : t + 2], y[t : t + 2])
    if curvature == "diagonal":
        assert np.array_equal(one.predict(given), two.predict(given))
    row = dict(given[0])
    before = one.predict(row)
    row["a"] += 100.0 * X[:, 0].std()
    assert one.predict(row) != before  # changed in place, and read again
    other = [dict(reversed(r.items())) for r in as_dictionaries(X)]
    refitted = UnitRegressor(curvature=curvature).fit(as_dictionaries(X), y)
    refitted.predict(other[3])
    refitted.fit(other, y)
    assert refitted.predict(other[3])[0] == refitted.predict(other[2:5])[1]


def test_unknown_names_are_ignored_in_predictions_and_not_remembered():
    m = UnitRegressor().partial_fit(as_dictionaries(rows()), targets(rows(), "squared"))
    row = as_dictionaries(rows())[0]
    assert m.predict(row) == m.predict({**row, "new": 5.0, "word": "w"})
    assert m.n_features_in_ == 4


def test_many_names_leave_the_second_order_and_keep_what_was_learnt():
    rng = np.random.default_rng(0)
    effect = rng.normal(size=400)

    def stream(n, names):
        for _ in range(n):
            chosen = rng.choice(names, 5, replace=False)
            yield {f"f{j}": 1.0 for j in chosen}, float(effect[chosen].sum())

    m = UnitRegressor()
    few = [(m.predict_then_learn(x, y)[0], y) for x, y in stream(800, 50)]
    assert m._state.second
    for x, y in stream(400, 400):
        m.partial_fit(x, y)
    assert not m._state.second
    again = np.array([(m.predict(x)[0], y) for x, y in stream(100, 50)])
    few = np.array(few)
    assert (
        np.square(again[:, 0] - again[:, 1]).mean()
        < 0.5 * np.square(few[:100, 0] - few[:100, 1]).mean()
    )
    assert len(m.coef_) == m.n_features_in_


def test_hashes_bound_memory():
    rng = np.random.default_rng(0)
    effect = rng.normal(size=300)
    m = UnitRegressor(hashing=14)
    errors = []
    for _ in range(3000):
        chosen = rng.choice(300, 3, replace=False)
        y = effect[chosen].sum()
        errors.append(m.predict_then_learn({f"word {j}": 1.0 for j in chosen}, y)[0] - y)
    assert np.square(errors[-500:]).mean() < 0.3 * np.square(errors[:100]).mean()
    assert m.n_features_in_ == 2**14
    many = [{"a": 1.0, "b": 2.0}] * 3
    assert m.predict(many).shape == (3,)


def test_wide_arrays_take_the_first_order_and_stay_centred():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 300)) * 10.0 ** rng.uniform(-3, 3, 300) + 1.0
    y = X[:, 0] / X[:, 0].std()
    m = UnitRegressor().partial_fit(X, y)
    assert not m._state.second
    assert m._state.centred
    shifted = UnitRegressor().partial_fit(X + 5 * X.std(0), y)
    assert apart(shifted.predict(X + 5 * X.std(0)), m.predict(X)) < 1e-9
    assert UnitRegressor(curvature="full").fit(X[:, :50], y)._state.second


def test_auto_leaves_the_second_order_when_classes_are_too_many():
    X = rows(400, 60)
    labels = np.arange(400) % 25
    m = UnitClassifier()
    for t in range(0, 400, 10):
        m.partial_fit(X[t : t + 10], labels[t : t + 10])
    assert not takes_second_order(60, 25)
    assert not m._state.second
    assert m.predict_proba(X).shape == (400, 25)


def test_columns_that_change_are_named():
    m = UnitRegressor().fit(rows(), targets(rows(), "squared"))
    with pytest.raises(UsageError, match="expecting 4 features"):
        m.predict(rows()[:, :3])
    with pytest.raises(UsageError, match="as before"):
        m.partial_fit(as_dictionaries(rows()), targets(rows(), "squared"))
    d = UnitRegressor().fit(as_dictionaries(rows()), targets(rows(), "squared"))
    with pytest.raises(UsageError, match="as before"):
        d.predict(rows())
    with pytest.raises(UsageError, match=r"X\[0\]\['a'\]"):
        d.partial_fit([{"a": [1]}], [1.0])


@pytest.mark.parametrize("curvature", ["full", "diagonal"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_or_a_pickle_goes_on_bit_by_bit(kind, curvature, tmp_path):
    X = rows()
    y = targets(X, kind)
    if kind == "two classes":
        y = np.array(["no", "yes"])[y]
    m = model(kind, curvature=curvature, memory=50).partial_fit(X[:40], y[:40])
    m.save(tmp_path / "model.npz")
    read = type(m).load(tmp_path / "model.npz")
    thawed = pickle.loads(pickle.dumps(m))
    rest = [m.predict_then_learn(X[40:], y[40:]) for m in (m, read, thawed)]
    assert np.array_equal(rest[0], rest[1])
    assert np.array_equal(rest[0], rest[2])


def test_files_keep_names_and_refuse_others(tmp_path):
    y = np.array(["no", "yes"], object)[targets(rows(), "two classes")]
    m = UnitClassifier().partial_fit(as_dictionaries(rows()), y)
    m.save(tmp_path / "m")
    read = UnitClassifier.load(tmp_path / "m")
    assert read.classes_.tolist() == ["no", "yes"]
    assert np.array_equal(
        read.predict_proba(as_dictionaries(rows())), m.predict_proba(as_dictionaries(rows()))
    )
    with pytest.raises(UsageError, match="UnitClassifier"):
        UnitRegressor.load(tmp_path / "m")
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(UsageError, match="path"):
        UnitRegressor.load(tmp_path / "text")
    with pytest.raises(UsageError, match="not fitted"):
        UnitRegressor().save(tmp_path / "none")


@settings(max_examples=15, derandomize=True)
@given(cuts=st.lists(st.integers(1, 119), max_size=4))
def test_merged_parts_are_the_whole_for_the_squared_loss(cuts):
    X = rows(120)
    y = targets(X, "squared")
    whole = UnitRegressor(curvature="full").partial_fit(X, y)
    parts = [
        UnitRegressor(curvature="full").partial_fit(X[a:b], y[a:b])
        for a, b in zip([0, *sorted(set(cuts))], [*sorted(set(cuts)), 120], strict=True)
    ]
    merged = merge(parts)
    states = merged._state, whole._state
    for state in states:
        state.refresh()
        state.shares[:] = np.eye(len(state.shares))[0]
    (a, b), (c, d) = (state.linear() for state in states)
    assert np.allclose(a * X.std(0), c * X.std(0), rtol=1e-6, atol=1e-8 * y.std())
    assert np.allclose(b, d, rtol=1e-6)
    merged.partial_fit(X, y)  # and goes on


@pytest.mark.parametrize("curvature", ["full", "diagonal"])
@pytest.mark.parametrize("kind", KINDS)
def test_merging_costs_little_and_changes_no_part(kind, curvature):
    X = rows(600, seed=7)
    y = targets(X, kind)
    parts = [model(kind, curvature=curvature).partial_fit(X[i:500:4], y[i:500:4]) for i in range(4)]
    before = parts[0].predict(X)
    merged = merge(parts)
    assert np.array_equal(parts[0].predict(X), before)
    one = model(kind, curvature=curvature).partial_fit(X[:500], y[:500])
    assert merged.score(X[500:], y[500:]) > one.score(X[500:], y[500:]) - 0.15


def test_parts_may_know_different_names_and_classes():
    X = rows(90)
    labels = np.array(["a", "b", "c"])[targets(X, "three classes")]
    wide = as_dictionaries(X)
    ab, ca = np.isin(labels, ["a", "b"]), np.isin(labels, ["c", "a"])
    without = [{k: v for k, v in row.items() if k != "b"} for row in wide]
    m1 = UnitClassifier().partial_fit([without[t] for t in np.flatnonzero(ab)], labels[ab])
    m2 = UnitClassifier().partial_fit([wide[t] for t in np.flatnonzero(ca)], labels[ca])
    for pair in ((m1, m2), (m2, m1)):
        both = merge(pair)
        assert both.classes_.tolist() == ["a", "b", "c"]
        assert both.n_features_in_ == 4
        assert both.score(wide, labels) > 0.4
        both.partial_fit(wide, labels)
    with pytest.raises(UsageError, match=r"models\[1\]"):
        merge([m1, UnitRegressor().fit(X, np.arange(90.0))])
    with pytest.raises(UsageError, match="models"):
        merge([])


def test_merging_keeps_units_out():
    X = rows(100)
    y = targets(X, "squared")
    c = 2.0 ** np.array([30, -30, 7, 1])

    def merged(X):
        return merge([UnitRegressor().partial_fit(X[i::2], y[i::2]) for i in range(2)])

    assert np.array_equal(merged(X).predict(X), merged(X * c).predict(X * c))


def test_joblib_trains_parts():
    from joblib import Parallel, delayed

    X = rows(200)
    y = targets(X, "squared")
    jobs = (delayed(UnitRegressor().partial_fit)(X[i::2], y[i::2]) for i in range(2))
    merged = merge(Parallel(n_jobs=2, prefer="threads")(jobs))
    assert merged.score(X, y) > UnitRegressor().partial_fit(X, y).score(X, y) - 0.02
