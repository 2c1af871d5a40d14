"""What an optimizer refuses, said before anything has changed."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from assay.errors import AssayError, UsageError, verbatim


class NotFinite(AssayError, FloatingPointError):
    """A NaN or an infinity reached a step; weights and state are as they were before it."""


def check_model(who: str, model: Any) -> None:
    """That it is a model: the statistics of a layer's inputs cannot be had from parameters.

    Args:
        who: The optimizer's name.
        model: What was given.

    Raises:
        UsageError: If it is no module.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(
            "model",
            verbatim(type(model).__name__),
            "the torch.nn.Module itself, because its layers' inputs are watched",
            f"Write {who}(model, …), not {who}(model.parameters(), …); choose parameters with params=….",
        )


def check_number(
    name: str,
    value: Any,
    low: float,
    high: float,
    expected: str,
    remedy: str,
    *,
    open_end: bool = True,
) -> None:
    """That an option is a number in a range.

    Args:
        name: The option.
        value: What was given.
        low: Least value allowed.
        high: Upper bound.
        expected: The range in words.
        remedy: What to do.
        open_end: Whether `high` itself is refused.

    Raises:
        UsageError: If it is not.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    inside = low <= number < high if open_end else low <= number <= high
    if isinstance(value, bool | str) or not inside:
        raise UsageError(name, value, expected, remedy)
