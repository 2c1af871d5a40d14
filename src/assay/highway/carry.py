"""Which inputs of a node come out of it again, and what happens to them on the way.

An input is *carried* when the output holds it element by element: unchanged, scaled, normalised or
through a rectifier. A chain of carried values is what a skip path is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from assay.highway.graph import Graph
from assay.highway.operators import (
    ACTIVATION,
    CROP,
    IDENTITY,
    NORM,
    PROJECTION,
    REDUCTION,
    RESAMPLING,
    SUMS,
)
from assay.highway.record import Origin

GateKind = Literal["constant", "data"]
_NEAR = 48  # nodes looked at to tell x·rsqrt(mean x²) from a gate; written-out norms take about ten


@dataclass(frozen=True, slots=True)
class Gate:
    """A factor on a skip path.

    Args:
        kind: "data" where it depends on the model's inputs or state, else "constant".
        node: The node that made it, or -1 where it is not in the graph.
        keeps: Whether a larger value keeps more of the old state; None where that is not known.
    """

    kind: GateKind
    node: int = -1
    keeps: bool | None = True


@dataclass(frozen=True, slots=True)
class Carry:
    """One carried input.

    Args:
        position: Which argument of the operator.
        child: The node that made it.
        output: Which output of that node it is.
        gate: What it is multiplied with.
        negative: Whether it is subtracted.
        norm: Whether it is normalised.
        activation: Whether it goes through a rectifier.
        crop: Whether only a part of it is carried.
        projection: Whether it goes through a linear map or a resampling.
        resampling: Whether that is a resampling, which has no weights.
    """

    position: int
    child: int
    gate: Gate | None = None
    negative: bool = False
    norm: bool = False
    activation: bool = False
    crop: bool = False
    projection: bool = False
    resampling: bool = False
    output: int = 0


def carries(graph: Graph, node: int, *, projections: bool = False) -> list[Carry]:
    """The carried inputs of a node.

    Args:
        graph: The graph.
        node: Index of the node.
        projections: Also count linear maps and resampling.

    Returns:
        One entry for every carried input that depends on data.
    """
    key = ("carries", node, projections)
    if key not in graph.memo:
        graph.memo[key] = _carries(graph, node, projections)
    found: list[Carry] = graph.memo[key]
    return found


def _carries(graph: Graph, node: int, projections: bool) -> list[Carry]:
    stem = graph.stems[node]
    if stem in IDENTITY or stem in CROP:
        found = [Carry(0, -1, crop=stem in CROP)]
    elif stem in NORM:
        found = [Carry(0, -1, norm=True)]
    elif stem in ACTIVATION:
        found = [Carry(0, -1, activation=True)]
    elif stem in _SCALED:
        found = _SCALED[stem](graph, node)
    elif projections and stem in RESAMPLING:
        found = [Carry(0, -1, projection=True, resampling=True)]
    elif projections and stem in PROJECTION and graph.mixes(node):
        found = [Carry(k, -1, projection=True) for k in range(len(graph.inputs[node]))]
    elif stem.startswith("ThnnFused"):
        found = [Carry(2, -1, gate=Gate("data"))]
    elif stem in SUMS:
        found = [Carry(0, -1)]  # torch.addmm(h, x, W) and its kin
    else:
        return []
    edges = graph.inputs[node]
    return [
        replace(c, child=edges[c.position].node, output=edges[c.position].output)
        for c in found
        if c.position < len(edges)
        and edges[c.position].node >= 0
        and graph.data[edges[c.position].node]
    ]


def _child(graph: Graph, node: int, position: int) -> int:
    edges = graph.inputs[node]
    return edges[position].node if position < len(edges) else -1


def _factor(graph: Graph, node: int, value: int, factor: int, operand: int) -> Carry:
    """The carry of argument `value` of a product whose other edge is `factor`."""
    plain = Carry(value, -1)
    child = _child(graph, node, factor)
    if child < 0:
        made = graph.operand(node, operand)
        if made == 1.0 and not isinstance(made, Origin):
            return plain
        if made is Origin.NOISE:  # a dropout mask
            return plain
        data = isinstance(made, Origin) and bool(made & Origin.DATA)
        return replace(plain, gate=Gate("data" if data else "constant", keeps=None))
    if not graph.data[child]:
        return replace(plain, gate=Gate("constant", child))
    own = _made_from(graph, _child(graph, node, value), child)
    if own is not None:
        return replace(plain, norm=own == "norm", activation=own == "activation")
    return replace(plain, gate=Gate("data", child))


def _made_from(graph: Graph, value: int, factor: int) -> Literal["norm", "activation"] | None:
    """Whether a factor is a function of the very value it multiplies, without parameters.

    RMSNorm and x·sigmoid(x) look like gates; this tells them apart from one.

    Returns:
        "norm" where a reduction is on the way (x / rms(x)), "activation" where none is, None for a gate.
    """
    if value < 0:
        return None
    same, pending = set[int](), [value]
    while pending and len(same) < 8:  # x − mean(x) is still x
        node = pending.pop()
        if node not in same and not (graph.mixes(node) or graph.stems[node] in REDUCTION):
            same.add(node)
            if graph.stems[node] in IDENTITY or graph.stems[node] in ("Add", "Sub"):
                pending += graph.children(node)
    seen, stack = set[int](), [(factor, False)]
    while stack and len(seen) < _NEAR:
        node, reduced = stack.pop()
        if node in seen or graph.parameters(node) or node in graph.opaque:
            continue
        seen.add(node)
        if node in same and node != factor:
            return "norm" if reduced else "activation"
        reduced |= graph.stems[node] in REDUCTION
        stack += [(child, reduced) for child in graph.children(node)]
    return None


def _mul(graph: Graph, node: int) -> list[Carry]:
    return [_factor(graph, node, 0, 1, 1), _factor(graph, node, 1, 0, 0)]


def _div(graph: Graph, node: int) -> list[Carry]:
    return [_factor(graph, node, 0, 1, 1)]


def _add(graph: Graph, node: int) -> list[Carry]:
    return [Carry(0, -1), Carry(1, -1)]


def _sub(graph: Graph, node: int) -> list[Carry]:
    return [Carry(0, -1), Carry(1, -1, negative=True)]


def _neg(graph: Graph, node: int) -> list[Carry]:
    return [Carry(0, -1, negative=True)]


def _lerp(graph: Graph, node: int) -> list[Carry]:
    """A + w (b − a): the weight updates a and keeps b."""
    weight = _child(graph, node, 2)
    data = weight >= 0 and graph.data[weight]
    if weight < 0:
        made = graph.operand(node, 2)
        data = isinstance(made, Origin) and bool(made & Origin.DATA)
    gate = Gate("data" if data else "constant", weight)
    return [Carry(0, -1, gate=replace(gate, keeps=False)), Carry(1, -1, gate=gate)]


def _where(graph: Graph, node: int) -> list[Carry]:
    condition = graph.operand(node, 0)
    data = isinstance(condition, Origin) and bool(condition & Origin.DATA)
    gate = Gate("data" if data else "constant", keeps=None)
    return [Carry(0, -1, gate=gate), Carry(1, -1, gate=gate)]


def _addcmul(graph: Graph, node: int) -> list[Carry]:
    return [Carry(0, -1), _factor(graph, node, 1, 2, 2), _factor(graph, node, 2, 1, 1)]


_SCALED = {
    "Mul": _mul,
    "Div": _div,
    "Add": _add,
    "Sub": _sub,
    "Neg": _neg,
    "Lerp": _lerp,
    "Where": _where,
    "Addcmul": _addcmul,
}
