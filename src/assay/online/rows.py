"""Rows in dense order: forecast each, then learn it. A batch is its rows one after another, bit by bit.

The experts of a dense stream are the second-order scores (`newton`), each with an intercept that follows the latest
residuals at one of `FOLLOW` speeds, and the eight first-order scores (`rates`).
"""

from __future__ import annotations

import math

import numpy as np

from assay.online import moments as m
from assay.online import newton, rates
from assay.online import scalars as sc
from assay.online.aggregate import reweigh
from assay.online.compiled import compiled
from assay.online.losses import (
    HUBER,
    LOGISTIC,
    POISSON,
    QUANTILE,
    SQUARED,
    cost,
    curvature,
    gradient,
    implicit,
    implicit_classes,
    mean_of,
    sigmoid,
    softmax_,
)

FOLLOW = np.array([0.0, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0])
FOLLOWERS = 7


@compiled
def mixed(T: np.ndarray, shares: np.ndarray, loss: int, out: np.ndarray) -> None:
    """The forecast: means of all experts' scores `T` `[M, K]`, weighted by their shares."""
    experts, outputs = T.shape
    out[:] = 0.0
    if outputs == 1:
        for i in range(experts):
            out[0] += shares[i] * mean_of(loss, T[i, 0])
        return
    p = np.empty(outputs)
    for i in range(experts):
        p[:] = T[i]
        softmax_(p)
        for k in range(outputs):
            out[k] += shares[i] * p[k]


@compiled
def judge(
    T: np.ndarray,
    shares: np.ndarray,
    s: np.ndarray,
    loss: int,
    y: float,
    level: float,
    weight: float,
) -> None:
    """Every expert's loss on the row, and its share by that."""
    experts, outputs = T.shape
    costs = np.empty(experts)
    p = np.empty(outputs)
    mean = 0.0
    for i in range(experts):
        if outputs == 1:
            costs[i] = cost(loss, T[i, 0], y, level, s[sc.SPREAD])
        else:
            p[:] = T[i]
            top = p.max()
            total = 0.0
            for k in range(outputs):
                total += math.exp(p[k] - top)
            costs[i] = math.log(total) + top - p[int(y)]
        mean += shares[i] * costs[i]
    if math.isfinite(mean):
        s[sc.JUDGED] += weight * s[sc.GROWTH]
        s[sc.LOSS] += (mean - s[sc.LOSS]) * weight * s[sc.GROWTH] / s[sc.JUDGED]
    reweigh(shares, costs, loss, s[sc.LOSS], weight)


@compiled
def follow(
    B: np.ndarray,
    T: np.ndarray,
    s: np.ndarray,
    loss: int,
    y: float,
    level: float,
    weight: float,
) -> None:
    """Move the following intercepts B `[F, K]` against the gradient of their own forecasts."""
    outputs = B.shape[1]
    p = np.empty(outputs)
    for i in range(1, FOLLOWERS):
        speed = min(1.0, FOLLOW[i] * weight)
        if outputs > 1:
            p[:] = T[i]
            softmax_(p)
            for k in range(outputs):
                B[i, k] -= 2.0 * speed * (p[k] - (1.0 if k == int(y) else 0.0))
        elif loss == LOGISTIC:
            B[i, 0] -= 4.0 * speed * (sigmoid(T[i, 0]) - y)
        elif loss == POISSON:
            if s[sc.CENTRE] > 0.0:
                after = implicit(loss, T[i, 0], speed / s[sc.CENTRE], y, level, 0.0)
                B[i, 0] += after - T[i, 0]
        else:
            B[i, 0] -= speed * gradient(loss, T[i, 0], y, level, s[sc.SPREAD])


@compiled
def newton_scores(
    W: np.ndarray,
    P: np.ndarray,
    a: np.ndarray,
    Pa: np.ndarray,
    q: np.ndarray,
    s: np.ndarray,
    T: np.ndarray,
) -> None:
    """The second order's scores into T[0], and `Pa` `[K, A]` and `q` `[K]` on the way."""
    for k in range(W.shape[0]):
        q[k] = newton.project(P[k], a, Pa[k])
        T[0, k] = newton.score(W[k], a, q[k] * s[sc.GROWTH]) + s[sc.ORIGIN]


@compiled
def rate_scores(E: np.ndarray, base: float, T: np.ndarray) -> None:
    """Add the base to the first order's scores `[K, 8]`, and copy them to the last rows of T."""
    for k in range(E.shape[0]):
        for r in range(rates.COUNT):
            E[k, r] += base
            T[FOLLOWERS + r, k] = E[k, r]


@compiled
def mean_scores(shares: np.ndarray, T: np.ndarray) -> None:
    """Where there is no second order, T[0] is the mean of the first order's scores by their shares."""
    total = 0.0
    for r in range(rates.COUNT):
        total += shares[FOLLOWERS + r]
    for k in range(T.shape[1]):
        T[0, k] = 0.0
        for r in range(rates.COUNT):
            T[0, k] += shares[FOLLOWERS + r] / total * T[FOLLOWERS + r, k]


@compiled
def add_followers(B: np.ndarray, T: np.ndarray, highest: float) -> None:
    """T[0] again, with each of the following intercepts B `[F, K]`; and no score above the highest."""
    for i in range(1, FOLLOWERS):
        for k in range(T.shape[1]):
            T[i, k] = T[0, k] + B[i, k]
    for i in range(len(T)):
        for k in range(T.shape[1]):
            T[i, k] = min(T[i, k], highest)


@compiled
def learn_newton(
    G: np.ndarray,
    c: np.ndarray,
    P: np.ndarray,
    W: np.ndarray,
    a: np.ndarray,
    Pa: np.ndarray,
    q: np.ndarray,
    loss: int,
    y: float,
    level: float,
    spread: float,
    weight: float,
) -> None:
    """One row of the second-order learner; y relative to the origin, weight with growth."""
    outputs = W.shape[0]
    if outputs == 1:
        now = 0.0
        for i in range(len(a)):
            now += W[0, i] * a[i]
        after = implicit(loss, now, weight * q[0], y, level, spread)
        h = curvature(loss, after, y, level, spread)
        newton.learn(G[0], c[0], P[0], W[0], a, Pa[0], q[0], after - now, after, h, weight)
        return
    e, after_all = np.zeros(outputs), np.zeros(outputs)
    for k in range(outputs):
        for i in range(len(a)):
            e[k] += W[k, i] * a[i]
    implicit_classes(e, weight * q, int(y), after_all)
    p = after_all.copy()
    softmax_(p)
    share = outputs / (outputs - 1.0)
    for k in range(outputs):
        h = share * p[k] * (1.0 - p[k])
        move = after_all[k] - e[k]
        newton.learn(G[k], c[k], P[k], W[k], a, Pa[k], q[k], move, after_all[k], h, weight)


@compiled
def rate_gradients(
    E: np.ndarray, g: np.ndarray, loss: int, y: float, level: float, spread: float
) -> None:
    """Gradients of the first-order experts at their scores `E` `[K, 8]`."""
    outputs = E.shape[0]
    if outputs == 1:
        for r in range(rates.COUNT):
            g[0, r] = gradient(loss, E[0, r], y, level, spread)
        return
    p = np.empty(outputs)
    for r in range(rates.COUNT):
        p[:] = E[:, r]
        softmax_(p)
        for k in range(outputs):
            g[k, r] = p[k] - (1.0 if k == int(y) else 0.0)


@compiled
def dense(
    X: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    table: np.ndarray,
    G: np.ndarray,
    c: np.ndarray,
    P: np.ndarray,
    W: np.ndarray,
    V: np.ndarray,
    Q: np.ndarray,
    B: np.ndarray,
    shares: np.ndarray,
    s: np.ndarray,
    loss: int,
    level: float,
    keep: float,
    learning: bool,
    out: np.ndarray,
) -> None:
    """Forecast rows X `[N, D]` into `out` `[N, K]`, and, if learning, learn each before the next.

    `keep` is the part of its weight that a row keeps per later row; 1 forgets nothing.
    """
    D = X.shape[1]
    outputs, A = V.shape[1], D + 1
    second = G.shape[1] > 0
    a, z, x = np.zeros(A), np.zeros(A), np.zeros(D)
    Pa, q = np.zeros((outputs, A)), np.zeros(outputs)
    E, g = np.zeros((outputs, rates.COUNT)), np.zeros((outputs, rates.COUNT))
    T = np.zeros((FOLLOWERS + rates.COUNT, outputs))
    z[0] = 1.0
    for t in range(len(X)):
        weight = weights[t]
        if learning and weight == 0.0:
            continue
        heavy = weight * s[sc.GROWTH] / keep
        for j in range(D):
            x[j] = X[t, j]
            if table[j, m.UNIT] != 0.0:
                x[j] *= table[j, m.UNIT]
            elif x[j] != 0.0 and not np.isnan(x[j]):
                unit = m.unit_of(x[j])
                x[j] *= unit
                if learning:
                    table[j, m.UNIT] = unit
            z[j + 1] = 0.0 if np.isnan(x[j]) else m.standard(table[j], x[j], heavy)
        # forecast
        base = sc.base_of(s, loss) if s[sc.ROWS] > 0.0 else 0.0
        rates.scores(V, z, E)
        rate_scores(E, base, T)
        if second:
            newton.centred(a, P, x, table)
            newton_scores(W, P, a, Pa, q, s, T)
        else:
            mean_scores(shares, T)
        add_followers(B, T, sc.highest(s, loss))
        mixed(T, shares, loss, out[t])
        if not learning:
            continue
        # judge
        s[sc.GROWTH] /= keep
        if s[sc.ROWS] > 0.0:
            if loss == HUBER or loss == QUANTILE:
                s[sc.SPREAD] = sc.track_median(s[sc.SPREAD], abs(y[t] - out[t, 0]), s[sc.ROWS])
            judge(T, shares, s, loss, y[t], level, weight)
        elif loss == LOGISTIC or loss == POISSON:
            judge(T, shares, s, loss, y[t], level, weight)
        # statistics
        s[sc.COUNT] += heavy
        s[sc.SINCE] += heavy
        sc.absorb_target(s, loss, y[t], heavy)
        for j in range(D):
            if not np.isnan(x[j]):
                m.absorb(table[j], x[j], heavy)
        # learn
        if s[sc.ROWS] > 0.0:
            follow(B, T, s, loss, y[t], level, weight)
        if second:
            if s[sc.ROWS] == 0.0:
                for j in range(D):
                    table[j, m.REFERENCE] = table[j, m.MEAN]
                    a[j + 1] = 0.0
                newton.refresh(G, c, P, W, table, loss, s[sc.GROWTH])
            newton.awaken(P, a, table, s[sc.GROWTH])
            for k in range(outputs):
                q[k] = newton.project(P[k], a, Pa[k])
            wild = heavy * q.max() > 1024.0
            learn_newton(
                G, c, P, W, a, Pa, q, loss, y[t] - s[sc.ORIGIN], level, s[sc.SPREAD], heavy
            )
            if wild or s[sc.SINCE] >= newton.REFRESH * s[sc.COUNT]:
                newton.refresh(G, c, P, W, table, loss, s[sc.GROWTH])
                s[sc.SINCE] = 0.0
        if s[sc.ROWS] > 0.0 or loss == LOGISTIC:
            moved = sc.base_of(s, loss) - base
            for k in range(outputs):
                for r in range(rates.COUNT):
                    E[k, r] += moved
            rate_gradients(E, g, loss, y[t], level, s[sc.SPREAD])
            rates.learn(
                V,
                Q,
                z,
                E,
                g,
                loss,
                y[t],
                level,
                s[sc.SPREAD],
                sc.unit_of_score(s, loss),
                weight,
                s[sc.GROWTH],
            )
        s[sc.ROWS] += 1.0
        if s[sc.GROWTH] > sc.FAR:
            sc.rescale(s, table, G, c, P, Q)
