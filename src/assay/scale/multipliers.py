"""Small parameters that everything on the way back is multiplied by, as those that scale a branch (S4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.scale.backward import Ancestors, Back
from assay.scale.band import WARNING, outside
from assay.scale.rows import Row
from assay.scale.widths import and_more, expression


@dataclass(frozen=True)
class Multipliers:
    """What multiplies the gradient's square on the best way from an end back to an operator.

    Args:
        factor: By how much.
        rows: The products with a parameter that are small there; each of them alone, at 1, would let more
            through.
    """

    factor: float
    rows: tuple[Row, ...]

    def explain(self, back: Back) -> bool:
        """Whether most of a gradient that shrinks is lost in them."""
        return bool(self.rows) and 0 < self.factor < math.sqrt(back.factor) < 1

    def __str__(self) -> str:
        first = self.rows[0]
        size = math.sqrt(first.weight_square or 0.0)
        return f"every way there is multiplied by {first.parameters[0]}{_more(self.rows)}, of size {size:.3g}"

    @property
    def repair(self) -> str:
        """What lets the branches begin open: Python, and for how many more."""
        first = expression(self.rows[0].parameters[0])
        return (
            f"`nn.init.ones_({first})`{and_more(self.rows, 'so')}: what a small factor multiplies learns "
            "only where a skip goes past it"
        )


def multipliers(back: Back, rows: Sequence[Row], before: Ancestors) -> Multipliers:
    """Find the small parameters that nothing goes past between an operator and its end.

    Args:
        back: The operator, with its end.
        rows: All rows.
        before: Which rows each of these depends on.

    Returns:
        What they multiply by together, in the square.
    """
    by, start, inside = {r.index: r for r in rows}, back.row.index, before[back.end.index]
    path = [r for r in rows if start in before[r.index] and r.index in inside] + [back.end]
    small = [
        r
        for r in path
        if r.kind == "scale" and (r.weight_square or 1.0) < 1 and outside(r.weight_square or 1.0)
    ]
    ways = {r.index: [i for i in _ways(r) if i in by and _carries(by[i], r)] for r in path}
    whole = _best(start, ways, small)
    alone = [r for r in small if _best(start, ways, [s for s in small if s is not r]) > 10 * whole]
    return Multipliers(whole, tuple(alone))


def _ways(row: Row) -> set[int]:
    return {*row.follows, *row.reads, *(() if row.skip is None else (row.skip,))}


def _carries(row: Row, reader: Row) -> bool:
    """Whether the gradient goes this way: not where only a part without it is read, as of a concatenation.

    A sum passes the gradient on, and products, factors and norms the gradient times what it is of.

    Returns:
        Whether one of the two arrives.
    """
    pairs = [(r.gradient_energy or 0.0, r.second_moment) for r in (row, reader)]
    (given, size), (read, of) = pairs
    return given * WARNING >= read or given * size * WARNING >= read * of


def _best(start: int, ways: Mapping[int, Sequence[int]], small: Sequence[Row]) -> float:
    """Of all ways, what the one multiplies by that multiplies most; 0 where there is none."""
    least, best = {r.index: r.weight_square or 1.0 for r in small}, {start: 1.0}
    for index, sources in ways.items():
        most = max((best.get(i, 0.0) for i in sources), default=0.0)
        best[index] = most * least.get(index, 1.0)
    return best[list(ways)[-1]]


def _more(rows: Sequence[Row]) -> str:
    return f" or {len(rows) - 1} more like it" if len(rows) > 1 else ""
