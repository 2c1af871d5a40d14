"""Fused kernels that torch's own table of flops leaves out: they never count as nothing.

Counting runs models unfused where it can (see `assay.state.unfused`); these are for operators that a model
calls by name, or that have no other form. The numbers are those of the products inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

Flops = Callable[..., int]


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _attention_backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape))


def _grouped(rows: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    """Rows `[s, k]`, each with the weight `[k, n]` of its group; or groups of rows `[g, m, k]`."""
    if (
        rows.dim() == 3 and weight.dim() == 2
    ):  # the columns of the second are divided among the groups
        return 2 * rows.shape[1] * rows.shape[2] * weight.shape[1]
    return 2 * rows.numel() * weight.shape[-1]


def _grouped_backward(rows: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return 2 * _grouped(rows, weight)


def _product(one: Tensor, other: Tensor, *_: Any, out_val: Any = None, **__: Any) -> int:
    """A matrix product of which one side may be packed: the output and the inner width tell."""
    return 2 * int(out_val.numel()) * int(one.shape[-1])


def _added_product(added: Tensor, one: Tensor, other: Tensor, *_: Any, **__: Any) -> int:
    return 2 * one.numel() * int(other.shape[-1])


# mkldnn takes two weights and two biases one by one, cudnn a list; hidden states come later
_WEIGHTS, _BEFORE_MASK = 4, 15
_LOSS_GRADIENTS = slice(10, 12)  # whether those of the input and of the weight are wanted


def _recurrent(sequence: Tensor, *weights: Any, **_: Any) -> int:
    """Every weight matrix once for each step of each sequence."""
    steps = sequence.numel() // sequence.shape[-1]
    return 2 * steps * sum(_matrices(weights[:_WEIGHTS]))


def _matrices(weights: Sequence[Any]) -> list[int]:
    flat = [w for item in weights for w in (item if isinstance(item, list | tuple) else [item])]
    return [w.numel() for w in flat if isinstance(w, Tensor) and w.dim() == 2]


def _recurrent_backward(sequence: Tensor, *weights: Any, **_: Any) -> int:
    return 2 * _recurrent(sequence, *weights)


def _encoder_layer(source: Tensor, width: int, heads: int, *weights: Any, **_: Any) -> int:
    """The four products of a layer, and its attention: queries, keys and values are of one length."""
    length = source.shape[-2]
    rows = source.numel() // width
    attention = 4 * (rows // length) * length * length * width
    return 2 * rows * sum(_matrices(weights[:_BEFORE_MASK])) + attention


def _self_attention(
    query: Tensor, key: Tensor, value: Tensor, width: int, heads: int, *weights: Any, **_: Any
) -> int:
    return _encoder_layer(query, width, heads, *weights[:4])


def _linear_cross_entropy(x: Tensor, weight: Tensor, *given: Any, **_: Any) -> int:
    """The logits, and in the same loop over chunks each gradient that will be asked for."""
    gradients = sum(given[_LOSS_GRADIENTS])
    return 2 * x.numel() * weight.shape[0] * (1 + int(gradients))


def _linear_cross_entropies(x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    """The logits; without a sum over rows, gradients are left to the backward pass."""
    return 2 * x.numel() * weight.shape[0]


KERNELS: Mapping[str, Flops] = {
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    "aten::_scaled_dot_product_fused_attention_overrideable": _attention,
    "aten::_scaled_dot_product_fused_attention_overrideable_backward": _attention_backward,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    "aten::_native_multi_head_attention": _self_attention,
    "aten::mkldnn_rnn_layer": _recurrent,
    "aten::mkldnn_rnn_layer_backward": _recurrent_backward,
    "aten::_cudnn_rnn": _recurrent,
    "aten::_cudnn_rnn_backward": _recurrent_backward,
    "aten::_grouped_mm": _grouped,
    "aten::_scaled_grouped_mm": _grouped,
    "transformers::grouped_mm_fallback": _grouped,
    "transformers::grouped_mm_fallback_backward": _grouped_backward,
    "torch_nn::_linear_cross_entropy_batch_chunked": _linear_cross_entropy,
    "torch_nn::_linear_cross_entropy_batch_chunked_no_reduction": _linear_cross_entropies,
    "aten::_int_mm": _product,
    "aten::_weight_int8pack_mm": _product,
    "aten::_weight_int4pack_mm": _product,
    "aten::mkldnn_linear": _product,
    "mkldnn::_linear_pointwise": _product,
    "aten::addbmm": _added_product,
    "aten::_addmm_activation": _added_product,
}
