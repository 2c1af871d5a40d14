"""Finds the additions at which a skip path is joined.

An addition joins a skip path when one side *carries* a value (see `carry`) from which the other side,
the diversion, is computed through weights. The graph is swept backward from the addition, newest node
first, so each question looks only at what ran between the addition and the value it carries.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from assay.highway.carry import Carry, Gate, carries
from assay.highway.graph import Edge, Graph
from assay.highway.operators import SUMS
from assay.highway.sweep import sweep

_BLOCK = 1_000  # nodes looked at for the one value that a sum is made of


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

    def join(self, other: Crossing) -> None:
        """Add what lies on another stretch."""
        self.gates += other.gates
        self.norm |= other.norm
        self.activation |= other.activation
        self.projection |= other.projection


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


def _addition(graph: Graph, node: int, found: dict[int, Addition]) -> Addition | None:
    sides = graph.sides(node)
    if sum(any(graph.data[edge.node] for edge in side) for side in sides) < 2:
        return None
    hit = sweep(graph, node)
    projected = False
    if hit is None:
        hit = sweep(graph, node, projections=True)
        projected = hit is not None
        if hit is None or not _dominates(graph, node, hit.source.node):
            return None
    others = {edge for k, side in enumerate(sides) if k != hit.skip for edge in side}
    source = hit.source.node
    reach = _carried_from(graph, node, source, projected)
    if not projected and not any(_is_fresh(graph, edge.node, source, reach) for edge in others):
        return None  # z·h + h: a factor of h, not an addition to it
    addition = Addition(node, *hit.source, hit.skip, hit.recurrent, Crossing())
    return addition if _trace(graph, addition, reach, projected, others, found) else None


def _trace(
    graph: Graph,
    addition: Addition,
    reach: set[int],
    projected: bool,
    others: set[Edge],
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
    absorbed: list[int] = []
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
            if others.isdisjoint(graph.operands(top)):
                parents.append(top)
                continue
            absorbed.append(top)  # (h − c)·z + c is one addition, written as two
        if top in seen or top == source:
            continue
        seen.add(top)
        for carry in carries(graph, top, projections=projected):
            if carry.child in reach:
                crossing.include(carry)
                pending.append((carry.child, negative != carry.negative))
    if not positive:
        return False
    for top in dict.fromkeys(absorbed):
        _remove(found, top)
    for carry in beside:
        # h + z·(c − h): what the other side takes away again is a gate as well
        crossing.gates += _taken_away(graph, carry, source, reach)
    if crossing.gates:  # m·cell(h) + (1 − m)·h: the cell's own addition is a part of this one
        for inner in _carried_through(graph, beside, source, reach):
            if inner in found and inner not in parents and found[inner].source == source:
                crossing.gates += _remove(found, inner).crossing.gates
    _settle(crossing)
    stretch = addition.stretch
    addition.parent = max(parents) if parents else _addition_before(graph, source, found, stretch)
    _settle(stretch)
    return True


def _remove(found: dict[int, Addition], node: int) -> Addition:
    """Take an addition off its path, and join the two ends."""
    removed = found.pop(node)
    for later in reversed(found.values()):
        if later.node < node:
            break
        if later.parent == node:
            later.parent = removed.parent
            later.stretch.join(removed.crossing)
            later.stretch.join(removed.stretch)
    return removed


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
            # a sum of several carries none of them alone, but for one that the others are made of
            way = _way_on(graph, node)
            if way and way[-1].child not in ways:
                ways[way[-1].child] = [*ways[node], *way]
                heapq.heappush(heap, -way[-1].child)
            continue
        for carry in step:
            if carry.child not in ways:
                ways[carry.child] = [*ways[node], carry]
                heapq.heappush(heap, -carry.child)
    return None


def _way_on(graph: Graph, node: int) -> list[Carry]:
    """How a sum carries the one value that all of it is made of, as `x + pool(x)` carries x.

    Returns:
        The plainest of the ways that do not subtract it, from the sum down; empty where there is none.
    """
    root = _root(graph, node)
    reach = _carried_from(graph, node, root, False) if root >= 0 else set[int]()
    best: dict[int, list[Carry]] = {node: []}
    for top in sorted(reach, reverse=True):
        for carry in carries(graph, top) if top in best and top != root else ():
            if carry.child in reach and not carry.negative:
                way = [*best[top], carry]
                if carry.child not in best or _bends(way) < _bends(best[carry.child]):
                    best[carry.child] = way
    return best.get(root, [])


def _bends(way: list[Carry]) -> int:
    """How many steps of a way change the value."""
    return sum(carry.gate is not None or carry.norm or carry.activation for carry in way)


def _root(graph: Graph, node: int) -> int:
    """The newest value that everything in `node` is computed from, or -1."""
    heap, seen = [-node], {node}
    for _ in range(_BLOCK):
        top = -heapq.heappop(heap)
        below = [child for child in graph.children(top) if graph.data[child]]
        if top != node and (not heap or not below):
            return -1 if heap else top
        for child in below:
            if child not in seen:
                seen.add(child)
                heapq.heappush(heap, -child)
        if not heap:
            return -1
    return -1


def _taken_away(graph: Graph, first: Carry, source: int, reach: set[int]) -> list[Gate]:
    """The gates on ways that take the carried value away, in the sense in which they keep it."""
    found: list[Gate] = []
    Way = tuple[int, bool, tuple[Gate, ...]]
    stack: list[Way] = []
    if not (first.norm or first.activation):
        stack.append((first.child, first.negative, (first.gate,) if first.gate else ()))
    seen: set[Way] = set()
    while stack:
        way = stack.pop()
        if way in seen:
            continue
        seen.add(way)
        node, negative, gates = way
        if node == source:
            turned = [Gate(g.kind, g.node, None if g.keeps is None else not g.keeps) for g in gates]
            found += turned if negative else []
            continue
        for below in carries(graph, node):
            # what a norm or rectifier made of the value is another one: h + z·(c − norm(h)) keeps h
            if below.child in reach and not (below.norm or below.activation):
                more = (below.gate,) if below.gate else ()
                stack.append((below.child, negative != below.negative, gates + more))
    return found


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
