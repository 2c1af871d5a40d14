"""What operators compute, where neither torch's table of flops nor a number for each element says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count

Count = Callable[..., int]


def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, *options: Any, **_: Any
) -> int:
    """As much as forward for each gradient; torch counts a grouped weight's as if it were not grouped."""
    transposed, wanted = bool(options[4]), options[7]
    once = conv_flop_count(list(x.shape), list(weight.shape), list(gradient.shape), transposed)
    return once * int(sum(wanted[:2]))


def filled(args: Sequence[Any]) -> Fraction:
    """Of a product with sparse matrices, the share of its operations that is computed.

    Args:
        args: The arguments; torch's counter takes every matrix for a dense one.

    Returns:
        The share of entries that are stored; 1 where no argument is sparse, or where it is not known: a
        sparse matrix without data forgets how many it stores as soon as it is transposed.
    """
    share = Fraction(1)
    for tensor in args:
        if isinstance(tensor, Tensor) and tensor.layout is not torch.strided and tensor.numel():
            stored = _stored(tensor)
            share *= Fraction(stored, tensor.numel()) if stored else 1
    return share


def _stored(matrix: Tensor) -> int:
    """How many entries a sparse matrix stores."""
    coordinates = matrix.layout is torch.sparse_coo
    return int(matrix._nnz() if coordinates else matrix.values().numel())


def _matrix_vector(matrix: Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _added_matrix_vector(added: Tensor, matrix: Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _sparse_product(added: Tensor, matrix: Tensor, other: Tensor, *_: Any, **__: Any) -> int:
    """A product and a sum for each entry that is stored, and each column."""
    return 2 * _stored(matrix) * int(other.shape[-1])


def _trilinear(*arguments: Any, **_: Any) -> int:
    """`nn.Bilinear` and its gradients: two products and a sum for each triple of entries."""
    expanded = []
    for tensor, axes in zip(arguments[:3], arguments[3:6], strict=True):
        shape = list(tensor.shape)
        for axis in sorted(axes):
            shape.insert(axis, 1)
        expanded.append(shape)
    return 3 * int(torch.Size(torch.broadcast_shapes(*expanded)).numel())


def _distances(points: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    """A difference, its power and a sum for each coordinate of each pair."""
    return 3 * out.numel() * int(points.shape[-1])


def _distances_backward(gradient: Tensor, points: Tensor, *_: Any, **__: Any) -> int:
    return _distances(points, out=gradient)


def _bags(weight: Tensor, indices: Tensor, *_: Any, **__: Any) -> int:
    """A sum for each entry of each row that is read."""
    return indices.numel() * int(weight.shape[1])


def _bags_backward(gradient: Tensor, indices: Tensor, *_: Any, **__: Any) -> int:
    return indices.numel() * int(gradient.shape[-1])


def _convolution_in_time(x: Tensor, weight: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    return 2 * out.numel() * int(weight.shape[0] * weight.shape[1])


def _grid(matrices: Tensor, size: Sequence[int], *_: Any, out: Tensor, **__: Any) -> int:
    """A matrix product with the homogeneous coordinates of every point."""
    return 2 * out.numel() * int(matrices.shape[-1])


def _grid_backward(gradient: Tensor, size: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * gradient.numel() * (int(gradient.shape[-1]) + 1)


def _alignments(*_: Any, out: tuple[Tensor, Tensor], **__: Any) -> int:
    """CTC: for each time and state the log of a sum of three exponentials, and a sum."""
    return 10 * out[1].numel()


def _alignments_backward(*given: Any, out: Tensor, **__: Any) -> int:
    """The same from the end, and both added up by letter; three for each number of the gradient."""
    return 12 * int(given[6].numel()) + 3 * out.numel()


PRODUCTS: Mapping[str, Count] = {
    "aten::convolution_backward": _convolution_backward,
    "aten::mv": _matrix_vector,
    "aten::addmv": _added_matrix_vector,
    "aten::dot": _matrix_vector,
    "aten::vdot": _matrix_vector,
    "aten::conv_tbc": _convolution_in_time,
    "aten::_sparse_addmm": _sparse_product,
    "aten::_trilinear": _trilinear,
    "aten::affine_grid_generator": _grid,
    "aten::affine_grid_generator_backward": _grid_backward,
}
SUMS: Mapping[str, Count] = {
    "aten::_cdist_forward": _distances,
    "aten::_cdist_backward": _distances_backward,
    "aten::_euclidean_dist": _distances,
    "aten::_pdist_forward": _distances,
    "aten::_pdist_backward": _distances_backward,
    "aten::_ctc_loss": _alignments,
    "aten::_ctc_loss_backward": _alignments_backward,
    "aten::_embedding_bag": _bags,
    "aten::_embedding_bag_forward_only": _bags,
    "aten::_embedding_bag_backward": _bags_backward,
    "aten::_embedding_bag_dense_backward": _bags_backward,
}
