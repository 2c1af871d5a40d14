"""Causal attention: what a kernel may leave out, and whether there is attention at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from assay.cost.convention import PRODUCT
from assay.cost.places import Modules
from assay.cost.tally import BACKWARD, CAUSAL, FORWARD, Key
from assay.cost.values import call
from assay.cost.watch import Watch

_ATTENTION = (
    nn.functional.scaled_dot_product_attention,
    nn.functional.multi_head_attention_forward,
)


class Causal(TorchFunctionMode):
    """Products of causal attention that a kernel may leave out: pairs of a query and a later key.

    Attributes:
        attends: Whether attention was called, causal or not.
    """

    def __init__(self, watch: Watch, modules: Modules, *, fused: bool) -> None:
        super().__init__()
        self._watch, self._modules, self._fused = watch, modules, fused
        self.attends = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        self.attends = self.attends or func in _ATTENTION
        if func is _ATTENTION[0] and _is_causal(args, kwargs):
            named = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            query, value = named["query"], named["value"]
            queries, keys = query.shape[-2], value.shape[-2]
            seen = min(queries, keys)
            pairs = seen * (seen + 1) // 2 + (queries - seen) * keys
            hidden = queries * keys - pairs
            width = query.shape[-1] + value.shape[-1]
            back = 2 * width + query.shape[-1] * self._fused
            heads = query.shape[:-2].numel()
            module = self._modules.current().module
            for phase, widths in ((FORWARD, width), (BACKWARD, back * query.requires_grad)):
                flops = 2 * heads * hidden * widths
                self._watch.counts[Key(CAUSAL, phase, module, PRODUCT)] += flops
        return call(func, args, kwargs)


def _is_causal(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return bool(args[5] if len(args) > 5 else kwargs.get("is_causal"))
