"""Joins additions into paths, and cuts paths where tying or gating changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from assay.highway.additions import Addition, Crossing
from assay.highway.carry import Gate, GateKind, carries
from assay.highway.graph import Graph
from assay.highway.operators import ELEMENTWISE, SUMS
from assay.highway.record import Origin

_TIED = 0.5  # of a diversion's weights that another one on the path uses as well


@dataclass(frozen=True)
class Chain:
    """A run of additions with one tying and one kind of gate, first to last.

    Args:
        nodes: The additions.
        source: The node of what is carried to the first of them, or -1 for a constant.
        output: Which output of that node.
        tied: Whether the diversions share most of their weights.
        shared: Names of the weights that they share.
        gates: Gates along the path.
        gate: The strongest of them.
        norm: Whether a norm lies on the path.
        activation: Whether a rectifier does.
        projections: How many linear maps do.
    """

    nodes: tuple[int, ...]
    source: int
    output: int
    tied: bool
    shared: tuple[str, ...]
    gates: tuple[Gate, ...]
    gate: GateKind | None
    norm: bool
    activation: bool
    projections: int


@dataclass
class _Link:
    """One addition of a path, with what lies before it."""

    addition: Addition
    weights: frozenset[str]
    after: Crossing = field(default_factory=Crossing)  # between it and the next one's source
    constant: int = -1  # an addition before it whose skip side is a constant

    @property
    def crossings(self) -> tuple[Crossing, Crossing]:
        return self.addition.crossing, self.after

    @property
    def gates(self) -> list[Gate]:
        return [gate for crossing in self.crossings for gate in crossing.gates]


def find_chains(graph: Graph, additions: dict[int, Addition]) -> list[Chain]:
    """The paths, longest first.

    Args:
        graph: The graph.
        additions: Additions (or concatenations) by node.

    Returns:
        Chains that partition the additions.
    """
    chains: list[Chain] = []
    for path in _paths(additions):
        kept = _confirmed([additions[node] for node in path])
        links = [_Link(addition, _weights(graph, addition)) for addition in kept]
        if not links:
            continue
        for link, following in pairwise(links):
            link.after = following.addition.stretch
        if len(links) > 1:  # a loop that scales or normalises after the sum does so at its end too
            links[-1].after = links[-2].after
        chains += [_chain(graph, piece) for piece in _pieces(graph, links)]
    return sorted(chains, key=lambda chain: -len(chain.nodes))


def _paths(additions: dict[int, Addition]) -> Iterable[list[int]]:
    """Longest first, each addition on one path only."""
    depth: dict[int, int] = {}
    for node in sorted(additions):
        parent = additions[node].parent
        depth[node] = 1 + (depth[parent] if parent is not None else 0)
    taken: set[int] = set()
    for end in sorted(depth, key=lambda node: (-depth[node], -node)):
        path: list[int] = []
        top: int | None = end
        while top is not None and top not in taken:
            taken.add(top)
            path.append(top)
            top = additions[top].parent
        if path:
            yield path[::-1]


def _confirmed(path: list[Addition]) -> list[Addition]:
    """Without recurrences that do not recur: one factor and one sum on a line are no loop."""
    loops = sum(addition.recurrent for addition in path)
    return [addition for addition in path if not addition.recurrent or loops >= 2]


def _weights(graph: Graph, addition: Addition) -> frozenset[str]:
    """The weights of a diversion: those that meet what is computed from the source."""
    sides = graph.sides(addition.node)
    start = [edge.node for k, side in enumerate(sides) if k != addition.skip for edge in side]
    if addition.recurrent:
        return nearest_parameters(graph, start)
    own = graph.mixes(addition.node)  # torch.addmm(h, x, W)
    weights = set(graph.parameters(addition.node)) if own else set[str]()
    return frozenset(weights).union(
        *(graph.parameters(node) for node in graph.between(addition.source, start))
    )


def nearest_parameters(graph: Graph, start: Iterable[int]) -> frozenset[str]:
    """The parameters met first on each way up.

    Args:
        graph: The graph.
        start: Nodes to start from.

    Returns:
        Their names.
    """
    weights: set[str] = set()
    seen, stack = set[int](), list(start)
    while stack:
        node = stack.pop()
        if node in seen or not graph.data[node]:
            continue
        seen.add(node)
        if graph.parameters(node):
            weights |= graph.parameters(node)
        else:
            stack += graph.children(node)
    return frozenset(weights)


def _pieces(graph: Graph, links: list[_Link]) -> list[list[_Link]]:
    """Cut where tying or gating by data changes; a group of tied additions stays in one piece."""
    group = _tied_groups(graph, links)
    last = {g: i for i, g in enumerate(group)}
    size = Counter(group)
    pieces: list[tuple[str, list[_Link]]] = []
    end = -1  # the last addition of the tied groups that are open
    for i, (link, g) in enumerate(zip(links, group, strict=True)):
        inside = i <= end
        if size[g] > 1:
            end = max(end, last[g])
        # a constant factor at some of the additions does not end a path: it is the same skip
        data = any(gate.kind == "data" for gate in link.gates)
        kind = "tied" if inside or size[g] > 1 else "data" if data else "plain"
        if pieces and (inside or (kind != "tied" and kind == pieces[-1][0])):
            pieces[-1][1].append(link)
        else:
            pieces.append((kind, [link]))
    for _, piece in pieces:
        first = piece[0]
        if first.addition.parent is None:
            first.constant = _constant_start(graph, first.addition)
    return [piece for _, piece in pieces]


def _tied_groups(graph: Graph, links: list[_Link]) -> list[int]:
    """For each addition, the first one that it shares most of its weights with, transitively."""
    group = list(range(len(links)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    users: dict[str, int] = {}
    totals = [_elements(graph, link.weights) for link in links]
    for i, link in enumerate(links):
        common: Counter[int] = Counter()
        for name in link.weights:
            if name in users:
                common[users[name]] += _elements(graph, [name])
            users[name] = i
        for other, shared in common.items():
            if shared > _TIED * min(totals[i], totals[other]):
                group[root(i)] = root(other)
    return [root(i) for i in range(len(links))]


def _elements(graph: Graph, names: Iterable[str]) -> int:
    total = 0
    for name in names:
        count = 1
        for length in graph.shapes[name]:
            count *= length
        total += count
    return total


def _strongest(gates: Sequence[Gate]) -> GateKind | None:
    kinds = {gate.kind for gate in gates}
    return "data" if "data" in kinds else "constant" if "constant" in kinds else None


def _constant_start(graph: Graph, addition: Addition) -> int:
    """The same addition one step earlier, where the state it adds to is a constant (zeros)."""
    place = graph.place(addition.node)
    stack, seen = [addition.source], set[int]()
    while stack:
        node = stack.pop()
        if node in seen or place is None:
            continue
        seen.add(node)
        if graph.place(node) == place:
            if addition.recurrent or _meets_constant(graph, node):
                return node
            return -1
        if graph.stems[node] not in SUMS:  # dropout, a cast, a norm between two steps
            stack += [carry.child for carry in carries(graph, node)]
    return -1


def _meets_constant(graph: Graph, node: int) -> bool:
    stack = [(node, 3)]
    while stack:
        top, depth = stack.pop()
        for k, edge in enumerate(graph.inputs[top]):
            if edge.node < 0:
                made = graph.operand(top, k + (graph.stems[top] == "Where"))
                if isinstance(made, Origin) and not made & Origin.DATA:
                    return True
            elif not graph.data[edge.node]:
                return True  # a learned initial state
            elif depth and graph.stems[edge.node] in ELEMENTWISE:
                stack.append((edge.node, depth - 1))
    return False


def _chain(graph: Graph, piece: list[_Link]) -> Chain:
    weights = [link.weights for link in piece]
    uses = Counter(name for names in weights for name in names)
    total = sum(_elements(graph, names) for names in weights)
    again = sum(_elements(graph, [name]) * count for name, count in uses.items() if count > 1)
    first = piece[0]
    nodes = [link.addition.node for link in piece]
    source = first.addition.source
    repeated = first.constant >= 0
    if repeated:
        nodes, source = [first.constant, *nodes], -1
    tied = (len(nodes) > 1 and again > _TIED * total) or (repeated and len(piece) == 1)
    crossings = [crossing for link in piece for crossing in link.crossings]
    gates = tuple(gate for crossing in crossings for gate in crossing.gates)
    return Chain(
        nodes=tuple(nodes),
        source=source,
        output=first.addition.output,
        tied=tied,
        shared=tuple(sorted(name for name, count in uses.items() if count > 1)) if tied else (),
        gates=gates,
        gate=_strongest(gates),
        norm=any(crossing.norm for crossing in crossings),
        activation=any(crossing.activation for crossing in crossings),
        projections=sum(crossing.projection for crossing in crossings),
    )
