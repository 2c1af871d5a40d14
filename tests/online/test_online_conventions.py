"""Other people's rules: the checks of scikit-learn and of river; and no import of either, or of torch."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator
from streams import rows, targets

from assay.online import UnitClassifier, UnitRegressor


@pytest.mark.parametrize(
    "model",
    [
        UnitRegressor(),
        UnitClassifier(),
        UnitRegressor("huber", curvature="diagonal"),
        UnitClassifier(missing="skip", memory=1000),
    ],
    ids=repr,
)
def test_scikit_learn_has_nothing_to_say(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the checks themselves: they skip what needs settings
        # Weights of 2 are a row twice for the minimum; a single pass of the first order depends on order.
        order = {"check_sample_weight_equivalence_on_dense_data": "the first order takes one pass"}
        order["check_sample_weight_equivalence_on_sparse_data"] = order[
            "check_sample_weight_equivalence_on_dense_data"
        ]
        check_estimator(
            model,
            on_skip=None,
            expected_failed_checks=order if model.curvature == "diagonal" else {},
        )


def test_pipelines_and_searches_work():
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    X = rows(200)
    y = targets(X, "squared")
    scores = cross_val_score(make_pipeline(PolynomialFeatures(2), UnitRegressor()), X, y, cv=3)
    assert np.isfinite(scores).all()
    assert clone(UnitClassifier(memory=7)).memory == 7
    assert repr(UnitRegressor("huber", memory=9)) == "UnitRegressor(loss='huber', memory=9)"


def test_tables_with_named_columns():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rows(), columns=list("abcd"))
    y = targets(rows(), "squared")
    m = UnitRegressor().partial_fit(X, y)
    assert m.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        m.predict(X[list("badc")])


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from assay.online import UnitRegressor; UnitRegressor().fit([[1.0], [2.0]], [1.0, 2.0]);"
        "print(sorted({'torch', 'sklearn', 'pandas', 'river'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_river_has_nothing_to_say():
    pytest.importorskip("river")
    from river import checks, datasets, evaluate, metrics

    from assay.extra import river as adapter

    for model in (adapter.UnitRegressor(), adapter.UnitClassifier()):
        checks.check_estimator(model)
    mae = evaluate.progressive_val_score(
        datasets.TrumpApproval(), adapter.UnitRegressor(), metrics.MAE()
    )
    assert mae.get() < 0.3
