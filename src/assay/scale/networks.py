"""Which operators belong together: those of one network, and those of one way through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.scale.backward import Ancestors
from assay.scale.rows import Row


def networks(rows: Sequence[Row]) -> Mapping[int, int]:
    """The networks of a model that nothing joins, as an actor and a critic on the same inputs.

    Args:
        rows: All rows.

    Returns:
        Of each row, by index, the index of the first row of its network.
    """
    found: dict[int, int] = {}
    for row in rows:
        joined = {found[i] for i in row.follows if i in found}
        first = found[row.index] = min(joined, default=row.index)
        if len(joined) > 1:
            found.update({i: first for i, k in found.items() if k in joined})
    return found


def beside(of: Sequence[Row], chain: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Those of a chain that stand in the same networks as some rows.

    Args:
        of: The rows.
        chain: The chain.
        rows: All rows.

    Returns:
        The rows of the chain, in order.
    """
    network = networks(rows)
    wanted = {network[row.index] for row in of}
    return [row for row in chain if network[row.index] in wanted]


def longest(chain: Sequence[Row], before: Ancestors) -> int:
    """How many operators of a chain stand one behind the other at most.

    Args:
        chain: The operators, in order.
        before: Which rows each row depends on; of none of them where it is empty: then all stand in a row.

    Returns:
        A number.
    """
    if not before:
        return len(chain)
    found: dict[int, int] = {}
    for row in chain:
        found[row.index] = 1 + max((found[i] for i in before[row.index] if i in found), default=0)
    return max(found.values(), default=0)
