"""Changes of units: from a world to another one that starts as the same function.

Each row of the card is one kind of change, tried with powers of two (which floating point carries out
without any rounding), with arbitrary factors, and with extreme ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from assay.update.training import Ratio
from assay.update.world import Problem, Weights, World

ROWS: Mapping[str, str] = {
    "input scale": "x̃[j] = c[j] x[j], W̃[i,j] = W[i,j] / c[j]  (pounds for kilograms)",
    "input shift": "x̃ = x + a, b̃ = b − W a  (Celsius for kelvin; without a bias there is no twin)",
    "input rotation": "x̃ = Q x, W̃ = W Qᵀ, Q orthogonal",
    "input basis": "x̃ = A x, W̃ = W A⁻¹, any invertible A",
    "hidden scale": "W̃[i,:] = c[i] W[i,:], b̃[i] = c[i] b[i], Ṽ[:,i] = V[:,i] / c[i]  (ReLU)",
    "hidden permutation": "hidden units in another order",
    "output rotation": "ỹ = R y, Ṽ = R V, c̃ = R c, R orthogonal",
    "loss unit": "loss̃ = loss / ln 2  (bits for nats)",
    "target unit": "ỹ = a y, Ṽ = a V, c̃ = a c; the squared loss is then in a² units",
    "batch split": "each batch in two halves whose gradients are accumulated",
}


@dataclass(frozen=True)
class Change:
    """One change of units.

    Args:
        row: Its row of the card.
        factors: The factors used, for the reader.
        apply: From the reference training to the twin: worlds here, the user's own in `assay.update.own`.
        kind: "dyadic" (exact in floating point), "plain" or "extreme".
        weight_ratio: New weight / old weight, one number a weight, where weights are only rescaled.
        loss_ratio: New loss / old loss.
    """

    row: str
    factors: str
    apply: Callable[[Any], Any]
    kind: str = "plain"
    weight_ratio: Ratio | None = None
    loss_ratio: float = 1.0


def changes(problem: Problem) -> dict[str, tuple[Change, ...]]:
    """Every row of the card with the changes that are tried for it, mildest first.

    Args:
        problem: The sizes.

    Returns:
        Row to changes, in the order of `ROWS`.
    """
    d, h, k = problem.features, problem.hidden, problem.outputs
    draw = torch.Generator().manual_seed(problem.seed + 2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    def orthogonal(n: int) -> Tensor:
        q: Tensor = torch.linalg.qr(normal(n, n))[0]
        return q

    def factors(n: int, *values: float) -> Tensor:
        return torch.tensor([values[j % len(values)] for j in range(n)], dtype=torch.float64)

    dyadic, plain, extreme = (2.0, 0.5, 4.0, 1.0), (3.7, 0.3, 1.0, 0.61), (1e6, 1e-6, 1.0, 1e3)
    basis = torch.eye(d, dtype=torch.float64) + 0.5 * normal(d, d) / d**0.5
    kinds = (("dyadic", dyadic), ("plain", plain), ("extreme", extreme))
    found: dict[str, tuple[Change, ...]] = {
        "input scale": tuple(_input_scale(problem, factors(d, *c), kind) for kind, c in kinds),
        "input shift": (
            _input_shift(factors(d, 1.0, -2.0, 0.5), "plain"),
            _input_shift(factors(d, 17.3, -273.15, 459.67), "extreme"),
        ),
        "input rotation": (_input_basis("input rotation", orthogonal(d), "random Q"),),
        "input basis": (_input_basis("input basis", basis, "random A"),),
        "hidden scale": tuple(_hidden_scale(problem, factors(h, *c), kind) for kind, c in kinds),
        "hidden permutation": (_permutation(torch.randperm(h, generator=draw)),),
        "output rotation": (_output_rotation(orthogonal(k)),),
        "loss unit": loss_units(),
        "target unit": tuple(
            _target_unit(problem, a, kind)
            for kind, a in (("dyadic", 2.0), ("plain", 3.7), ("extreme", 1e6), ("extreme", 1e-6))
        ),
        "batch split": (Change("batch split", "2 parts", lambda w: replace(w, parts=2)),),
    }
    return {row: found[row] for row in ROWS}


def _ones(problem: Problem) -> Weights:
    d, h, k = problem.features, problem.hidden, problem.outputs
    return Weights(*(torch.ones(s, dtype=torch.float64) for s in ((h, d), (h,), (k, h), (k,))))


def _listed(c: Tensor) -> str:
    return "c = " + ", ".join(f"{value:g}" for value in c[:4].tolist())


def _like(value: Tensor, world: World) -> Tensor:
    return value.to(world.inputs.dtype)


def _input_scale(problem: Problem, c: Tensor, kind: str) -> Change:
    def apply(world: World) -> World:
        f, w = _like(c, world), world.weights
        return replace(world, weights=w._replace(W=w.W / f), inputs=world.inputs * f)

    ones = _ones(problem)
    return Change("input scale", _listed(c), apply, kind, ones._replace(W=ones.W / c))


def _input_shift(a: Tensor, kind: str) -> Change:
    def apply(world: World) -> World:
        s, w = _like(a, world), world.weights
        return replace(world, weights=w._replace(b=w.b - w.W @ s), inputs=world.inputs + s)

    return Change("input shift", "a" + _listed(a)[1:], apply, kind)


def _input_basis(row: str, basis: Tensor, factors: str) -> Change:
    def apply(world: World) -> World:
        w, dtype = world.weights, world.inputs.dtype
        W = torch.linalg.solve(basis, w.W.double(), left=False).to(dtype)
        inputs = (world.inputs.double() @ basis.T).to(dtype)
        return replace(world, weights=w._replace(W=W), inputs=inputs)

    return Change(row, factors, apply)


def _hidden_scale(problem: Problem, c: Tensor, kind: str) -> Change:
    def apply(world: World) -> World:
        f, w = _like(c, world), world.weights
        return replace(world, weights=Weights(w.W * f[:, None], w.b * f, w.V / f, w.c))

    ones = _ones(problem)
    ratio = Weights(ones.W * c[:, None], ones.b * c, ones.V / c, ones.c)
    return Change("hidden scale", _listed(c), apply, kind, ratio)


def _permutation(order: Tensor) -> Change:
    def apply(world: World) -> World:
        w = world.weights
        return replace(world, weights=Weights(w.W[order], w.b[order], w.V[:, order], w.c))

    return Change("hidden permutation", "random order", apply)


def _output_rotation(R: Tensor) -> Change:
    def apply(world: World) -> World:
        r, w = _like(R, world), world.weights
        return replace(
            world,
            weights=w._replace(V=r @ w.V, c=r @ w.c),
            targets=world.targets @ r.T,
            read=lambda u: u @ r,
        )

    return Change("output rotation", "random R", apply)


def loss_units() -> tuple[Change, ...]:
    """The loss in bits for nats, and in other units; of any training."""
    factors = (("1/ln 2", 1 / math.log(2), "plain"), ("2", 2.0, "dyadic"))
    extremes = (("1e6", 1e6, "extreme"), ("1e-6", 1e-6, "extreme"))
    return tuple(_loss_unit(f, kind, text) for text, f, kind in (*factors, *extremes))


def _loss_unit(factor: float, kind: str, text: str) -> Change:
    return Change(
        "loss unit", f"loss × {text}", lambda world: world.louder(factor), kind, loss_ratio=factor
    )


def _target_unit(problem: Problem, a: float, kind: str) -> Change:
    def apply(world: World) -> World:
        w = world.weights
        return replace(
            world,
            weights=w._replace(V=w.V * a, c=w.c * a),
            targets=world.targets * a,
            read=lambda u: u / a,
        )

    ones = _ones(problem)
    ratio = ones._replace(V=ones.V * a, c=ones.c * a)
    return Change("target unit", f"a = {a:g}", apply, kind, ratio, a * a)
