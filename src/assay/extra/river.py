"""assay's linear models on streams as river's: `learn_one`, `predict_one`, and the same for tables.

They stand in a river pipeline where `StandardScaler() | LinearRegression()` stood; the scaler is not needed.
"""

from __future__ import annotations

from typing import Any

from assay.errors import UsageError, verbatim
from assay.online import UnitClassifier as OnlineClassifier
from assay.online import UnitRegressor as OnlineRegressor

try:
    from river import base
except ImportError as error:
    raise UsageError(
        "assay.extra.river",
        verbatim("river is not installed"),
        "river",
        "Install it: pip install 'assay[river]'.",
    ) from error


class UnitRegressor(base.MiniBatchRegressor):
    """`assay.online.UnitRegressor` for river.

    Features are dictionaries: numbers by name; a text is a category; None is missing; what is absent is 0.

    Args:
        loss: As for `assay.online.UnitRegressor`, likewise all others.
        quantile: Which quantile.
        memory: How many of the last rows count.
        curvature: "auto", "full" or "diagonal".
        missing: "error" or "skip".
        hashing: None, or bits of the hash of names.

    Example:
        >>> from river import datasets, evaluate, metrics
        >>> model = UnitRegressor()
        >>> evaluate.progressive_val_score(datasets.TrumpApproval(), model, metrics.MAE())
        MAE: 0.23...
    """

    def __init__(
        self,
        loss: str = "squared",
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
        self.model = OnlineRegressor(
            loss,
            quantile=quantile,
            memory=memory,
            curvature=curvature,
            missing=missing,
            hashing=hashing,
        )

    def learn_one(self, x: dict[Any, Any], y: float) -> None:
        """Learn one row.

        Args:
            x: Features by name.
            y: The target.
        """
        self.model.partial_fit(x, y)

    def predict_one(self, x: dict[Any, Any]) -> float:
        """Predict one row.

        Args:
            x: Features by name.

        Returns:
            The prediction; 0 before the first row.
        """
        return float(self.model.predict(x)[0]) if hasattr(self.model, "_state") else 0.0

    def learn_many(self, X: Any, y: Any) -> None:
        """Learn a table's rows in order.

        Args:
            X: A pandas table.
            y: A series of targets.
        """
        if len(X):
            self.model.partial_fit(X.to_dict("records"), y.to_numpy())

    def predict_many(self, X: Any) -> Any:
        """Predict a table's rows.

        Args:
            X: A pandas table.

        Returns:
            A series with the table's index.
        """
        import pandas as pd

        started = hasattr(self.model, "_state")
        values = self.model.predict(X.to_dict("records")) if started else 0.0
        return pd.Series(values, index=X.index, dtype=float)


class UnitClassifier(base.MiniBatchClassifier):
    """`assay.online.UnitClassifier` for river; classes may appear as the stream goes.

    Args:
        memory: As for `assay.online.UnitClassifier`, likewise all others.
        curvature: "auto", "full" or "diagonal".
        missing: "error" or "skip".
        hashing: None, or bits of the hash of names.

    Example:
        >>> from river import datasets, evaluate, metrics
        >>> evaluate.progressive_val_score(datasets.Phishing(), UnitClassifier(), metrics.Accuracy())
        Accuracy: 90.2...%
    """

    def __init__(
        self,
        memory: int | None = None,
        curvature: str = "auto",
        missing: str = "error",
        hashing: int | None = None,
    ) -> None:
        self.memory = memory
        self.curvature = curvature
        self.missing = missing
        self.hashing = hashing
        self.model = OnlineClassifier(
            memory=memory, curvature=curvature, missing=missing, hashing=hashing
        )

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        """Learn one row.

        Args:
            x: Features by name.
            y: The label.
        """
        self.model.partial_fit(x, y)

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[Any, float]:
        """Probabilities of the labels of one row.

        Args:
            x: Features by name.
            **kwargs: None are known; river's base class has them.

        Returns:
            Probabilities by label; empty before the first row.
        """
        if not hasattr(self.model, "_state"):
            return {}
        p = self.model.predict_proba(x)[0]
        return dict(zip(self.model.classes_.tolist(), p.tolist(), strict=True))

    def learn_many(self, X: Any, y: Any) -> None:
        """Learn a table's rows in order.

        Args:
            X: A pandas table.
            y: A series of labels.
        """
        rows, labels = X.to_dict("records"), y.to_numpy()
        started = 0
        if not hasattr(self.model, "_state") and len(rows):  # classes appear as with `learn_one`
            self.model.partial_fit(rows[:1], labels[:1])
            started = 1
        if len(rows) > started:
            self.model.partial_fit(rows[started:], labels[started:])

    def predict_proba_many(self, X: Any) -> Any:
        """Probabilities of the labels of a table's rows.

        Args:
            X: A pandas table.

        Returns:
            A table with one column a label.
        """
        import pandas as pd

        if not hasattr(self.model, "_state"):
            return pd.DataFrame(index=X.index)
        p = self.model.predict_proba(X.to_dict("records"))
        return pd.DataFrame(p, index=X.index, columns=self.model.classes_.tolist())
