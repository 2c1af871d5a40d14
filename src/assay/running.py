"""Which module of a model is running now, without a hook on any module of the user's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from assay.where import Location, here


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


def module_of(error: BaseException, model: nn.Module) -> str:
    """The innermost module of a model that was running where an exception arose.

    Args:
        error: What the model raised.
        model: The model.

    Returns:
        As in "encoder.1 (BatchNorm1d)"; "" where it is the model itself.
    """
    names = {id(module): name for name, module in model.named_modules()}
    found, tb = "", error.__traceback__
    while tb is not None:
        running = tb.tb_frame.f_locals.get("self")
        name = names.get(id(running))
        if name:
            found = f"{name} ({type(running).__name__})"
        tb = tb.tb_next
    return found
