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
from assay.online.exponential import exp, exps_
from assay.online.lanes import NONE, ONES, Eight, add, each, each_of_three, product

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
    u = math.exp(-abs(e))
    return (1.0 if e >= 0.0 else u) / (1.0 + u)


@compiled
def sigmoids(e: np.ndarray, sign: float, out: np.ndarray) -> None:
    """The same of `sign e`, for a vector."""
    for i in range(len(e)):
        out[i] = -abs(e[i])
    exps_(out)
    for i in range(len(e)):
        out[i] = (1.0 if sign * e[i] >= 0.0 else out[i]) / (1.0 + out[i])


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
    if loss == SQUARED:
        return (e + q * y) / (1.0 + q)
    g, h = slopes(loss, e, y, level, spread)
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
def implicit_logistic(e: Eight, q: Eight, y: float) -> Eight:
    """Gradients where logistic steps of size q end that begin at e; y is 0 or 1.

    Newton's method, for y = 0 from the smaller of e and 0, else mirrored: from there it goes to the end and
    never beyond, since the equation is convex left of 0 and concave right of it.

    Returns:
        Eight gradients.
    """
    sign = add(NONE, 1.0 - 2.0 * y, ONES)
    e = each(product, sign, e)
    now = each(smaller, e, NONE)
    for _ in range(200):
        after = each_of_three(logistic_step, now, e, q)
        moving = each_of_three(excess, after, now, e)
        now = after
        if max(moving) <= 0.0:
            break
    return each(signed_sigmoid, now, sign)


@compiled
def smaller(u: float, v: float) -> float:
    """The smaller one."""
    return u if u < v else v


@compiled
def logistic_step(now: float, e: float, q: float) -> float:
    """One of Newton's steps towards `now = e − q sigmoid(now)`."""
    u = exp(-abs(now))
    part = 1.0 / (1.0 + u)
    p = part if now >= 0.0 else u * part
    return now - (now - e + q * p) / (1.0 + q * (u * part * part))


@compiled
def excess(after: float, now: float, e: float) -> float:
    """By how much a step is above what matters; Newton's error is about its square."""
    return abs(after - now) - 1e-7 * (abs(after) + abs(e))


@compiled
def signed_sigmoid(e: float, sign: float) -> float:
    """`sign / (1 + exp(−e))`."""
    u = exp(-abs(e))
    return sign * (1.0 if e >= 0.0 else u) / (1.0 + u)


@compiled
def implicit_classes(
    e: np.ndarray, q: np.ndarray, hit: int, after: np.ndarray, p: np.ndarray
) -> None:
    """The same for several classes at once: `after[k] = e[k] − q[k] (p[k] − [k is the hit])`, p from `after`.

    Newton's method; the curvature is a diagonal less `p pᵀ`, so a step is two sums (Sherman and Morrison).
    Steps above 1 are shortened to their logarithm, so that exponentials converge from anywhere.
    """
    K = len(e)
    after[:] = e
    p[:] = e
    softmax_(p)
    for _ in range(50):
        along, across = 0.0, 1.0
        for k in range(K):
            f = after[k] - e[k] + q[k] * (p[k] - (1.0 if k == hit else 0.0))
            part = p[k] / (1.0 + q[k] * p[k])
            along += part * f
            across -= part * q[k] * p[k]
        largest = 0.0
        for k in range(K):
            f = after[k] - e[k] + q[k] * (p[k] - (1.0 if k == hit else 0.0))
            p[k] = (f + q[k] * p[k] * along / across) / (1.0 + q[k] * p[k])
            largest = max(largest, abs(p[k]))
        part = 1.0 if largest < 1.0 else math.log1p(largest) / largest
        for k in range(K):
            after[k] -= part * p[k]
        p[:] = after
        softmax_(p)
        if largest < 1e-6:
            break


@compiled
def largest(a: np.ndarray) -> float:
    """The largest number; numpy's looks for NaN, too, at ten times the price."""
    top = a[0]
    for i in range(1, len(a)):
        top = a[i] if a[i] > top else top
    return float(top)


@compiled
def softmax_(scores: np.ndarray) -> None:
    """Scores `[K]` to probabilities, in place."""
    top = largest(scores)
    for k in range(len(scores)):
        scores[k] -= top
    exps_(scores)
    total = 0.0
    for k in range(len(scores)):
        total += scores[k]
    part = 1.0 / total
    for k in range(len(scores)):
        scores[k] *= part
