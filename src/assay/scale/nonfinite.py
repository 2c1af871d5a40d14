"""Which operator is the first to make a NaN or an infinity out of finite numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from assay.running import ModuleStack
from assay.scale.operators import arguments, keeps_numbers, name_of
from assay.subject import tensors
from assay.where import Location

# Infinities that are written on purpose: masks of attention.
_WRITES = {
    "empty",
    "empty_like",
    "empty_strided",
    "fill",
    "full",
    "full_like",
    "masked_fill",
    "new_empty",
    "new_full",
    "scalar_tensor",
    "where",
}


@dataclass(frozen=True)
class Origin:
    """Where values stopped being finite.

    Args:
        operator: Name of the operator.
        module: Dotted path of the module that was running.
        where: Line of code.
        count: Number of values that are not finite.
        size: Number of values in the output.
    """

    operator: str
    module: str
    where: Location | None
    count: int
    size: int


class FirstNonFinite(TorchDispatchMode):
    """A dispatch mode whose `origin` is the first operator with a non-finite output of finite inputs.

    Args:
        model: The model that is about to run, for the module's path.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.origin: Origin | None = None
        self.modules = ModuleStack(model)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        if self.origin is not None or name in _WRITES or keeps_numbers(func, name):
            return func(*args, **kwargs)
        clean = not any(_bad(x) for x in arguments(args, kwargs))
        out = func(*args, **kwargs)
        if clean:
            for x in tensors(out):
                if bad := _bad(x):
                    self.origin = Origin(
                        name, self.modules.path, self.modules.line(), bad, x.numel()
                    )
                    break
        return out


def _bad(x: Tensor) -> int:
    return int((~torch.isfinite(x)).sum()) if x.is_floating_point() else 0
