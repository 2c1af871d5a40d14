"""Which module is running, without a hook on any module of the user's; and what kind it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from assay.errors import UsageError
from assay.scale.activations import Function, require_elementwise
from assay.where import Location, here

_NORM_MODULES = ("LayerNorm", "RMSNorm", "BatchNorm", "GroupNorm", "InstanceNorm", "ScaleNorm")
# leaf modules without parameters that need not be asked whether they are activations
_NO_ACTIVATION = ("Dropout", "Identity", "Softmax", "Flatten", "Pool", "Pad", "Norm", "Loss")


class ModuleStack:
    """The modules whose `forward` is running, innermost last.

    Args:
        model: The model whose paths are wanted.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names: dict[int, str] = {id(module): name for name, module in model.named_modules()}
        self._running: list[nn.Module] = []
        self._caller: Location | None = None

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow the calls of modules inside, by two hooks that belong to no module.

        Yields:
            Nothing.
        """
        handles = (
            register_module_forward_pre_hook(self.enter),
            register_module_forward_hook(self.leave, always_call=True),
        )
        self._caller = here()
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._running.clear()

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module starts; a subclass may look at its arguments."""
        self._running.append(module)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A module ends, also by an exception."""
        if self._running and self._running[-1] is module:
            self._running.pop()

    @property
    def innermost(self) -> nn.Module | None:
        """The module that runs now."""
        return self._running[-1] if self._running else None

    def line(self) -> Location | None:
        """The line of the model that is running, or None where it is made of torch's modules alone.

        Beyond the model's own lines stands the one that asked for the measurement: it is no part of it.

        Returns:
            The innermost line that is no machinery.
        """
        found = here()
        return None if found == self._caller else found

    @property
    def path(self) -> str:
        """Dotted path of the innermost module that is part of the model."""
        for module in reversed(self._running):
            name = self._names.get(id(module))
            if name is not None:
                return name
        return ""


def is_norm(module: nn.Module | None) -> bool:
    """Whether a leaf module is a normaliser, by its class's name (transformers has dozens of its own).

    Returns:
        True for batch, layer, RMS, group and instance norms of any library.
    """
    name = type(module).__name__
    return module is not None and not module._modules and any(n in name for n in _NORM_MODULES)


def elementwise(module: nn.Module) -> Function | None:
    """The function of a leaf module without parameters that acts on each number by itself.

    Args:
        module: Any module; it is copied, not run.

    Returns:
        Its `forward`, or None where it is no activation.
    """
    name = type(module).__name__
    if module._modules or module._parameters or module._buffers:
        return None
    if any(other in name for other in _NO_ACTIVATION):
        return None
    try:
        # `forward` of a copy: neither the user's hooks nor their attributes notice
        function = copy.deepcopy(module).forward
        require_elementwise(name, function)
    except (UsageError, TypeError, RuntimeError):  # cannot be copied, or is something else
        return None
    return function
