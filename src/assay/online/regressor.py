"""Regression on streams of raw features."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from assay.errors import UsageError, verbatim
from assay.online.estimator import TARGET_LIMIT, Estimator
from assay.online.features import first_wild, owned
from assay.online.given import column_of, rows_of, weights_of
from assay.online.losses import CODES
from assay.online.saving import Saved
from assay.online.state import Array

LOSSES = ("squared", "huber", "quantile", "poisson")


class UnitRegressor(Saved, Estimator):
    """Linear regression on a stream, in whatever units the features and the target come.

    No feature needs scaling and no rate needs tuning: rescaling a feature, shifting it, or changing the
    target's unit or zero changes no prediction (Theory U5, U8), bit by bit where factors are powers of two.
    Rows are learnt one after another; a batch is its rows in order, exactly. A forecast averages fifteen
    linear models, weighted by their success so far: ridge regression on all rows, with intercepts that
    follow the residuals at six speeds, and Adagrad in standard units at eight rates. Above some 250
    features (and with `hashing`) only the latter.

    `fit` takes all rows at once, in no order: the minimum of the same penalised loss.

    Args:
        loss: "squared"; "huber", with its corner at two medians of the residuals' sizes; "quantile"; or
            "poisson", for counts: the model is then of the rate's logarithm.
        quantile: Which quantile "quantile" is about, between 0 and 1.
        memory: None, or how many of the last rows count: older ones fade as `(1 − 1/memory)^age`.
        curvature: "full" keeps a matrix of curvatures, "diagonal" none; "auto" the former up to 255 features.
        missing: "error" refuses NaN; "skip" lets a missing feature say nothing, as if it stood at its mean.
        hashing: For rows that are dictionaries: None gives each name a column; otherwise `2**hashing`
            columns.

    Example:
        >>> model = UnitRegressor()
        >>> for t in range(100):
        ...     _ = model.partial_fit([[1e6 * t, 20.0 + t % 7]], [0.5 * t + 3.0 * (t % 7)])
        >>> round(float(model.predict([[50e6, 23.0]])[0]))
        34
    """

    _estimator_type = "regressor"

    def __init__(
        self,
        loss: str = "squared",
        *,
        quantile: float = 0.5,
        memory: int | None = None,
        curvature: str = "auto",
        missing: str = "error",
        hashing: int | None = None,
    ) -> None:
        self.loss = loss
        self.quantile = quantile
        self.memory = memory
        self.curvature = curvature
        self.missing = missing
        self.hashing = hashing

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn all rows at once, from nothing; their order means nothing.

        Args:
            X: Rows `[N, D]`: an array, a table, a sparse matrix, or a list of dictionaries.
            y: Targets `[N]`.
            sample_weight: Weights `[N]`; a weight of 2 is a row twice.

        Returns:
            Itself.
        """
        matrix, target, weights = self._examples(X, y, sample_weight, reset=True)
        self._begin(matrix)
        self._learn_all(matrix, target, weights)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn rows in order, after all that came before.

        Args:
            X: Rows `[N, D]` as for `fit`, or one dictionary.
            y: Targets `[N]`, or one.
            sample_weight: Weights `[N]`.

        Returns:
            Itself.
        """
        if sample_weight is not None or self._learn_one(X, y) is None:
            self.predict_then_learn(X, y, sample_weight)
        return self

    def predict_then_learn(self, X: Any, y: Any, sample_weight: Any = None) -> Array:
        """What each row would have been predicted to be just before it was learnt (progressive validation).

        Args:
            X: Rows `[N, D]` as for `fit`, or one dictionary.
            y: Targets `[N]`, or one.
            sample_weight: Weights `[N]`.

        Returns:
            Predictions `[N]`; 0 before the first row.
        """
        reset = not hasattr(self, "_state")
        matrix, target, weights = self._examples(X, y, sample_weight, reset)
        if reset:
            self._begin(matrix)
        self._make_room(matrix)
        return self._state.run(matrix, target, weights, learning=True)[:, 0]

    def predict(self, X: Any) -> Array:
        """Predictions; for "poisson" the rate, for "quantile" the quantile.

        Args:
            X: Rows `[N, D]`, of the kind that was learnt.

        Returns:
            `[N]`.
        """
        one = self._one(X, 0.0, learning=False)
        return (self._forecast(X) if one is None else one)[:, 0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of the variance that is explained, R².

        Args:
            X: Rows `[N, D]`.
            y: Targets `[N]`.
            sample_weight: Weights `[N]`.

        Returns:
            At most 1.
        """
        predicted = self.predict(X)
        target = np.asarray(column_of(y, len(predicted)), float)
        weights = weights_of(sample_weight, len(predicted))
        error = float(weights @ (target - predicted) ** 2)
        spread = float(weights @ (target - np.average(target, weights=weights)) ** 2)
        return 1.0 - error / spread if spread > 0 else float(error == 0)

    def _learn_one(self, X: Any, y: Any) -> Array | None:
        """One dictionary and a plain number, the short way."""
        if type(y) is not float:
            return None
        least = 0.0 if self.loss == "poisson" else -TARGET_LIMIT
        return self._one(X, y, learning=True) if least <= y < TARGET_LIMIT else None

    def _begin(self, matrix: Any) -> None:
        self._start(matrix, 1, CODES[self.loss], float(self.quantile))

    def _examples(self, X: Any, y: Any, weights: Any, reset: bool) -> tuple[Any, Array, Array]:
        if self.loss not in LOSSES:
            raise UsageError("loss", self.loss, f"one of {LOSSES}", "Choose one.")
        if not 0.0 < self.quantile < 1.0:
            raise UsageError(
                "quantile", self.quantile, "a number between 0 and 1", "0.5 is the median."
            )
        if reset:
            self._check_parameters()
        rows = rows_of(X)
        target = self._target(column_of(y, rows))
        weight = weights_of(weights, rows)
        matrix = self._read(X, learning=True, reset=reset)
        return matrix, target, weight

    def _target(self, y: Array) -> Array:
        if y.dtype.kind == "c":
            raise UsageError(
                "y", verbatim("complex"), "real numbers", "Complex data not supported."
            )
        try:
            target = owned(y, np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(
                "y", verbatim(f"{y.dtype}: {error}"), "numbers", "Use UnitClassifier for labels."
            ) from error
        at = first_wild(target, TARGET_LIMIT)
        if at >= 0:
            raise UsageError(
                f"y[{at}]",
                verbatim(f"{target[at]:g}".replace("nan", "NaN")),
                "a finite number below 1e150, not NaN or infinity",
                "Leave such rows out. Nothing was learnt of this batch.",
            )
        if self.loss == "poisson" and (target < 0).any():
            at = int(np.argmax(target < 0))
            raise UsageError(
                f"y[{at}]", float(target[at]), "a count, 0 or more", "Use another loss."
            )
        return target
