"""Values of a size at which floating-point numbers round a multiple of it to the other side."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from assay.cost.law import Law
from assay.cost.polynomial import Atom

_MANY = 2000  # whole multiples that are looked at, and as many as it takes to three times a value
_TRIED = 2  # of those on each side so many are run
_WAYS = (
    lambda x, f, p: x * (f / p),
    lambda x, f, p: x / p * f,
    lambda x, f, p: x * (1 / p) * f,
    lambda x, f, p: x / (p / f),
    lambda x, f, p: x * (1 - (p - f) / p),
)


def rounded(atom: Atom, since: int) -> Iterator[int]:
    """Values to try: `int(90 * 0.7)` is 62, where `7*90//10` is 63.

    Args:
        atom: A floor of a multiple of a size.
        since: The least value.

    Yields:
        For each way to write it, the first at which it is less, or more, and at which it is the same.
    """
    for less, more, same in _otherwise(atom, since):
        for values in (less, more, same):
            yield from map(int, values[:_TRIED])


def left_between(law: Law, value: int, base: int) -> tuple[int, int] | None:
    """Where a law is left that breaks at one value because of rounding: there are more such values for ever.

    Args:
        law: The law, with floors.
        value: Where it breaks.
        base: The value in use.

    Returns:
        The first value and the last, between two such, about the value in use where that is larger; None
        where rounding is not why the law breaks.
    """
    base = max(base, value)
    lows, highs = [value], []
    for atom in law.atoms:
        for less, more, same in _otherwise(atom, law.span.low, base):
            # a law of those that are rounded otherwise breaks where one is not
            follows = min(x[0] for x in (less, more) if x.size) < value
            for values in (less, more, *([same] if follows else [])):
                beyond = values[values > base]
                if values.size and values[0] == value and beyond.size:
                    last = int(values[values <= base][-1])
                    lows.append(last if last == base else last + 1)
                    highs.append(last if last == base > value else int(beyond[0]) - 1)
    return (max(lows), min(highs)) if highs else None


def _otherwise(atom: Atom, since: int, beyond: int = 0) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Values from one on at which a way to write a floor gives less, at which more, and at which the same."""
    p, f = atom.period, atom.factor
    if atom.products or not p & (p - 1):  # powers of 2 are exact
        return
    every = p // math.gcd(p, f)
    first = -(-max(since, 1) // every)
    whole = np.arange(first, first + max(_MANY, 3 * max(since, beyond) // every)) * every
    candidates = [whole]
    if atom.offset % p and 2 * atom.offset % p == 0:  # rounded to the nearest: halves
        near = np.arange(max(since, 1), max(since, 1) + whole.size * min(every, _TRIED))
        candidates.append(near[(f * near + atom.offset) % p == 0])
    for values in candidates:
        exact = values * f / p
        for way in _WAYS:
            found = way(values.astype(float), f, p)
            if (found != exact).any():  # then one rule holds for some, and another for the others
                yield values[found < exact], values[found > exact], values[found == exact]
