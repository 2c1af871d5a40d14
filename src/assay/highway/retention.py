"""How much of a gradient survives a path: norms at its stations, from one backward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from assay.errors import UserCodeError
from assay.highway.graph import Edge, Graph

_FLAT = 1e-9  # slopes below it (in halvings per step) are rounding


def gradient_norms(
    graph: Graph, objective: Tensor, routes: Sequence[Sequence[Edge]]
) -> list[tuple[float, ...]]:
    """Norms of the gradient along each route, as fractions of the norm at its end.

    The objective's gradient at the end of the route is sent back from there alone, so what the loss
    reads along the way does not count: this is ‖∂L/∂h[t]‖ of a loss that sees the last state only.
    Where the objective has no gradient at the end, a random direction is sent back instead.

    Args:
        graph: The graph; it can be walked again afterwards.
        objective: Its root.
        routes: Values, each route from its end to its start.

    Returns:
        For each route the norms, of which the first is 1; none where the values are empty.

    Raises:
        UserCodeError: If the backward pass raises.
    """
    if not routes:
        return []
    ends = list({route[0]: None for route in routes})
    seeds = _send_back([objective], None, graph, ends)
    at_end = {end: _usable(graph, end, seed) for end, seed in zip(ends, seeds, strict=True)}
    found = []
    for route in routes:
        seed = at_end[route[0]]
        norms: dict[Edge, float] = {}
        hooks = [
            graph.handles[value.node].register_prehook(_keep_norm(norms, value))
            for value in route[1:-1]
        ]
        try:
            if len(route) > 1:
                (start,) = _send_back([_edge(graph, route[0])], [seed], graph, [route[-1]])
                norms[route[-1]] = _norm(start)
        finally:
            for hook in hooks:
                hook.remove()
        norms[route[0]] = whole = _norm(seed)
        found.append(tuple(norms.get(value, 0.0) / whole for value in route) if whole else ())
    return found


def arriving_norms(
    graph: Graph, objective: Tensor, routes: Sequence[Sequence[Edge]]
) -> list[tuple[float, ...]]:
    """Norms of the objective's whole gradient along each route: of all that the loss reads on the way too.

    Args:
        graph: The graph; it can be walked again afterwards.
        objective: Its root.
        routes: Values, each route from its end to its start.

    Returns:
        For each route the norms, as fractions of the largest; none where that is zero or not finite.

    Raises:
        UserCodeError: If the backward pass raises.
    """
    if not routes:
        return []
    norms: dict[Edge, float] = {}
    between = {value: None for route in routes for value in route[1:-1]}
    ends = list({value: None for route in routes for value in (route[0], route[-1])})
    hooks = [
        graph.handles[value.node].register_prehook(_keep_norm(norms, value)) for value in between
    ]
    try:
        gradients = _send_back([objective], None, graph, ends)
    finally:
        for hook in hooks:
            hook.remove()
    norms.update((end, _norm(gradient)) for end, gradient in zip(ends, gradients, strict=True))
    found = []
    for route in routes:
        largest = max(norms.get(value, 0.0) for value in route)
        known = 0 < largest < math.inf
        found.append(tuple(norms.get(value, 0.0) / largest for value in route) if known else ())
    return found


def _send_back(
    outputs: Sequence[Tensor] | Sequence[GradientEdge],
    gradients: Sequence[Tensor] | None,
    graph: Graph,
    values: Sequence[Edge],
) -> tuple[Tensor | None, ...]:
    """Gradients at values of the graph; what raises on the way is the user's."""
    edges = [_edge(graph, value) for value in values]
    try:
        return torch.autograd.grad(
            outputs, edges, grad_outputs=gradients, retain_graph=True, allow_unused=True
        )
    except Exception as error:
        raise UserCodeError("backward", "the objective", error) from error


def half_life(norms: Sequence[float]) -> float:
    """Steps until the gradient halves: a straight line through the logarithms of its norm.

    Args:
        norms: Norms by number of steps back; only those before the first zero count.

    Returns:
        The half-life; infinite where the norm does not fall, 0 where one step leaves nothing, NaN where
        there are no norms or one is not finite.

    Example:
        >>> half_life([1.0, 0.5, 0.25])
        1.0
        >>> half_life([1.0, 1.0, 1.0])
        inf
    """
    if not norms or not all(map(math.isfinite, norms)):
        return math.nan
    alive = [math.log2(norm) for norm in takewhile(lambda norm: norm > 0, norms)]
    if len(alive) < 2:
        return 0.0 if len(norms) > 1 and norms[1] == 0 else math.inf
    centre = (len(alive) - 1) / 2
    mean = math.fsum(alive) / len(alive)
    slope = math.fsum((k - centre) * (y - mean) for k, y in enumerate(alive))
    slope /= math.fsum((k - centre) ** 2 for k in range(len(alive)))
    return -1 / slope if slope < -_FLAT else math.inf


def _edge(graph: Graph, value: Edge) -> GradientEdge:
    return GradientEdge(graph.handles[value.node], value.output)


def _usable(graph: Graph, end: Edge, seed: Tensor | None) -> Tensor:
    if seed is not None and bool((seed != 0).any()):  # NaN is not zero, and is told as it is
        return seed
    shape = graph.handles[end.node]._input_metadata[end.output]
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(tuple(shape.shape), generator=generator)
    return direction.to(device=shape.device, dtype=shape.dtype)


def _keep_norm(norms: dict[Edge, float], value: Edge) -> Any:
    def hook(gradients: tuple[Tensor | None, ...]) -> None:
        norms[value] = _norm(gradients[value.output])

    return hook


def _norm(gradient: Tensor | None) -> float:
    if gradient is None:
        return 0.0
    # in double precision on the CPU, and scaled: squares underflow, of 1e-25 in single precision
    wide = torch.complex128 if gradient.is_complex() else torch.float64
    entries = gradient.detach().cpu().to(wide)
    largest = float(entries.abs().max()) if entries.numel() else 0.0
    if not 0 < largest < math.inf:
        return largest
    return largest * float(torch.linalg.vector_norm(entries / largest))
