"""Where a run of skips is interrupted by a block that is built like those around it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

from torch import nn

from assay.highway.paths import SkipPath

_NUMBERED = re.compile(r"(.*?)(\d+)(?:\.[^\d.]+)*")  # its last number: `h.3.attn` stands in `h.3`


@dataclass(frozen=True)
class Break:
    """A gap between two skip paths.

    Args:
        blocks: The modules without a skip, by their paths.
        before: The path that ends there.
        after: The path that begins behind.
    """

    blocks: tuple[str, ...]
    before: SkipPath
    after: SkipPath


def find_breaks(paths: Sequence[SkipPath], model: nn.Module) -> Iterator[Break]:
    """Gaps in a numbered list of modules, where what stands in the gap has its neighbours' outline.

    A block that changes widths or strides has no identity to be carried past it, and is no gap.

    Args:
        paths: The skip paths of the model.
        model: The model.

    Yields:
        The gaps.
    """
    sums = [path for path in paths if path.is_sum and not path.tied and path.modules]
    skipping = {block for path in sums for name in path.modules if (block := _numbered(name))}
    for before, after in permutations(sums, 2):
        start, end = _numbered(before.modules[-1]), _numbered(after.modules[0])
        if start is None or end is None or start[0] != end[0]:
            continue
        gap = [(start[0], i) for i in range(start[1] + 1, end[1])]
        if not gap or not skipping.isdisjoint(gap):
            continue
        outlines = {_outline(model, block) for block in (start, *gap, end)}
        if len(outlines) == 1 and outlines != {()}:
            yield Break(tuple(f"{prefix}{i}" for prefix, i in gap), before, after)


def _numbered(name: str) -> tuple[str, int] | None:
    """The list that a module stands in, and its number there."""
    found = _NUMBERED.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def _outline(model: nn.Module, block: tuple[str, int]) -> tuple[object, ...]:
    """Classes, shapes of weights and strides: what decides whether an identity fits around a block."""
    try:
        module = model.get_submodule(f"{block[0]}{block[1]}")
    except AttributeError:  # the list was changed after the forward pass
        return ()
    return tuple(
        (name, type(part), tuple(p.shape for p in part.parameters(False)), _stride(part))
        for name, part in module.named_modules()
    )


def _stride(part: nn.Module) -> str:
    return str(getattr(part, "stride", ""))
