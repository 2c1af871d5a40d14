"""Symmetric matrices in panels of sixteen columns, so that every loop over them runs in `lanes`.

Entry (i, j) of a matrix `[A, A]` stands in row i of panel j // 16 of its panels `[⌈A / 16⌉, A, 16]`: two
eights share what both are multiplied by. Vectors that go with it are `[16 ⌈A / 16⌉]`, zero from A on. Nothing
here reorders sums: a batch must be its rows, bit by bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from assay.online.compiled import in_order
from assay.online.lanes import LANES, NONE, add, load, load_next, store, store_next

WIDTH = 2 * LANES
HELD = 4  # vectors that `add_outer` takes at a time
SINGULAR = 2.0**-46  # of a pivot: below it a column is a combination of others, up to rounding


def panels_of(K: int, A: int) -> tuple[int, int, int, int]:
    """The shape of the panels of K matrices `[A, A]`."""
    return K, -(-A // WIDTH), A, WIDTH


def from_square(matrices: Any) -> Any:
    """Panels of matrices `[K, A, A]`.

    Args:
        matrices: Symmetric matrices.

    Returns:
        `[K, ⌈A / 16⌉, A, 16]`.
    """
    K, A, _ = matrices.shape
    count = -(-A // WIDTH)
    wide = np.zeros((K, A, WIDTH * count))
    wide[:, :, :A] = matrices
    return wide.reshape(K, A, count, WIDTH).transpose(0, 2, 1, 3).copy()


def to_square(panels: Any) -> Any:
    """The matrices `[K, A, A]` of panels, from their lower triangles.

    Args:
        panels: `[K, ⌈A / 16⌉, A, 16]`.

    Returns:
        A new array.
    """
    K, count, A = panels.shape[:3]
    wide = panels.transpose(0, 2, 1, 3).reshape(K, A, WIDTH * count)[:, :, :A]
    lower = np.tril(wide)
    return lower + np.tril(wide, -1).transpose(0, 2, 1)


@in_order
def place(i: int, j: int) -> tuple[int, int, int]:
    """Where entry (i, j) stands."""
    return j >> 4, i, j & 15


@in_order
def project(P: np.ndarray, a: np.ndarray, out: np.ndarray) -> None:
    """`out = P a`."""
    A, even = P.shape[1], P.shape[1] // 2 * 2
    for c in range(P.shape[0]):
        t = u = v = w = NONE
        for j in range(0, even, 2):
            now, then = P[c, j], P[c, j + 1]
            t, u = add(t, a[j], load(now)), add(u, a[j], load_next(now))
            v, w = add(v, a[j + 1], load(then)), add(w, a[j + 1], load_next(then))
        if even < A:
            last = P[c, even]
            t, u = add(t, a[even], load(last)), add(u, a[even], load_next(last))
        store(out[WIDTH * c :], add(t, 1.0, v))
        store_next(out[WIDTH * c :], add(u, 1.0, w))


@in_order
def downdate(P: np.ndarray, v: np.ndarray) -> None:
    """`P −= v vᵀ`."""
    for c in range(P.shape[0]):
        left, right = load(v[WIDTH * c :]), load_next(v[WIDTH * c :])
        for j in range(P.shape[1]):
            row = P[c, j]
            p, q = add(load(row), -v[j], left), add(load_next(row), -v[j], right)
            store(row, p)
            store_next(row, q)


@in_order
def downdate_project(P: np.ndarray, v: np.ndarray, a: np.ndarray, out: np.ndarray) -> None:
    """Both, in this order, with P read once."""
    A, even = P.shape[1], P.shape[1] // 2 * 2
    for c in range(P.shape[0]):
        left, right = load(v[WIDTH * c :]), load_next(v[WIDTH * c :])
        t = u = x = y = NONE
        for j in range(0, even, 2):
            now, then = P[c, j], P[c, j + 1]
            d, e, f, g = load(now), load_next(now), load(then), load_next(then)
            d, e = add(d, -v[j], left), add(e, -v[j], right)
            f, g = add(f, -v[j + 1], left), add(g, -v[j + 1], right)
            store(now, d)
            store_next(now, e)
            store(then, f)
            store_next(then, g)
            t, u = add(t, a[j], d), add(u, a[j], e)
            x, y = add(x, a[j + 1], f), add(y, a[j + 1], g)
        if even < A:
            last = P[c, even]
            d, e = add(load(last), -v[even], left), add(load_next(last), -v[even], right)
            store(last, d)
            store_next(last, e)
            t, u = add(t, a[even], d), add(u, a[even], e)
        store(out[WIDTH * c :], add(t, 1.0, x))
        store_next(out[WIDTH * c :], add(u, 1.0, y))


@in_order
def add_outer(G: np.ndarray, u: np.ndarray, v: np.ndarray, w: np.ndarray, x: np.ndarray) -> None:
    """`G += u uᵀ + v vᵀ + w wᵀ + x xᵀ`, in the lower triangle."""
    for c in range(G.shape[0]):
        a, b, d, e = (
            load(u[WIDTH * c :]),
            load(v[WIDTH * c :]),
            load(w[WIDTH * c :]),
            load(x[WIDTH * c :]),
        )
        f, g, h, k = (
            load_next(u[WIDTH * c :]),
            load_next(v[WIDTH * c :]),
            load_next(w[WIDTH * c :]),
            load_next(x[WIDTH * c :]),
        )
        for t in range(WIDTH * c, G.shape[1]):
            row = G[c, t]
            p, q = load(row), load_next(row)
            p, q = add(p, u[t], a), add(q, u[t], f)
            p, q = add(p, v[t], b), add(q, v[t], g)
            p, q = add(p, w[t], d), add(q, w[t], h)
            p, q = add(p, x[t], e), add(q, x[t], k)
            store(row, p)
            store_next(row, q)


@in_order
def mirror(G: np.ndarray) -> None:
    """Fill the upper triangle from the lower one."""
    for i in range(G.shape[1]):
        for j in range(i):
            G[place(j, i)] = G[place(i, j)]


@in_order
def invert(H: np.ndarray, live: np.ndarray, room: np.ndarray) -> None:
    """A positive definite H becomes its inverse, where `live` is 1; the rest is zero and stays so.

    Gauss and Jordan's sweeps (Goodnight 1979), in the lower triangle: every pivot is one downdate. `room` is
    for a vector.
    """
    A = H.shape[1]
    floor = np.empty(A)
    for k in range(A):
        floor[k] = SINGULAR * H[place(k, k)]
    for k in range(A):
        if live[k] == 0.0:
            continue
        root = 1.0 / math.sqrt(max(H[place(k, k)], floor[k]))
        for i in range(k):
            room[i] = root * H[place(k, i)]
        room[k] = 0.0
        for i in range(k + 1, A):
            room[i] = root * H[place(i, k)]
        downdate_lower(H, room)
        for i in range(k):
            H[place(k, i)] = root * room[i]
        H[place(k, k)] = -root * root
        for i in range(k + 1, A):
            H[place(i, k)] = root * room[i]
    for i in range(A):
        for j in range(i + 1):
            H[place(i, j)] = -H[place(i, j)]
    mirror(H)


@in_order
def downdate_lower(P: np.ndarray, v: np.ndarray) -> None:
    """`P −= v vᵀ` in the lower triangle."""
    for c in range(P.shape[0]):
        left, right = load(v[WIDTH * c :]), load_next(v[WIDTH * c :])
        for j in range(WIDTH * c, P.shape[1]):
            row = P[c, j]
            p, q = add(load(row), -v[j], left), add(load_next(row), -v[j], right)
            store(row, p)
            store_next(row, q)


@in_order
def increase(a: np.ndarray, x: float, v: np.ndarray) -> None:
    """`a += x v` for vectors."""
    for i in range(0, len(a), WIDTH):
        to, of = a[i:], v[i:]
        p, q = add(load(to), x, load(of)), add(load_next(to), x, load_next(of))
        store(to, p)
        store_next(to, q)
