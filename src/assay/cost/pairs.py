"""Which floors of two sizes at once a cost is made of: the tokens of a batch in chunks, or among experts.

`ceil(b * n / 32)` is no law of `b` and none of `n`. It shows in the dimensions of tensors, or in how often a
line is called, where both sizes vary: as whole numbers next below `(k*b*n + i*b + j*n + offset) / period`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from math import fmod, gcd, isqrt, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.cost.floors import calls
from assay.cost.interpolate import Point
from assay.cost.law import Laws
from assay.cost.polynomial import Atom, Product
from assay.cost.samples import Samples, put
from assay.cost.tally import Tally

_LONGEST = 512  # the longest period looked for
# steps up from the least sizes: a few, which show whether there is anything, and more
_FIRST = (
    *((0, 0), (1, 0), (0, 1), (3, 1), (1, 4), (5, 3)),
    *((7, 11), (17, 19), (29, 23), (37, 40), (41, 67)),
)
_MORE = (
    *((1, 1), (3, 5), (2, 9), (11, 7), (13, 4), (9, 15)),
    *((14, 9), (21, 13), (10, 26), (6, 53), (61, 8)),
)
_OPERATORS = 20_000  # that a run there may take
_LEAST, _SMALL = 12, 8  # runs that are needed, and the smallest, without which it may be clearer
_TELLING = 60  # runs that tell one floor from another
_ENDLESS = 1 << 60
_EXACT = 1 << 53  # integers up to which floating-point numbers tell them apart
_CLOSE = 1e-9

Integers = NDArray[np.int64]
Pair = tuple[int, int]
Numbers = Callable[[Tally], tuple[int, ...]]


def floors_of_two(i: int, j: int, laws: Laws, samples: Samples) -> tuple[Atom, ...]:
    """Floors of two sizes, from runs where both vary and the others are least.

    Args:
        i: The one size.
        j: The other.
        laws: Where sizes range.
        samples: The counts.

    Returns:
        The floors.
    """
    names, low = (samples.names[i], samples.names[j]), laws.low

    def there(at: Pair) -> Point:
        return put(put(low, i, at[0]), j, at[1])

    tallies: dict[Pair, Tally] = {}

    def run(ups: Iterable[Pair]) -> None:
        for at in ((low[i] + x, low[j] + y) for x, y in ups):
            if _affordable(at, tallies) and samples.runs(there(at)):
                tallies[at] = samples.tally(there(at))

    run(_FIRST)
    if not _grows(tallies) and not _columns(_usual({at: t.shapes for at, t in tallies.items()})):
        return ()
    run(_MORE)
    for numbers in (_dimensions, calls):

        def row(at: Pair, numbers: Numbers = numbers) -> tuple[int, ...]:
            return numbers(samples.tally(there(at))) if samples.runs(there(at)) else ()

        rows = _usual({at: numbers(tally) for at, tally in tallies.items()})
        for skipped in (0, _SMALL):  # where there is little, there may be less than one
            kept = dict(sorted(rows.items(), key=lambda row: prod(row[0]))[skipped:])
            if found := _in_rows(names, kept, row):
                return found
    return ()


def _in_rows(
    names: tuple[str, str],
    rows: Mapping[Pair, tuple[int, ...]],
    row: Callable[[Pair], tuple[int, ...]],
) -> tuple[Atom, ...]:
    """The floors in which entries of rows are affine; `row` makes another row."""
    if len(rows) < _LEAST:
        return ()
    width = len(next(iter(rows.values())))

    def again(at: Pair, k: int) -> int | None:
        found = row(at)
        return found[k] if len(found) == width else None

    columns = _columns(rows).items()
    atoms = (_floor(names, column, partial(again, k=k)) for k, column in columns)
    return tuple(dict.fromkeys(atom for atom in atoms if atom is not None))


def _affordable(at: Pair, tallies: Mapping[Pair, Tally]) -> bool:
    if not tallies or not _grows(tallies):
        return True
    last = max(tallies, key=prod)
    return tallies[last].steps * prod(at) <= _OPERATORS * prod(last)


def _grows(tallies: Mapping[Pair, Tally]) -> bool:
    """Whether larger sizes take more operators, as in a loop."""
    return len({tally.steps for tally in tallies.values()}) > 1


def _dimensions(tally: Tally) -> tuple[int, ...]:
    return tally.shapes


def _usual(rows: Mapping[Pair, tuple[int, ...]]) -> dict[Pair, tuple[int, ...]]:
    """Those with the commonest number of entries: at a residue one tensor more may be made."""
    lengths = Counter(map(len, rows.values()))
    usual = max(lengths, key=lambda n: lengths[n], default=0)
    return {at: row for at, row in rows.items() if len(row) == usual}


def _columns(rows: Mapping[Pair, tuple[int, ...]]) -> dict[int, dict[Pair, int]]:
    """Each entry of the rows that is no polynomial of the two sizes, by its position; equal ones once."""
    unlike = {column: k for k, column in enumerate(zip(*rows.values(), strict=True))}
    return {
        k: dict(zip(rows, column, strict=True))
        for column, k in unlike.items()
        if len(set(column)) > 2 and not _smooth([*rows], column)
    }


def _smooth(at: Sequence[Pair], column: Sequence[int]) -> bool:
    """Whether numbers are a polynomial, of degree 2 in each size."""
    x, y = np.array(at, dtype=float).T / np.max(at)
    table = np.stack([x**a * y**b for a, b in product(range(3), repeat=2)], axis=1)
    wanted = np.array(column, dtype=float)
    fitted = np.linalg.lstsq(table, wanted, rcond=None)[0]
    return bool(np.abs(table @ fitted - wanted).max() <= _CLOSE * np.abs(wanted).max())


class _Floor(NamedTuple):
    """`(k*x*y + a*x + b*y + offset) // period`, of integers or of arrays, and what offsets are possible."""

    k: int
    a: int
    b: int
    period: int
    least: int = 0
    most: int = 0

    def inner(self, x: Any, y: Any) -> Any:
        """What is divided, but for the offset."""
        return self.k * x * y + self.a * x + self.b * y

    def fitted(self, x: Any, y: Any, ticks: Any) -> _Floor:
        """With those offsets alone with which it is this at a point, or these at points."""
        least = self.period * ticks - self.inner(x, y)
        most = int(np.min(least)) + self.period - 1
        return self._replace(least=max(self.least, int(np.max(least))), most=min(self.most, most))

    def __call__(self, x: Any, y: Any, offset: int) -> Any:
        return (self.inner(x, y) + offset) // self.period


def _floor(
    names: tuple[str, str], column: Mapping[Pair, int], again: Callable[[Pair], int | None]
) -> Atom | None:
    """The simplest floor of two sizes in which numbers are affine, told by more runs from all others."""
    first = next(iter(column.values()))
    tick = gcd(*(value - first for value in column.values()))
    if max(abs(value - first) for value in column.values()) // tick >= _EXACT // _LONGEST:
        return None  # as of a width that is doubled in a loop: no floor is so steep
    x, y = np.array([*column], dtype=np.int64).T
    fitting = _fitting(x, y, np.array([(v - first) // tick for v in column.values()], np.int64))
    reach = np.arange(2 * isqrt(_LONGEST) + 8)
    grid = x.min() + np.repeat(reach, len(reach)), y.min() + np.tile(reach, len(reach))
    untold = np.ones(len(grid[0]), dtype=bool)
    for _ in range(_TELLING):
        if not fitting:
            return None
        simplest = fitting[0]
        claimed, differs = simplest(*grid, simplest.most), None
        for other in fitting:
            for offset in {other.least, other.most}:
                unlike = np.flatnonzero(untold & (other(*grid, offset) != claimed))
                if differs is None and unlike.size:
                    differs = int(unlike[0])
        if differs is None:
            return _reduced(names, simplest)
        untold[differs] = False
        at = int(grid[0][differs]), int(grid[1][differs])
        value = again(at)
        if value is not None:
            ticks, left = divmod(value - first, tick)
            fitting = [f for f in (f.fitted(*at, ticks) for f in fitting) if f.least <= f.most]
            if left:
                return None
    return None


def _fitting(x: Integers, y: Integers, ticks: Integers) -> list[_Floor]:
    """The floors that explain ticks, the simplest first."""
    table = np.stack([x * y, x, y, np.ones_like(x)], axis=1).astype(float)
    slopes = np.linalg.lstsq(table, ticks.astype(float), rcond=None)[0]
    unsure, steepest = 2 / float((x * y).max()), _EXACT // int(3 * (x * y).max())
    found = []
    for period in range(2, _LONGEST + 1):
        k = round(slopes[0] * period)
        if k < 1 or k % period == 0 or abs(slopes[0] - k / period) > unsure:
            continue
        for a, b in product(*({0, k, -k, round(slope * period)} for slope in slopes[1:3])):
            if gcd(k, a, b, period) == 1 and max(k, abs(a), abs(b)) < steepest:
                floor = _Floor(k, a, b, period, -_ENDLESS, _ENDLESS).fitted(x, y, ticks)
                found += [floor] * (floor.least <= floor.most)
    return sorted(found, key=lambda f: (bool(f.a) + bool(f.b), f.period, abs(f.a) + abs(f.b)))


def _reduced(names: tuple[str, str], floor: _Floor) -> Atom:
    """The floor without whole multiples: `(33*b*n + 31) // 32` is `b*n` and `(b*n + 31) // 32`."""
    k, a, b = (int(fmod(factor, floor.period)) for factor in floor[:3])
    products: list[Product] = [(k, names), (a, names[:1]), (b, names[1:])]
    return Atom("", floor.most % floor.period, floor.period, 1, tuple(p for p in products if p[0]))
