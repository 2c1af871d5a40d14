"""Attention and dropout as the single kernels that a GPU runs: what they keep, and what they compute twice.

On the meta device, as on a CPU, attention is two products and a softmax, and all scores are kept for the
backward pass; dropout keeps a mask of floating-point numbers. On a GPU one kernel keeps its inputs, its
output and a logarithm for each query, and computes the scores again; dropout keeps a byte for each element.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten


@contextmanager
def fused_kernels(*keys: str) -> Iterator[None]:
    """Have torch call the fused kernels.

    Args:
        *keys: The dispatch keys of tensors for which it shall, as "AutogradMeta".

    Yields:
        Nothing.
    """
    library = torch.library.Library("aten", "IMPL")
    try:
        for key in keys:
            library.impl("scaled_dot_product_attention", attention, key)
            library.impl("dropout", _dropout, key)
        yield
    finally:
        library._destroy()


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention as a kernel; see `torch.nn.functional.scaled_dot_product_attention`."""
    if query.dim() != 4:  # as on a GPU
        return _aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )[0]
    if attn_mask is None:  # fewer heads of keys and values than of queries are no matter here
        return _aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale
        )[0]
    if attn_mask.dtype is torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(
            ~attn_mask, -torch.inf
        )
    bias = attn_mask.expand(*query.shape[:3], key.shape[2])
    if enable_gqa:
        times = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    kept = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value, attn_mask))
    return _aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, kept, dropout_p, is_causal, scale=scale
    )[0]


def _dropout(input: Tensor, p: float, train: bool) -> Tensor:
    if not train or p == 0 or input.numel() == 0:
        return input
    if p == 1:
        return input * 0
    return torch.native_dropout(input, p, True)[0]
