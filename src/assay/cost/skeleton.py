"""Layers that will be cut away are not built: eighty of them would take longer than what is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from assay.cost.repeats import Stack


class Skeletons:
    """Builds models whose superfluous equal layers are empty modules.

    The first build is watched: which call of a layer's `__init__` made which layer. In later builds the
    calls that make a layer to be cut are left out.
    """

    def __init__(self) -> None:
        self._orders: dict[type, list[nn.Module]] = {}
        self._numbers: dict[
            str, list[int]
        ] = {}  # of each stack: the numbers of the calls, by layer
        self._classes: dict[str, type] = {}

    @contextmanager
    def watching(self, stacks: tuple[Stack, ...], model: nn.Module) -> Iterator[None]:
        """Note the order in which the layers of stacks like those of `model` are made.

        Args:
            stacks: The stacks.
            model: A model that has them.

        Yields:
            Nothing.
        """
        self._classes = {stack.path: type(stack.layers(model)[0]) for stack in stacks}
        with ExitStack() as patches:
            for kind in set(self._classes.values()):
                made = self._orders[kind] = []
                patches.enter_context(_patched(kind, lambda layer, made=made: made.append(layer)))
            yield

    def learn(self, stacks: tuple[Stack, ...], model: nn.Module) -> None:
        """Take the numbers of the layers of a model that was built while watching."""
        for stack in stacks:
            order = {
                id(layer): k for k, layer in enumerate(self._orders[self._classes[stack.path]])
            }
            numbers = [order.get(id(layer)) for layer in stack.layers(model)]
            if all(number is not None for number in numbers):  # clones were never initialised
                self._numbers[stack.path] = [n for n in numbers if n is not None]
        self._orders.clear()

    @contextmanager
    def building(self, depths: Mapping[str, int]) -> Iterator[None]:
        """Leave out the layers that a cut to these depths takes away.

        Args:
            depths: Layers to keep, by the path of the stack.

        Yields:
            Nothing.
        """
        skipped: dict[type, set[int]] = {}
        for path, numbers in self._numbers.items():
            skipped.setdefault(self._classes[path], set()).update(numbers[depths.get(path, 0) :])
        with ExitStack() as patches:
            for kind, numbers_of in skipped.items():
                patches.enter_context(_patched(kind, lambda layer: None, numbers_of))
            yield


@contextmanager
def _patched(kind: type, notice: Any, skipped: set[int] | None = None) -> Iterator[None]:
    original: Any = kind.__init__  # type: ignore[misc]
    calls = 0

    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        nonlocal calls
        number, calls = calls, calls + 1
        if skipped and number in skipped:
            nn.Module.__init__(self)
        else:
            original(self, *args, **kwargs)
        notice(self)

    own = "__init__" in vars(kind)
    kind.__init__ = init  # type: ignore[misc]
    try:
        yield
    finally:
        if own:
            kind.__init__ = original  # type: ignore[misc]
        else:
            del kind.__init__  # type: ignore[misc]
