"""The longest stretch without a skip path: how many weights a gradient cannot get around."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assay.highway.additions import Addition
from assay.highway.graph import Graph

_REUSED = 64  # parameters looked at for recurrence; a loop reuses all of its own
_FAR = 2**31


@dataclass(frozen=True)
class Stretch:
    """Parametrised operators that every way between the first and the last passes through.

    Args:
        nodes: The operators, first to last.
        tied: Whether all of them use one weight: a recurrence.
        length: How many there are; of a recurrence how many steps, that from a constant state included.
    """

    nodes: tuple[int, ...]
    tied: bool
    length: int


def longest_stretch(graph: Graph, additions: Iterable[Addition] = ()) -> Stretch | None:
    """The two operators that are furthest apart, by the number of weights on the shortest way.

    Between the output and any operator that is the depth of a network once its skip paths are used;
    between two uses of one weight it is the number of steps of a recurrence, also where the loss reads
    every step. What a skip goes around is not in the way of anything outside: a stretch runs either
    outside all branches, or inside one.

    Args:
        graph: The graph.
        additions: Where skip paths are joined, by addition or concatenation.

    Returns:
        The stretch, or None in a graph without parametrised operators.
    """
    weighted = [node for node in range(len(graph)) if graph.mixes(node)]
    moving = [node for node in weighted if graph.data[node]]
    if not moving:
        return None
    home: dict[int, int] = {}  # of what a skip goes around: the innermost addition where it ends
    for addition in sorted(additions, key=lambda addition: addition.node):
        if not addition.recurrent:
            for node in graph.between(addition.source, [addition.node]):
                home.setdefault(node, addition.node)
    inside: dict[int, list[int]] = defaultdict(list)
    for node in moving:
        inside[home.get(node, len(graph) - 1)].append(node)
    ways = [_furthest(graph, end, nodes) for end, nodes in inside.items()]
    nodes = max(ways, key=len)
    longest = Stretch(tuple(nodes), tied=False, length=len(nodes))
    for uses in _recurrences(graph, weighted):
        through = [node for node in uses if graph.data[node]]
        if len(through) < 2:
            continue
        nodes = _shortest(graph, through[-1], through[0])
        # the product with a state of zeros is no way for a gradient, but it is a step
        length = len(nodes) + (len(through) < len(uses))
        if length < 3 or 2 * len(nodes) < len(through):
            continue  # with a skip path the way is far shorter than the loop
        # A recurrence that every step of passes through is told as one, also where a few operators
        # before and after it make the way to the output longer.
        whole = len(nodes) >= len(through) and not longest.tied
        if length >= longest.length / (2 if whole else 1):
            longest = Stretch(tuple(nodes), tied=True, length=length)
    return longest


def _furthest(graph: Graph, start: int, weighted: Sequence[int]) -> list[int]:
    """Of the weighted nodes those on the way from `start` to the one that is furthest."""
    counted = frozenset(weighted)
    distance, above = _distances(graph, start, min(counted), counted)
    reached = [node for node in weighted if node in distance]
    if not reached:
        return []
    end = max(reached, key=lambda node: (distance[node], -node))
    return _way(end, start, above, counted)


def _shortest(graph: Graph, start: int, end: int) -> list[int]:
    counted = frozenset(node for node in range(end, start + 1) if graph.mixes(node))
    distance, above = _distances(graph, start, end, counted)
    return _way(end, start, above, counted) if end in distance else []


def _distances(
    graph: Graph, start: int, end: int, counted: frozenset[int]
) -> tuple[dict[int, int], dict[int, int]]:
    """Counted nodes passed on the shortest way up from `start`, and the node before on that way.

    Indices are topological, so one pass in falling order is enough.

    Returns:
        Both by node.
    """
    distance, above = {start: 0}, dict[int, int]()
    for node in range(start, end - 1, -1):
        if node not in distance:
            continue
        beyond = distance[node] + (node in counted)
        for child in graph.children(node):
            if graph.data[child] and beyond < distance.get(child, _FAR):
                distance[child], above[child] = beyond, node
    return distance, above


def _way(end: int, start: int, above: dict[int, int], counted: frozenset[int]) -> list[int]:
    way, node = [end], end
    while node != start:
        node = above[node]
        way.append(node)
    return [node for node in way if node in counted]


def _recurrences(graph: Graph, weighted: list[int]) -> list[list[int]]:
    """The uses of the weights that are used most often, each set of uses once."""
    uses: dict[str, list[int]] = defaultdict(list)
    for node in weighted:
        for name in graph.parameters(node):
            uses[name].append(node)
    often = sorted((u for u in uses.values() if len(u) > 2), key=len, reverse=True)
    return [list(nodes) for nodes in dict.fromkeys(map(tuple, often[:_REUSED]))]
