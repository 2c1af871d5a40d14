"""Operators that depend on more than shapes, or make tensors out of nothing."""

from __future__ import annotations

import torch

_aten = torch.ops.aten
MAKERS = {
    _aten.arange.default,
    _aten.arange.start,
    _aten.arange.start_step,
    _aten.full.default,
    _aten.ones.default,
    _aten.zeros.default,
    _aten.eye.default,
    _aten.eye.m,
    _aten.linspace.default,
    _aten.scalar_tensor.default,
    _aten.tril_indices.default,
    _aten.triu_indices.default,
}
DYNAMIC = {  # what they return depends on values
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten._local_scalar_dense.default,
    _aten.equal.default,
    _aten.bincount.default,
    _aten.repeat_interleave.Tensor,
    _aten._unique2.default,
    _aten.unique_dim.default,
    _aten.unique_consecutive.default,
}
INDEXED = {  # their second argument is a list of indices, among which may be masks
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._unsafe_index.Tensor,
    _aten._unsafe_index_put.default,
    _aten._index_put_impl_.default,
}
