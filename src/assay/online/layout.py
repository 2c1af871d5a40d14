"""Where the parts of a state lie in one block of numbers, so that one row costs one argument.

`setup` says what the block is of: see its entries below. `first_part` are the arrays that every state has,
`second_part` those of the second order, which lie behind.
"""

from __future__ import annotations

import numpy as np

from assay.online import moments as m
from assay.online import rates
from assay.online import scalars as sc
from assay.online.compiled import compiled
from assay.online.experts import EXPERTS, FOLLOWERS
from assay.online.lanes import LANES
from assay.online.panels import WIDTH

FEATURES, OUTPUTS, SECOND, LOSS, LEVEL, KEEP, CENTRED = range(7)


@compiled
def whole(numbers: int) -> int:
    """As many numbers, up to a whole number of `LANES`: every array begins where a cache line does."""
    return (numbers + LANES - 1) // LANES * LANES


@compiled
def first_size(D: int, K: int) -> int:
    """Numbers in the first part."""
    small = whole(sc.SCALARS) + whole(EXPERTS) + whole(FOLLOWERS * K) + whole(D * m.COLUMNS)
    return small + 2 * (D + 1) * K * rates.COUNT


@compiled
def second_size(D: int, K: int) -> int:
    """Numbers in the second part."""
    wide = WIDTH * ((D + WIDTH) // WIDTH)
    return 2 * K * (D + 2) * wide


@compiled
def first_part(
    flat: np.ndarray, setup: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Views: table `[D, 7]`, V and Q `[D + 1, K, 8]`, B `[7, K]`, shares `[15]`, scalars."""
    D, K = int(setup[FEATURES]), int(setup[OUTPUTS])
    s, at = flat[: sc.SCALARS], whole(sc.SCALARS)
    shares, at = flat[at : at + EXPERTS], at + whole(EXPERTS)
    B, at = flat[at : at + FOLLOWERS * K].reshape((FOLLOWERS, K)), at + whole(FOLLOWERS * K)
    table = flat[at : at + D * m.COLUMNS].reshape((D, m.COLUMNS))
    at += whole(D * m.COLUMNS)
    size = (D + 1) * K * rates.COUNT
    V = flat[at : at + size].reshape((D + 1, K, rates.COUNT))
    Q = flat[at + size : at + 2 * size].reshape((D + 1, K, rates.COUNT))
    return table, V, Q, B, shares, s


@compiled
def second_part(
    flat: np.ndarray, setup: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Views: G and P in `panels`, c and W `[K, 16 ⌈A / 16⌉]`; A is D + 1, or 0 without second order."""
    D, K = int(setup[FEATURES]), int(setup[OUTPUTS])
    at = first_size(D, K)
    A = D + 1 if setup[SECOND] > 0.0 else 0
    count = (A + WIDTH - 1) // WIDTH
    square, row = K * count * A * WIDTH, K * count * WIDTH
    G, at = flat[at : at + square].reshape((K, count, A, WIDTH)), at + square
    P, at = flat[at : at + square].reshape((K, count, A, WIDTH)), at + square
    c, at = flat[at : at + row].reshape((K, count * WIDTH)), at + row
    W = flat[at : at + row].reshape((K, count * WIDTH))
    return G, c, P, W
