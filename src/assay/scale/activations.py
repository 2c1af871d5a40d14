"""Activations by name, and any other one as a function of float64 numbers with its derivative."""

from __future__ import annotations

import copy
import difflib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import UsageError, verbatim
from assay.scale.quadrature import REACH, Array
from assay.state import preserved_random_state

Function = Callable[[Tensor], Tensor]

NAMED: dict[str, Function] = {
    "celu": F.celu,
    "elu": F.elu,
    "erf": torch.erf,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "identity": lambda x: x * 1.0,  # a new tensor, so that it has a derivative
    "leaky_relu": F.leaky_relu,
    "logsigmoid": F.logsigmoid,
    "mish": F.mish,
    "relu": F.relu,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "sin": torch.sin,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "squared_relu": lambda x: F.relu(x).square(),
    "tanh": torch.tanh,
}
_ALIASES = {
    "linear": "identity",
    "swish": "silu",
    "gelu_new": "gelu_tanh",  # transformers' name
    "gelu_pytorch_tanh": "gelu_tanh",
    "leakyrelu": "leaky_relu",
    "relu2": "squared_relu",
}
_REMEDY = "Give a name, a module or a function that maps every number of a tensor on its own."


def resolve(activation: Any) -> tuple[str, Function]:
    """The name and the function of an activation given by name, module or callable.

    Args:
        activation: A name ("relu"), an `nn.Module` (copied, in the mode that it is in) or a callable.

    Returns:
        What to call it, and a function of float64 tensors `[P] -> [P]`.

    Raises:
        UsageError: If the name is unknown, or `activation` is none of the three.
    """
    if isinstance(activation, str):
        name = activation.lower().replace("-", "_")
        name = _ALIASES.get(name, name)
        if name not in NAMED:
            known = sorted([*NAMED, *_ALIASES])
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise UsageError(
                "activation", activation, f"one of {', '.join(known)}", hint + "Or pass a function."
            )
        return name, NAMED[name]
    if isinstance(activation, nn.Module):
        # `forward` of a copy: the user's hooks do not see these calls
        return repr(activation), copy.deepcopy(activation).to("cpu", torch.float64).forward
    if callable(activation) and not isinstance(activation, type):
        return str(getattr(activation, "__name__", type(activation).__name__)), activation
    raise UsageError("activation", activation, "a name, an nn.Module or a function", _REMEDY)


def require_elementwise(name: str, function: Function) -> None:
    """Refuse what is random, not finite, or does not act on each number by itself.

    Args:
        name: What to call it in the message.
        function: The activation.

    Raises:
        UsageError: If it is not an elementwise, deterministic, finite function of a tensor.
    """
    x = torch.linspace(-REACH, REACH, 53, dtype=torch.float64, device="cpu")
    x = x[torch.randperm(53, generator=torch.Generator().manual_seed(0), device="cpu")]

    def because(why: str) -> tuple[str, object, str]:
        return "activation", verbatim(name), f"an elementwise function, but {why}"

    with preserved_random_state(), torch.no_grad():
        try:
            once, again, part = _call(function, x), _call(function, x), _call(function, x[:20])
        except Exception as error:
            raised = because(f"it raised {type(error).__name__}: {error}")
            raise UsageError(*raised, _REMEDY) from error
    if not isinstance(once, Tensor) or once.shape != x.shape:
        shape = list(once.shape) if isinstance(once, Tensor) else type(once).__name__
        raise UsageError(*because(f"it turned a tensor of shape [53] into {shape}"), _REMEDY)
    if not torch.isfinite(once).all():
        at = float(x[~torch.isfinite(once)][0])
        value = float(once[~torch.isfinite(once)][0])
        raise UsageError(*because(f"its value at {at:.4g} is {value}"), _REMEDY)
    if not torch.equal(once, again):
        random = because("two calls on the same numbers differ: it is random")
        raise UsageError(*random, "Call .eval() first.")
    if not torch.allclose(once[:20], part, rtol=1e-9, atol=1e-12):
        mixed = because("its value at one number depends on the others (as softmax's does)")
        raise UsageError(*mixed, _REMEDY)


def values(function: Function) -> Callable[[Array], Array]:
    """The activation as a function of numpy arrays.

    Returns:
        `φ`, `[P] -> [P]`.
    """

    def phi(x: Array) -> Array:
        with torch.no_grad():
            return np.asarray(_call(function, torch.from_numpy(x)), dtype=np.float64)

    return phi


def derivative(function: Function) -> Callable[[Array], Array]:
    """The activation's derivative as autograd has it (a straight-through estimator's own included).

    Returns:
        `φ'`, `[P] -> [P]`; NaN where autograd knows no derivative.
    """

    def slope(x: Array) -> Array:
        with torch.inference_mode(False), torch.enable_grad():
            z = torch.from_numpy(x).clone().requires_grad_()
            y = _call(function, z)
            if not y.requires_grad:
                return np.full_like(x, np.nan)
            (found,) = torch.autograd.grad(y.sum(), z, allow_unused=True)
        return np.full_like(x, np.nan) if found is None else found.numpy()

    return slope


def _call(function: Function, x: Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as softmax's about an implicit dimension
        return function(x.clone())  # activations that work in place may have their way


def fingerprint(function: Function) -> bytes:
    """The values on a fixed grid: equal for equal activations, whatever objects they are.

    Returns:
        The bytes of 53 float64 numbers.
    """
    return values(function)(np.linspace(-REACH, REACH, 53)).tobytes()
