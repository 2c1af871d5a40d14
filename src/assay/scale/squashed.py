"""What a softmax, a sigmoid or a ReLU returned, and how a tensor is told to be that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from assay.where import Location

Squash = Literal["softmax", "sigmoid", "ReLU"]

_NEAR = 1e-3  # what rounding leaves of a sum of probabilities, in half precision too


@dataclass(frozen=True)
class Squashed:
    """What the model returned, or what the loss made of it.

    Args:
        x: The tensor; as long as it is held, no other one has its storage.
        by: What made it.
        where: The line.
        own: The model made it, not the loss.
    """

    x: Tensor
    by: Squash
    where: Location | None
    own: bool = True


def has_storage(x: Any) -> bool:
    """Whether something is a tensor with numbers in memory.

    Returns:
        False for sparse and empty ones.
    """
    return isinstance(x, Tensor) and x.layout == torch.strided and x.numel() > 0


def storage(x: Tensor) -> int:
    """Where its numbers are: one place for all views of them.

    Returns:
        The address.
    """
    return x.untyped_storage().data_ptr()


def is_one(x: Tensor) -> bool:
    """Whether all numbers are 1, as sums of probabilities are.

    Returns:
        Whether.
    """
    return bool((x - 1).abs().max() < _NEAR)
