"""Skip paths of a model: where they are, what is on them, and how much gradient survives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from assay.builder import as_builder
from assay.finding import Result
from assay.highway.additions import find_additions
from assay.highway.chains import Chain, find_chains
from assay.highway.concatenations import find_concatenations
from assay.highway.describe import describe, modules_of, route_of
from assay.highway.graph import Edge, Graph, build_graph
from assay.highway.operators import FUSED_RECURRENCE
from assay.highway.paths import PlainPath, SkipPath
from assay.highway.plain import Stretch, longest_stretch
from assay.highway.record import Recording, record, refuse_inference
from assay.highway.retention import arriving_norms, gradient_norms, half_life
from assay.progress import Progress, silent
from assay.state import preserved
from assay.subject import Subject
from assay.view.blocks import View

__all__ = ["Highways", "PlainPath", "SkipPath", "find_highways"]

_MEASURED = 24  # paths with their own backward pass, longest first


@dataclass(frozen=True, repr=False)
class Highways(Result):
    """The skip paths of a model, longest first, and what is wrong with them.

    Args:
        paths: The skip paths.
        plain: The longest stretch without one, or None in a model without parametrised operators.
        opaque: Operators that could not be looked into; a skip path inside them is not seen.
        loss: Whether the gradient is the loss's; otherwise that of a random projection of the output.
        tracked: Whether the inputs carried a gradient; a model may refuse that (`x.numpy()`), and then
            additions to an input itself are not seen.
    """

    paths: tuple[SkipPath, ...]
    plain: PlainPath | None = None
    opaque: tuple[str, ...] = field(default=())
    loss: bool = True
    tracked: bool = True

    @property
    def longest(self) -> SkipPath | None:
        """The longest path of additions, else of concatenations, or None."""
        sums = [path for path in self.paths if path.is_sum]
        return max(sums or self.paths, key=lambda path: path.length, default=None)

    def view(self) -> View:
        """The longest path drawn, gradients by steps, and a table of all paths."""
        from assay.highway.picture import picture

        return picture(self)


def find_highways(subject: Any, *, progress: Progress = silent) -> Highways:
    """Read the skip paths off a model's autograd graph, and measure what survives them (Theory H1–H3).

    One forward pass records the graph; it is run as the model is (training or evaluation mode), with
    fused recurrent kernels off. A skip path is a chain of additions at which one side carries a value
    element by element and the other is computed from it through weights, or a gated recurrence. One
    backward pass for each path measures the gradient at each of its additions.

    Args:
        subject: A `Subject`, or anything that `assay.Builder` takes: a module, `(model, inputs)`, a builder.
            Its loss, where it has one, gives the gradient's direction.
        progress: Told how far the measurement is.

    Returns:
        The paths, longest first. On the meta device everything but the gradients, which are NaN.

    Raises:
        UserCodeError: If the model, the loss or the backward pass raises.
        CannotMeasure: If the output is not finite, or does not depend on a parameter or input, or the
            model was built in inference mode.

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

    if not isinstance(subject, Subject):
        subject = as_builder(subject)()
    refuse_inference(subject.model)
    with preserved(subject.model), torch.inference_mode(False):
        progress("highways", 0, 3, "forward")
        recording = record(subject)
        graph = build_graph(recording)
        progress("highways", 1, 3, f"{len(graph)} nodes")
        added, joined = find_additions(graph), find_concatenations(graph)
        sums, concatenations = find_chains(graph, added), find_chains(graph, joined)
        stretch = longest_stretch(graph, [*added.values(), *joined.values()])
        progress("highways", 2, 3, "backward")
        chains = [*sums, *concatenations]
        paths = _measured(subject.model, graph, recording, chains, len(sums))
        plain = _plain(graph, recording, stretch)
        progress("highways", 3, 3)
    result = Highways(
        paths, plain, _opaque(graph), subject.loss is not None, tracked=recording.tracked
    )
    return replace(result, findings=findings(result, subject.model))


def _measured(
    model: nn.Module, graph: Graph, recording: Recording, chains: Sequence[Chain], sums: int
) -> tuple[SkipPath, ...]:
    """Paths with their gradients; single additions of one line and kind are one path with a count."""
    groups: dict[object, list[SkipPath]] = {}
    first: dict[object, Chain] = {}
    for i, chain in enumerate(chains):
        path = describe(model, graph, chain, concatenated=i >= sums)
        alone = len(chain.nodes) == 1
        same = replace(path, modules=(), growth=0.0, gate_parameters=(), gate_biases=())
        key: object = same if alone else i
        groups.setdefault(key, []).append(path)
        first.setdefault(key, chain)
    keys = sorted(groups, key=lambda key: (-groups[key][0].length, not groups[key][0].is_sum))
    routes = [route_of(graph, first[key]) for key in keys[:_MEASURED]]
    norms: list[tuple[float, ...]] = []
    arriving: dict[object, tuple[float, ...]] = {}
    if not recording.is_meta:
        norms = gradient_norms(graph, recording.objective, routes)
        gated = {
            key: route
            for key, route in zip(keys, routes, strict=False)
            if groups[key][0].tied and groups[key][0].gate is not None
        }
        whole = arriving_norms(graph, recording.objective, list(gated.values()))
        arriving = dict(zip(gated, whole, strict=True))
    norms += [()] * (len(keys) - len(norms))
    return tuple(
        replace(
            groups[key][0],
            count=len(groups[key]),
            gradient=found,
            arriving=arriving.get(key, ()),
            retention=found[-1] if found else math.nan,
            half_life=half_life(found),
        )
        for key, found in zip(keys, norms, strict=True)
    )


def _plain(graph: Graph, recording: Recording, stretch: Stretch | None) -> PlainPath | None:
    if stretch is None:
        return None
    route = [Edge(node, 0) for node in reversed(stretch.nodes)]
    norms: tuple[float, ...] = ()
    if not recording.is_meta:
        (norms,) = gradient_norms(graph, recording.objective, [route])
    operation = graph.operations[stretch.nodes[0]]
    return PlainPath(
        length=stretch.length,
        tied=stretch.tied,
        half_life=half_life(norms),
        retention=norms[-1] if norms else math.nan,
        where=operation.where if operation else None,
        modules=modules_of(graph, stretch.nodes),
        gradient=norms,
    )


def _opaque(graph: Graph) -> tuple[str, ...]:
    fused = {stem for stem in graph.stems if stem in FUSED_RECURRENCE}
    return tuple(sorted(fused | {graph.stems[node] for node in graph.opaque}))
