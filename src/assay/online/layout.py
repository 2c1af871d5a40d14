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

FEATURES, OUTPUTS, SECOND, LOSS, LEVEL, KEEP = range(6)


@compiled
def first_size(D: int, K: int) -> int:
    """Numbers in the first part."""
    return sc.SCALARS + EXPERTS + FOLLOWERS * K + D * m.COLUMNS + 2 * (D + 1) * K * rates.COUNT


@compiled
def second_size(D: int, K: int) -> int:
    """Numbers in the second part."""
    return 2 * K * (D + 1) * (D + 2)


@compiled
def first_part(
    flat: np.ndarray, setup: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Views: table `[D, 7]`, V and Q `[D + 1, K, 8]`, B `[7, K]`, shares `[15]`, scalars."""
    D, K = int(setup[FEATURES]), int(setup[OUTPUTS])
    s, at = flat[: sc.SCALARS], sc.SCALARS
    shares, at = flat[at : at + EXPERTS], at + EXPERTS
    B, at = flat[at : at + FOLLOWERS * K].reshape((FOLLOWERS, K)), at + FOLLOWERS * K
    table, at = flat[at : at + D * m.COLUMNS].reshape((D, m.COLUMNS)), at + D * m.COLUMNS
    size = (D + 1) * K * rates.COUNT
    V = flat[at : at + size].reshape((D + 1, K, rates.COUNT))
    Q = flat[at + size : at + 2 * size].reshape((D + 1, K, rates.COUNT))
    return table, V, Q, B, shares, s


@compiled
def second_part(
    flat: np.ndarray, setup: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Views: G and P `[K, A, A]`, c and W `[K, A]`; A is D + 1, or 0 without second order."""
    D, K = int(setup[FEATURES]), int(setup[OUTPUTS])
    at = first_size(D, K)
    A = D + 1 if setup[SECOND] > 0.0 else 0
    square, row = K * A * A, K * A
    G, at = flat[at : at + square].reshape((K, A, A)), at + square
    P, at = flat[at : at + square].reshape((K, A, A)), at + square
    c, at = flat[at : at + row].reshape((K, A)), at + row
    W = flat[at : at + row].reshape((K, A))
    return G, c, P, W
