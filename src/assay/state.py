"""The model comes back as it was, also after an exception."""

from __future__ import annotations

import copy
import io
import logging
import random
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextmanager
def preserved_random_state(seed: int | None = None) -> Iterator[None]:
    """Restore the generators of Python, numpy and torch (CPU and every initialised GPU) on exit.

    Args:
        seed: Where given, the generators are seeded with it on entry.

    Yields:
        Nothing.
    """
    python, array = random.getstate(), np.random.get_state()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(gpus)):
        try:
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)
                torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)


@contextmanager
def preserved(model: nn.Module, *, parameters: bool = False) -> Iterator[None]:
    """Restore mode, buffers, gradients, hooks and random state of `model` on exit.

    Gradients are set to None on entry and come back as the very tensors they were. Parameters are not
    copied unless asked for, because a measurement that never steps never changes them.

    Args:
        model: The module to guard.
        parameters: Also copy and restore the values of parameters.

    Yields:
        Nothing.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    hooks = [{name: getattr(module, name).copy() for name in _HOOKS} for module in modules]
    buffers = [
        (module, name, value, None if value is None or value.is_meta else value.detach().clone())
        for module in modules
        for name, value in module._buffers.items()
    ]
    weights = list(model.parameters())
    grads = [p.grad for p in weights]
    flags = [p.requires_grad for p in weights]
    values = [p.detach().clone() for p in weights] if parameters else []
    for p in weights:
        p.grad = None
    with preserved_random_state():
        try:
            yield
        finally:
            with torch.no_grad():
                for module, name, value, kept in buffers:
                    if value is not None and kept is not None and not _same(value, kept):
                        value.copy_(kept)
                    module._buffers[name] = value
                for p, old in zip(weights, values, strict=False):
                    p.copy_(old)
            for p, grad, flag in zip(weights, grads, flags, strict=True):
                p.requires_grad_(flag)
                p.grad = grad
            for module, mode, saved in zip(modules, modes, hooks, strict=True):
                module.training = mode
                for name, old_hooks in saved.items():
                    current: Any = getattr(module, name)
                    current.clear()
                    current.update(old_hooks)


@contextmanager
def preserved_gradients(given: Iterable[Tensor]) -> Iterator[None]:
    """Restore the gradients of tensors that a backward pass adds to; they are None on entry.

    Args:
        given: Tensors, as example inputs; those that are no leaves, or need no gradient, have none.

    Yields:
        Nothing.
    """
    kept = [(x, x.grad) for x in given if x.requires_grad and x.is_leaf]
    for x, _ in kept:
        x.grad = None
    try:
        yield
    finally:
        for x, gradient in kept:
            x.grad = gradient


def copied(model: nn.Module) -> nn.Module:
    """A deep copy that can be trained.

    Of a TorchScript module `copy.deepcopy` makes parameters that are no leaves, which no optimizer takes; and
    it refuses tensors that were computed with gradients and are kept (the state of a loop, the weight that
    `torch.nn.utils.weight_norm` makes): of these the values are copied.

    Args:
        model: The module.

    Returns:
        Its copy, every parameter a leaf as the original's is.

    Raises:
        Exception: If the module cannot be copied.
    """
    kept = (value for module in model.modules() for value in vars(module).values())
    computed = [t for value in kept for t in _tensors(value) if not t.is_leaf]
    made = copy.deepcopy(model, {id(t): t.detach().clone() for t in computed})
    for p, old in zip(made.parameters(), model.parameters(), strict=True):
        if not p.is_leaf:
            p.detach_().requires_grad_(old.requires_grad)
    return made


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, or in a list, tuple or dict of values."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


@contextmanager
def unfused() -> Iterator[None]:
    """Keep fused kernels from hiding what they compute: attention, recurrent nets, the encoder's fast path.

    Yields:
        Nothing.
    """
    fast, mkldnn = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    cudnn = torch.backends.cudnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(False)  # `mkldnn.flags` would warn of TF32 on every call
    torch.backends.cudnn.enabled = False
    try:
        with sdpa_kernel(SDPBackend.MATH), _dense_flex_attention():
            yield
    finally:
        torch.backends.cudnn.enabled = cudnn
        torch._C._set_mkldnn_enabled(mkldnn)
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _dense_flex_attention() -> Iterator[None]:
    """Have `flex_attention` compute all scores, differentiably, instead of compiling a kernel."""
    flex = sys.modules.get("torch.nn.attention.flex_attention")
    replaced = {
        "flex_attention_hop": _all_scores,
        "_validate_device": lambda query, key, value: None,
        "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG": True,
    }
    if flex is None or not all(hasattr(flex, name) for name in replaced):
        yield
        return
    before = {name: getattr(flex, name) for name in replaced}
    vars(flex).update(replaced)
    try:
        yield
    finally:
        vars(flex).update(before)


def _all_scores(*args: Any) -> Any:
    from torch._higher_order_ops.flex_attention import math_attention

    return math_attention(*args)


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep torch from logging to the terminal that an operator failed without data: that is an answer here.

    Yields:
        Nothing.
    """
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to itself what a model prints and warns of where it runs again, at sizes that nobody asked for.

    Filters stay as they are: to change them makes Python forget what was shown, and show it again.

    Yields:
        Nothing.
    """
    before = warnings.showwarning
    warnings.showwarning = _not_shown
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        warnings.showwarning = before


def _not_shown(*args: Any, **kwargs: Any) -> None:
    pass


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)
