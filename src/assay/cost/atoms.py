"""Which floors of a size a cost is made of: strides, patches, windows.

They show in the shapes of the tensors: along one size, every dimension that is not affine in it should be
affine in one floor `(size + offset) // period`, or in its square, or in the floor of a multiple. Where
loops change the number of tensors, the number of calls from each line should be affine in a floor. Where
that changes too, only the period can be guessed, from the integers in the code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, pairwise, product
from math import ceil, floor, gcd, isqrt
from typing import TypeVar

import numpy as np

from assay.cost.polynomial import Atom

K = TypeVar("K", bound=Hashable)
_LONGEST = 512  # the longest period looked for: the stem of a speech model strides by 320
_UNLIKE = 8  # dimensions that may wait for others to be found; of more it is something else
_COARSEST = 20  # the longest period of a floor of a multiple
_TRIED = (0, 1, 2, 5, 19, 39, 70, 101, 143, 200, 267, 331, 611, 1117)
_ROUNDS = 100
_LEAST = 3  # values that must be affordable
_ODD = 4  # of these, so many may have another number of tensors
_COMPARED = 64  # floors compared with each other at a time
_REMEMBERED = 1000  # dimensions of which the floors were looked for
_SEEN = 2  # steps that may be chance
_BLOCK = 64  # values at which they are, at a time
_MORE = 17  # tokens beside the patches, of two images with eight each
_CLOSE = 1e-7  # of its size: a dimension is the sum of others
_SHORT = 8  # periods for which every offset is taken along


def floors_in_shapes(
    size: str,
    shapes: Callable[[int], tuple[int, ...]],
    low: int,
    step: int,
    *,
    every: bool = True,
    affordable: Callable[[int], bool] = lambda x: True,
    once: Callable[[int], bool] = lambda x: True,
) -> tuple[Atom, ...] | None:
    """The floors that every dimension is affine in, from shapes at a few values of the size.

    Args:
        size: Its name.
        shapes: The dimensions of all tensors at one value of the size, in order; or other numbers of which
            some should be affine in a floor.
        low: The least value.
        step: The distance of values.
        every: Whether each must be affine in some floor; otherwise those that are not tell nothing.
        affordable: Whether a run at a value can be afforded.
        once: Whether one can be that is the last.

    Returns:
        The floors, shortest period first; `()` where every dimension is affine in the size; None where
        the number of dimensions changes again and again, or a dimension is no affine function of one floor.
    """
    known: dict[int, tuple[int, ...]] = {}
    odd: set[int] = set()  # where nothing is padded, there may be fewer tensors
    for x in (low + step * k for k in _TRIED):
        if not affordable(x):
            break
        known[x] = shapes(x)
        lengths = Counter(len(dimensions) for dimensions in known.values())
        if len(lengths) > 2:  # a loop, which shows at the first values: they cost least
            return None
    if len(known) < _LEAST:
        return None
    usual = lengths.most_common(1)[0][0]
    # what few values have is a residue; but what the largest has is the law, from further up
    if lengths[usual] < len(known) - _ODD or len(known[max(known)]) != usual:
        return None
    odd |= {x for x, dimensions in known.items() if len(dimensions) != usual}
    for x in odd:
        del known[x]
    candidates: list[list[Atom]] = []
    for _ in range(_ROUNDS):
        xs = sorted(known)
        columns = set(zip(*(known[x] for x in xs), strict=True))
        # of counts one step alone is an exception, and no floor
        curved = [c for c in columns if not _affine(xs, xs, c) and len(set(c)) > 1 + (not every)]
        candidates, explained, left = [], [], []
        for column in curved:
            root = column
            found = _candidates(size, xs, root)
            if not found and every:
                root = _roots(column)
                found = _candidates(size, xs, root) if root else []
            if found:
                candidates.append(found)
                explained.append(root)
            elif every:
                left.append(column)
        unlike: list[tuple[int, ...]] = []
        for column in left:
            if _summed(column, xs, explained):
                continue
            if found := _multiples(size, xs, column):
                candidates.append(found)
                explained.append(column)
            elif len(unlike) < _UNLIKE:
                unlike.append(column)
            else:
                return None
        # what was found later may be a part of these
        if not all(_summed(column, xs, explained) for column in unlike):
            return None
        doubtful = [atoms for atoms in candidates if len(atoms) > 1]
        telling = _telling(doubtful, xs, step, odd)
        bearable = affordable
        if telling is None and not every:  # two steps may be two layers that do something more
            telling, bearable = _next_step(candidates, xs, step, odd), once
        if telling is None:
            break
        if not bearable(telling):
            odd.add(telling)
            continue
        dimensions = shapes(telling)
        if len(dimensions) == usual:
            known[telling] = dimensions
        else:
            odd.add(telling)
    atoms = {min(group, key=_simple) for group in candidates}
    return tuple(sorted(atoms, key=_simple))


def _simple(atom: Atom) -> tuple[int, int, int]:
    return atom.period, atom.factor, atom.offset


def guessed_floors(
    size: str, periods: Iterable[int], counts: Callable[[int], Mapping[K, int]], low: int
) -> tuple[tuple[Atom, ...], int] | None:
    """The floors of a loop over windows, from counts: its period is where costs turn polynomial.

    Args:
        size: The name of the size.
        periods: Periods to try, shortest first.
        counts: What is counted at one value of the size.
        low: The least value.

    Returns:
        The floors at whose steps the law of the counts changes, and their highest power; None where no period
        fits.
    """
    for period in periods:
        start = low + 2 * period
        lines = [[counts(start + r + period * k) for k in range(6)] for r in {0, 1, period - 1}]
        if not all(map(_polynomial, lines)):
            continue
        degree = 2 if all(_polynomial(line, 2) for line in lines) else 4
        run = [counts(start + k) for k in range(-3, period + 3)]
        turns = _turns(run)
        if turns:
            offsets = {-(start - 3 + k) % period for k in turns} | {0, period - 1}
            offsets = set(range(period)) if period <= _SHORT and degree == 2 else offsets
            return tuple(Atom(size, offset, period) for offset in sorted(offsets)), degree
    return None


def _turns(run: Sequence[Mapping[K, int]]) -> set[int]:
    """Positions in a run of neighbouring sizes at which the law of some count changes."""
    turns: set[int] = set()
    for key in {key for counts in run for key in counts}:
        values = [counts.get(key, 0) for counts in run]
        third = [
            values[k] - 3 * values[k - 1] + 3 * values[k - 2] - values[k - 3]
            for k in range(3, len(values))
        ]
        k = 0
        while k < len(third):
            if third[k]:
                turns.add(k + 3)
                k += 3  # a change shows in three third differences
            else:
                k += 1
    return turns


def _roots(column: Sequence[int]) -> tuple[int, ...]:
    """The square roots of a dimension that is a square of something and a few more.

    An image in patches has as many tokens as there are on a side, squared, and some for the class; and all of
    them once a frame.

    Returns:
        The roots, up to a factor; `()` where it is no such dimension.
    """
    frames = gcd(*column)
    for more, each in product(range(_MORE), dict.fromkeys((1, frames))):
        squares = [value // each - more for value in column]
        if min(squares) > 0:
            factor = _squarefree(gcd(*squares))
            roots = tuple(isqrt(value // factor) for value in squares)
            if all(r * r * factor == value for r, value in zip(roots, squares, strict=True)):
                return roots
    return ()


def _summed(column: Sequence[int], xs: Sequence[int], parts: Sequence[Sequence[int]]) -> bool:
    """Whether a dimension is a sum of others and of their squares, as of the tokens of several levels."""
    wanted = np.array(column, dtype=float)
    for powers in ((1,), (2,), (1, 2)):  # few first: that takes fewer values
        table = np.array([[1.0] * len(xs), [float(x) for x in xs]]).T
        for part in (np.array(part, dtype=float) for part in parts):
            for power in powers:
                wider = np.column_stack([table, (part / part.max()) ** power])
                table = wider if np.linalg.matrix_rank(wider) == wider.shape[1] else table
        if table.shape[1] < len(xs):
            fitted = np.linalg.lstsq(table, wanted, rcond=None)[0]
            if np.abs(table @ fitted - wanted).max() < _CLOSE * wanted.max():
                return True
    return False


def _squarefree(value: int) -> int:
    for p in range(2, isqrt(value) + 1):
        while value % (p * p) == 0:
            value //= p * p
    return value


def _candidates(size: str, xs: Sequence[int], column: Sequence[int]) -> list[Atom]:
    """The floors in which a dimension is affine."""
    found = zip(*_periods_and_offsets(tuple(xs), tuple(column)), strict=True)
    return [Atom(size, int(offset), int(period)) for period, offset in found]


@lru_cache(maxsize=_REMEMBERED)
def _periods_and_offsets(
    xs: tuple[int, ...], column: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The periods and the offsets of these floors: searches after one another ask for the same."""
    none = np.zeros(0, dtype=np.int16)
    if column[-1] == column[0]:
        return none, none
    # one tick of the floor adds what all differences are multiples of, or a part of it
    tick = gcd(*(value - column[0] for value in column))
    periods = sorted({p for part in range(1, 5) for p in _fitting(xs, column, tick, part)})
    if not periods:
        return none, none
    every = np.array(periods, dtype=np.int64)
    period = np.repeat(every, every)
    offset = np.arange(len(period)) - np.repeat(np.cumsum(every) - every, every)
    whole = np.int64 if max(column) * max(xs) < 1 << 62 else object  # of bytes there may be many
    first, last = ((x + offset) // period for x in (xs[0], xs[-1]))
    run, rise = (last - first).astype(whole), column[-1] - column[0]
    kept = np.flatnonzero(last > first)
    for x, value in zip(xs[1:-1], column[1:-1], strict=True):  # each leaves few of those before
        up = ((x + offset[kept]) // period[kept] - first[kept]).astype(whole)
        kept = kept[up * rise == run[kept] * (value - column[0])]
    return period[kept].astype(np.int16), offset[kept].astype(np.int16)


def _multiples(size: str, xs: Sequence[int], column: Sequence[int]) -> list[Atom]:
    """The floors of multiples in which a dimension is affine: of `8*d // 3`, say."""
    rise, run = column[-1] - column[0], xs[-1] - xs[0]
    tick = gcd(*(value - column[0] for value in column))
    found = []
    for part, period in product(range(1, 5), range(2, _COARSEST + 1)):
        if tick % part or rise <= 0:
            continue
        # over the whole run the floor rises by so many ticks, give or take one
        slope = Fraction(rise * part, run * tick) * period
        reach = Fraction(period, run)
        for factor in range(max(ceil(slope - reach), 2), floor(slope + reach) + 1):
            if gcd(factor, period) > 1:
                continue
            for offset in range(period):
                atom = Atom(size, offset, period, factor)
                if _affine([atom.value({size: x}) for x in xs], xs, column):
                    found.append(atom)
    return found


def _fitting(xs: Sequence[int], column: Sequence[int], tick: int, part: int) -> range:
    """The periods that are possible where `part` ticks of a floor add `tick`.

    Values that are k ticks apart are more than (k-1)·period and less than (k+1)·period apart.

    Returns:
        The periods.
    """
    least, most = 2, _LONGEST
    for (x, u), (y, v) in combinations(zip(xs, column, strict=True), 2):
        ticks = abs(v - u) * part // tick
        least = max(least, (y - x) // (ticks + 1) + 1)
        if ticks > 1:
            most = min(most, (y - x - 1) // (ticks - 1))
    return range(least, most + 1)


def _affine(inner: Sequence[int], xs: Sequence[int], column: Sequence[int]) -> bool:
    pairs = sorted(zip(inner, column, strict=True))
    (a, u), (b, v) = pairs[0], pairs[-1]
    if a == b:
        return False
    return all((y - u) * (b - a) == (v - u) * (x - a) for x, y in pairs)


def _telling(
    doubtful: Sequence[Sequence[Atom]],
    xs: Sequence[int],
    step: int,
    odd: Container[int],
) -> int | None:
    """A value at which floors that are still possible foretell unlike dimensions, if there is one nearby.

    Args:
        doubtful: Floors that are possible for each dimension.
        xs: The values known.
        step: The distance of values.
        odd: Values that tell nothing.

    Returns:
        The first value that leaves no more than three in four of the floors, or the one that leaves least.
    """
    for atoms in doubtful:
        some = atoms[:: -(-len(atoms) // _COMPARED)]
        best, least = None, len(some)
        untold = [
            x
            for x in range(xs[0], xs[0] + 4 * _LONGEST * step, step)
            if x not in xs and x not in odd
        ]
        for block in (untold[k : k + _BLOCK] for k in range(0, len(untold), _BLOCK)):
            for x, left in zip(block, _alike(some, xs, block), strict=True):
                if left < least:
                    best, least = x, left
                if 4 * left <= 3 * len(some):
                    return best
        if best is not None:
            return best
    return None


def _next_step(
    candidates: Sequence[Sequence[Atom]], xs: Sequence[int], step: int, odd: Container[int]
) -> int | None:
    """Where a floor should step up next, if it was seen to do so no more than twice."""
    for atom in (atoms[0] for atoms in candidates):
        first, last = (atom.value({atom.size: x}) for x in (xs[0], xs[-1]))
        x = xs[-1] + step
        while atom.value({atom.size: x}) == last:
            x += step
        if last - first <= _SEEN and x not in odd:
            return x
    return None


def _alike(atoms: Sequence[Atom], xs: Sequence[int], block: Sequence[int]) -> list[int]:
    """How many floors at most foretell the same, at each of some values.

    Every floor is taken to the dimension by the affine function that is right at all known values, so it is
    enough to compare how far it has come between the first and the last of these.

    Returns:
        As many counts as there are values.
    """
    period, offset, factor = (
        np.array([getattr(atom, name) for atom in atoms], dtype=np.int64)[:, None]
        for name in ("period", "offset", "factor")
    )

    def at(values: Sequence[int]) -> np.ndarray:
        return (np.array(values, dtype=np.int64) * factor + offset) // period

    start, end = at(xs[:1]), at(xs[-1:])
    foretold = np.sort((at(block) - start) / (end - start), axis=0)
    same, most = np.ones(len(block), dtype=int), np.ones(len(block), dtype=int)
    for below, above in pairwise(foretold):
        same = np.where(below == above, same + 1, 1)
        most = np.maximum(most, same)
    return [int(count) for count in most]


def _polynomial(run: Sequence[Mapping[K, int]], degree: int = 4) -> bool:
    """Whether counts at evenly spaced sizes are polynomials of at most this degree."""
    for key in {key for counts in run for key in counts}:
        values = [counts.get(key, 0) for counts in run]
        for _ in range(degree + 1):
            values = [b - a for a, b in pairwise(values)]
        if any(values):
            return False
    return True
