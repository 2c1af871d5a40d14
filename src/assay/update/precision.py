"""Optimizers that compute their step in a lower precision than the weights have.

Muon, for one, casts the gradient to bfloat16 before it is orthogonalised. That rounding (8 binary digits)
would hide every symmetry that the algorithm has, so the audit notices such casts and trains without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class WideArithmetic(TorchDispatchMode):
    """While active, every request for a floating-point dtype below `dtype` is noted, and may be refused.

    Args:
        dtype: The precision of the training.
        enforce: Give `dtype` in place of the lower one.
    """

    def __init__(self, dtype: torch.dtype, *, enforce: bool) -> None:
        super().__init__()
        self.dtype, self.enforce = dtype, enforce
        self.narrow: torch.dtype | None = None

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, in the wide dtype where it asks for a narrow one."""
        options = dict(kwargs or {})
        asked = options.get("dtype")
        narrow = (
            isinstance(asked, torch.dtype)
            and asked.is_floating_point
            and torch.finfo(asked).eps > torch.finfo(self.dtype).eps
        )
        if narrow and self.enforce:
            options["dtype"] = self.dtype
        out = func(*args, **options)
        # counters and scalars are kept in float32 by most optimizers; only a tensor's values matter
        if narrow and isinstance(out, Tensor) and out.numel() > 1:
            self.narrow = asked
        return out
