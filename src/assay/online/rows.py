"""Rows in dense order: forecast each, then learn it. A batch is its rows one after another, bit by bit.

The experts of a dense stream are the second-order score (`newton`), the same with intercepts that follow
the latest residuals at the speeds of `FOLLOW`, and the eight first-order scores (`rates`).
"""

from __future__ import annotations

import numpy as np

from assay.online import experts, layout, newton, panels, rates
from assay.online import moments as m
from assay.online import scalars as sc
from assay.online.compiled import compiled
from assay.online.losses import (
    LOGISTIC,
    curvature,
    implicit,
    implicit_classes,
    largest,
)


@compiled
def learn_newton(
    c: np.ndarray,
    W: np.ndarray,
    a: np.ndarray,
    Pa: np.ndarray,
    q: np.ndarray,
    loss: int,
    y: float,
    level: float,
    spread: float,
    weight: float,
    less: np.ndarray,
    more: np.ndarray,
) -> None:
    """One row of the second-order learner; y relative to the origin, weight with growth."""
    outputs = len(W)
    e, after, h = np.empty(outputs), np.empty(outputs), np.empty(outputs)
    for k in range(outputs):
        e[k] = newton.dot(W[k], a)
    if outputs == 1:
        after[0] = implicit(loss, e[0], weight * q[0], y, level, spread)
        h[0] = curvature(loss, after[0], y, level, spread)
    else:
        implicit_classes(e, weight * q, int(y), after, h)
        for k in range(outputs):
            h[k] = outputs / (outputs - 1.0) * h[k] * (1.0 - h[k])
    for k in range(outputs):
        move = after[k] - e[k]
        newton.learn(c[k], W[k], a, Pa[k], q[k], move, after[k], h[k], weight, less[k], more[k])


@compiled
def dense(
    X: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    flat: np.ndarray,
    setup: np.ndarray,
    learning: bool,
    out: np.ndarray,
) -> None:
    """Forecast rows X `[N, D]` into `out` `[N, K]`, and, if learning, learn each before the next.

    `flat` is the state and `setup` says what it is of, as `layout` has them.
    """
    loss, level, keep = int(setup[layout.LOSS]), setup[layout.LEVEL], setup[layout.KEEP]
    table, V, Q, B, shares, s = layout.first_part(flat, setup)
    G, c, P, W = layout.second_part(flat, setup)
    D, outputs = len(table), V.shape[1]
    A = D + 1
    second = G.shape[1] > 0
    wide = panels.WIDTH * G.shape[1]
    a, z, x, at = np.zeros(wide), np.zeros(A), np.zeros(D), np.arange(A)
    Pa, q = np.zeros((outputs, wide)), np.zeros(outputs)
    less, more, held = np.zeros((outputs, wide)), np.zeros((panels.HELD, outputs, wide)), 0
    asleep = np.zeros(wide, np.bool_)
    newton.find_asleep(P, asleep)
    E, T, F = experts.room(outputs)
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
        base = sc.base_of(s, loss)
        rates.scores(V, at, z, E)
        experts.fill_rates(E, base, T)
        if second:
            newton.centred(a, x, table)
            for k in range(outputs):
                if learning:
                    panels.downdate_project(P[k], less[k], a, Pa[k])
                else:
                    panels.project(P[k], a, Pa[k])
                q[k] = newton.dot(a, Pa[k])
                T[0, k] = newton.score(W[k], a, q[k] * s[sc.GROWTH]) + s[sc.ORIGIN]
        else:
            experts.fill_mean(shares, T)
        experts.fill_followers(B, T, sc.highest(s, loss))
        experts.forecast(T, F, shares, loss, out[t])
        if not learning:
            continue
        s[sc.GROWTH] /= keep
        experts.judge(T, F, shares, s, loss, y[t], out[t], level, weight)
        s[sc.COUNT] += heavy
        s[sc.SINCE] += heavy
        sc.absorb_target(s, loss, y[t], heavy)
        for j in range(D):
            if not np.isnan(x[j]):
                m.absorb(table[j], x[j], heavy)
        if s[sc.ROWS] > 0.0:
            experts.follow(B, T, F, s, loss, y[t], level, weight)
        if second:
            first = s[sc.ROWS] == 0.0
            if first:
                for j in range(D):
                    table[j, m.REFERENCE] = table[j, m.MEAN]
                    a[j + 1] = 0.0
                newton.refresh(G, c, P, W, table, loss, s[sc.GROWTH])
                newton.find_asleep(P, asleep)
            if first or newton.awaken(P, a, asleep, table, s[sc.GROWTH]):
                for k in range(outputs):
                    panels.project(P[k], a, Pa[k])
                    q[k] = newton.dot(a, Pa[k])
            wild = heavy * largest(q) > 1024.0
            relative = y[t] - s[sc.ORIGIN]
            learn_newton(
                *(c, W, a, Pa, q, loss, relative, level, s[sc.SPREAD], heavy),
                *(less, more[held]),
            )
            held += 1
            stale = wild or s[sc.SINCE] >= newton.REFRESH * s[sc.COUNT]
            if held == panels.HELD:
                newton.gather(G, more)
                held = 0
            if stale:
                newton.settle(G, P, less, more)
                held = 0
                newton.refresh(G, c, P, W, table, loss, s[sc.GROWTH])
                newton.find_asleep(P, asleep)
                s[sc.SINCE] = 0.0
        if s[sc.ROWS] > 0.0 or loss == LOGISTIC:
            rates.learn(V, Q, at, z, E, F, s, loss, y[t], level, weight, sc.base_of(s, loss) - base)
        s[sc.ROWS] += 1.0
        if s[sc.GROWTH] > sc.FAR:
            newton.settle(G, P, less, more)
            sc.rescale(s, table, G, c, P, Q)
    newton.settle(G, P, less, more)
