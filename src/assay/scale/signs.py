"""Fixed random signs: a sum with them has a gradient where a plain sum is constant."""

from __future__ import annotations

import torch
from torch import Tensor


def random_signs(like: Tensor) -> Tensor:
    """One sign for every element, the same in every run.

    Args:
        like: A tensor of the shape, the kind and the device that is wanted.

    Returns:
        A tensor of 1 and -1.
    """
    source = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, like.shape, generator=source, device="cpu") * 2 - 1
    return signs.to(like)
