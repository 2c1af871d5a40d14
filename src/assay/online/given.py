"""What is given beside the rows: targets, one a row, and weights."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse as sp

from assay.errors import UsageError, verbatim
from assay.online.features import as_rows, owned
from assay.online.state import Array

_ONE = np.ones(1)


def rows_of(X: Any) -> int:
    """How many rows there are."""
    if type(X) is np.ndarray and X.ndim == 2:
        return len(X)
    if isinstance(X, Mapping) and not sp.issparse(X):
        return 1
    if not hasattr(X, "shape") and not isinstance(X, list | tuple):
        X = np.asarray(X)
    shape = getattr(X, "shape", None)
    if shape is None:
        return len(X)
    return int(shape[0]) if len(shape) > 1 else as_rows(X).shape[0]  # raises, with advice


def column_of(y: Any, rows: int) -> Array:
    """Targets as `[N]`.

    Args:
        y: One target, or `[N]`, or `[N, 1]`.
        rows: N.

    Returns:
        An array of whatever type the targets have.

    Raises:
        UsageError: Without targets, or for another number of them.
    """
    if y is None:
        raise UsageError(
            "y", None, "targets: requires y to be passed, but the target y is None", "Pass y."
        )
    if sp.issparse(y):
        raise UsageError("y", verbatim("sparse"), "a dense array", "Use y.toarray().")
    array = np.asarray(y)
    if array.ndim == 0:
        array = array[None]
    if array.ndim == 2 and array.shape[1] == 1:
        _warn_column(array)
        array = array[:, 0]
    if array.ndim != 1:
        raise UsageError(
            "y",
            verbatim(f"shape {array.shape}"),
            "one target a row",
            "Use one model for each target.",
        )
    if len(array) != rows:
        raise UsageError(
            "y",
            verbatim(f"{len(array)} targets"),
            f"as many as there are rows, {rows}; inconsistent numbers of samples: [{rows}, {len(array)}]",
            "Check how they are paired.",
        )
    return array


def _warn_column(array: Array) -> None:
    category: type[Warning] = UserWarning
    if "sklearn" in sys.modules:
        from sklearn.exceptions import DataConversionWarning

        category = DataConversionWarning
    text = "A column-vector y was passed when a 1d array was expected. Use y.ravel()."
    warnings.warn(text, category, stacklevel=5)


def weights_of(sample_weight: Any, rows: int) -> Array:
    """Weights `[N]`, checked.

    Args:
        sample_weight: None, a number, or `[N]`.
        rows: N.

    Returns:
        float64 weights.

    Raises:
        UsageError: For negative, infinite or missing weights, and another length.
    """
    if sample_weight is None:
        return ones_of(rows)
    weights = np.asarray(sample_weight, dtype=np.float64)
    weights = np.full(rows, float(weights)) if weights.ndim == 0 else owned(weights, np.float64)
    if weights.shape != (rows,):
        raise UsageError(
            "sample_weight",
            verbatim(f"shape {weights.shape}; Sample weights must be 1D array or scalar"),
            f"one weight for each of {rows} rows",
            f"sample_weight.shape == {weights.shape}, expected ({rows},)!",
        )
    fine = np.isfinite(weights) & (weights >= 0)
    if not fine.all():
        at = int(np.argmin(fine))
        raise UsageError(
            f"sample_weight[{at}]", float(weights[at]), "a finite number from 0", "Correct it."
        )
    return weights


def ones_of(rows: int) -> Array:
    """Weights of rows that were given none."""
    return _ONE if rows == 1 else np.ones(rows)
