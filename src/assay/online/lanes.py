"""Eight numbers at once, as tuples: what a processor does in one instruction.

The compiler finds that out only where the eight are loaded before any of them is stored, since for all it
knows the arrays overlap. A tuple says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from assay.online.compiled import compiled, in_order

Eight: TypeAlias = tuple[float, float, float, float, float, float, float, float]
LANES = 8
NONE: Eight = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
ONES: Eight = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


@compiled
def load(a: np.ndarray) -> Eight:
    """The first eight of an array."""
    return (a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])


@compiled
def load_next(a: np.ndarray) -> Eight:
    """The second eight."""
    return (a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15])


@compiled
def store(a: np.ndarray, v: Eight) -> None:
    """Write the first eight."""
    a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7] = v


@compiled
def store_next(a: np.ndarray, v: Eight) -> None:
    """Write the second eight."""
    a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15] = v


@in_order
def add(v: Eight, x: float, w: Eight) -> Eight:
    """`v + x w`."""
    return (
        v[0] + x * w[0],
        v[1] + x * w[1],
        v[2] + x * w[2],
        v[3] + x * w[3],
        v[4] + x * w[4],
        v[5] + x * w[5],
        v[6] + x * w[6],
        v[7] + x * w[7],
    )


@compiled
def each(f: Callable[[float, float], float], v: Eight, w: Eight) -> Eight:
    """A compiled function of pairs of numbers, which must not branch."""
    return (
        f(v[0], w[0]),
        f(v[1], w[1]),
        f(v[2], w[2]),
        f(v[3], w[3]),
        f(v[4], w[4]),
        f(v[5], w[5]),
        f(v[6], w[6]),
        f(v[7], w[7]),
    )


@compiled
def each_of_three(f: Callable[[float, float, float], float], u: Eight, v: Eight, w: Eight) -> Eight:
    """The same of three."""
    return (
        f(u[0], v[0], w[0]),
        f(u[1], v[1], w[1]),
        f(u[2], v[2], w[2]),
        f(u[3], v[3], w[3]),
        f(u[4], v[4], w[4]),
        f(u[5], v[5], w[5]),
        f(u[6], v[6], w[6]),
        f(u[7], v[7], w[7]),
    )


@compiled
def product(u: float, v: float) -> float:
    """`u v`."""
    return u * v
