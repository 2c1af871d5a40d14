"""One recorded forward pass: which operator ran on which line, and what came from the data.

Autograd nodes know neither the line nor the module that made them, and an edge that needs no gradient
(an initial state of zeros, a mask) is missing from the graph. Both are recorded here and joined to the
nodes by their sequence number: autograd numbers a node when it is made, just before its operator runs.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from assay.errors import CannotMeasure, UserCodeError, verbatim
from assay.highway.operators import words
from assay.running import ModuleStack
from assay.state import unfused
from assay.subject import Subject, first_floating, for_an_output
from assay.where import Location, here


class Origin(IntFlag):
    """What the value of a tensor depends on, beside parameters and constants."""

    CONSTANT = 0
    NOISE = 1  # drawn at random, as a dropout mask
    DATA = 2  # computed from the model's inputs


# An argument of an operator: a tensor (its origin), a number, or anything else (None).
Operand = Origin | float | None

# These look at the shape of their argument only, so the data does not flow through them.
_FROM_SHAPE = words(
    "empty_like zeros_like ones_like full_like new_empty new_zeros new_ones new_full "
    "new_empty_strided empty_strided empty zeros ones full scalar_tensor arange"
)
_RANDOM = words(
    "bernoulli normal uniform rand randn randint randperm rand_like randn_like exponential "
    "dropout_mask"
)
# Where a skip path can be joined; the size of their outputs is what grows along the path.
_JOINING = words("add sub lerp addcmul where")


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator that ran: its name without overload and underscore, where, and on what."""

    name: str
    where: Location | None
    module: str
    operands: tuple[Operand, ...] = ()
    origin: Origin = Origin.CONSTANT
    rank: int = 0  # number of dimensions of the output
    rms: float = float("nan")  # root mean square of the output, for operators that join


class Recorder(TorchDispatchMode):
    """Records every operator of a forward pass under autograd's current sequence number.

    Args:
        model: The module whose submodules name the places.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.operations: dict[int, list[Operation]] = defaultdict(list)
        self.leaves: dict[int, Tensor] = {}
        self.has_data = False
        self.modules = ModuleStack(model)
        self._origins = WeakTensorKeyDictionary()

    def mark_data(self, value: Any) -> None:
        """Say that the tensors in `value` are data."""
        for tensor in tree_leaves(value):
            if isinstance(tensor, Tensor):
                self._origins[tensor] = Origin.DATA
                self.has_data = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2].strip("_")
        operands = tuple(self._operand(arg) for arg in args)
        if name in _FROM_SHAPE:
            origin = Origin.CONSTANT
        elif name in _RANDOM:
            origin = Origin.NOISE
        else:
            origin = Origin.CONSTANT
            for operand in (*operands, *(self._operand(a) for a in (kwargs or {}).values())):
                if isinstance(operand, Origin):
                    origin |= operand
        first: Tensor | None = None
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                first = tensor if first is None else first
                if origin or tensor in self._origins:
                    self._origins[tensor] = origin
                if origin and tensor._base is not None:  # written through a view
                    self._origins[tensor._base] = self._origin(tensor._base) | origin
        made = self.operations[_next_sequence_number() - 1]
        if len(made) < 4:  # operators that make no node share the number of the last one that did
            made.append(self._operation(name, operands, origin, first))
        return result

    def _operation(
        self, name: str, operands: tuple[Operand, ...], origin: Origin, output: Tensor | None
    ) -> Operation:
        rms = float("nan")
        joins = name in _JOINING and output is not None and output.is_floating_point()
        if joins and output is not None and not output.is_meta and output.numel():
            rms = float(output.detach().float().square().mean().sqrt())
        rank = output.dim() if output is not None else 0
        # 2: leave out this method and its caller, both of which are assay's anyway
        return Operation(name, here(2), self.modules.path, operands, origin, rank, rms)

    def _origin(self, tensor: Tensor) -> Origin:
        found: Origin = self._origins.get(tensor, Origin.CONSTANT)
        return found

    def _operand(self, value: Any) -> Operand:
        if isinstance(value, Tensor):
            return self._origin(value)
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, list | tuple):
            origins = [self._origin(item) for item in value if isinstance(item, Tensor)]
            if origins:
                merged = Origin.CONSTANT
                for origin in origins:
                    merged |= origin
                return merged
        return None


@dataclass(frozen=True)
class Recording:
    """What a recorded forward pass left behind.

    Args:
        objective: The scalar that the backward pass starts from.
        operations: Operators by autograd sequence number.
        parameters: Names of parameters by `id`.
        leaves: The leaves that stand for the inputs, by `id`.
        has_data: Whether the model was given any tensor.
        is_meta: Whether there are no values, only shapes.
        tracked: Whether the inputs carried a gradient; if not, additions to an input itself are not seen.
    """

    objective: Tensor
    operations: dict[int, list[Operation]]
    parameters: dict[int, str]
    leaves: dict[int, Tensor]
    has_data: bool
    is_meta: bool
    tracked: bool


def record(subject: Subject) -> Recording:
    """Run the subject's forward pass once, with everything that floats requiring a gradient.

    Call it inside `assay.state.preserved`: it sets `requires_grad` on frozen parameters.

    Args:
        subject: The model and its inputs.

    Returns:
        The recording; its objective holds the autograd graph.

    Raises:
        UserCodeError: If the model or the loss raises.
        CannotMeasure: If the output is not finite, or nothing in it depends on a parameter.
    """
    names: dict[int, str] = {}
    for name, parameter in subject.model.named_parameters():
        names.setdefault(id(parameter), name)
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(True)
    tracked = True
    try:
        recorder, output = _run(subject, with_gradient=True)
    except UserCodeError:
        # A model may refuse inputs that need a gradient (`.numpy()`); its own error comes again if not.
        recorder, output = _run(subject, with_gradient=False)
        tracked = not recorder.has_data
    objective = _objective(subject, output)
    return Recording(
        objective,
        recorder.operations,
        names,
        recorder.leaves,
        recorder.has_data,
        bool(objective.is_meta),
        tracked,
    )


def refuse_inference(model: nn.Module) -> None:
    """Refuse parameters that can never require a gradient.

    Args:
        model: The model.

    Raises:
        CannotMeasure: If a parameter was made in inference mode.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_inference():
            raise CannotMeasure(
                name,
                verbatim("a parameter made in inference mode"),
                "parameters that can require a gradient",
                "Build the model outside torch.inference_mode().",
            )


def _run(subject: Subject, *, with_gradient: bool) -> tuple[Recorder, Any]:
    recorder = Recorder(subject.model)

    def fresh(value: Any) -> Any:
        if not isinstance(value, Tensor) or isinstance(value, nn.Parameter):
            return value
        if not with_gradient or not (value.is_floating_point() or value.is_complex()):
            return value.detach().clone()
        # a clone of a leaf, so that the model may write into its inputs
        leaf = value.detach().clone().requires_grad_(True)
        recorder.leaves[id(leaf)] = leaf
        return leaf.clone()

    with torch.enable_grad(), unfused():
        inputs = tree_map(fresh, subject.inputs)
        kwargs = tree_map(fresh, dict(subject.kwargs or {}))
        recorder.mark_data((inputs, kwargs))
        ready = Subject(subject.model, inputs, kwargs, loss=subject.loss)
        with recorder.modules.following(), recorder:
            output = ready.forward()
    return recorder, output


def _objective(subject: Subject, output: Any) -> Tensor:
    """The scalar that gradients are of; refuses one that has none."""
    with torch.enable_grad():
        value = first_floating(output)
        if not value.numel():
            raise CannotMeasure(
                "forward",
                verbatim(f"an empty output, of shape {list(value.shape)}"),
                "at least one number in the output",
                for_an_output(subject),
            )
        if not value.is_meta and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise CannotMeasure(
                "forward",
                verbatim(f"{bad} of {value.numel()} outputs are NaN or infinite"),
                "finite outputs on the example inputs",
                "Check the inputs and the initial weights; `assay scale` names the first operator.",
            )
        objective = subject.objective(output) if subject.loss else _random_projection(value)
    if objective.grad_fn is None:
        raise CannotMeasure(
            "loss(output)",
            verbatim("a tensor without a gradient"),
            "a value that depends on a parameter or an input",
            "Look for .detach() or torch.no_grad() in the model.",
        )
    if not objective.is_meta and not bool(torch.isfinite(objective)):
        raise CannotMeasure(
            "loss(output)",
            verbatim(str(float(objective.detach()))),
            "a finite loss",
            "The output is finite; look for a logarithm or a division in the loss.",
        )
    return objective


def _random_projection(output: Tensor) -> Tensor:
    """A fixed random weighting of the output.

    A plain sum has no gradient where the output is normalised: a layer norm's outputs sum to zero.

    Returns:
        A scalar.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float32)
    return (output * weights.to(output.device, output.dtype)).sum()


def _next_sequence_number() -> int:
    return int(torch._C._autograd._get_sequence_nr())
