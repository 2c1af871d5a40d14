"""Skip paths that are concatenated instead of added: DenseNet, U-Net."""

from __future__ import annotations

from assay.highway.additions import Addition, Crossing
from assay.highway.graph import Graph
from assay.highway.operators import IDENTITY, NORM
from assay.highway.sweep import sweep

_THROUGH = NORM | IDENTITY | frozenset(["Relu", "Silu", "Gelu", "LeakyRelu", "Elu"])


def find_concatenations(graph: Graph) -> dict[int, Addition]:
    """Concatenations of a value with something computed from it, along the feature dimension.

    Args:
        graph: The autograd graph.

    Returns:
        In the form of additions, by node; those that share an operand are on one path.
    """
    consumers = _consumers(graph)
    found: dict[int, Addition] = {}
    for node in range(len(graph)):
        if graph.stems[node] != "Cat" or not graph.data[node]:
            continue
        if not _joins_features(graph, node, consumers):
            continue  # outputs of several steps or images put side by side
        hit = sweep(graph, node)
        if hit is None:
            continue
        operands = graph.operands(node)
        made_from = {edge.node for edge in operands}
        before = [
            other
            for other in found
            if other in made_from or not operands.isdisjoint(graph.operands(other))
        ]
        parent = max(before) if before else None
        found[node] = Addition(node, *hit.source, hit.skip, False, Crossing(), parent)
    return found


def _consumers(graph: Graph) -> dict[int, list[int]]:
    consumers: dict[int, list[int]] = {}
    for node in range(len(graph)):
        for child in graph.children(node):
            consumers.setdefault(child, []).append(node)
    return consumers


def _joins_features(graph: Graph, node: int, consumers: dict[int, list[int]]) -> bool:
    """Whether it is along the dimension that the next weights mix."""
    operation = graph.operations[node]
    if operation is None:
        return False
    given = operation.operands[1] if len(operation.operands) > 1 else 0.0
    dimension = int(given) if isinstance(given, float) else 0
    dimension %= max(operation.rank, 1)
    convolved = False
    pending, seen = list(consumers.get(node, ())), set[int]()
    while pending:
        top = pending.pop()
        if top in seen:
            continue
        seen.add(top)
        if graph.mixes(top):
            convolved |= "Conv" in graph.stems[top]
        elif graph.stems[top] in _THROUGH:
            pending += consumers.get(top, ())
    return dimension == (1 if convolved or operation.rank > 3 else operation.rank - 1)
