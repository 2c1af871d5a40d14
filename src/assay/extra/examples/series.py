"""Time series, and the trajectories of decisions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from assay.extra.examples.given import Given


def series(given: Given) -> Tensor:
    """What was measured so far `[b, steps]`, or several things at once `[b, steps, channels]`."""
    config = given.config
    if given.kind.startswith("timesfm"):
        return torch.randn(given.at.b, given.at.n)
    channels = int(getattr(config, "num_input_channels", 0) or getattr(config, "input_size", 1))
    shape = (given.at.b, _past(given))
    several = channels > 1 or "patch" in given.kind
    return torch.randn(*shape, channels) if several else torch.randn(*shape)


def padding(given: Given) -> Tensor:
    """Which of the measurements are padding: none `[b, n]`."""
    return torch.zeros(given.at.b, given.at.n, dtype=torch.long)


def rates(given: Given) -> Tensor:
    """How often was measured, as a class `[b, 1]`."""
    return torch.zeros(given.at.b, 1, dtype=torch.long)


def observed(given: Given) -> Tensor:
    """Which of the measurements are there: all."""
    return torch.ones_like(series(given))


def past_features(given: Given) -> Tensor:
    """What is known of every step so far, as the day of the week."""
    return torch.randn(given.at.b, _past(given), given.config.num_time_features)


def future(given: Given) -> Tensor | None:
    """What will be measured, for models that are told while they train."""
    if not hasattr(given.config, "num_time_features"):
        return None
    return torch.randn(given.at.b, given.config.prediction_length)


def future_features(given: Given) -> Tensor | None:
    """What is known of every step to come."""
    if not hasattr(given.config, "num_time_features"):
        return None
    width = given.config.num_time_features
    return torch.randn(given.at.b, given.config.prediction_length, width)


def steps(width: str) -> Callable[[Given], Tensor]:
    """States, actions or rewards.

    Args:
        width: The name of the configuration's value that says how wide they are; "" for one number.

    Returns:
        What makes them: `[b, n, width]`.
    """

    def make(given: Given) -> Tensor:
        size = getattr(given.config, width) if width else 1
        return torch.randn(given.at.b, given.at.n, size)

    return make


def times(given: Given) -> Tensor:
    """The number of each step `[b, n]`."""
    return torch.arange(given.at.n).expand(given.at.b, given.at.n)


def _past(given: Given) -> int:
    lags = max(getattr(given.config, "lags_sequence", None) or [0])
    return int(getattr(given.config, "context_length", given.at.n) + lags)
