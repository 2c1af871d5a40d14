"""From a chain of nodes in the graph to a path in the user's words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from torch import nn

from assay.highway.carry import Gate
from assay.highway.chains import Chain, nearest_parameters
from assay.highway.gates import GateBias, fused_biases, gate_biases
from assay.highway.graph import Edge, Graph
from assay.highway.operators import STATES
from assay.highway.paths import SkipPath
from assay.where import Location

_GATES = 8  # gates of a path that are looked at; those of other steps are the same


def route_of(graph: Graph, chain: Chain) -> list[Edge]:
    """The values at the stations of a chain, from its end to its start."""
    route = [Edge(node, STATES.get(graph.stems[node], 0)) for node in reversed(chain.nodes)]
    return route if chain.source < 0 else [*route, Edge(chain.source, chain.output)]


def describe(model: nn.Module, graph: Graph, chain: Chain, *, concatenated: bool) -> SkipPath:
    """All of a path but its gradients.

    Args:
        model: The model.
        graph: The graph.
        chain: A chain in it.
        concatenated: Whether it is one of concatenations.

    Returns:
        The path; half-life and retention are NaN.
    """
    gate, keeps, biases = _gate(model, graph, chain)
    makers = nearest_parameters(graph, [gate.node]) if gate else frozenset[str]()
    if gate and not makers:
        makers = graph.parameters(gate.node)
    return SkipPath(
        length=len(chain.nodes),
        tied=chain.tied,
        gate=chain.gate,
        norm_on_skip=chain.norm,
        half_life=math.nan,
        retention=math.nan,
        where=_most_frequent(graph, chain.nodes),
        kind=_kind(chain, concatenated),
        modules=modules_of(graph, chain.nodes),
        growth=_growth(graph, chain),
        activation_on_skip=chain.activation,
        projections=chain.projections,
        shared=chain.shared,
        gate_parameters=tuple(sorted(makers)),
        gate_biases=biases,
        gate_keeps=keeps,
    )


def _gate(
    model: nn.Module, graph: Graph, chain: Chain
) -> tuple[Gate | None, bool | None, tuple[GateBias, ...]]:
    """The gate that a chain is named after: the first whose bias is known, else the first in the graph."""
    gates = [gate for gate in chain.gates if gate.kind == chain.gate][:_GATES]
    described = [(gate, *gate_biases(graph, gate)) for gate in gates if gate.node >= 0]
    if not described:
        biases = fused_biases(model, chain.shared) if chain.tied and chain.gate == "data" else ()
        return None, biases[0].keeps if biases else None, biases
    return next((found for found in described if found[2]), described[0])


def _growth(graph: Graph, chain: Chain) -> float:
    rms = [op.rms for node in chain.nodes if (op := graph.operations[node]) and op.rms > 0]
    if not rms:
        return math.nan
    return rms[-1] / (rms[0] if chain.source >= 0 else 1.0)


def _kind(chain: Chain, concatenated: bool) -> str:
    words = ["concatenation" if concatenated else "identity"]
    if chain.gate == "data":
        words = ["gated by data"]
    elif chain.gate == "constant":
        words = ["scaled by a constant"]
    if chain.projections:
        words.append(f"{chain.projections} projected")
    if chain.norm:
        words.append("norm on the skip")
    if chain.activation:
        words.append("rectifier on the skip")
    return ", ".join(words)


def modules_of(graph: Graph, nodes: Sequence[int]) -> tuple[str, ...]:
    """The module that each node ran in."""
    return tuple(op.module if (op := graph.operations[node]) else "" for node in nodes)


def _most_frequent(graph: Graph, nodes: Sequence[int]) -> Location | None:
    lines = Counter(op.where for node in reversed(nodes) if (op := graph.operations[node]))
    return lines.most_common(1)[0][0] if lines else None
