"""Second order: the sum of curvatures of all rows, as a matrix, and the weights that belong to it.

For each output, `G = Σ h a aᵀ` and `c = Σ a (h e − g)` over rows `a = (1, x − reference)`, where g and h are
gradient and curvature of the loss at the score e after the row's own implicit step. The weights are
`w = (G + R)⁻¹ c`. For the squared loss this is ridge regression on all rows, exactly; for others a Newton
step for every row.

R is a prior as heavy as `PRIOR` rows, feature by feature in the feature's own unit `s² = E d⁴ / E d²`: 3 σ²
for a normal distribution, but 1 for a rare indicator, however rare, where σ² would vanish. No unit enters.

`P = (G + R)⁻¹` is updated row by row (Sherman and Morrison 1950) and computed anew from G whenever a tenth of
the weight of all rows is new, so rounding has no time to build up, and R follows the running moments.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online import moments as m
from assay.online.compiled import compiled
from assay.online.losses import LOGISTIC, POISSON

PRIOR = 0.3
REFRESH = 0.1  # of the rows' weight that may be new before P is computed anew
TRUST = 32.0  # variance of a score, in units of 1/h, beyond which a forecast is drawn to the mean
SINGULAR = 2.0**-46  # of a pivot: below it a column is a combination of others, up to rounding


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
def invert(H: np.ndarray, L: np.ndarray, P: np.ndarray, d: int) -> None:
    """`P[:d, :d] = H⁻¹` for a positive definite H, through its Cholesky factor; L is scratch space."""
    for i in range(d):
        for j in range(i + 1):
            total = H[i, j]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                L[i, i] = math.sqrt(max(total, SINGULAR * H[i, i]))
            else:
                L[i, j] = total / L[j, j]
    # rows of X = L⁻ᵀ, so that both loops below run along rows
    for j in range(d):
        for i in range(j, d):
            total = 1.0 if i == j else 0.0
            for k in range(j, i):
                total -= L[i, k] * P[j, k]
            P[j, i] = total / L[i, i]
    for i in range(d):
        for j in range(i + 1):
            total = 0.0
            for k in range(i, d):
                total += P[i, k] * P[j, k]
            H[i, j] = total
    for i in range(d):
        for j in range(i + 1):
            P[i, j] = H[i, j]
            P[j, i] = H[i, j]


@compiled
def mirror(G: np.ndarray) -> None:
    """Fill the upper triangles of G `[K, A, A]` from the lower ones."""
    for k in range(G.shape[0]):
        for i in range(G.shape[1]):
            for j in range(i):
                G[k, j, i] = G[k, i, j]


@compiled
def recentre(G: np.ndarray, c: np.ndarray, table: np.ndarray) -> None:
    """Express G `[O, A, A]` and c `[O, A]` about today's means. The function that they stand for stays."""
    outputs, A = c.shape
    for j in range(A - 1):
        shift = table[j, m.MEAN] - table[j, m.REFERENCE]
        if shift == 0.0:
            continue
        for k in range(outputs):
            c[k, j + 1] -= shift * c[k, 0]
            for i in range(A):
                G[k, j + 1, i] -= shift * G[k, 0, i]
            for i in range(A):
                G[k, i, j + 1] -= shift * G[k, i, 0]
        table[j, m.REFERENCE] = table[j, m.MEAN]


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
    outputs, A = c.shape
    mirror(G)
    recentre(G, c, table)
    live = np.zeros(A, np.int64)
    d = 1
    for j in range(A - 1):
        if m.varies(table[j]):
            live[d] = j + 1
            d += 1
    H, L, inverse = np.zeros((d, d)), np.zeros((d, d)), np.zeros((d, d))
    for k in range(outputs):
        for a in range(d):
            for b in range(d):
                H[a, b] = G[k, live[a], live[b]]
            H[a, a] += growth * (prior_of(table[live[a] - 1]) if a else prior_of_intercept(loss))
        invert(H, L, inverse, d)
        P[k] = 0.0
        W[k] = 0.0
        for a in range(d):
            total = 0.0
            for b in range(d):
                P[k, live[a], live[b]] = inverse[a, b]
                total += inverse[a, b] * c[k, live[b]]
            W[k, live[a]] = total


@compiled
def awaken(P: np.ndarray, a: np.ndarray, table: np.ndarray, growth: float) -> bool:
    """Let features in that have begun to vary since the last refresh; whether there were any."""
    some = False
    for j in range(len(table)):
        if P[0, j + 1, j + 1] == 0.0:
            if m.varies(table[j]):
                some = True
                for k in range(len(P)):
                    P[k, j + 1, j + 1] = 1.0 / (growth * prior_of(table[j]))
            else:
                a[j + 1] = 0.0
    return some


@compiled
def centred(a: np.ndarray, P: np.ndarray, x: np.ndarray, table: np.ndarray) -> None:
    """`a = (1, x − reference)` for features with weights; a missing value (NaN) stands at its mean."""
    a[0] = 1.0
    for j in range(len(x)):
        if np.isnan(x[j]):
            a[j + 1] = table[j, m.MEAN] - table[j, m.REFERENCE]
        else:
            a[j + 1] = x[j] - table[j, m.REFERENCE]


@compiled
def project(P: np.ndarray, a: np.ndarray, Pa: np.ndarray) -> float:
    """`Pa = P a`, and the variance `aᵀ P a`. Of P and G only the lower triangles are kept."""
    A = len(a)
    q = 0.0
    for i in range(A):
        total = 0.0
        x = a[i]
        for j in range(i):
            total += P[i, j] * a[j]
            Pa[j] += P[i, j] * x
        Pa[i] = total + P[i, i] * x
    for i in range(A):
        q += Pa[i] * a[i]
    return q


@compiled
def score(W: np.ndarray, a: np.ndarray, q: float) -> float:
    """The score w·a; where its variance q is beyond `TRUST`, drawn to the intercept in proportion."""
    total = 0.0
    for i in range(1, len(a)):
        total += W[i] * a[i]
    if q > TRUST:
        total *= TRUST / q
    return float(W[0] + total)


@compiled
def learn(
    G: np.ndarray,
    c: np.ndarray,
    P: np.ndarray,
    W: np.ndarray,
    a: np.ndarray,
    Pa: np.ndarray,
    q: float,
    move: float,
    after: float,
    h: float,
    weight: float,
) -> None:
    """One row for one output: the score moved by `move` to `after`, where the curvature is h."""
    if q <= 0.0:
        return
    A = len(a)
    step = move / q
    right = step + weight * h * after
    shrink = weight * h / (1.0 + weight * h * q)
    for i in range(A):
        W[i] += Pa[i] * step
        c[i] += a[i] * right
        u, v = shrink * Pa[i], weight * h * a[i]
        if v != 0.0:
            for j in range(i + 1):
                G[i, j] += v * a[j]
        for j in range(i + 1):
            P[i, j] -= u * Pa[j]
