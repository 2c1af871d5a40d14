"""All rows at once: the minimum of the same penalised loss, found by Newton's method.

A stream's second order linearises each row once, where the weights stood. With all rows at hand the weights
can be the minimum itself: `Σ weight ℓ(w·a) + ½ wᵀ R w`. The state that is left is the one that a stream
would have left had it known the minimum from the start, so it can go on as a stream.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from assay.online import moments as m
from assay.online import newton
from assay.online import scalars as sc
from assay.online.compiled import compiled
from assay.online.losses import (
    HUBER,
    POISSON,
    QUANTILE,
    SQUARED,
    WIDTH,
    cost,
    curvature,
    gradient,
)
from assay.online.panels import from_square
from assay.online.rates import COUNT
from assay.online.state import Array, State, settled_shares

STEPS = 200
DENSE = 600  # unknowns up to which several classes share one exact Newton step


@compiled
def losses_at(
    loss: int, e: np.ndarray, y: np.ndarray, level: float, spread: float, out: np.ndarray
) -> None:
    """Loss, gradient and curvature of each row at its score e, into `out` `[3, N]`."""
    for i in range(len(e)):
        value = cost(loss, e[i], y[i], level, spread)
        if loss in (SQUARED, HUBER):
            value *= 0.5
        elif loss == QUANTILE:  # with the corner smoothed as the gradient has it
            width, r = WIDTH * spread, e[i] - y[i]
            if abs(r) < width:
                value = (r + width) ** 2 / (4.0 * width) - level * r
            value *= spread
        out[0, i] = value
        out[1, i] = gradient(loss, e[i], y[i], level, spread)
        out[2, i] = curvature(loss, e[i], y[i], level, spread)


def median(values: Array, weights: Array) -> float:
    """The smallest value with half of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    heap = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(heap, 0.5 * heap[-1])])


def tabulate(X: Array, weights: Array) -> Array:
    """The moments of columns `[N, D]`; NaN is missing."""
    table = np.zeros((X.shape[1], m.COLUMNS))
    for j in range(X.shape[1]):
        there = ~np.isnan(X[:, j])
        x, w = X[there, j], weights[there]
        some = x[x != 0.0]
        unit = m.unit_of(float(some[0])) if len(some) else 0.0
        table[j, m.UNIT] = unit
        if not len(x):
            continue
        x = x * (unit or 1.0)
        n = float(w.sum())
        mean = x[0] + float(w @ (x - x[0])) / n
        d = x - mean
        moments = (n, mean, float(w @ d**2), float(w @ d**3), float(w @ d**4), mean)
        table[j, [m.COUNT, m.MEAN, m.M2, m.M3, m.M4, m.REFERENCE]] = moments
    return table


def minimum(A: Array, y: Array, weights: Array, R: Array, state: State, spread: float) -> Array:
    """Weights `[A]` of one output at the minimum; A `[N, A]` are rows (1, x − mean) of features that vary."""
    w = np.zeros(A.shape[1])
    if state.loss == POISSON:
        w[0] = np.log((weights @ y + 0.5) / (weights.sum() + 0.5))
    out = np.empty((3, len(y)))

    def value(w: Array) -> float:
        losses_at(state.loss, A @ w, y, state.level, spread, out)
        return float(weights @ out[0] + 0.5 * (R * w * w).sum())

    now = value(w)
    for _ in range(STEPS):
        slope = A.T @ (weights * out[1]) + R * w
        H = (A.T * (weights * out[2])) @ A + np.diag(R)
        size = 1.0 / np.sqrt(np.diag(H))
        factor = cho_factor(H * size * size[:, None] + 2.0**-46 * np.eye(len(w)))
        step = size * cho_solve(factor, size * slope)
        part = 1.0
        while True:
            after = value(w - part * step)
            if after <= now or part < 1e-12:
                break
            part *= 0.5
        w = w - part * step
        if abs(slope @ step) <= 1e-24 * (abs(now) + 1e-300) or part < 1e-12:
            break
        now = after
    return w


def minimum_of_classes(A: Array, y: Array, weights: Array, R: Array, K: int) -> Array:
    """The same for K classes: weights `[K, A]`."""
    N, D = A.shape
    hit = np.zeros((N, K))
    hit[np.arange(N), y.astype(int)] = 1.0

    def value(flat: Array) -> tuple[float, Array]:
        W = flat.reshape(K, D)
        e = A @ W.T
        logs = log_softmax(e, axis=1)
        slope = ((np.exp(logs) - hit) * weights[:, None]).T @ A + R * W
        return float(
            -(weights[:, None] * hit * logs).sum() + 0.5 * (R * W * W).sum()
        ), slope.ravel()

    flat = np.zeros(K * D)
    if K * D > DENSE:
        scale = np.tile(1.0 / np.sqrt((A.T**2) @ weights / (2.0 * K) + R), K)

        def scaled(v: Array) -> tuple[float, Array]:
            now, slope = value(v * scale)
            return now, slope * scale

        options = {"maxiter": 2000, "maxcor": 30, "ftol": 1e-14, "gtol": 1e-7}
        found = minimize(scaled, flat, jac=True, method="L-BFGS-B", options=options)
        return np.asarray(found.x * scale).reshape(K, D)
    now, slope = value(flat)
    for _ in range(STEPS):
        p = softmax(A @ flat.reshape(K, D).T, axis=1)
        H = np.diag(np.tile(R, K))
        for i in range(K):
            for j in range(i + 1):
                h = weights * (p[:, i] * ((i == j) - p[:, j]))
                block = (A.T * h) @ A
                H[i * D : (i + 1) * D, j * D : (j + 1) * D] += block
                if i != j:
                    H[j * D : (j + 1) * D, i * D : (i + 1) * D] += block
        size = 1.0 / np.sqrt(np.diag(H))
        factor = cho_factor(H * size * size[:, None] + 2.0**-46 * np.eye(K * D))
        step = size * cho_solve(factor, size * slope)
        decrease, part = float(slope @ step), 1.0
        while True:
            after, slope_after = value(flat - part * step)
            if after <= now or part < 1e-12:
                break
            part *= 0.5
        flat, now, slope = flat - part * step, after, slope_after
        if abs(decrease) <= 1e-24 * (abs(now) + 1e-300) or part < 1e-12:
            break
    return flat.reshape(K, D)


def fit_all(state: State, X: Array, y: Array, weights: Array) -> None:
    """Fill an empty state with second order from rows X `[N, D]`.

    Args:
        state: As `State.empty` left it.
        X: Rows; NaN is missing.
        y: Targets, or class numbers, `[N]`.
        weights: Positive weights `[N]`.
    """
    s, loss = state.s, state.loss
    state.table[:] = tabulate(X, weights)
    units = np.where(state.table[:, m.UNIT] == 0.0, 1.0, state.table[:, m.UNIT])
    live = np.array([m.varies(row) for row in state.table], bool)
    D = np.nan_to_num(X * units - state.table[:, m.MEAN], nan=0.0)[:, live]
    A = np.concatenate([np.ones((len(y), 1)), D], 1)
    R = np.array(
        [newton.prior_of_intercept(loss), *(newton.prior_of(r) for r in state.table[live])]
    )
    total = float(weights.sum())
    s[[sc.COUNT, sc.JUDGED]] = total
    s[sc.ROWS] = len(y)
    s[sc.LARGEST] = max(0.0, y.max())
    s[sc.CENTRE] = y[0] + weights @ (y - y[0]) / total
    s[sc.SQUARES] = weights @ (y - s[sc.CENTRE]) ** 2
    if loss in (SQUARED, HUBER, QUANTILE):
        s[sc.ORIGIN] = s[sc.CENTRE]
    if loss in (HUBER, QUANTILE):
        s[sc.CENTRE] = median(y, weights)
        s[sc.DISPERSION] = median(np.abs(y - s[sc.CENTRE]), weights)
    target = y - s[sc.ORIGIN]
    K = state.outputs
    if K > 1:
        W = minimum_of_classes(A, y, weights, R, K)
    else:
        W = _robust_minimum(A, target, weights, R, state)[None]
    _leave_state(state, A, target, weights, W, live)


def _robust_minimum(A: Array, target: Array, weights: Array, R: Array, state: State) -> Array:
    """The minimum; for losses with a spread, the spread is that of the residuals of the round before."""
    if state.loss not in (HUBER, QUANTILE):
        return minimum(A, target, weights, R, state, 0.0)
    spread = median(np.abs(target - median(target, weights)), weights)
    w = np.zeros(A.shape[1])
    for _ in range(4):
        if spread == 0.0:
            break
        w = minimum(A, target, weights, R, state, spread)
        spread = median(np.abs(target - A @ w), weights)
    state.s[sc.SPREAD] = spread
    if spread == 0.0:  # half of the rows are met exactly
        state.loss, loss = SQUARED, state.loss
        w = minimum(A, target, weights, R, state, 0.0)
        state.loss = loss
    return w


def _leave_state(
    state: State, A: Array, target: Array, weights: Array, W: Array, live: Array
) -> None:
    s, K = state.s, state.outputs
    e = A @ W.T
    at = np.concatenate([[0], 1 + np.flatnonzero(live)])
    if K > 1:
        p = softmax(e, axis=1)
        hit = np.zeros_like(p)
        hit[np.arange(len(p)), target.astype(int)] = 1.0
        g, h = p - hit, K / (K - 1.0) * p * (1.0 - p)
        s[sc.LOSS] = -(weights @ np.log(np.maximum(p[hit > 0], 1e-300))) / weights.sum()
    else:
        out = np.empty((3, len(e)))
        losses_at(state.loss, e[:, 0].copy(), target, state.level, s[sc.SPREAD], out)
        g, h = out[1][:, None], out[2][:, None]
        s[sc.LOSS] = weights @ out[0] / weights.sum()
        if state.loss in (SQUARED, HUBER):
            s[sc.LOSS] *= 2.0
        elif state.loss == QUANTILE and s[sc.SPREAD] > 0.0:
            s[sc.LOSS] /= s[sc.SPREAD]
    G = np.zeros((K, state.features + 1, state.features + 1))
    for k in range(K):
        G[k][np.ix_(at, at)] = (A.T * (weights * h[:, k])) @ A
        state.c[k][at] = A.T @ (weights * (h[:, k] * e[:, k] - g[:, k]))
    state.G[:] = from_square(G)
    state.refresh()
    state.shares[:] = settled_shares()
    deviation = np.sqrt(state.table[live, m.M2] / state.table[live, m.COUNT])
    size = np.concatenate([[1.0], deviation])
    base = sc.base_of(s, state.loss) - s[sc.ORIGIN]
    for k in range(K):
        standard = state.W[k][at] * size
        standard[0] -= base
        state.V[at, k, :] = np.repeat(standard[:, None], COUNT, 1)
        squares = ((A / size) ** 2).T @ (weights * g[:, k] ** 2)
        state.Q[at, k, :] = np.repeat(squares[:, None], COUNT, 1)
