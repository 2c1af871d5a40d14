"""What regression and classification share: the conventions of scikit-learn, without importing it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from struct import error as StructError
from typing import Any, Self

import numpy as np
from scipy import sparse as sp

from assay.errors import AssayError, UsageError, verbatim
from assay.online import moments as m
from assay.online.batch import fit_all
from assay.online.columns import check_columns, column_names
from assay.online.features import (
    FINE,
    Compressed,
    Names,
    as_rows,
    check_values,
    first_bad,
    is_rows,
    owned,
)
from assay.online.given import ones_of
from assay.online.single import CHECK, FORECAST, LEARN, LONGEST, TASK, Room, packer
from assay.online.state import Array, State, takes_second_order

CURVATURES = ("auto", "full", "diagonal")
MISSING = ("error", "skip")
TARGET_LIMIT = 1e150  # squares of targets are summed
ROOM = Room()


class Estimator:
    """A linear model on a stream. `UnitRegressor` and `UnitClassifier` say which."""

    _estimator_type: str
    _state: State
    _names: Names | None
    _new_names: Names | None
    _new_columns: Array | None
    loss: str
    n_features_in_: int
    memory: int | None
    curvature: str
    missing: str
    hashing: int | None

    # Parameters -------------------------------------------------------------------------------------

    @classmethod
    def _parameters(cls) -> list[str]:
        return sorted(p for p in inspect.signature(cls.__init__).parameters if p != "self")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor, as scikit-learn has it.

        Args:
            deep: Ignored: no argument is an estimator.

        Returns:
            Values by name.
        """
        return {name: getattr(self, name) for name in self._parameters()}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; they count from the next `fit`.

        Args:
            **params: Values by name.

        Returns:
            Itself.

        Raises:
            UsageError: For a name that is no argument.
        """
        for name, value in params.items():
            if name not in self._parameters():
                raise UsageError(
                    name, value, f"one of {', '.join(self._parameters())}", "Correct the name."
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        given = (
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not defaults[name].default
        )
        return f"{type(self).__name__}({', '.join(given)})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_state")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        regression = self._estimator_type == "regressor"
        return Tags(
            estimator_type=self._estimator_type,
            target_tags=TargetTags(
                required=True, positive_only=getattr(self, "loss", "") == "poisson"
            ),
            regressor_tags=RegressorTags() if regression else None,
            classifier_tags=None if regression else ClassifierTags(),
            input_tags=InputTags(sparse=True, dict=True, allow_nan=self.missing == "skip"),
        )

    def _check_parameters(self) -> float:
        """What a row keeps of its weight per later row."""
        if self.curvature not in CURVATURES:
            raise UsageError("curvature", self.curvature, f"one of {CURVATURES}", "Choose one.")
        if self.missing not in MISSING:
            raise UsageError("missing", self.missing, f"one of {MISSING}", "Choose one.")
        bits = self.hashing
        if bits is not None and not (isinstance(bits, Integral) and 1 <= bits <= 26):
            raise UsageError("hashing", bits, "None, or bits from 1 to 26", "18 is usual.")
        if bits is not None and self.curvature == "full":
            raise UsageError("curvature", "full", '"auto" or "diagonal" with hashing', "Leave it.")
        if self.memory is None:
            return 1.0
        if not (isinstance(self.memory, Real) and self.memory >= 2):
            remedy = "It is how many of the last rows count; None forgets nothing."
            raise UsageError("memory", self.memory, "None, or a number of rows from 2", remedy)
        return 1.0 - 1.0 / float(self.memory)

    # Rows -------------------------------------------------------------------------------------------

    def _read(self, X: Any, *, learning: bool, reset: bool) -> Any:
        """Rows, checked. Nothing of the state has changed."""
        if not reset:
            known = self._read_known(X)
            if known is not None:
                return known
        if is_rows(X):
            return self._read_dictionaries([X] if isinstance(X, Mapping) else X, learning, reset)
        names = getattr(self, "_names", None)
        if not reset and names is not None and not (sp.issparse(X) and names.bits is not None):
            said = verbatim(type(X).__name__)
            raise UsageError("X", said, "dictionaries, as before", "Keep to one kind of rows.")
        matrix = as_rows(X)
        columns = column_names(X)
        shape = f"(shape={tuple(matrix.shape)}) while a minimum of 1 is required."
        for axis, what in enumerate(("sample", "feature")):
            if matrix.shape[axis] == 0:
                said = verbatim(f"0 {what}(s) {shape}")
                raise UsageError("X", said, f"at least one {what}", "Check how it is read.")
        if not reset:
            fitted = getattr(self, "feature_names_in_", None)
            check_columns(
                matrix.shape[1], columns, self.n_features_in_, fitted, type(self).__name__
            )
        self._check(matrix, None if columns is None else list(columns), reset)
        if reset:
            self._new_names, self._new_columns = None, columns
        return matrix

    def _read_known(self, X: Any) -> Any:
        """The short way for rows of the kind that is known; None where there is more to look at."""
        state, names = self._state, self._names
        if names is not None:
            if names.bits is not None or not state.centred:
                return None
            if not isinstance(X, list) or not X or not isinstance(X[0], dict):
                return None
            X = names.encode_known(X, state.features)
            if X is None:
                return None
        elif (
            type(X) is not np.ndarray
            or X.dtype != np.float64
            or X.ndim != 2
            or X.shape[1] != state.features
            or not len(X)
            or "feature_names_in_" in self.__dict__
        ):
            return None
        else:
            X = owned(X, np.float64)
        if first_bad(X, state.table, self.missing == "skip")[2] != FINE:
            return None
        return X

    def _one(self, row: Any, y: float, learning: bool) -> Array | None:
        """Forecast one dictionary of numbers, or learn it, too; None where there is more to look at."""
        if type(row) is not dict or "_state" not in self.__dict__ or self._names is None:
            return None
        state, names = self._state, self._names
        known = len(names.index)
        places = names.places(row, learning)
        if places is None or len(places) > LONGEST:
            return None
        packed: Any = ROOM.row
        size, holes = len(places), self.missing == "skip"
        task = LEARN if learning else FORECAST
        try:
            packer(size).pack_into(packed, 0, size, y, task, holes, *row.values(), *places)
        except StructError:  # texts, None
            return None
        if len(names.index) > known:
            packed[TASK] = CHECK
            if state.run_one(packed) is None:
                names.forget(known)
                return None
            packed[TASK] = task
            self._widen(len(names.index))
        return state.run_one(packed)

    def _read_dictionaries(self, rows: Any, learning: bool, reset: bool) -> Any:
        if not reset and self._names is None:
            raise UsageError(
                "X", verbatim("dictionaries"), "an array, as before", "Keep to one kind of rows."
            )
        names = Names(self.hashing) if reset or self._names is None else self._names
        before = len(names.index)
        matrix = names.encode(rows, add=learning)
        try:
            self._check(matrix, names.index if names.bits is None else None, reset)
        except AssayError:
            names.forget(before)
            raise
        if reset:
            self._new_names, self._new_columns = names, None
        return matrix

    def _check(self, matrix: Any, listed: Iterable[Any] | None, reset: bool) -> None:
        table = np.zeros((matrix.shape[1], m.COLUMNS)) if reset else self._state.table
        check_values(matrix, table, listed, self.missing)

    def _start(self, matrix: Any, outputs: int, loss: int, level: float) -> None:
        keep = self._check_parameters()
        features = matrix.shape[1]
        named = self._new_names is not None
        small = takes_second_order(features, outputs)
        second = self.curvature == "full" or (self.curvature == "auto" and small)
        if self.hashing is not None:
            second = False
        centred = second or not (named or isinstance(matrix, Compressed))
        self._names = self._new_names
        self._state = State.empty(
            features, outputs, second=second, centred=centred, loss=loss, level=level, keep=keep
        )
        self.n_features_in_ = features
        self.__dict__.pop("feature_names_in_", None)
        if not named and self._new_columns is not None:
            self.feature_names_in_ = self._new_columns

    def _make_room(self, matrix: Any) -> None:
        """Columns for new features."""
        if not isinstance(matrix, np.ndarray):  # arrays have all columns from the first row on
            self._widen(matrix.shape[1])

    def _widen(self, columns: int) -> None:
        """The same; where there are too many for the second order, leave it."""
        state = self._state
        if columns <= self.n_features_in_:
            return
        self.n_features_in_ = columns
        self._fit_to_size()
        if columns > state.features:  # with some to spare, lest every new name move the whole state
            state.grow(max(columns, int((1.25 if state.centred else 2.0) * state.features)))

    def _fit_to_size(self) -> None:
        """Where there are too many features or classes for the second order, leave it."""
        state = self._state
        if (
            state.second
            and self.curvature == "auto"
            and not takes_second_order(self.n_features_in_, state.outputs)
        ):
            if self._names is not None:
                state.spill()
            else:
                state.drop_second()

    def _forecast(self, X: Any) -> Array:
        """Forecasts `[N, K]`."""
        if not hasattr(self, "_state"):
            raise _not_fitted(type(self).__name__)
        matrix = self._read(X, learning=False, reset=False)
        ones = ones_of(matrix.shape[0])
        return self._state.run(matrix, ones, ones, learning=False)

    def _learn_all(self, matrix: Any, y: Array, weights: Array) -> None:
        """Rows in which order means nothing, into an empty state."""
        used = weights > 0
        if not used.any():
            raise UsageError(
                "sample_weight", verbatim("all zero"), "a weight above zero", "Leave it out."
            )
        if self._state.second:
            rows = matrix.toarray() if isinstance(matrix, Compressed) else matrix
            fit_all(self._state, rows[used], y[used], weights[used])
        else:
            order = np.random.default_rng(0).permutation(matrix.shape[0])
            self._state.run(matrix[order], y[order], weights[order], learning=True)

    # Results ----------------------------------------------------------------------------------------

    @property
    def coef_(self) -> Array:
        """Weights of the raw features: the experts' linear scores, averaged by their shares."""
        coef = self._fitted().linear()[0][:, : self.n_features_in_]
        return coef[0] if self._estimator_type == "regressor" else coef

    @property
    def intercept_(self) -> Any:
        """The intercept that belongs to `coef_`."""
        intercept = self._fitted().linear()[1]
        return float(intercept[0]) if self._estimator_type == "regressor" else intercept

    def _fitted(self) -> State:
        state: State | None = getattr(self, "_state", None)
        if state is None:
            raise _not_fitted(type(self).__name__)
        return state


def _not_fitted(name: str) -> Exception:
    bases: tuple[type[Exception], ...] = (UsageError, AttributeError)
    if "sklearn" in sys.modules:
        from sklearn.exceptions import NotFittedError

        bases = (UsageError, NotFittedError)
    kind: Any = type("NotFitted", bases, {})
    error: Exception = kind(
        name, verbatim("not fitted"), "a fitted model", "Call fit or partial_fit first."
    )
    return error
