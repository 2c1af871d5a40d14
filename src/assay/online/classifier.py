"""Classification on streams of raw features."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from assay.errors import UsageError, verbatim
from assay.online.estimator import Estimator
from assay.online.given import column_of, ones_of, rows_of, weights_of
from assay.online.losses import LOGISTIC
from assay.online.saving import Saved
from assay.online.state import Array


class UnitClassifier(Saved, Estimator):
    """Logistic regression on a stream, for two classes or more, in whatever units the features come.

    As `UnitRegressor`: nothing to scale, nothing to tune. Probabilities are averaged over its fifteen
    models, weighted by the likelihood of the labels so far. Of more than two classes each has its own
    weights (softmax).

    Args:
        memory: None, or how many of the last rows count: older ones fade as `(1 − 1/memory)^age`.
        curvature: "full" keeps a matrix of curvatures a class, "diagonal" none; "auto" the former where
            classes times (features + 1)² is at most 65536.
        missing: "error" refuses NaN; "skip" lets a missing feature say nothing, as if it stood at its mean.
        hashing: For rows that are dictionaries: None gives each name a column; otherwise `2**hashing`
            columns.

    Example:
        >>> model = UnitClassifier()
        >>> for t in range(200):
        ...     _ = model.partial_fit([[1e-9 * (t % 10), 5.0]], ["big" if t % 10 > 4 else "small"])
        >>> model.predict([[2e-9, 5.0], [8e-9, 5.0]]).tolist()
        ['small', 'big']
    """

    _estimator_type = "classifier"
    loss = "logistic"

    def __init__(
        self,
        *,
        memory: int | None = None,
        curvature: str = "auto",
        missing: str = "error",
        hashing: int | None = None,
    ) -> None:
        self.memory = memory
        self.curvature = curvature
        self.missing = missing
        self.hashing = hashing

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn all rows at once, from nothing; their order means nothing.

        Args:
            X: Rows `[N, D]`: an array, a table, a sparse matrix, or a list of dictionaries.
            y: Labels `[N]`: numbers, texts or truth values.
            sample_weight: Weights `[N]`; a weight of 2 is a row twice.

        Returns:
            Itself.
        """
        labels, weights = self._labels(X, y, sample_weight)
        matrix = self._read(X, learning=True, reset=True)
        classes = np.unique(labels[weights > 0] if (weights > 0).any() else labels)
        self._begin(matrix, classes, known=False)
        some = weights > 0
        numbers = np.zeros(len(labels))
        numbers[some] = np.searchsorted(classes, labels[some])
        self._learn_all(matrix, numbers, weights)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Learn rows in order, after all that came before.

        Args:
            X: Rows `[N, D]` as for `fit`, or one dictionary.
            y: Labels `[N]`, or one.
            classes: In the first call, all labels that there will be. Without it a new label is a new class.
            sample_weight: Weights `[N]`.

        Returns:
            Itself.
        """
        if classes is None and sample_weight is None and "_state" in self.__dict__:
            if type(X) is dict and self._learn_one(X, y) is not None:
                return self
            numbers = self._numbers_of(y)
            if numbers is not None and rows_of(X) == len(numbers):
                self._learn_known(X, numbers)
                return self
        self.predict_then_learn(X, y, classes, sample_weight)
        return self

    def predict_then_learn(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Array:
        """The probabilities that each row would have had just before it was learnt (progressive validation).

        Args:
            X: Rows `[N, D]` as for `fit`, or one dictionary.
            y: Labels `[N]`, or one.
            classes: In the first call, all labels that there will be.
            sample_weight: Weights `[N]`.

        Returns:
            `[N, len(classes_)]`, the classes as they are after the last row.

        Raises:
            UsageError: For a label that is not in `classes`.
        """
        reset = not hasattr(self, "_state")
        numbers = None if reset or classes is not None else self._numbers_of(y)
        if numbers is not None and sample_weight is None and rows_of(X) == len(numbers):
            return self._probabilities(self._learn_known(X, numbers))
        labels, weights = self._labels(X, y, sample_weight)
        given = None if classes is None else np.unique(np.asarray(classes))
        if not reset and given is not None and not np.array_equal(given, np.sort(self.classes_)):
            raise UsageError(
                "classes",
                verbatim(
                    f"{given.tolist()}; `classes={given.tolist()}` is not the same as on last call"
                ),
                f"{self.classes_.tolist()}, as before",
                "Leave it out after the first call.",
            )
        known = (
            given
            if reset and given is not None
            else (np.unique(labels) if reset else self.classes_)
        )
        fixed = given is not None if reset else self._fixed
        strange = ~np.isin(labels, known)
        if fixed and strange.any():
            at = int(np.argmax(strange))
            raise UsageError(
                f"y[{at}]",
                labels[at],
                f"one of the classes {known.tolist()}",
                "Name every class in the first call, or leave `classes` out.",
            )
        matrix = self._read(X, learning=True, reset=reset)
        if reset:
            self._begin(matrix, known, known=fixed)
        self._make_room(matrix)
        return self._learn(matrix, labels, weights)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities.

        Args:
            X: Rows `[N, D]`, of the kind that was learnt.

        Returns:
            `[N, len(classes_)]`, rows summing to 1.
        """
        one = self._one(X, 0.0, learning=False)
        if one is not None and len(self.classes_) == 2:
            return one
        return self._probabilities(self._forecast(X) if one is None else one)

    def predict(self, X: Any) -> Array:
        """The most probable labels.

        Args:
            X: Rows `[N, D]`, of the kind that was learnt.

        Returns:
            `[N]`.
        """
        p = self.predict_proba(X)
        return np.asarray(self.classes_[p.argmax(axis=1)])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of rows whose label is predicted.

        Args:
            X: Rows `[N, D]`.
            y: Labels `[N]`.
            sample_weight: Weights `[N]`.

        Returns:
            From 0 to 1.
        """
        hit = self.predict(X) == np.asarray(y)
        return float(np.average(hit, weights=weights_of(sample_weight, len(hit))))

    def _begin(self, matrix: Any, classes: Array, known: bool) -> None:
        self._start(matrix, len(classes) if len(classes) > 2 else 1, LOGISTIC, 0.5)
        self._know(classes)
        self._fixed = known

    def _know(self, classes: Array) -> None:
        self.classes_ = classes
        self._number = {label: number for number, label in enumerate(classes.tolist())}

    def _learn_one(self, X: Any, y: Any) -> Array | None:
        """One dictionary with a class that is known, the short way."""
        try:
            number = self._number.get(y)
        except TypeError:  # an array of one label
            return None
        return None if number is None else self._one(X, number, learning=True)

    def _learn_known(self, X: Any, numbers: Array) -> Array:
        """Rows with classes that are known, without weights: the short way."""
        matrix = self._read(X, learning=True, reset=False)
        self._make_room(matrix)
        return self._state.run(matrix, numbers, ones_of(len(numbers)), learning=True)

    def _numbers_of(self, y: Any) -> Array | None:
        """Numbers of the classes of known labels; None where there is more to look at."""
        if isinstance(y, np.ndarray):
            if y.ndim > 1:
                return None
            y = y.tolist()
        labels = y if isinstance(y, list | tuple) else [y]
        known = self._number
        try:
            return np.array([known[label] for label in labels], np.float64)
        except (KeyError, TypeError):
            return None

    def _learn(self, matrix: Any, labels: Array, weights: Array) -> Array:
        """Rows in order, with a new class from the first row that has it."""
        parts = []
        start, rows = 0, matrix.shape[0]
        while start < rows:
            strange = ~np.isin(labels[start:], self.classes_)
            end = start + int(np.argmax(strange)) if strange.any() else rows
            if end > start:
                order = np.argsort(self.classes_, kind="stable")
                at = np.searchsorted(self.classes_[order], labels[start:end])
                numbers = order[at].astype(np.float64)
                p = self._state.run(matrix[start:end], numbers, weights[start:end], learning=True)
                parts.append(self._probabilities(p))
            if end < rows:
                self._know(np.concatenate([self.classes_, labels[end : end + 1]]))
                if len(self.classes_) > 2:
                    self._state.add_class()
                    self._fit_to_size()
            start = end
        K = len(self.classes_)
        return np.concatenate([np.pad(p, ((0, 0), (0, K - p.shape[1]))) for p in parts])

    def _probabilities(self, p: Array) -> Array:
        if len(self.classes_) == 1:
            return np.ones((len(p), 1))
        if p.shape[1] > 1:
            return np.asarray(p / p.sum(axis=1, keepdims=True))
        return np.concatenate([1.0 - p, p], 1)

    def _labels(self, X: Any, y: Any, sample_weight: Any) -> tuple[Array, Array]:
        rows = rows_of(X)
        labels = column_of(y, rows)
        if labels.dtype.kind == "f":
            bad = ~np.isfinite(labels)
            if bad.any():
                at = int(np.argmax(bad))
                value = f"{labels[at]:g}".replace("nan", "NaN")
                raise UsageError(
                    f"y[{at}]",
                    verbatim(value),
                    "a label, not NaN or infinity",
                    "Leave such rows out.",
                )
            if (labels != np.floor(labels)).any():
                at = int(np.argmax(labels != np.floor(labels)))
                raise UsageError(
                    f"y[{at}]",
                    verbatim(f"{labels[at]:g}; Unknown label type: continuous"),
                    "a label",
                    "Use UnitRegressor for numbers.",
                )
        if labels.dtype.kind == "O":
            labels = _plain(labels)
        return labels, weights_of(sample_weight, rows)


def _plain(labels: Array) -> Array:
    """Texts in an array of objects; the objects stay where they are not all of one kind."""
    for at, label in enumerate(labels):
        if label is None or (isinstance(label, float) and label != label):
            raise UsageError(f"y[{at}]", label, "a label, not NaN or None", "Leave such rows out.")
    return labels
