"""Losses as functions of the score e = w·x + b: gradient, curvature, and the implicit step.

An implicit step of size q moves the score to the e' with `e' = e − q ℓ'(e')`: the gradient is taken where
the step ends, so it never overshoots, whatever q is (Kulis and Bartlett 2010; for a linear model it is one
number a row).

Huber's loss and the quantile's have the unit of the target; their corners are placed in multiples of
`spread`, a running median of the residuals' size, so that no constant has a unit.
"""

from __future__ import annotations

import math

import numpy as np

from assay.online.compiled import compiled

SQUARED, LOGISTIC, POISSON, HUBER, QUANTILE = range(5)
CODES = {
    "squared": SQUARED,
    "logistic": LOGISTIC,
    "poisson": POISSON,
    "huber": HUBER,
    "quantile": QUANTILE,
}

CORNER = 2.0  # Huber: in medians of |residual|; 1.345 standard deviations of a normal distribution
WIDTH = 0.5  # quantile: half of the width over which its corner is smoothed, in the same unit
LARGEST = 500.0  # of an exponent


@compiled
def sigmoid(e: float) -> float:
    """1 / (1 + exp(−e)) without overflow."""
    if e >= 0:
        return 1.0 / (1.0 + math.exp(-e))
    u = math.exp(e)
    return u / (1.0 + u)


@compiled
def mean_of(loss: int, e: float) -> float:
    """What is predicted at score e: the probability, the rate, or the score itself."""
    if loss == LOGISTIC:
        return sigmoid(e)
    if loss == POISSON:
        return math.exp(min(e, LARGEST))
    return e


@compiled
def gradient(loss: int, e: float, y: float, level: float, spread: float) -> float:
    """dℓ/de. The quantile's is multiplied by `spread`: all of these have the unit of the score."""
    if loss == SQUARED:
        return e - y
    if loss == LOGISTIC:
        return sigmoid(e) - y
    if loss == POISSON:
        return math.exp(min(e, LARGEST)) - y
    if loss == HUBER:
        corner = CORNER * spread
        return min(max(e - y, -corner), corner)
    width = WIDTH * spread
    if width == 0.0:
        return 0.0
    return spread * (min(max((e - y) / (2.0 * width) + 0.5, 0.0), 1.0) - level)


@compiled
def curvature(loss: int, e: float, y: float, level: float, spread: float) -> float:
    """d²ℓ/de²; where that is 0 for Huber, the curvature of the parabola that touches the loss from above."""
    if loss == SQUARED:
        return 1.0
    if loss == LOGISTIC:
        p = sigmoid(e)
        return p * (1.0 - p)
    if loss == POISSON:
        return math.exp(min(e, LARGEST))
    r = abs(e - y)
    if loss == HUBER:
        return 1.0 if r <= CORNER * spread else CORNER * spread / r
    return 1.0 / (2.0 * WIDTH) if r < WIDTH * spread else 0.0


@compiled
def cost(loss: int, e: float, y: float, level: float, spread: float) -> float:
    """The loss itself, up to a constant of the row; squared and Huber's without the factor ½."""
    if loss == SQUARED:
        return (e - y) ** 2
    if loss == LOGISTIC:
        return math.log1p(math.exp(-abs(e))) + max(e, 0.0) - y * e
    if loss == POISSON:
        return math.exp(min(e, LARGEST)) - y * e
    r = abs(e - y)
    if loss == HUBER:
        corner = CORNER * spread
        return r * r if r <= corner else corner * (2.0 * r - corner)
    return (y - e) * level if y > e else (e - y) * (1.0 - level)


@compiled
def slopes(loss: int, e: float, y: float, level: float, spread: float) -> tuple[float, float]:
    """Gradient and curvature together, with one exponential."""
    if loss == LOGISTIC:
        p = sigmoid(e)
        return p - y, p * (1.0 - p)
    if loss == POISSON:
        rate = math.exp(min(e, LARGEST))
        return rate - y, rate
    return gradient(loss, e, y, level, spread), curvature(loss, e, y, level, spread)


@compiled
def implicit(loss: int, e: float, q: float, y: float, level: float, spread: float) -> float:
    """The score e' with `e' = e − q ℓ'(e')`, by Newton's method inside a bracket."""
    g, h = slopes(loss, e, y, level, spread)
    return implicit_from(loss, e, q, y, level, spread, g, h)


@compiled
def implicit_from(
    loss: int, e: float, q: float, y: float, level: float, spread: float, g: float, h: float
) -> float:
    """The same, where gradient g and curvature h at e are known."""
    if loss == SQUARED:
        return (e + q * y) / (1.0 + q)
    end = e - q * g
    low, high, now = min(e, end), max(e, end), e
    width, f = high - low, q * g
    smooth = loss in (LOGISTIC, POISSON)
    for _ in range(200):
        step = f / (1.0 + q * h)
        after = now - step
        size = abs(step)
        newton = low < after < high and size <= 0.5 * width
        if not newton:  # halving helps more
            after = 0.5 * (low + high)
            size = abs(after - now)
        width, now = size, after
        # where the loss is smooth, Newton's error is about the square of its step
        if size <= (1e-7 if newton and smooth else 1e-15) * (abs(now) + abs(e)):
            break
        g, h = slopes(loss, now, y, level, spread)
        f = now - e + q * g
        if f > 0.0:
            high = now
        else:
            low = now
    return now


@compiled
def implicit_classes(e: np.ndarray, q: np.ndarray, hit: int, after: np.ndarray) -> None:
    """The same for several classes at once: `after[k] = e[k] − q[k] (p[k] − [k is the hit])`, p from `after`.

    Newton's method with the diagonal of the curvature, damped by its bound ¼ after the first step: what one
    class gains the others lose, and the diagonal alone overshoots.
    """
    K = len(e)
    share = K / (K - 1.0)
    p = np.empty(K)
    after[:] = e
    for _ in range(20):
        p[:] = after
        softmax_(p)
        largest = 0.0
        for k in range(K):
            f = after[k] - e[k] + q[k] * (p[k] - (1.0 if k == hit else 0.0))
            step = f / (1.0 + q[k] * (share * p[k] * (1.0 - p[k]) + 0.25))
            after[k] -= step
            largest = max(largest, abs(step))
        if largest < 1e-6:
            break


@compiled
def softmax_(scores: np.ndarray) -> None:
    """Scores `[K]` to probabilities, in place."""
    top = scores.max()
    total = 0.0
    for k in range(len(scores)):
        scores[k] = math.exp(scores[k] - top)
        total += scores[k]
    for k in range(len(scores)):
        scores[k] /= total
