"""An operator on tensors without data that was seen before: what it did, and what it made, once more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from assay.cost.convention import Rule, moved_bytes
from assay.cost.fake import remade, viewed
from assay.cost.live import tensors_of

# in place of a recipe: the same operator on the storage that was given
_VIEW = "view"


class Seen(NamedTuple):
    """What an operator did on arguments of these shapes: the next such call need not run."""

    flops: int
    operations: int
    moved: int
    made: Any
    shapes: tuple[int, ...]


class Memory:
    """What operators did on tensors without data, kept from one pass to the next."""

    def __init__(self) -> None:
        self.seen: dict[Any, Seen] = {}
        self.rules: dict[Any, Rule] = {}
        self.drawn: set[Any] = set()


class MoreThanShapes(Exception):
    """A tensor is sparse, or remembers its values: more than shapes may matter."""


def signature(args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Everything about arguments that an outcome without data depends on."""
    return _shape_of(args), tuple((k, _shape_of(v)) for k, v in kwargs.items()) if kwargs else ()


def _shape_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.layout is not torch.strided:
            raise MoreThanShapes
        device = value.device if type(value) is not FakeTensor else _device_of(value)
        return value.shape, value.stride(), value.dtype, value.storage_offset(), device
    if isinstance(value, tuple | list):
        return tuple([_shape_of(item) for item in value])
    return type(value), value


def _device_of(tensor: FakeTensor) -> Any:
    """The device where a tensor without data claims to be, asked without running an operator."""
    if tensor.constant is not None:
        raise MoreThanShapes
    return FakeTensor, tensor.fake_device


def repeatable(
    rule: Rule, key: Any, args: Any, kwargs: Mapping[str, Any], out: Any, seen: Seen
) -> bool:
    """Whether what was seen is all that the operator does: it made new tensors, or wrote into its first."""
    if rule.in_place:
        return out is args[0] and _shape_of(out) == key[1][0][0]
    if rule.view:
        parts = tensors_of(out)
        return all(type(t) is FakeTensor and t.constant is None for t in [args[0], *parts])
    return seen.made is not None and not _shared((args, kwargs), out)


def _shared(given: tuple[Any, Mapping[str, Any]], out: Any) -> bool:
    """Whether an output looks into a storage that was given: then it is not made anew."""
    args, kwargs = given
    known = {id(t.untyped_storage()) for t in tensors_of([args, *kwargs.values()])}
    return any(id(t.untyped_storage()) in known for t in tensors_of(out))


def recipe(rule: Rule, out: Any) -> Any:
    """How to make again what an operator made; None where it is not plain tensors without data."""
    return _VIEW if rule.view else _recipe(out)


def repeated(made: Any, func: Any, args: Any, kwargs: Any, mode: FakeTensorMode | None) -> Any:
    """What an operator makes, by the recipe of an earlier call with arguments of these shapes."""
    if made is _VIEW:
        assert mode is not None
        return viewed(func, args, kwargs, mode)
    return _remade(made, mode)


def _recipe(out: Any) -> Any:
    """How to make tensors like these anew; None where they are not plain tensors without data."""
    if isinstance(out, Tensor):
        if type(out) is FakeTensor:
            device = out.fake_device if out.constant is None else None
        else:
            device = out.device if type(out) is Tensor and out.is_meta else None
        if device is None:
            return None
        if out.layout is not torch.strided or out.storage_offset():
            return None
        if out.untyped_storage().nbytes() < moved_bytes(out):
            return None
        return out.shape, out.stride(), out.dtype, device
    if isinstance(out, tuple | list) and out:
        parts = [_recipe(item) for item in out]
        return None if any(p is None for p in parts) else (type(out), parts)
    return None


def _remade(recipe: Any, mode: FakeTensorMode | None) -> Any:
    if len(recipe) == 2:
        kind, parts = recipe
        return kind([_remade(part, mode) for part in parts])
    shape, stride, dtype, device = recipe
    return remade(shape, stride, dtype, device, mode)
