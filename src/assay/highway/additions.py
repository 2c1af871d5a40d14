"""Finds the additions at which a skip path is joined.

An addition joins a skip path when one side *carries* a value (see `carry`) from which the other side,
the diversion, is computed through weights. The graph is swept backward from the addition, newest node
first, so each question looks only at what ran between the addition and the value it carries.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from assay.highway.carry import Carry, Gate, carries
from assay.highway.graph import Edge, Graph
from assay.highway.operators import NORM, PARTITION, PROJECTION, RESAMPLING, SUMS

# What is known of a way down from one side of an addition.
_CROPPED, _PROJECTED, _GATED = 1, 2, 4  # of a carried way
_WEIGHTS, _BENT, _PART = 1, 2, 4  # of any way: weights, a nonlinearity, a part of the value
_ACCUMULATES = 16  # ungated additions of one line passed before calling it an accumulator
_NODES = 2_000_000  # nodes swept for all additions of a model, seconds of work
_NODES_LEFT = 1_000  # and for each one after that: a block, or a step in time

Sides = list[list[int]]
# What is known of the ways from an addition to a value: kind of way -> set of sides, as bits.
Ways = dict[int, int]


@dataclass
class Crossing:
    """What lies on a stretch of skip path."""

    gates: list[Gate] = field(default_factory=list)
    norm: bool = False
    activation: bool = False
    projection: bool = False

    def include(self, carry: Carry) -> None:
        """Add what one node does to the carried value."""
        if carry.gate is not None:
            self.gates.append(carry.gate)
        self.norm |= carry.norm
        self.activation |= carry.activation
        self.projection |= carry.projection


@dataclass
class Addition:
    """A place where a diversion is added to (or concatenated with) a skip path.

    Args:
        node: The addition.
        source: The node whose value is carried to it.
        output: Which output of that node.
        skip: Which side carries it.
        recurrent: Whether it was found by repetition: a gated state whose diversion does not read it.
        crossing: What lies between the source and the addition.
        parent: The addition before it on the path, or None.
        stretch: What lies between that one and the source.
    """

    node: int
    source: int
    output: int
    skip: int
    recurrent: bool
    crossing: Crossing
    parent: int | None = None
    stretch: Crossing = field(default_factory=Crossing)


def find_additions(graph: Graph) -> dict[int, Addition]:
    """All additions (not concatenations) that join a skip path.

    Args:
        graph: The autograd graph.

    Returns:
        Additions by node, each with the one before it on its path.
    """
    found: dict[int, Addition] = {}
    for node in range(len(graph)):
        if graph.stems[node] in SUMS and graph.data[node]:
            addition = _addition(graph, node, found)
            if addition is not None:
                found[node] = addition
    return found


def sides_of(graph: Graph, node: int) -> Sides:
    """The operands of an addition or concatenation, grouped into its sides; nodes by side."""
    if graph.stems[node] == "Cat":
        return [[edge.node] if edge.node >= 0 else [] for edge in graph.inputs[node]]
    edges = graph.inputs[node]
    return [
        [edges[k].node for k in side if k < len(edges) and edges[k].node >= 0]
        for side in SUMS[graph.stems[node]]
    ]


def _addition(graph: Graph, node: int, found: dict[int, Addition]) -> Addition | None:
    sides = sides_of(graph, node)
    if sum(any(graph.data[child] for child in side) for side in sides) < 2:
        return None
    hit = sweep(graph, node)
    projected = False
    if hit is None:
        hit = sweep(graph, node, projections=True)
        projected = hit is not None
        if hit is None or not _dominates(graph, node, hit.source.node):
            return None
    others = [child for k, side in enumerate(sides) if k != hit.skip for child in side]
    source = hit.source.node
    reach = _carried_from(graph, node, source, projected)
    if not projected and not any(_is_fresh(graph, child, source, reach) for child in others):
        return None  # z·h + h: a factor of h, not an addition to it
    addition = Addition(node, *hit.source, hit.skip, hit.recurrent, Crossing())
    return addition if _trace(graph, addition, reach, projected, set(others), found) else None


def _trace(
    graph: Graph,
    addition: Addition,
    reach: set[int],
    projected: bool,
    others: set[int],
    found: dict[int, Addition],
) -> bool:
    """Walk the skip side down to the source, and on to the addition before.

    Returns:
        Whether the value arrives with a positive sign: c − h is a difference, not a step from h.
    """
    crossing, node, source = addition.crossing, addition.node, addition.source
    sides = SUMS[graph.stems[node]]
    parents: list[int] = []
    beside: list[Carry] = []
    pending: list[tuple[int, bool]] = []
    seen, positive = set[int](), False
    for carry in carries(graph, node, projections=projected):
        if carry.position in sides[addition.skip] and carry.child in reach:
            crossing.include(carry)
            pending.append((carry.child, carry.negative))
        elif carry.child in reach:
            beside.append(carry)
    while pending:
        top, negative = pending.pop()
        positive |= not negative and (top == source or top in found)
        if top in found:
            if others.isdisjoint(child for side in sides_of(graph, top) for child in side):
                parents.append(top)
                continue
            del found[top]  # (h − c)·z + c is one addition, written as two
        if top in seen or top == source:
            continue
        seen.add(top)
        for carry in carries(graph, top, projections=projected):
            if carry.child in reach:
                crossing.include(carry)
                pending.append((carry.child, negative != carry.negative))
    if not positive:
        return False
    for carry in beside:
        # h + z·(c − h): what the other side takes away again is a gate as well
        crossing.gates += _taken_away(graph, carry, source, reach)
    if crossing.gates:  # m·cell(h) + (1 − m)·h: the cell's own addition is a part of this one
        for inner in _carried_through(graph, beside, source, reach):
            if inner in found and found[inner].source == source:
                crossing.gates += found.pop(inner).crossing.gates
    _settle(crossing)
    stretch = addition.stretch
    addition.parent = max(parents) if parents else _addition_before(graph, source, found, stretch)
    _settle(stretch)
    return True


def _carried_through(
    graph: Graph, start: Iterable[Carry], source: int, reach: set[int]
) -> set[int]:
    seen, stack = set[int](), [carry.child for carry in start]
    while stack:
        node = stack.pop()
        if node not in seen and node != source:
            seen.add(node)
            stack += [c.child for c in carries(graph, node) if c.child in reach]
    return seen


def _settle(crossing: Crossing) -> None:
    """The gain of a norm is part of the norm, and a norm after a projection is part of that."""
    if crossing.norm:
        crossing.gates = [gate for gate in crossing.gates if gate.kind == "data"]
    crossing.norm &= not crossing.projection


def _addition_before(
    graph: Graph, source: int, found: dict[int, Addition], stretch: Crossing
) -> int | None:
    """The nearest addition above a carried value, and what lies between, into `stretch`."""
    ways: dict[int, list[Carry]] = {source: []}
    heap = [-source]
    while heap:
        node = -heapq.heappop(heap)
        if node in found:
            for carry in ways[node]:
                stretch.include(carry)
            return node
        step = carries(graph, node)
        if graph.stems[node] in SUMS and len(step) > 1:
            continue  # a sum of several: none of them is carried alone
        for carry in step:
            if carry.child not in ways:
                ways[carry.child] = [*ways[node], carry]
                heapq.heappush(heap, -carry.child)
    return None


def _taken_away(graph: Graph, first: Carry, source: int, reach: set[int]) -> list[Gate]:
    found: list[Gate] = []
    stack = [(first, first.negative, [first.gate] if first.gate else [])]
    while stack:
        carry, negative, gates = stack.pop()
        if carry.child == source:
            if negative:
                found += [
                    Gate(g.kind, g.node, None if g.keeps is None else not g.keeps) for g in gates
                ]
            continue
        for below in carries(graph, carry.child):
            if below.child in reach:
                more = [below.gate] if below.gate else []
                stack.append((below, negative != below.negative, gates + more))
    return found


@dataclass(frozen=True)
class Hit:
    """What a sweep found: the source, the side that carries it, and how it was recognised."""

    source: Edge
    skip: int
    recurrent: bool = False


class _Frontier:
    """Values still to look at, newest first, with what is known of the ways to them."""

    def __init__(self) -> None:
        self.carried: dict[Edge, Ways] = {}
        self.reached: dict[Edge, Ways] = {}
        self.heap: list[tuple[int, int]] = []
        self.waiting = 0  # carried values in the heap; without one there is nothing to find

    def mark(self, table: dict[Edge, Ways], value: Edge, known: int, who: int) -> None:
        if value not in self.carried and value not in self.reached:
            heapq.heappush(self.heap, (-value.node, value.output))
        if table is self.carried and value not in table:
            self.waiting += 1
        ways = table.setdefault(value, {})
        ways[known] = ways.get(known, 0) | who

    def pop(self) -> tuple[Edge, Ways, Ways]:
        node, output = heapq.heappop(self.heap)
        value = Edge(-node, output)
        ways = self.carried.get(value, {})
        self.waiting -= bool(ways)
        return value, ways, self.reached.get(value, {})


def sweep(graph: Graph, start: int, *, projections: bool = False) -> Hit | None:
    """Find the newest value that one side carries and another is computed from.

    Args:
        graph: The graph.
        start: The addition or concatenation.
        projections: Let the carried way cross one linear map; the other has to be nonlinear then.

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
        side = _match(ways, others)
        if side is not None and node not in graph.leaf:
            return Hit(value, side)
        if ways and place is not None and graph.place(node) == place:
            gated = [
                who for known, who in ways.items() if known & _GATED and not known & _PROJECTED
            ]
            if gated and recurrence is None:
                recurrence = Hit(value, gated[0].bit_length() - 1, recurrent=True)
            passed += 1
            if passed > _ACCUMULATES:
                break
        step = carries(graph, node, projections=projections)
        shared = reduce(or_, others.values(), 0)
        for carry in step:
            below = Edge(carry.child, carry.output)
            if _is_dead_end(graph, below, projections):
                continue
            for known, who in ways.items():
                if carry.projection:
                    # a map that the diversion goes through as well lies above both, not on the skip
                    if known & _PROJECTED or shared & ~who:
                        continue
                front.mark(front.carried, below, known | _known(carry), who)
        if others:
            _pass_on(graph, front, node, others, step)
    return recurrence


def _start(graph: Graph, start: int, projections: bool) -> _Frontier:
    front = _Frontier()
    concatenation = graph.stems[start] == "Cat"
    edges = graph.inputs[start]
    sides = [(k,) for k in range(len(edges))] if concatenation else SUMS[graph.stems[start]]
    owner = {position: 1 << k for k, side in enumerate(sides) for position in side}
    for position, edge in enumerate(edges):
        if edge.node >= 0 and position in owner:
            front.mark(front.reached, edge, 0, owner[position])
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
    return _CROPPED * carry.crop | _PROJECTED * carry.projection | _GATED * (carry.gate is not None)


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
            bent = other & _BENT or not known & _PROJECTED
            whole = not other & _PART or not known & _CROPPED
            if other & _WEIGHTS and bent and whole:
                fit |= sides
        for side in range(who.bit_length()):
            if who >> side & 1 and fit & ~(1 << side):
                return side
    return None


def _dominates(graph: Graph, start: int, source: int) -> bool:
    """Whether no data enters between the source and the addition from elsewhere."""
    seen, stack = {source}, [start]
    while stack:
        node = stack.pop()
        if node in seen or not graph.data[node]:
            continue
        if node < source or not graph.children(node):
            return False
        seen.add(node)
        stack += graph.children(node)
    return True


def _carried_from(graph: Graph, start: int, source: int, projections: bool) -> set[int]:
    """The nodes between through which the source's value is carried to the addition."""
    edges: dict[int, list[int]] = {}
    stack = [start]
    while stack:
        node = stack.pop()
        if node not in edges and node > source:
            edges[node] = [c.child for c in carries(graph, node, projections=projections)]
            stack += edges[node]
    reach = {source}
    for node in sorted(edges):
        if not reach.isdisjoint(edges[node]):
            reach.add(node)
    return reach


def _is_fresh(graph: Graph, node: int, source: int, reach: set[int]) -> bool:
    """Whether a side adds anything beside a multiple of the carried value itself."""
    pending, seen = [node], set[int]()
    while pending:
        top = pending.pop()
        if top == source or top in seen:
            continue
        seen.add(top)
        if top not in reach:
            return True
        if graph.stems[top] in SUMS:
            pending += [child for child in graph.children(top) if graph.data[child]]
        else:
            pending += [c.child for c in carries(graph, top) if c.child in reach]
    return False
