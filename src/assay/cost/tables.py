"""Where a table of embeddings ends: positions beyond it fail with data, and nobody notices without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.cost.values import value_of

Sizes = Mapping[str, int]
# indices of which the largest is looked for: a thousand positions beside each other
_MOST = 1 << 20


class Reach(NamedTuple):
    """How far into a table a pass went.

    Args:
        rows: Rows of the table.
        highest: The largest index.
    """

    rows: int
    highest: int


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
    known = value_of(indices)
    if known is None or not isinstance(table, Tensor):
        return None
    with torch._C._DisableTorchDispatch():
        return Reach(int(table.shape[0]), int(known.max()))


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
        for name in at[0][0]:
            ahead = {there.highest - sizes[name] for sizes, there in at}
            if len(ahead) == 1 and len({sizes[name] for sizes, _ in at}) > 2:
                end = End(rows - 1 - ahead.pop(), table, rows)
                if any(sizes[name] > end.value for sizes, _ in at):
                    found[name] = min(end, found.get(name, end))
    return found
