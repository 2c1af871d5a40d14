"""The autograd graph of an objective, in topological order and with names for its leaves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch.autograd.function import BackwardCFunction

from assay.highway.operators import IDENTITY, MIXING, SUMS
from assay.highway.record import Operation, Origin, Recording

_LAST = 2**62  # leaves carry the largest sequence number that there is


class Edge(NamedTuple):
    """An input of a node: the node that made it, and which of its outputs it is."""

    node: int  # index, or -1 where the graph ends
    output: int


@dataclass
class Graph:
    """Nodes by index; a node's inputs have smaller indices than the node.

    Args:
        handles: The autograd nodes themselves; holding them keeps the graph alive.
        stems: What each undoes: "Add" for AddBackward0.
        inputs: The edges of each.
        operations: What was recorded of each in the forward pass.
        data: Whether its value depends on the model's inputs.
        leaf: Name of the parameter, for leaves that are one.
        shapes: Shape of every parameter, by name.
        opaque: Custom autograd functions, whose inside is not in the graph.
    """

    handles: list[Any]
    stems: list[str]
    inputs: list[tuple[Edge, ...]]
    operations: list[Operation | None]
    data: list[bool]
    leaf: dict[int, str]
    shapes: dict[str, tuple[int, ...]]
    opaque: set[int]
    memo: dict[object, Any] = field(default_factory=dict)  # for answers that are asked for again
    _parameters: dict[int, frozenset[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.handles)

    def children(self, node: int) -> list[int]:
        """The nodes that made the inputs of `node`, of those that are in the graph."""
        return [edge.node for edge in self.inputs[node] if edge.node >= 0]

    def sides(self, node: int) -> list[list[Edge]]:
        """The operands of an addition or concatenation, by side; those that are not in the graph left out."""
        edges = self.inputs[node]
        if self.stems[node] == "Cat":
            return [[edge] if edge.node >= 0 else [] for edge in edges]
        return [
            [edges[k] for k in side if k < len(edges) and edges[k].node >= 0]
            for side in SUMS[self.stems[node]]
        ]

    def operands(self, node: int) -> set[Edge]:
        """The operands of all sides of an addition or concatenation."""
        return {edge for side in self.sides(node) for edge in side}

    def is_read_once(self, edge: Edge) -> bool:
        """Whether only one operator reads this value."""
        if "readers" not in self.memo:
            self.memo["readers"] = Counter(edge for edges in self.inputs for edge in edges)
        return int(self.memo["readers"][edge]) < 2

    def parameters(self, node: int) -> frozenset[str]:
        """Names of the parameters that enter at this node, directly or through functions of them alone.

        Args:
            node: Index of the node.

        Returns:
            The names. Parameters that enter further up, where the data passes too, are not among them.
        """
        found = self._parameters.get(node)
        if found is not None:
            return found
        pending = [node]
        while pending:  # children first, without recursion: chains of views may be long
            top = pending[-1]
            if top in self.leaf:
                self._parameters[top] = frozenset((self.leaf[top],))
                pending.pop()
                continue
            below = [child for child in self.children(top) if not self.data[child]]
            missing = [child for child in below if child not in self._parameters]
            if missing:
                pending.extend(missing)
                continue
            empty: frozenset[str] = frozenset()
            self._parameters[top] = empty.union(*(self._parameters[child] for child in below))
            pending.pop()
        return self._parameters[node]

    def between(self, source: int, start: Iterable[int]) -> list[int]:
        """The nodes that are computed from `source` and that `start` is computed from, in order."""
        region, stack = set[int](), list(start)
        while stack:
            node = stack.pop()
            if node > source and node not in region:
                region.add(node)
                stack += self.children(node)
        depends, found = {source}, list[int]()
        for node in sorted(region):
            if not depends.isdisjoint(self.children(node)):
                depends.add(node)
                found.append(node)
        return found

    def mixes(self, node: int) -> bool:
        """Whether it is an operator with weights: a matrix product, convolution or table look-up.

        Returns:
            False for element-wise parameters: biases, gains, the affine part of a norm.
        """
        if self.stems[node] not in MIXING and node not in self.opaque:
            return False
        return any(len(self.shapes[name]) != 1 for name in self.parameters(node))

    def operand(self, node: int, position: int) -> Origin | float | None:
        """What was recorded of an argument of the operator behind `node`."""
        operation = self.operations[node]
        if operation is None or position >= len(operation.operands):
            return None
        return operation.operands[position]

    def place(self, node: int) -> tuple[object, str, str] | None:
        """What two executions of one operator in a loop have in common: line, module and operator."""
        operation = self.operations[node]
        if operation is None:
            return None
        return operation.where, operation.module, self.stems[node]


def build_graph(recording: Recording) -> Graph:
    """Read the graph of the recorded objective.

    Args:
        recording: A recorded forward pass.

    Returns:
        The graph.
    """
    order = _postorder(recording.objective.grad_fn)
    key: dict[Any, int] = {}
    for node in order:
        own = int(node._sequence_nr())
        below = [key[child] + 1 for child, _ in node.next_functions if child is not None]
        # In-place writes to views give numbers out of order; a node has to come after its inputs.
        key[node] = max([-1 if own > _LAST else own, *below])
    handles = sorted(order, key=key.__getitem__)
    index = {node: i for i, node in enumerate(handles)}
    stems = [_stem(node) for node in handles]
    inputs = [
        tuple(Edge(-1 if child is None else index[child], nr) for child, nr in node.next_functions)
        for node in handles
    ]
    operations = [
        _operation(recording, stem, int(node._sequence_nr()))
        for stem, node in zip(stems, handles, strict=True)
    ]
    leaf: dict[int, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    data: list[bool] = []
    for i, node in enumerate(handles):
        children = [edge.node for edge in inputs[i] if edge.node >= 0]
        variable = getattr(node, "variable", None)
        if variable is not None and not inputs[i]:
            name = recording.parameters.get(id(variable))
            if name is None and id(variable) not in recording.leaves:
                name = f"tensor of shape {list(variable.shape)} at {id(variable):x}"
            if name is not None:
                leaf[i] = name
                shapes[name] = tuple(variable.shape)
            data.append(name is None)
        elif recording.has_data:
            operation = operations[i]
            marked = operation is not None and bool(operation.origin & Origin.DATA)
            data.append(marked or any(data[child] for child in children))
        else:
            # Without inputs everything counts as data but the parameters and views of them.
            view = stems[i] in IDENTITY and not any(data[child] for child in children)
            data.append(not view)
    opaque = {i for i, node in enumerate(handles) if isinstance(node, BackwardCFunction)}
    return Graph(handles, stems, inputs, operations, data, leaf, shapes, opaque)


def _postorder(root: Any) -> list[Any]:
    seen, order, stack = {root}, [], [(root, iter(root.next_functions))]
    while stack:
        node, rest = stack[-1]
        for child, _ in rest:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append((child, iter(child.next_functions)))
                break
        else:
            order.append(node)
            stack.pop()
    return order


def _stem(node: Any) -> str:
    name = str(node.name()).rpartition("::")[2]
    return re.sub(r"Backwards?\d*$", "", name)


def _operation(recording: Recording, stem: str, number: int) -> Operation | None:
    """The operator that ran under the number of a node, or, in place, under the next one."""
    wanted = stem.lower()
    first: Operation | None = None
    for candidate in (number, number + 1):
        for operation in recording.operations.get(candidate, ()):
            if operation.name.replace("_", "").lower() == wanted:
                return operation
            if first is None and candidate == number:
                first = operation
    # a custom function, whose operators have other names: the place is right, the operands are not
    return first and Operation(first.name, first.where, first.module, (), first.origin, first.rank)
