"""The columns of a table: their names, and whether they are those of the fit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from assay.errors import UsageError, verbatim
from assay.online.state import Array


def column_names(X: Any) -> Array | None:
    """Names of a table's columns, where all are texts."""
    columns = getattr(X, "columns", None)
    if columns is None or not all(isinstance(name, str) for name in columns):
        return None
    return np.array(list(columns), dtype=object)


def check_columns(
    count: int, columns: Array | None, expected: int, fitted: Array | None, name: str
) -> None:
    """Compare the columns of rows with those that a model was fitted with.

    Args:
        count: How many there are.
        columns: Their names, where they have some.
        expected: How many there were.
        fitted: Their names then, where they had some.
        name: What the model is called.

    Raises:
        UsageError: If there are more or fewer, or their names differ.
    """
    if fitted is not None and columns is not None:
        if list(fitted) != list(columns):
            raise UsageError(
                "X", verbatim(f"columns {list(columns)}"), *_names_differ(fitted, columns)
            )
    elif fitted is not None:
        warnings.warn(
            f"X does not have valid feature names, but {name} was fitted with feature names",
            UserWarning,
            stacklevel=4,
        )
    elif columns is not None:
        warnings.warn(
            f"X has feature names, but {name} was fitted without feature names",
            UserWarning,
            stacklevel=4,
        )
    if count != expected:
        raise UsageError(
            "X",
            verbatim(f"X has {count} features"),
            f"as before: X has {count} features, but {name} is expecting {expected} features as input",
            "Features that come and go need names: pass rows as dictionaries.",
        )


def _names_differ(fitted: Array, columns: Array) -> tuple[str, str]:
    lines = ["The feature names should match those that were passed during fit."]
    unseen, lost = sorted(set(columns) - set(fitted)), sorted(set(fitted) - set(columns))
    if unseen:
        lines += ["Feature names unseen at fit time:", *(f"- {name}" for name in unseen)]
    if lost:
        lines += [
            "Feature names seen at fit time, yet now missing:",
            *(f"- {name}" for name in lost),
        ]
    if not unseen and not lost:
        lines += ["Feature names must be in the same order as they were in fit."]
    return "\n".join(lines) + "\n", "Pass the same columns, or rows as dictionaries."
