"""Gains: how wide to draw weights so that every unit has zero mean and unit variance (Theory S2, S3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import brentq

from assay.errors import UsageError, verbatim
from assay.scale.activations import Function, derivative, require_elementwise, resolve, values
from assay.scale.quadrature import Array, gaussian_expectations

_SCALES = tuple(2.0**k for k in range(-10, 11))  # where a solution of Var φ(sZ) = 1 is looked for


@dataclass(frozen=True)
class Gain:
    """How to centre and scale an activation φ, with Z ~ N(0, 1) (Theory S2, S3).

    Two conventions lead to units of zero mean and unit variance. They agree for φ with
    φ(sz) = sφ(z) for s > 0 (ReLU, leaky ReLU, identity) and differ for all others.

    *Output gain*: pre-activations have unit variance, and `a·φ(Z) − shift` has zero mean and unit
    variance, a = 1/√Var φ(Z). It always exists. `a` can be folded into the next layer: weights of
    standard deviation a/√fan_in after the activation. This is `torch.nn.init.calculate_gain`'s use.

    *Input scale*: `φ(s·Z) − input_shift` has zero mean and unit variance, s solving Var φ(sZ) = 1.
    Weights of standard deviation s/√fan_in stand in front of the activation. A bounded φ may have no
    such s.

    Args:
        activation: Its name.
        weight_variance: c of the output gain, `Var W = c/fan_in`: 1/Var φ(Z).
        shift: b', the mean of `√c·φ(Z)`.
        chi: χ = E φ'(Z)²/Var φ(Z): growth of the gradient's variance per layer, at least 1 for a
            continuous φ and 1 only for an affine one. Smaller only where φ jumps, or its gradient in
            autograd is not its derivative; NaN where autograd has none.
        input_scale: s, or None where no s gives unit variance.
        input_shift: The mean of `φ(s·Z)`, or None.
        input_chi: s²·E φ'(sZ)²/Var φ(sZ), or None.
        square_scale: The r with E φ(rZ)² = 1: weights of standard deviation r/√fan_in keep the mean square,
            not the variance, and let gradients grow less (√2 for ReLU: He initialisation); or None.
    """

    activation: str
    weight_variance: float
    shift: float
    chi: float
    input_scale: float | None
    input_shift: float | None
    input_chi: float | None
    square_scale: float | None = None

    @property
    def std(self) -> float:
        """√c: weights have standard deviation `std/√fan_in`."""
        return math.sqrt(self.weight_variance)

    @property
    def output_gain(self) -> float:
        """The a = 1/√Var φ(Z) that a·φ(Z) has unit variance with: the same number as `std`."""
        return self.std

    @property
    def method(self) -> str:
        """Which convention `weight_variance`, `std`, `shift` and `chi` follow.

        Returns:
            "output gain", or "output gain = input scale" where both give the same number.
        """
        s = self.input_scale
        same = s is not None and math.isclose(s, self.std, rel_tol=1e-9)
        return "output gain = input scale" if same else "output gain"

    def __str__(self) -> str:
        lines = [
            f"{self.activation}: {self.method}",
            f"  Var W = {self.weight_variance:.6f}/fan_in, shift {self.shift:.6f}, χ {self.chi:.4f}",
        ]
        if self.input_scale is None:
            lines.append("  no s with Var φ(sZ) = 1")
        elif self.method == "output gain":
            lines.append(
                f"  or in front of it: Var W = {self.input_scale**2:.6f}/fan_in, "
                f"shift {self.input_shift:.6f}, χ {self.input_chi:.4f}"
            )
        return "\n".join(lines)


def gain(activation: Any) -> Gain:
    """The gain, shift and backward growth of an activation, by quadrature (Theory S2, S3).

    Args:
        activation: A name ("relu", "gelu", "leaky_relu" with torch's slope 0.01, …), an `nn.Module`
            or a function of tensors. A module is copied; it is not changed.

    Returns:
        The gain, in both conventions; relative error near 1e-12.

    Raises:
        UsageError: If the name is unknown, or the activation is constant, random, not finite, not
            elementwise, or without variance under a Gaussian.

    Example:
        >>> relu = gain("relu")
        >>> print(f"{relu.weight_variance:.6f} {relu.shift:.6f} {relu.chi:.6f}")
        2.933884 0.683332 1.466942
        >>> import torch
        >>> print(gain(torch.nn.Tanh()))
        Tanh(): output gain
          Var W = 2.536175/fan_in, shift 0.000000, χ 1.1778
          no s with Var φ(sZ) = 1
    """
    return _named(activation) if isinstance(activation, str) else _solve(*resolve(activation))


@lru_cache(maxsize=64)
def _named(name: str) -> Gain:
    return _solve(*resolve(name))


def _solve(name: str, function: Function) -> Gain:
    require_elementwise(name, function)
    try:
        mean, variance, slope = moments(function, 1.0)
        size = float(np.abs(values(function)(np.linspace(-3.0, 3.0, 61))).max())
        if variance <= (1e-12 * size) ** 2:
            raise ValueError("it is constant, so that no gain gives it unit variance")
        s = _scale_of_one(function, centred=True)
        r = _scale_of_one(function, centred=False)
        at_s = moments(function, s) if s is not None else None
    except ValueError as error:
        raise UsageError(
            "activation",
            verbatim(name),
            f"a function with a positive, finite variance under a Gaussian, but {error}",
            "Give an activation that varies and grows slower than exp(z²/4).",
        ) from error
    c = 1 / variance
    return Gain(
        activation=name,
        weight_variance=c,
        shift=math.sqrt(c) * mean,
        chi=slope / variance,
        input_scale=s,
        input_shift=at_s[0] if at_s else None,
        input_chi=s**2 * at_s[2] / at_s[1] if s is not None and at_s else None,
        square_scale=r,
    )


def moments(function: Function, scale: float) -> tuple[float, float, float]:
    """Mean and variance of φ(sZ), and the mean square of φ'(sZ).

    Args:
        function: φ, elementwise on tensors.
        scale: s.

    Returns:
        `(E φ, Var φ, E φ'²)`; the last is NaN where autograd has no derivative.

    Raises:
        ValueError: If φ is not finite, or has no variance.
    """
    phi, slope = values(function), derivative(function)
    (mean,) = gaussian_expectations(lambda x: phi(x)[None], scale)
    known = not np.isnan(slope(np.array([0.25]))[0])

    def integrands(x: Array) -> Array:
        rows = [(phi(x) - mean) ** 2]  # about the mean: no cancellation
        return np.stack([*rows, slope(x) ** 2] if known else rows)

    found = gaussian_expectations(integrands, scale)
    return float(mean), float(found[0]), float(found[1]) if known else math.nan


def _scale_of_one(function: Function, centred: bool) -> float | None:
    """The s closest to 1 (in ratio) with Var φ(sZ) = 1, or E φ(sZ)² = 1; or None."""
    excess = partial(_excess, function, centred)
    if abs(excess(0.0)) <= 1e-12:
        return 1.0
    brackets = []
    for low, high in pairwise(_SCALES):
        try:
            below, above = excess(math.log(low)), excess(math.log(high))
        except (
            ValueError
        ):  # at this scale it grows too fast to have a variance, or varies in tails only
            continue
        if below * above < 0:
            brackets.append((math.log(low), math.log(high)))
    if not brackets:
        return None
    low, high = min(brackets, key=lambda b: abs(b[0] + b[1]))
    return math.exp(brentq(excess, low, high, xtol=1e-14, rtol=1e-14))


def _excess(function: Function, centred: bool, log_scale: float) -> float:
    phi = values(function)
    scale = math.exp(log_scale)
    with np.errstate(over="ignore"):  # refused as not finite
        mean = gaussian_expectations(lambda x: phi(x)[None], scale)[0] if centred else 0.0
        (square,) = gaussian_expectations(lambda x: (phi(x)[None] - mean) ** 2, scale)
    return float(square) - 1.0
