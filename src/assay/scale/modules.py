"""What kind a leaf module is: a norm, an activation."""

from __future__ import annotations

import copy

from torch import nn

from assay.errors import UsageError
from assay.scale.activations import Function, require_elementwise

_NORM_MODULES = ("LayerNorm", "RMSNorm", "BatchNorm", "GroupNorm", "InstanceNorm", "ScaleNorm")
# leaf modules without parameters that need not be asked whether they are activations
_NO_ACTIVATION = ("Dropout", "Identity", "Softmax", "Flatten", "Pool", "Pad", "Norm", "Loss")


def is_norm(module: nn.Module | None) -> bool:
    """Whether a leaf module is a normaliser, by its class's name (transformers has dozens of its own).

    Returns:
        True for batch, layer, RMS, group and instance norms of any library.
    """
    name = type(module).__name__
    return module is not None and not module._modules and any(n in name for n in _NORM_MODULES)


def has_fixed_statistics(module: nn.Module) -> bool:
    """Whether a leaf module is a batch norm that is nothing but buffers: a frozen one, of any library.

    Returns:
        True where it is an affine map by fixed numbers, and normalises nothing.
    """
    frozen = "running_var" in module._buffers and not module._parameters and not module._modules
    return frozen and "Frozen" in type(module).__name__


def elementwise(module: nn.Module) -> Function | None:
    """The function of a leaf module without parameters that acts on each number by itself.

    Args:
        module: Any module; it is copied, not run.

    Returns:
        Its `forward`, or None where it is no activation.
    """
    name = type(module).__name__
    if module._modules or module._parameters or module._buffers:
        return None
    if any(other in name for other in _NO_ACTIVATION):
        return None
    try:
        # `forward` of a copy: neither the user's hooks nor their attributes notice
        function = copy.deepcopy(module).forward
        require_elementwise(name, function)
    except (UsageError, TypeError, RuntimeError):  # cannot be copied, or is something else
        return None
    return function
