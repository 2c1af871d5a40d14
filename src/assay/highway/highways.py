"""Skip paths of a model: where they are, what is on them, and how much gradient survives them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from assay.finding import Result
from assay.highway.additions import find_additions
from assay.highway.carry import GateKind
from assay.highway.chains import Chain, find_chains, nearest_parameters
from assay.highway.concatenations import find_concatenations
from assay.highway.graph import Edge, Graph, build_graph
from assay.highway.operators import FUSED_RECURRENCE
from assay.highway.plain import Stretch, longest_stretch
from assay.highway.record import Recording, record
from assay.highway.retention import gradient_norms, half_life
from assay.progress import Progress, silent
from assay.state import preserved
from assay.subject import Subject
from assay.view.blocks import View
from assay.where import Location

_MEASURED = 24  # paths with their own backward pass, longest first


@dataclass(frozen=True)
class SkipPath:
    """A run of additions that a value passes unchanged but for what is said here.

    Args:
        length: Number of residual additions chained (or concatenations, where `kind` says so).
        tied: Whether the diversions share most of their parameters, as in a loop over time.
        gate: What the skip is multiplied with: None, a "constant" (a number, a parameter), or a value
            that depends on "data".
        norm_on_skip: Whether a normalisation lies on the path, as in a post-norm transformer.
        half_life: Additions until the gradient's norm halves on its way back; infinite if it does not.
        retention: Fraction of the gradient's norm at the last addition that reaches the start.
        where: The line of the addition (of the most frequent one, the last of equals).
        kind: The same in words.
        modules: The module of every addition, first to last; "" is the model itself.
        gradient: Norm of the gradient by additions back from the end, as fractions; the first is 1.
        growth: Root mean square of the value after the last addition, over that after the first; over 1
            where the path starts from a constant state, such as zeros.
        activation_on_skip: Whether a rectifier lies on the path, as in the first ResNets.
        projections: How many of the additions have a linear map on the skip.
        shared: Names of the parameters that the diversions share.
        gate_parameters: Names of the parameters that make the gate.
        gate_keeps: Whether a larger gate keeps more of the old value; None where that is not known.
        count: How many equal paths of this line are shown as one.
    """

    length: int
    tied: bool
    gate: GateKind | None
    norm_on_skip: bool
    half_life: float
    retention: float
    where: Location | None
    kind: str = "identity"
    modules: tuple[str, ...] = ()
    gradient: tuple[float, ...] = ()
    growth: float = math.nan
    activation_on_skip: bool = False
    projections: int = 0
    shared: tuple[str, ...] = ()
    gate_parameters: tuple[str, ...] = ()
    gate_keeps: bool | None = None
    count: int = 1

    @property
    def is_sum(self) -> bool:
        """Whether diversions are added; otherwise they are concatenated."""
        return not self.kind.startswith("concatenation")

    @property
    def name(self) -> str:
        """The line, else the module, else a word."""
        return self.where.short if self.where else (self.modules or ("the model",))[0]


@dataclass(frozen=True)
class PlainPath:
    """The longest stretch of parametrised operators that no skip path gets around.

    Args:
        length: Number of parametrised operators, or of steps of a recurrence.
        tied: Whether they all use the same weights.
        half_life: Operators until the gradient's norm halves on its way back.
        retention: Fraction of the gradient's norm at the last operator that reaches the first.
        where: The line of the first operator.
        modules: The module of every operator, first to last.
        gradient: Norm of the gradient by operators back from the end; the first is 1.
    """

    length: int
    tied: bool
    half_life: float
    retention: float
    where: Location | None
    modules: tuple[str, ...] = ()
    gradient: tuple[float, ...] = ()

    @property
    def unit(self) -> Literal["time steps", "parametrised operators"]:
        """What its length counts."""
        return "time steps" if self.tied else "parametrised operators"


@dataclass(frozen=True, repr=False)
class Highways(Result):
    """The skip paths of a model, longest first, and what is wrong with them.

    Args:
        paths: The skip paths.
        plain: The longest stretch without one, or None in a model without parametrised operators.
        opaque: Operators that could not be looked into; a skip path inside them is not seen.
        loss: Whether the gradient is the loss's; otherwise that of a random projection of the output.
    """

    paths: tuple[SkipPath, ...]
    plain: PlainPath | None = None
    opaque: tuple[str, ...] = field(default=())
    loss: bool = True

    @property
    def longest(self) -> SkipPath | None:
        """The longest path of additions, else of concatenations, or None."""
        sums = [path for path in self.paths if path.is_sum]
        return max(sums or self.paths, key=lambda path: path.length, default=None)

    def view(self) -> View:
        """The longest path drawn, gradients by steps, and a table of all paths."""
        from assay.highway.picture import picture

        return picture(self)


def find_highways(subject: Subject, *, progress: Progress = silent) -> Highways:
    """Read the skip paths off a model's autograd graph, and measure what survives them (Theory H1–H3).

    One forward pass records the graph; it is run as the model is (training or evaluation mode), with
    fused recurrent kernels off. A skip path is a chain of additions at which one side carries a value
    element by element and the other is computed from it through weights, or a gated recurrence. One
    backward pass for each path measures the gradient at each of its additions.

    Args:
        subject: The model and its inputs; its loss, where it has one, gives the gradient's direction.
        progress: Told how far the measurement is.

    Returns:
        The paths, longest first. On the meta device everything but the gradients, which are NaN.

    Raises:
        UserCodeError: If the model, the loss or the backward pass raises.
        CannotMeasure: If the output is not finite, or does not depend on a parameter or input.

    Example:
        >>> import torch
        >>> class Residual(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x).tanh()
        >>> model = torch.nn.Sequential(*(Residual(4, 4) for _ in range(3)))
        >>> (path,) = find_highways(Subject(model, torch.ones(2, 4))).paths
        >>> path.length, path.tied, path.gate, path.norm_on_skip
        (3, False, None, False)
    """
    from assay.highway.rules import findings

    with preserved(subject.model):
        progress("highways", 0, 3, "forward")
        recording = record(subject)
        graph = build_graph(recording)
        progress("highways", 1, 3, f"{len(graph)} nodes")
        sums = find_chains(graph, find_additions(graph))
        concatenations = find_chains(graph, find_concatenations(graph))
        stretch = longest_stretch(graph)
        progress("highways", 2, 3, "backward")
        chains = [*sums, *concatenations]
        paths = _measured(graph, recording, chains, len(sums))
        plain = _plain(graph, recording, stretch)
        progress("highways", 3, 3)
    result = Highways(paths, plain, _opaque(graph), subject.loss is not None)
    return replace(result, findings=findings(result, subject.model))


def _measured(
    graph: Graph, recording: Recording, chains: Sequence[Chain], sums: int
) -> tuple[SkipPath, ...]:
    """Paths with their gradients; single additions of one line and kind are one path with a count."""
    groups: dict[object, list[SkipPath]] = {}
    first: dict[object, Chain] = {}
    for i, chain in enumerate(chains):
        path = _described(graph, chain, concatenated=i >= sums)
        alone = len(chain.nodes) == 1
        key: object = replace(path, modules=(), growth=0.0, gate_parameters=()) if alone else i
        groups.setdefault(key, []).append(path)
        first.setdefault(key, chain)
    keys = sorted(groups, key=lambda key: (-groups[key][0].length, not groups[key][0].is_sum))
    routes = [_route(first[key]) for key in keys[:_MEASURED]]
    if recording.is_meta:
        norms = [tuple(math.nan for _ in route) for route in routes]
    else:
        norms = gradient_norms(graph, recording.objective, routes)
    norms += [(math.nan,)] * (len(keys) - len(norms))
    return tuple(
        replace(
            groups[key][0],
            count=len(groups[key]),
            gradient=found,
            retention=found[-1],
            half_life=math.nan if math.isnan(found[-1]) else half_life(found),
        )
        for key, found in zip(keys, norms, strict=True)
    )


def _route(chain: Chain) -> list[Edge]:
    route = [Edge(node, 0) for node in reversed(chain.nodes)]
    return route if chain.source < 0 else [*route, Edge(chain.source, chain.output)]


def _described(graph: Graph, chain: Chain, *, concatenated: bool) -> SkipPath:
    gate = next((gate for gate in chain.gates if gate.kind == chain.gate and gate.node >= 0), None)
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
        modules=_modules(graph, chain.nodes),
        growth=_growth(graph, chain),
        activation_on_skip=chain.activation,
        projections=chain.projections,
        shared=chain.shared,
        gate_parameters=tuple(sorted(makers)),
        gate_keeps=gate.keeps if gate else None,
    )


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


def _plain(graph: Graph, recording: Recording, stretch: Stretch | None) -> PlainPath | None:
    if stretch is None:
        return None
    route = [Edge(node, 0) for node in reversed(stretch.nodes)]
    norms: tuple[float, ...] = (math.nan,) * len(route)
    if not recording.is_meta:
        (norms,) = gradient_norms(graph, recording.objective, [route])
    operation = graph.operations[stretch.nodes[0]]
    return PlainPath(
        length=stretch.length,
        tied=stretch.tied,
        half_life=math.nan if math.isnan(norms[-1]) else half_life(norms),
        retention=norms[-1],
        where=operation.where if operation else None,
        modules=_modules(graph, stretch.nodes),
        gradient=norms,
    )


def _modules(graph: Graph, nodes: Sequence[int]) -> tuple[str, ...]:
    return tuple(op.module if (op := graph.operations[node]) else "" for node in nodes)


def _most_frequent(graph: Graph, nodes: Sequence[int]) -> Location | None:
    lines = Counter(op.where for node in reversed(nodes) if (op := graph.operations[node]))
    return lines.most_common(1)[0][0] if lines else None


def _opaque(graph: Graph) -> tuple[str, ...]:
    fused = {stem for stem in graph.stems if stem in FUSED_RECURRENCE}
    return tuple(sorted(fused | {graph.stems[node] for node in graph.opaque}))
