"""How many operations an operator counts: the convention table, in one place.

`flops` are what torch's FlopCounterMode counts: matrix products and convolutions, a multiplication and an
addition as two. `operations` are all arithmetic: the flops (but for `arithmetic`, where these are wrong),
and for every other operator a stated number per element (see docs/cost.md). Operators that only move or
rename data count 0 operations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from operator import index
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from assay.cost.arithmetic import PRODUCTS, SUMS
from assay.cost.decompositions import DECOMPOSITIONS
from assay.cost.kernels import KERNELS
from assay.cost.live import tensors_of
from assay.cost.operators import DYNAMIC, INDEXED, MAKERS
from assay.errors import UsageError

PRODUCT, CONVOLUTION, ELEMENTWISE = "matrix product", "convolution", "elementwise"
REDUCTION, NORMALISATION, INDEXING = "reduction", "normalisation", "indexing"
CLASSES = (PRODUCT, CONVOLUTION, ELEMENTWISE, REDUCTION, NORMALISATION, INDEXING)

# Operations per element: of the output for elementwise operators, of the first input for the others.
# Pointwise operators and reductions that torch tags as such, and that stand nowhere here, count one.
_TABLE: Mapping[str, Mapping[int, str]] = {
    ELEMENTWISE: {
        1: """hardsigmoid_backward glu threshold_backward triu tril fmod remainder _prelu_kernel
            floor_divide hardshrink_backward softshrink_backward rrelu_with_noise_backward isin""",
        2: """native_dropout native_dropout_backward bernoulli dropout leaky_relu_backward
            hardtanh_backward hardswish_backward rrelu_with_noise addr""",
        3: """sigmoid_backward tanh_backward addcmul addcdiv lerp elu celu selu mse_loss_backward
            huber_loss_backward smooth_l1_loss_backward upsample_linear1d linalg_cross""",
        4: """sigmoid silu softplus logaddexp logit log_sigmoid log_sigmoid_forward elu_backward
            softplus_backward log_sigmoid_backward polar hann_window hamming_window""",
        5: "glu_backward _prelu_kernel_backward",
        6: "soft_margin_loss_backward binary_cross_entropy_backward binary_cross_entropy_with_logits",
        7: "upsample_bilinear2d _upsample_bilinear2d_aa grid_sampler_2d",
        8: "silu_backward mish hardswish gelu blackman_window",
        15: "upsample_trilinear3d grid_sampler_3d",
        16: "gelu_backward mish_backward",
        31: "upsample_bicubic2d _upsample_bicubic2d_aa",
    },
    REDUCTION: {
        1: """sum mean amax amin max min argmax argmin prod any all cumsum cumprod cummax cummin
            _is_all_true _is_any_true nansum logcumsumexp count_nonzero trace
            max_pool2d_with_indices max_pool3d_with_indices
            avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
            adaptive_max_pool2d max_pool2d_with_indices_backward avg_pool2d_backward
            avg_pool3d_backward _adaptive_avg_pool2d_backward adaptive_max_pool2d_backward
            value_selecting_reduction_backward nll_loss_forward nll_loss_backward
            nll_loss2d_forward nll_loss2d_backward embedding_dense_backward histc bincount
            max_pool3d_with_indices_backward _adaptive_avg_pool3d_backward
            adaptive_max_pool3d adaptive_max_pool3d_backward fractional_max_pool2d
            fractional_max_pool2d_backward fractional_max_pool3d fractional_max_pool3d_backward""",
        3: """var var_mean std std_mean norm linalg_vector_norm logsumexp mse_loss l1_loss
            huber_loss smooth_l1_loss dist multi_margin_loss multi_margin_loss_backward allclose""",
        4: "upsample_linear1d_backward soft_margin_loss renorm",
        5: """_softmax _log_softmax _safe_softmax _softmax_backward_data _log_softmax_backward_data
            binary_cross_entropy _masked_softmax _masked_softmax_backward""",
        8: "upsample_bilinear2d_backward _upsample_bilinear2d_aa_backward",
        16: "upsample_trilinear3d_backward grid_sampler_2d_backward",
        32: """upsample_bicubic2d_backward _upsample_bicubic2d_aa_backward
            grid_sampler_3d_backward""",
    },
    NORMALISATION: {
        3: "_weight_norm_interface",
        5: "_weight_norm_interface_backward",
        8: """native_layer_norm native_group_norm native_batch_norm cudnn_batch_norm
            _native_batch_norm_legit _native_batch_norm_legit_no_training _fused_rms_norm
            batch_norm_with_update _batch_norm_with_update""",
        14: """native_layer_norm_backward native_group_norm_backward native_batch_norm_backward
            batch_norm_backward _fused_rms_norm_backward cudnn_batch_norm_backward""",
    },
    INDEXING: {
        0: """embedding index index_select gather cat stack clone copy _to_copy select_backward
            slice_backward constant_pad_nd zeros ones full empty empty_like zeros_like ones_like
            full_like new_zeros new_ones new_full new_empty new_empty_strided empty_strided arange
            scalar_tensor fill zero repeat roll flip im2col col2im sort topk index_put
            _index_put_impl scatter masked_fill nonzero unfold_backward as_strided_scatter
            select_scatter slice_scatter tril_indices triu_indices upsample_nearest2d
            upsample_nearest2d_backward one_hot rand randn randint rand_like randn_like randperm
            normal uniform random exponential linspace eye lift_fresh lift_fresh_copy resize set
            _reshape_copy _reshape_alias alias_copy diagonal_backward
            repeat_interleave reflection_pad1d reflection_pad2d replication_pad2d
            split_with_sizes_copy view_copy expand_copy unbind_copy permute_copy
            _local_scalar_dense equal pixel_shuffle pixel_unshuffle channel_shuffle unfold_copy
            bucketize searchsorted _unique2 split_copy index_fill masked_select masked_scatter
            unsafe_split unsafe_split_with_sizes unsafe_chunk masked_scatter_backward multinomial
            median kthvalue reflection_pad3d replication_pad1d replication_pad3d upsample_nearest1d
            upsample_nearest1d_backward upsample_nearest3d upsample_nearest3d_backward index_copy put
            diag_embed diagonal_scatter complex max_unpool2d _pack_padded_sequence
            _pack_padded_sequence_backward _jagged_to_padded_dense_forward
            _padded_dense_to_jagged_forward _sparse_coo_tensor_with_dims_and_tensors
            _sparse_coo_tensor_with_dims sparse_mask _coalesce _upsample_nearest_exact1d
            _upsample_nearest_exact1d_backward _upsample_nearest_exact2d
            _upsample_nearest_exact2d_backward _upsample_nearest_exact3d
            _upsample_nearest_exact3d_backward take rot90 block_diag narrow_copy nonzero_static
            nanmedian mode poisson log_normal cauchy geometric binomial _standard_gamma
            _sample_dirichlet lu_unpack""",
        1: """index_add scatter_add scatter_reduce reflection_pad1d_backward reflection_pad2d_backward
            replication_pad1d_backward replication_pad2d_backward reflection_pad3d_backward
            replication_pad3d_backward index_reduce segment_reduce _segment_reduce_backward""",
    },
}
_KNOWN = {
    name: (kind, weight)
    for kind, weights in _TABLE.items()
    for weight, names in weights.items()
    for name in names.split()
}
_CUSTOM: dict[str, tuple[str, Callable[..., int]]] = {}
# these read as much of their first tensor as they write, and the rest of it not at all
_GATHERS = {"embedding", "gather", "index", "index_select", "take"}
_BAGS = {"_embedding_bag", "_embedding_bag_forward_only"}  # so do these, which write sums of it
# `_unsafe_view` is a view that does not say so
_SILENT = {"detach", "detach_", "is_same_size", "_assert_async", "_assert_scalar", "_unsafe_view"}
_SILENT |= {"_linalg_check_errors"}
# and these turn their tensor into a view of what it was
_SILENT |= {"transpose_", "t_", "swapaxes_", "swapdims_", "squeeze_", "unsqueeze_", "as_strided_"}


def weights() -> Mapping[str, Mapping[int, tuple[str, ...]]]:
    """The convention table, as `docs/cost.md` prints it.

    Returns:
        Class to operations per element to the names of operators, as torch names them.
    """
    return {
        kind: {weight: tuple(names.split()) for weight, names in rows.items()}
        for kind, rows in _TABLE.items()
    }


def register_operator(name: str, operations: Callable[..., int], kind: str = ELEMENTWISE) -> None:
    """Tell how many operations an operator of your own counts.

    Args:
        name: Its qualified name, as in "mylib::my_op".
        operations: `operations(*args, out=output, **kwargs) -> int`, on tensors without data. Where it
            returns anything but an integer of at least 0 (a float that is whole may be one), the cost that
            calls it raises a UsageError.
        kind: Its class, one of `CLASSES`.

    Raises:
        UsageError: If one of these is something else.
    """
    if not re.fullmatch(r"\w+::\w+", str(name)):
        raise UsageError(
            "name", name, "a qualified name", 'Write "mylib::my_op", without overload.'
        )
    if not callable(operations):
        raise UsageError(
            "operations",
            operations,
            "a function `operations(*args, out=…, **kwargs)` that returns an integer",
            "Write lambda *args, out, **kwargs: 2 * out.numel(), say.",
        )
    if kind not in CLASSES:
        raise UsageError("kind", kind, f"one of {', '.join(CLASSES)}", "Check the spelling.")

    def counted(*args: Any, **kwargs: Any) -> int:
        return _whole(name, operations(*args, **kwargs))

    _CUSTOM[name] = (kind, counted)


def _whole(name: str, value: Any) -> int:
    """What a user's own function counts.

    Returns:
        The integer.

    Raises:
        UsageError: If it is no count.
    """
    try:
        found = index(value)  # numpy's integers are such too
    except TypeError:
        found = int(value) if isinstance(value, float) and value.is_integer() else -1
    if found < 0:
        raise UsageError(
            f"operations of {name}",
            value,
            "an integer of at least 0",
            "Let the function given to register_operator return how many one call counts, "
            "as in 2 * out.numel().",
        )
    return found


class Rule:
    """What is known of one operator, looked up once for each overload."""

    def __init__(self, func: Any) -> None:
        packet = func._overloadpacket
        qualified = func._schema.name
        self._func, self.name = func, qualified.partition("::")[2]
        self.maker, self.dynamic, self.indexed = func in MAKERS, func in DYNAMIC, func in INDEXED
        self.lookup = qualified in ("aten::embedding", "aten::index")
        name = self.name
        self.label = name if qualified.startswith("aten::") else qualified
        self.flops: Callable[..., int] | None = None
        self.operations: Callable[..., int] | None = None
        self.per_element: int | None = None
        self.kind, self.moves = "other", True
        custom = _CUSTOM.get(qualified)
        if func._schema.is_mutable and qualified.endswith("_"):  # in place it is the same operator
            qualified = qualified.removesuffix("_")
            namespace, _, plain = qualified.partition("::")
            packet = getattr(getattr(torch.ops, namespace), plain, packet)
        if custom is not None:
            self.kind, self.operations = custom
        elif packet in flop_registry:
            self.flops, self.operations = flop_registry[packet], PRODUCTS.get(qualified)
            self.kind = CONVOLUTION if "convolution" in name else PRODUCT
        elif qualified in KERNELS:
            self.kind, self.flops = PRODUCT, KERNELS[qualified]
        elif qualified in PRODUCTS:
            self.kind, self.operations = PRODUCT, PRODUCTS[qualified]
        elif qualified in SUMS:
            self.kind, self.operations = REDUCTION, SUMS[qualified]
        elif qualified in DECOMPOSITIONS:
            self.operations = DECOMPOSITIONS[qualified]
        elif func.is_view or name in _SILENT or qualified.startswith(("prim::", "profiler::")):
            self.per_element, self.moves = 0, False
        else:
            base = name if name in _KNOWN else name.removesuffix("_")
            tags = {*func.tags, *getattr(packet, func._overloadname, func).tags}
            if base in _KNOWN:
                self.kind, self.per_element = _KNOWN[base]
            elif torch.Tag.pointwise in tags:
                self.kind, self.per_element = ELEMENTWISE, 1
            elif torch.Tag.reduction in tags:
                self.kind, self.per_element = REDUCTION, 1

    def moved(self, args: Any, out: Any) -> int:
        """Bytes that a call reads and writes, as if everything were contiguous."""
        if not self.moves:
            return 0
        if self.name in _GATHERS:
            return moved_bytes(args[1:]) + 2 * moved_bytes(out)
        if self.name in _BAGS:
            row = int(args[0].shape[1]) * int(args[0].element_size())
            return moved_bytes(args[1:]) + int(args[1].numel()) * row + moved_bytes(out)
        return moved_bytes(args) + moved_bytes(out)

    @cached_property
    def composite(self) -> bool:
        """Whether it is made of other operators, which can be counted in its place."""
        return bool(
            self._func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
        )

    @cached_property
    def functional(self) -> bool:
        """Whether it makes new tensors from its arguments and does nothing else."""
        schema = self._func._schema
        plain = all(a.alias_info is None for a in (*schema.arguments, *schema.returns))
        return plain and bool(schema.returns) and self.moves

    @cached_property
    def in_place(self) -> bool:
        """Whether all it does is to write into its first argument, which it returns."""
        schema = self._func._schema
        written = [a.alias_info is not None and a.alias_info.is_write for a in schema.arguments]
        return (
            written[:1] == [True]
            and not any(written[1:])
            and len(schema.returns) == 1
            and schema.returns[0].alias_info is not None
            and self.moves
            and self.name != "set_"  # takes another tensor's storage
        )

    @cached_property
    def view(self) -> bool:
        """Whether it looks into the storage of its first argument, which it leaves as it is."""
        schema = self._func._schema
        if self.name == "_unsafe_view":  # which torch does not declare as one
            return True
        alias = [a.alias_info for a in schema.arguments]
        only_first = bool(alias and alias[0] and not alias[0].is_write and not any(alias[1:]))
        return only_first and bool(self._func.is_view)

    @cached_property
    def known(self) -> bool:
        """Whether the operator counts as something, possibly nothing; never by accident."""
        return self.flops is not None or self.operations is not None or self.per_element is not None


def first_elements(value: Any) -> int:
    """Number of elements of the first tensor in an argument list or output."""
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, list | tuple):
        return next((size for item in value if (size := first_elements(item))), 0)
    return 0


def moved_bytes(value: Any) -> int:
    """Bytes of every tensor in a flat argument list or output, as if contiguous."""
    if isinstance(value, Tensor):
        if value.layout is not torch.strided:
            return sum(moved_bytes(part) for part in tensors_of(value))
        return value.numel() * value.element_size()
    if isinstance(value, list | tuple):
        return sum(moved_bytes(item) for item in value)
    return 0
