"""Where a table of embeddings ends: positions beyond it fail with data, and nobody notices without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from assay.cost.values import later_value_of

Sizes = Mapping[str, int]
# indices of which the largest is looked for: a thousand positions beside each other
_MOST = 1 << 20


class Reach:
    """How far into a table a pass went.

    Args:
        rows: Rows of the table.
        looked_up: Computes the indices of each lookup; not before somebody asks, since distances are many.

    Attributes:
        rows: As given.
    """

    def __init__(self, rows: int, looked_up: tuple[Callable[[], Tensor], ...]) -> None:
        self.rows, self._looked_up = rows, looked_up

    def __or__(self, other: Reach) -> Reach:
        return Reach(max(self.rows, other.rows), self._looked_up + other._looked_up)

    @cached_property
    def highest(self) -> int:
        """The largest index."""
        with torch._C._DisableTorchDispatch():
            highest = max(int(indices().max()) for indices in self._looked_up)
        self._looked_up = ()
        return highest


@dataclass(frozen=True, order=True)
class End:
    """The last value of a size for which a table has rows.

    Args:
        value: That value.
        table: The module that holds the table.
        rows: Its rows.
    """

    value: int
    table: str
    rows: int

    @property
    def why(self) -> str:
        """What ends there, in words."""
        return f"the table of {self.table} has {self.rows:,} rows"


def reach(args: tuple[Any, ...]) -> Reach | None:
    """How far a lookup goes into its table.

    Args:
        args: Of `aten.embedding` or `aten.index`: the table and the indices.

    Returns:
        How far; None where nobody knows the indices, as those of tokens.
    """
    table, indices = args[:2]
    if isinstance(indices, list | tuple):  # of a parameter, as Whisper looks up its positions
        if len(indices) != 1 or indices[0] is None or not isinstance(table, torch.nn.Parameter):
            return None
        indices = indices[0]
    if not 0 < indices.numel() <= _MOST:
        return None
    known = later_value_of(indices)
    if known is None or not isinstance(table, Tensor):
        return None
    return Reach(int(table.shape[0]), (known,))


def ends(seen: list[tuple[Sizes, Mapping[str, Reach]]]) -> dict[str, End]:
    """Where tables end, along each size.

    Args:
        seen: Sizes of passes, and how far each went into which tables.

    Returns:
        By size, the first end; only where rows stay as they are, indices grow by as much as the size, and a
        pass went beyond the last row, as without data it can: distances may be cut off there.
    """
    found: dict[str, End] = {}
    for table in {table for _, reached in seen for table in reached}:
        at = [(sizes, reached[table]) for sizes, reached in seen if table in reached]
        if len({there.rows for _, there in at}) > 1:
            continue
        rows = at[0][1].rows
        for name, beyond in _ahead(at).items():
            end = End(rows - 1 - beyond, table, rows)
            if any(sizes[name] > end.value for sizes, _ in at):
                found[name] = min(end, found.get(name, end))
    return found


def _ahead(at: Sequence[tuple[Sizes, Reach]]) -> dict[str, int]:
    """By how much the highest index is ahead of each size that it grows by as much as."""
    first = at[0][0]
    left = {name for name in first if len({sizes[name] for sizes, _ in at}) > 2}
    ahead: dict[str, int] = {}
    # the smallest first: what does not grow so is mostly told by two of these
    for sizes, there in sorted(at, key=lambda each: max(each[0].values(), default=0)):
        for name in [*left]:
            beyond = there.highest - sizes[name]
            if ahead.setdefault(name, beyond) != beyond:
                left.remove(name)
    return {name: ahead[name] for name in left}
