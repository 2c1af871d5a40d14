"""Causal attention: what a kernel may leave out, and whether there is attention at all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import (
    get_unwrapped,
    is_batchedtensor,
    is_functorch_wrapped_tensor,
    maybe_get_bdim,
    maybe_get_level,
)
from torch.overrides import TorchFunctionMode

from assay.cost.convention import PRODUCT
from assay.cost.fused import attention as fused_attention
from assay.cost.places import Modules
from assay.cost.tally import CAUSAL, Key
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
        if not (func is _ATTENTION[0] and _is_causal(args, kwargs)):
            return call(func, args, kwargs)
        named = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
        returned = self._leave_out(named["query"], named["key"], named["value"])
        return returned(call(func, args, kwargs))

    @contextmanager
    def again(self) -> Iterator[None]:
        """See layers that are checkpointed run once more: in a backward pass no mode is asked.

        Yields:
            Nothing.
        """
        if self._fused and "allow_override" not in signature(torch.library.Library.impl).parameters:
            yield  # an older torch keeps the kernel that is there
            return
        run = fused_attention if self._fused else _attention
        # in place of the kernel that is there already, of which torch would warn
        instead = {"allow_override": True} if self._fused else {}

        def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **named: Any) -> Any:
            if not (args[2] if len(args) > 2 else named.get("is_causal")):
                return run(query, key, value, *args, **named)
            returned = self._leave_out(query, key, value)
            return returned(run(query, key, value, *args, **named))

        library = torch.library.Library("aten", "IMPL")
        try:
            with warnings.catch_warnings(action="ignore"):
                for key in ("AutogradMeta", "AutogradCPU"):
                    library.impl("scaled_dot_product_attention", attention, key, **instead)
            yield
        finally:
            library._destroy()

    def _leave_out(self, query: Tensor, key: Tensor, value: Tensor) -> Callable[[Tensor], Tensor]:
        """Count products with hidden pairs, those of a call before it is made.

        Returns:
            To be given what the call returns, and returning it: of its backward pass, if it has one.
        """
        queries, keys = query.shape[-2], value.shape[-2]
        seen = min(queries, keys)
        pairs = seen * (seen + 1) // 2 + (queries - seen) * keys
        heads = query.shape[:-2].numel() * _times(query, key, value)
        hidden = 2 * heads * (queries * keys - pairs)
        wide, deep = query.shape[-1], value.shape[-1]
        kernel = self._fused and query.dim() == 4 and not is_functorch_wrapped_tensor(query)
        module = self._modules.current().module

        def add(width: int) -> None:
            self._watch.counts[Key(CAUSAL, self._watch.phase, module, PRODUCT)] += hidden * width

        def returned(out: Tensor) -> Tensor:
            add(deep * (not kernel))
            differentiated = _differentiated(out)
            if differentiated is not None:
                of = [_differentiated(x) is not None for x in (query, key, value)]
                scores = of[0] + of[1]
                back = deep * (scores > 0) + wide * scores + deep * of[2]
                if kernel:  # which has all gradients, and computes the scores again
                    back = 3 * wide + 2 * deep
                differentiated.register_hook(lambda _: add(back))
            return out

        # checkpointing runs once more only what it lacks: scores, but not what is done with them
        add(wide + deep * kernel)
        return returned


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **named: Any) -> Any:
    """Attention without a kernel of its own."""
    return torch.ops.aten._scaled_dot_product_attention_math(query, key, value, *args, **named)[0]


def _times(*tensors: Tensor) -> int:
    """How many examples `torch.vmap` has put together in some tensors, which do not show them."""
    found: dict[int, int] = {}
    for tensor in tensors:
        while is_functorch_wrapped_tensor(tensor):
            inner = get_unwrapped(tensor)
            if is_batchedtensor(tensor):
                found[maybe_get_level(tensor)] = inner.shape[maybe_get_bdim(tensor)]
            tensor = inner
    return math.prod(found.values())


def _differentiated(tensor: Tensor) -> Tensor | None:
    """A tensor that has a gradient, or what `torch.vmap` has wrapped in it."""
    while not tensor.requires_grad:
        if not is_functorch_wrapped_tensor(tensor):
            return None
        tensor = get_unwrapped(tensor)
    return tensor


def _is_causal(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return bool(args[5] if len(args) > 5 else kwargs.get("is_causal"))
