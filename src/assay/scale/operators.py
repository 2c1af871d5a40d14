"""What an operator at dispatch level is: a product with a parameter, a normaliser, an activation."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Operators that give their input another shape, or another storage, but the same numbers (or a subset).
_SAME_NUMBERS = {
    "_to_copy",
    "_unsafe_view",
    "_reshape_alias",
    "clone",
    "contiguous",
    "lift_fresh",
    "native_dropout",
    "split_with_sizes_copy",
    "unsafe_split",
    "unsafe_split_with_sizes",
}
# Operators that put tensors side by side or choose between them: their output is no new signal.
STRUCTURAL = {
    "cat",
    "constant_pad_nd",
    "copy",
    "gather",
    "index_put",
    "index_select",
    "masked_fill",
    "reflection_pad1d",
    "reflection_pad2d",
    "replication_pad2d",
    "scatter",
    "slice_scatter",
    "select_scatter",
    "stack",
    "where",
}
ACTIVATIONS = {
    "_prelu_kernel",
    "celu",
    "elu",
    "erf",
    "gelu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_sigmoid_forward",
    "mish",
    "relu",
    "sigmoid",
    "silu",
    "sin",
    "softplus",
    "softshrink",
    "tanh",
    "threshold",
}
# Operators that take only the shape of their arguments.
_SHAPES = re.compile(r"(_like$|^new_|^sym_|_size$)")
LOOKUPS = {"embedding", "_embedding_bag", "index"}
_NORMALISER = re.compile(r"(layer|batch|group|instance|rms)_norm")
_ATTENTION = re.compile(r"scaled_dot_product|_attention_forward")
SIZES = {"linalg_vector_norm", "norm", "std"}
# of a size these make one, up to a power, a factor and an ε
SIZE_STEPS = {
    "add",
    "clamp",
    "clamp_min",
    "div",
    "maximum",
    "mul",
    "pow",
    "reciprocal",
    "rsqrt",
    "sqrt",
}
AVERAGES = {"mean", "avg_pool1d", "avg_pool2d", "avg_pool3d"}
AVERAGES |= {f"_adaptive_{name}" for name in AVERAGES if name != "mean"}
# of each channel by itself: a factor on what is pooled is one on what comes out
POOLS = {name for name in AVERAGES if name != "mean"}
POOLS |= {f"max_pool{n}d_with_indices" for n in (2, 3)}
MATRIX_PRODUCTS = {"mm", "bmm", "matmul", "baddbmm"}
SOFTMAX = {"_softmax", "_safe_softmax", "softmax"}


def name_of(operator: Any) -> str:
    """The operator's name without namespace, overload and in-place underscore: `aten::relu_` is "relu".

    Returns:
        The name.
    """
    name = str(operator._schema.name).split("::")[-1]
    return name.removesuffix("_") if operator._schema.is_mutable else name


def keeps_numbers(operator: Any, name: str) -> bool:
    """Whether the output is a view or a copy of the first argument.

    Returns:
        True for views, copies, casts and dropout's kernel.
    """
    returns = operator._schema.returns
    alias = returns[0].alias_info if returns else None
    return name in _SAME_NUMBERS or (alias is not None and not alias.is_write)


def takes_shape_only(name: str) -> bool:
    """Whether the output depends on the shape of the arguments alone: `zeros_like`, `new_ones`.

    Returns:
        True for these.
    """
    return _SHAPES.search(name) is not None


def is_normaliser(name: str) -> bool:
    """Whether the output does not change when the input is multiplied by a number.

    Returns:
        True for layer, batch, group, instance and RMS norms.
    """
    return _NORMALISER.search(name) is not None


def has_fixed_statistics(operator: Any, name: str, args: Sequence[Any]) -> bool:
    """Whether a norm takes mean and variance as they are given: a batch norm in evaluation mode.

    Args:
        operator: The dispatched operator.
        name: Its name.
        args: Its positional arguments.

    Returns:
        True where it is an affine map by fixed numbers, and normalises nothing.
    """
    if name.endswith(("_no_training", "_no_update")):
        return True
    places = [i for i, a in enumerate(operator._schema.arguments) if a.name == "training"]
    return bool(places) and places[0] < len(args) and args[places[0]] is False


def is_attention(name: str) -> bool:
    """Whether the operator is attention as a whole, of queries, keys and values.

    Returns:
        True for the fused kernels; elsewhere attention is two products with a softmax between.
    """
    return _ATTENTION.search(name) is not None


def arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Every tensor among the arguments, lists of tensors included.

    Yields:
        The tensors, in order.
    """
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, Tensor))


@dataclass(frozen=True)
class Product:
    """A linear map of data by a parameter (Theory S1).

    Args:
        data: The tensor that is mapped; None where indices choose rows (an embedding).
        weight: The parameter, or a view of it.
        bias: A parameter that is added, or None.
        axes: The dimensions of the output that number units.
        data_axes: The dimensions of the data that number its units.
        fan_in: Number of weights that a unit of the output sums over.
        fan_out: Number of units of the output that an input reaches.
        energy: `E[x²]` → the mean over the output of the sum, over each unit's inputs, of x².
    """

    data: Tensor | None
    weight: Tensor
    bias: Tensor | None
    axes: tuple[int, ...]
    data_axes: tuple[int, ...]
    fan_in: int
    fan_out: float
    energy: Callable[[], float]

    def predicted(self, weight_square: float) -> float:
        """`E u²` of iid weights of mean square σ² and the data as it is: `σ² Σ_j E x_j²` (Theory S1).

        Args:
            weight_square: σ².

        Returns:
            The second moment, the bias' own included.
        """
        return weight_square * self.energy() + (
            mean_square(self.bias) if self.bias is not None else 0
        )


def product(name: str, args: Sequence[Any], is_weight: Callable[[Any], bool]) -> Product | None:
    """Describe an operator as a product with a parameter.

    Args:
        name: The operator's name.
        args: Its positional arguments.
        is_weight: Whether a tensor is a parameter or made from parameters alone.

    Returns:
        The product, or None where the operator is not one, or no parameter is a factor in it.
    """
    if name in ("mm", "bmm", "matmul") and len(args) >= 2:
        return _matrix(args[0], args[1], None, is_weight)
    if name in ("addmm", "baddbmm", "_addmm_activation"):
        bias = args[0] if is_weight(args[0]) else None
        return _matrix(args[1], args[2], bias, is_weight)
    if name == "linear" and is_weight(args[1]):
        bias = args[2] if len(args) > 2 else None
        return _matrix(args[0], args[1].transpose(-1, -2), bias, is_weight)
    if name in ("mv", "addmv"):
        matrix, vector = args[-2:]
        bias = args[0] if name == "addmv" and is_weight(args[0]) else None
        return _matrix(matrix, vector[:, None], bias, is_weight) if is_weight(matrix) else None
    if name in ("convolution", "_convolution", "convolution_overrideable") and is_weight(args[1]):
        return _convolution(args)
    if name in ("embedding", "index") and is_weight(args[0]):
        return Product(None, args[0], None, (-1,), (-1,), 1, 1.0, lambda: 1.0)
    if name == "_embedding_bag" and is_weight(args[0]):
        per_bag = max(1.0, args[1].numel() / max(1, args[2].numel()))
        averaged = len(args) > 4 and args[4] == 1
        size = 1 / per_bag if averaged else per_bag
        fan_in = max(1, round(per_bag))
        return Product(None, args[0], None, (-1,), (-1,), fan_in, 1.0, lambda: size)
    if name == "_trilinear" and is_weight(args[1]):
        return _bilinear(args[0], args[1], args[2])
    return None


def _matrix(
    left: Tensor, right: Tensor, bias: Tensor | None, is_weight: Callable[[Any], bool]
) -> Product | None:
    if is_weight(right):
        data, weight, unit = left, right, -1
    elif is_weight(left):
        data, weight, unit = right, left, -2  # einsum may put the parameter first
    else:
        return None
    inner = int(left.shape[-1])
    outer = int(weight.shape[unit])
    experts = weight.dim() == 3 and weight.shape[0] > 1
    return Product(
        data=data,
        weight=weight,
        bias=bias,
        axes=(0, unit) if experts else (unit,),
        data_axes=(-1,) if unit == -1 else (-2,),
        fan_in=inner,
        fan_out=float(outer),
        energy=lambda: inner * mean_square(data),
    )


def _convolution(args: Sequence[Any]) -> Product:
    x, weight, bias, stride, padding, dilation, transposed, out_padding, groups = args[:9]
    window, steps = math.prod(weight.shape[2:]), math.prod(_spread(stride, weight.dim() - 2))
    if transposed:  # weight [in, out/groups, …]: an input reaches the whole window
        ones = torch.ones_like(weight[:, :1])
        fan_in = max(1, weight.shape[0] // groups * window // steps)
        fan_out = float(weight.shape[1] * window)
    else:  # weight [out, in/groups, …]
        ones = torch.ones_like(weight[:groups])
        fan_in = weight.shape[1] * window
        fan_out = weight.shape[0] / groups * window / steps

    def energy() -> float:
        """The sum of x² over each window: the same convolution with ones, so padding counts as zeros."""
        sums = torch.ops.aten.convolution.default(
            x.detach().float().square(),
            ones.detach().float(),
            None,
            stride,
            padding,
            dilation,
            transposed,
            out_padding,
            groups,
        )
        return float(sums.double().mean())

    return Product(x, weight, bias, (1,), (1,), int(fan_in), fan_out, energy)


def _bilinear(x: Tensor, weight: Tensor, y: Tensor) -> Product:
    """nn.Bilinear: a unit sums over every pair of inputs."""
    pairs = int(weight.shape[-2] * weight.shape[-1])

    def energy() -> float:
        squares = [t.detach().double().square().sum(-1) for t in (x, y)]
        return float((squares[0] * squares[1]).mean())

    return Product(x, weight, None, (-1,), (-1,), pairs, float(weight.shape[0]), energy)


def _spread(value: Any, dimensions: int) -> list[int]:
    return list(value) * dimensions if len(value) == 1 else list(value)


def mean_square(x: Tensor) -> float:
    """Mean of the squares of all elements (of a complex number, of its size), in float64.

    Returns:
        The mean; 0 of an empty tensor.
    """
    return float(wide(x).abs().square().mean()) if x.numel() else 0.0


def wide(x: Tensor) -> Tensor:
    """All elements in double precision, real or complex as they are.

    Returns:
        A tensor without a history.
    """
    return x.detach().to(torch.complex128 if x.is_complex() else torch.float64)


def parameter_axes(weights: Sequence[Tensor], out: Tensor) -> tuple[int, ...]:
    """The dimension along which a parameter that is added or multiplied varies.

    Args:
        weights: The parameters, broadcast against the output.
        out: The output.

    Returns:
        That one dimension, or the last one where there are several.
    """
    for weight in weights:
        wide = [axis for axis in range(-weight.dim(), 0) if weight.shape[axis] > 1]
        if len(wide) == 1 and -wide[0] <= out.dim():
            return (wide[0],)
    return (-1,)
