"""The vocabulary of these tests: small streams with all that real ones have, and models of each kind."""

import numpy as np

from assay.online import UnitClassifier, UnitRegressor

KINDS = ("squared", "huber", "quantile", "poisson", "two classes", "three classes")


def rows(n=60, d=4, seed=0):
    """Correlated, heavy-tailed, shifted features of different sizes; the last one is a rare indicator."""
    rng = np.random.default_rng(seed)
    X = rng.standard_t(4, (n, d)) @ (np.eye(d) + 0.4) * 10.0 ** rng.uniform(-2, 2, d)
    X += rng.normal(size=d) * X.std(0)
    X[:, -1] = rng.random(n) < 0.1
    return X


def targets(X, kind, seed=0):
    """Targets that a linear score of X explains in part."""
    rng = np.random.default_rng(seed + 1)
    z = (X - X.mean(0)) / X.std(0) @ rng.normal(size=X.shape[1])
    noisy = z + rng.standard_t(4, len(X))
    if kind == "poisson":
        return rng.poisson(np.exp(np.clip(0.5 * z, -3, 3))).astype(float)
    if kind == "two classes":
        return (noisy > 0).astype(int)
    if kind == "three classes":
        return np.digitize(noisy, [-0.7, 0.7])
    return 100.0 + 30.0 * noisy


def model(kind, **options):
    """An unfitted model."""
    if kind.endswith("classes"):
        return UnitClassifier(**options)
    return UnitRegressor(kind, **options)


def forecasts(kind, X, y, **options):
    """Progressive forecasts of a new model."""
    known = {"classes": np.unique(y)} if kind.endswith("classes") else {}
    return model(kind, **options).predict_then_learn(X, y, **known)


def apart(a, b):
    """Largest difference, in standard deviations of b."""
    return np.abs(a - b).max() / b.std()
