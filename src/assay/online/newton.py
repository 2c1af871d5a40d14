"""Second order: the sum of curvatures of all rows, as a matrix, and the weights that belong to it.

For each output, `G = Σ h a aᵀ` and `c = Σ a (h e − g)` over rows `a = (1, x − reference)`, where g and h are
gradient and curvature of the loss at the score e after the row's own implicit step. The weights are
`w = (G + R)⁻¹ c`. For the squared loss this is ridge regression on all rows, exactly; for others a Newton
step for every row.

R is a prior as heavy as `PRIOR` rows, feature by feature in the feature's own unit `s² = E d⁴ / E d²`: 3 σ²
for a normal distribution, but 1 for a rare indicator, however rare, where σ² would vanish. No unit enters.

`P = (G + R)⁻¹` is updated row by row (Sherman and Morrison 1950) and computed anew from G whenever half
of the weight of all rows is new, so rounding has no time to build up, and R follows the running moments.
Both are kept in `panels`.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online import moments as m
from assay.online import panels
from assay.online.compiled import compiled
from assay.online.lanes import add, load, load_next, store, store_next
from assay.online.losses import LOGISTIC, POISSON
from assay.online.panels import WIDTH

PRIOR = 0.3
REFRESH = 0.5  # of the rows' weight that may be new before P is computed anew
TRUST = 32.0  # variance of a score, in units of 1/h, beyond which a forecast is drawn to the mean


@compiled
def prior_of_intercept(loss: int) -> float:
    """R for the intercept: none to speak of, but for losses where the first row could run away."""
    if loss == LOGISTIC:
        return 0.25
    if loss == POISSON:
        return 0.01
    return 2.0**-40


@compiled
def prior_of(row: np.ndarray) -> float:
    """R for a feature."""
    return float(PRIOR * row[m.M4] / row[m.M2])


@compiled
def recentre(G: np.ndarray, c: np.ndarray, table: np.ndarray) -> None:
    """Express G and c about today's means. The function that they stand for stays."""
    shift = np.zeros(c.shape[1])
    across = np.zeros(len(shift))
    A = len(table) + 1
    for j in range(A - 1):
        shift[j + 1] = table[j, m.MEAN] - table[j, m.REFERENCE]
        table[j, m.REFERENCE] = table[j, m.MEAN]
    for k in range(len(G)):
        for j in range(A):
            across[j] = G[k, 0, j, 0]
            c[k, j] -= shift[j] * c[k, 0]
        for p in range(G.shape[1]):
            left, right = load(across[WIDTH * p :]), load_next(across[WIDTH * p :])
            down, next_ = load(shift[WIDTH * p :]), load_next(shift[WIDTH * p :])
            for i in range(WIDTH * p, A):
                row, x, y = G[k, p, i], -shift[i], shift[i] * across[0] - across[i]
                g, h = add(load(row), x, left), add(load_next(row), x, right)
                store(row, add(g, y, down))
                store_next(row, add(h, y, next_))


@compiled
def refresh(
    G: np.ndarray,
    c: np.ndarray,
    P: np.ndarray,
    W: np.ndarray,
    table: np.ndarray,
    loss: int,
    growth: float,
) -> None:
    """P and W from G and c, with the prior of today's moments; features that do not vary stay out.

    `growth` is the weight of a row of today in G, and so the weight of the prior.
    """
    A = len(table) + 1
    recentre(G, c, table)
    live, prior = np.zeros(c.shape[1]), np.zeros(A)
    live[0], prior[0] = 1.0, growth * prior_of_intercept(loss)
    for j in range(A - 1):
        if m.varies(table[j]):
            live[j + 1], prior[j + 1] = 1.0, growth * prior_of(table[j])
    room = np.zeros(len(live))
    for k in range(len(G)):
        for p in range(G.shape[1]):
            for i in range(WIDTH * p, A):
                for j in range(WIDTH):
                    P[k, p, i, j] = G[k, p, i, j] * (live[i] * live[WIDTH * p + j])
        for i in range(A):
            P[k][panels.place(i, i)] += prior[i]
        panels.invert(P[k], live, room)
        panels.project(P[k], c[k], W[k])


@compiled
def find_asleep(P: np.ndarray, asleep: np.ndarray) -> None:
    """Which entries of rows have no weights, because they were not seen to vary at the last refresh."""
    for i in range(P.shape[2]):
        asleep[i] = P[0][panels.place(i, i)] == 0.0


@compiled
def awaken(
    P: np.ndarray, a: np.ndarray, asleep: np.ndarray, table: np.ndarray, growth: float
) -> bool:
    """Let features in that have begun to vary since the last refresh; whether there were any."""
    some = False
    for i in range(1, len(table) + 1):
        if asleep[i]:
            if m.varies(table[i - 1]):
                some = True
                asleep[i] = False
                for k in range(len(P)):
                    P[k][panels.place(i, i)] = 1.0 / (growth * prior_of(table[i - 1]))
            else:
                a[i] = 0.0
    return some


@compiled
def centred(a: np.ndarray, x: np.ndarray, table: np.ndarray) -> None:
    """`a = (1, x − reference)` for features with weights; a missing value (NaN) stands at its mean."""
    a[0] = 1.0
    for j in range(len(x)):
        if np.isnan(x[j]):
            a[j + 1] = table[j, m.MEAN] - table[j, m.REFERENCE]
        else:
            a[j + 1] = x[j] - table[j, m.REFERENCE]


@compiled
def dot(a: np.ndarray, b: np.ndarray) -> float:
    """`aᵀ b`."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@compiled
def score(W: np.ndarray, a: np.ndarray, q: float) -> float:
    """The score w·a; where its variance q is beyond `TRUST`, drawn to the intercept in proportion."""
    total = 0.0
    for i in range(1, len(W)):
        total += W[i] * a[i]
    if q > TRUST:
        total *= TRUST / q
    return float(W[0] + total)


@compiled
def learn(
    c: np.ndarray,
    W: np.ndarray,
    a: np.ndarray,
    Pa: np.ndarray,
    q: float,
    move: float,
    after: float,
    h: float,
    weight: float,
    less: np.ndarray,
    more: np.ndarray,
) -> None:
    """One row for one output: the score moved by `move` to `after`, where the curvature is h.

    What that means for P and G is left to be done, see `settle`: `P −= less lessᵀ`, `G += more moreᵀ`.
    `more` is 0 before.
    """
    step = move / q if q > 0.0 else 0.0
    total = weight * h if q > 0.0 else 0.0
    right = step + total * after
    shrink, grow = math.sqrt(total / (1.0 + total * q)), math.sqrt(total)
    panels.increase(W, step, Pa)
    panels.increase(c, right, a)
    less[:] = 0.0
    panels.increase(less, shrink, Pa)
    panels.increase(more, grow, a)


@compiled
def settle(G: np.ndarray, P: np.ndarray, less: np.ndarray, more: np.ndarray) -> None:
    """Do what rows have left to be done: `less` holds a vector an output, `more` four; both become 0."""
    for k in range(len(G)):
        panels.downdate(P[k], less[k])
    less[:] = 0.0
    gather(G, more)


@compiled
def gather(G: np.ndarray, more: np.ndarray) -> None:
    """The same for G alone."""
    for k in range(len(G)):
        panels.add_outer(G[k], more[0, k], more[1, k], more[2, k], more[3, k])
    more[:] = 0.0
