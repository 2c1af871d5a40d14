"""What makes a gate: the bias that its sigmoid sees, and whether a larger one keeps more of the state."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from assay.highway.carry import Gate
from assay.highway.graph import Edge, Graph
from assay.highway.operators import IDENTITY

_SQUASHED = frozenset(["Sigmoid", "Hardsigmoid"])
_SPLIT = frozenset(["Split", "SplitWithSizes", "UnsafeSplit", "UnsafeSplitWithSizes"])
_TIMES = frozenset(["Unbind", "Select"])  # one step of several; the rows of the bias stay the same
_FIRST = frozenset(["Addmm", "Baddbmm", "Addmv"])  # torch.addmm(bias, x, W)
_THIRD = frozenset(["Convolution", "Linear", "MkldnnLinear"])  # (x, W, bias)
_NODES = 64  # between a gate and its biases; a GRU's has about ten


@dataclass(frozen=True)
class GateBias:
    """A parameter that is added to what the sigmoid of a gate sees.

    Args:
        name: Name of the parameter.
        start: The first of its entries that belong to the gate.
        stop: One after the last of them.
        keeps: Whether larger entries keep more of the old state.
    """

    name: str
    start: int
    stop: int
    keeps: bool


@dataclass(frozen=True, slots=True)
class _Way:
    """A way from a gate up to what it is made of."""

    value: Edge
    keeps: bool  # whether more of this value keeps more of the state
    squashed: bool = False  # whether a sigmoid was passed
    rows: tuple[int, int, int] | None = None  # first, last and all entries, where it was split


def gate_biases(graph: Graph, gate: Gate) -> tuple[bool | None, tuple[GateBias, ...]]:
    """Follow a gate up to its sigmoid, and from there to the biases.

    Args:
        graph: The graph.
        gate: A gate on a skip path.

    Returns:
        Whether a larger sigmoid keeps more (of the gate itself, where it has none; None where that is not
        known), and the biases, by name. A gate that is no sigmoid of a sum has none.
    """
    if gate.node < 0 or gate.keeps is None:
        return gate.keeps, ()
    keeps = gate.keeps
    found: dict[str, GateBias] = {}
    pending = [_Way(Edge(gate.node, 0), gate.keeps)]
    looked_at = 0
    while pending and looked_at < _NODES:
        way = pending.pop()
        looked_at += 1
        if way.squashed:
            bias = _bias(graph, way)
            if bias is not None:
                found.setdefault(bias.name, bias)
        further = _further(graph, way)
        if not way.squashed and len(further) == 1:
            keeps = further[0].keeps
        pending += further
    return keeps, tuple(found[name] for name in sorted(found))


def _bias(graph: Graph, way: _Way) -> GateBias | None:
    name = graph.leaf.get(way.value.node)
    if name is None or len(graph.shapes[name]) != 1:
        return None
    (length,) = graph.shapes[name]
    start, stop, total = way.rows or (0, length, length)
    return GateBias(name, start, stop, way.keeps) if total == length else None


def _further(graph: Graph, way: _Way) -> list[_Way]:
    node = way.value.node
    stem, edges = graph.stems[node], graph.inputs[node]

    def to(position: int, *, turned: bool = False, **changes: object) -> list[_Way]:
        if position >= len(edges) or edges[position].node < 0:
            return []
        values = {"squashed": way.squashed, "rows": way.rows, **changes}
        return [_Way(edges[position], way.keeps != turned, **values)]  # type: ignore[arg-type]

    if stem in _SQUASHED:
        return [] if way.squashed else to(0, squashed=True)
    if stem in IDENTITY or stem in _TIMES:
        return to(0)
    if stem in ("Neg", "Rsub"):  # 1 - z
        return to(0, turned=True) + (to(1) if stem == "Rsub" else [])
    if not way.squashed:
        # the one input of 1 + z and the like; a product of gates has no single sense
        return to(0) + to(1, turned=stem == "Sub") if stem in ("Add", "Sub") else []
    if stem in ("Add", "Sub"):
        return to(0) + to(1, turned=stem == "Sub")
    if stem in _SPLIT or stem == "Slice":
        rows = _rows(graph, way.value)
        return to(0, rows=rows) if way.rows is None else []
    if stem in _FIRST:
        return to(0)
    return to(2) if stem in _THIRD else []


def _rows(graph: Graph, value: Edge) -> tuple[int, int, int]:
    """The first entry, the one after the last, and the number of all, along the dimension of a split."""
    handle = graph.handles[value.node]
    shapes = [tuple(output.shape) for output in handle._input_metadata]
    dimension = _signed(handle._saved_dim) % len(shapes[value.output])
    lengths = [shape[dimension] for shape in shapes]
    if graph.stems[value.node] == "Slice":
        total = int(handle._saved_self_sym_sizes[dimension])
        start = _signed(handle._saved_start)
        start += total if start < 0 else 0
        return start, start + lengths[0], total
    start = sum(lengths[: value.output])
    return start, start + lengths[value.output], sum(lengths)


def _signed(value: int) -> int:
    """Autograd shows a negative dimension or index as an unsigned number."""
    return value - 2**64 if value >= 2**63 else value


def fused_biases(model: nn.Module, parameters: tuple[str, ...]) -> tuple[GateBias, ...]:
    """The keep gate of torch's own recurrent layers, where a fused kernel hides it from the graph.

    Args:
        model: The model.
        parameters: Names of parameters that the steps share.

    Returns:
        Its biases: of a GRU the z gate's, which keeps, of an LSTM the forget gate's. Empty for a layer of
        another kind, or one without biases.
    """
    for name in parameters:
        owner, _, leaf = name.rpartition(".")
        layer = model.get_submodule(owner)
        if isinstance(layer, nn.GRU | nn.LSTM | nn.GRUCell | nn.LSTMCell) and layer.bias:
            d = int(layer.hidden_size)
            suffix = leaf.removeprefix("weight_").removeprefix("bias_").removeprefix("ih")
            suffix = suffix.removeprefix("hh")
            stem = f"{owner}.bias_" if owner else "bias_"
            return tuple(GateBias(f"{stem}{k}{suffix}", d, 2 * d, True) for k in ("hh", "ih"))
    return ()
