"""Sweeps the graph backward from an addition, for a value that one side carries and another is made of.

A way is a path through the graph, from the addition down to a value. The sweep keeps no paths, only which
kinds of way there are to each value, and from which sides of the addition: that is enough, and is small.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import reduce
from operator import or_

from assay.highway.carry import Carry, carries
from assay.highway.graph import Edge, Graph
from assay.highway.operators import NORM, PARTITION, PROJECTION, RESAMPLING, STATES, SUMS

# What is known of a way down from one side of an addition.
_CROPPED, _PROJECTED, _GATED, _RESAMPLED = 1, 2, 4, 8  # of a carried way
_LINEAR = _PROJECTED | _RESAMPLED
_WEIGHTS, _BENT, _PART = 1, 2, 4  # of any way: weights, a nonlinearity, a part of the value
_ACCUMULATES = 16  # ungated additions of one line passed before calling it an accumulator
_NODES = 2_000_000  # nodes swept for all additions of a model, seconds of work
_NODES_LEFT = 1_000  # and for each one after that: a block, or a step in time

# What is known of the ways from an addition to a value: kind of way -> set of sides, as bits.
Ways = dict[int, int]


@dataclass(frozen=True)
class Hit:
    """What a sweep found: the source, the side that carries it, and how it was recognised."""

    source: Edge
    skip: int
    recurrent: bool = False


class _Frontier:
    """Values still to look at, newest first, with what is known of the ways to them."""

    def __init__(self, data: list[bool]) -> None:
        self.data = data
        self.carried: dict[Edge, Ways] = {}
        self.reached: dict[Edge, Ways] = {}
        self.heap: list[tuple[int, int]] = []
        self.waiting = 0  # carried values in the heap; without one there is nothing to find
        self.open = 0  # values in the heap that depend on data; without one all ways have met

    def mark(self, table: dict[Edge, Ways], value: Edge, known: int, who: int) -> None:
        if value not in self.carried and value not in self.reached:
            heapq.heappush(self.heap, (-value.node, value.output))
            self.open += self.data[value.node]
        if table is self.carried and value not in table:
            self.waiting += 1
        ways = table.setdefault(value, {})
        ways[known] = ways.get(known, 0) | who

    def pop(self) -> tuple[Edge, Ways, Ways]:
        node, output = heapq.heappop(self.heap)
        value = Edge(-node, output)
        ways = self.carried.get(value, {})
        self.waiting -= bool(ways)
        self.open -= self.data[value.node]
        return value, ways, dict(self.reached.get(value, {}))


def sweep(graph: Graph, start: int, *, projections: bool = False) -> Hit | None:
    """Find the newest value that one side carries and another is computed from.

    Args:
        graph: The graph.
        start: The addition or concatenation.
        projections: Let the carried way cross one linear map with weights, and resampling; the other has
            to be nonlinear then.

    Returns:
        The source, or None where no side is a skip path.
    """
    front = _start(graph, start, projections)
    place = None if graph.stems[start] == "Cat" else graph.place(start)
    passed, swept = 0, 0
    recurrence: Hit | None = None
    limit = max(_NODES - graph.memo.get("swept", 0), _NODES_LEFT)
    while front.heap and front.waiting and swept < limit:
        value, ways, others = front.pop()
        node = value.node
        swept += 1
        graph.memo["swept"] = graph.memo.get("swept", 0) + 1
        if (
            graph.stems[node] in STATES
        ):  # an LSTM's hidden state is made from the state that it carries
            for known, who in front.reached.get(Edge(node, 0), {}).items():
                others[known] = others.get(known, 0) | who
        side = _match(ways, others)
        if side is not None and node not in graph.leaf:
            return Hit(value, side)
        if ways and place is not None and graph.place(node) == place:
            gated = [who for known, who in ways.items() if known & _GATED and not known & _LINEAR]
            if gated and recurrence is None:
                recurrence = Hit(value, gated[0].bit_length() - 1, recurrent=True)
            passed += 1
            if passed > _ACCUMULATES:
                break
        if not front.open:
            break  # all sides are functions of this one value, so what made it is on no side
        step = carries(graph, node, projections=projections)
        shared = reduce(or_, others.values(), 0)
        for carry in step:
            below = Edge(carry.child, carry.output)
            if _is_dead_end(graph, below, projections):
                continue
            for known, who in ways.items():
                # a map that the diversion goes through as well lies above both, not on the skip
                again = known & _PROJECTED and not carry.resampling
                if carry.projection and (again or shared & ~who):
                    continue
                front.mark(front.carried, below, known | _known(carry), who)
        if others:
            _pass_on(graph, front, node, others, step)
    return recurrence


def _start(graph: Graph, start: int, projections: bool) -> _Frontier:
    front = _Frontier(graph.data)
    concatenation = graph.stems[start] == "Cat"
    edges = graph.inputs[start]
    sides = [(k,) for k in range(len(edges))] if concatenation else SUMS[graph.stems[start]]
    owner = {position: 1 << k for k, side in enumerate(sides) for position in side}
    weighs = _WEIGHTS if graph.mixes(start) else 0  # h + x W in one: torch.addmm(h, x, W)
    for position, edge in enumerate(edges):
        if edge.node >= 0 and position in owner:
            front.mark(front.reached, edge, weighs if position else 0, owner[position])
            if concatenation and graph.data[edge.node]:
                front.mark(front.carried, edge, 0, owner[position])
    for carry in carries(graph, start, projections=projections):
        if carry.position in owner:
            value = Edge(carry.child, carry.output)
            if not _is_dead_end(graph, value, projections):
                front.mark(front.carried, value, _known(carry), owner[carry.position])
    return front


def _is_dead_end(graph: Graph, value: Edge, projections: bool) -> bool:
    """A value that is carried from nowhere and read only here cannot be where a diversion left."""
    if graph.stems[value.node] in STATES:  # the diversion leaves by another output
        return False
    return graph.is_read_once(value) and not carries(graph, value.node, projections=projections)


def _pass_on(graph: Graph, front: _Frontier, node: int, others: Ways, step: list[Carry]) -> None:
    """Mark the inputs of a node as reached, with what the node adds to the ways."""
    gain = _below(graph, node, step)
    mixed = bool(gain & (_BENT | _WEIGHTS))  # afterwards every part depends on every other
    for edge in graph.inputs[node]:
        if edge.node >= 0:
            for known, who in others.items():
                kept = known & ~_PART if mixed else known
                front.mark(front.reached, edge, kept | gain, who)


def _known(carry: Carry) -> int:
    linear = _RESAMPLED if carry.resampling else _PROJECTED
    return _CROPPED * carry.crop | linear * carry.projection | _GATED * (carry.gate is not None)


def _below(graph: Graph, node: int, step: list[Carry]) -> int:
    """What a node adds to the knowledge of a way that passes through it."""
    stem = graph.stems[node]
    if stem in PARTITION:
        return _PART
    if graph.mixes(node):
        return _WEIGHTS | (_BENT if node in graph.opaque else 0)
    if any(carry.activation for carry in step):
        return _BENT
    linear = stem in PROJECTION or stem in RESAMPLING or stem in NORM or stem == "Cat"
    return 0 if step or linear else _BENT


def _match(ways: Ways, others: Ways) -> int | None:
    for known, who in sorted(ways.items()):
        fit = 0
        for other, sides in others.items():
            bent = other & _BENT or not known & _LINEAR
            whole = not other & _PART or not known & _CROPPED
            if other & _WEIGHTS and bent and whole:
                fit |= sides
        for side in range(who.bit_length()):
            if who >> side & 1 and fit & ~(1 << side):
                return side
    return None
