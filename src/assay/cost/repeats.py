"""Repeated layers: a stack of equal layers is run a few layers deep, and its depth is one more size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

from torch import Tensor, nn

_PLAIN = (int, float, complex, str, bytes, tuple, list, dict, set, frozenset, type(None))
_LEAST = 5  # equal layers in a row, below which nothing is gained


@dataclass(frozen=True)
class Stack:
    """A run of equal layers in a container.

    Args:
        path: The dotted path of the container.
        first: The index of the first of the equal layers.
        depth: How many there are.
    """

    path: str
    first: int
    depth: int

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """The equal layers."""
        container = model.get_submodule(self.path)
        return list(container.children())[self.first : self.first + self.depth]

    def names(self, model: nn.Module) -> dict[nn.Module, str]:
        """Every module in the run, named alike in all layers: `layers.*.attention`."""
        prefix = f"{self.path}." if self.path else ""
        return {
            module: f"{prefix}*.{name}".rstrip(".")
            for layer in self.layers(model)
            for name, module in layer.named_modules()
        }

    def prefixes(self, depth: int | None) -> list[str]:
        """The beginnings of paths of layers beyond a depth."""
        start = f"{self.path}." if self.path else ""
        kept = self.depth if depth is None else depth
        return [f"{start}{i}." for i in range(self.first + kept, self.first + self.depth)]

    def cut(self, model: nn.Module, depth: int) -> None:
        """Take out all but `depth` of the equal layers, in place."""
        container = model.get_submodule(self.path)
        layers = list(container.children())
        kept = layers[: self.first + depth] + layers[self.first + self.depth :]
        container._modules.clear()
        container._modules.update({str(i): layer for i, layer in enumerate(kept)})


def find_stacks(model: nn.Module) -> tuple[Stack, ...]:
    """The runs of equal layers in a model's lists and sequences, outermost first.

    Layers are equal when classes, parameters, buffers and all plain attributes agree, submodule by
    submodule; an integer may differ where it counts the layers.

    Args:
        model: The model.

    Returns:
        The longest run of each container, where it has at least five layers.
    """
    found: list[Stack] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{s.path}.") or not s.path for s in found)
        if isinstance(module, nn.ModuleList | nn.Sequential) and not inside:
            layers = list(module.children())
            if len(layers) >= _LEAST and len(set(layers)) == len(layers):
                run = _longest(layers)
                if run[1] >= _LEAST:
                    found.append(Stack(path, *run))
    return tuple(found)


def _longest(layers: list[nn.Module]) -> tuple[int, int]:
    best = (0, 0)
    first = 0
    for at in range(1, len(layers) + 1):
        if at == len(layers) or not _equal(layers[at - 1], layers[at]):
            best = max(best, (first, at - first), key=lambda run: run[1])
            first = at
    return best


def _equal(a: nn.Module, b: nn.Module) -> bool:
    """Whether two layers do the same; `b` comes right after `a`."""
    inside, other = list(a.named_modules()), list(b.named_modules())
    if [name for name, _ in inside] != [name for name, _ in other]:
        return False
    pairs = zip(inside, other, strict=True)
    return all(_alike(m, n) for (_, m), (_, n) in pairs)


def _alike(a: nn.Module, b: nn.Module) -> bool:
    if type(a) is not type(b) or a.training != b.training:
        return False
    for table in ("_parameters", "_buffers"):
        if _signature(getattr(a, table)) != _signature(getattr(b, table)):
            return False
    # a tensor that both hold is tied, and tied layers are not copies of each other
    pairs = zip(a._parameters.values(), b._parameters.values(), strict=True)
    if any(p is q for p, q in pairs if p is not None):
        return False
    mine, theirs = _plain(a), _plain(b)
    return mine.keys() == theirs.keys() and all(_same(mine[k], theirs[k]) for k in mine)


def _signature(tensors: Mapping[str, Tensor | None]) -> list[Any]:
    return [
        (name, None if t is None else (t.shape, t.dtype, t.requires_grad))
        for name, t in tensors.items()
    ]


def _plain(module: nn.Module) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, _PLAIN) or is_dataclass(value) or callable(value))
    }


def _same(a: Any, b: Any) -> bool:
    counts = isinstance(a, int) and isinstance(b, int) and not isinstance(a, bool)
    try:
        return bool(a == b or (counts and b == a + 1))
    except (RuntimeError, ValueError):  # tensors or arrays in lists: not known to be equal
        return False
