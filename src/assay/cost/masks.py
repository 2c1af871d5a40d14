"""Masks without data: which tensors are some, of which classes, and what a named load says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from assay.cost.convention import Rule
from assay.cost.values import VALUE, value_of

_aten = torch.ops.aten
_MASK = "_assay_mask"  # the attribute of a tensor that is followed
_SUMS = {_aten.sum.default, _aten.sum.dim_IntList, _aten.count_nonzero.default}
_ANY = {_aten.any.default, _aten.any.dim, _aten.any.dims}
_COUNTS = {_aten.bincount.default, _aten.histc.default}
# made of masks, they are masks of the same classes
_SAME = {
    _aten._to_copy.default,
    _aten.clone.default,
    _aten.gt.Scalar,
    _aten.ne.Scalar,
    _aten.mul.Tensor,
    _aten.bitwise_and.Tensor,
    _aten.logical_and.default,
}
_SCATTER = {_aten.scatter.value, _aten.scatter_.value}


class Mask(NamedTuple):
    """What is known of a tensor of zeros and ones, or of the sums of one.

    Args:
        version: Of the tensor when it was so.
        classes: The dimension along which it says to which class something belongs, as to which expert a
            token goes; None where it is of one class.
    """

    version: int
    classes: int | None


def entries(
    load: int, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any
) -> int | None:
    """What each entry of an operator's outcome is, where every mask selects `load` entries.

    So many are the true entries of a mask, and those of each class; and some is true.

    Args:
        load: How many entries a mask selects.
        func: The operator.
        args: Its arguments.
        kwargs: Its keyword arguments.
        out: What it returned.

    Returns:
        The number; None where nothing follows, or the values are known.
    """
    if getattr(out, VALUE, None) is not None:
        return None
    if func in _COUNTS:
        return load
    mask = _mask(args[0]) if func in _SUMS or func in _ANY else None
    if mask is None:
        return None
    classes, left = mask.classes, {*range(args[0].dim())} - _reduced(args, kwargs)
    if func in _ANY and left <= {classes}:
        return True
    if not left:
        return load if classes is None else load * int(args[0].shape[classes])
    return load if left == {classes} else None


def follow_masks(
    rule: Rule, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any
) -> None:
    """Note whether an operator made a mask, and along which dimension its classes are.

    Args:
        rule: What is known of the operator.
        func: The operator.
        args: Its arguments.
        kwargs: Its keyword arguments.
        out: What it returned.
    """
    if func is _aten.eq.Tensor:
        _note(out, _against_all(args[0], args[1], out))
    elif func in _SCATTER:  # ones among zeros: the experts that each token takes
        first, dim, _, number = args
        zeros = value_of(first)
        if number == 1 and zeros is not None and _numbers(zeros) <= {0}:
            _note(out, dim % first.dim(), out._version + rule.in_place)  # autograd counts later
    elif func in _SAME:
        masks = [(_mask(arg), arg.shape) for arg in args if isinstance(arg, Tensor)]
        if all(mask is not None for mask, _ in masks):
            whole = (m.classes for m, shape in masks if m is not None and shape == out.shape)
            _note(out, next((classes for classes in whole if classes is not None), None))
    elif rule.view or func in _SUMS or func in _ANY:
        mask = _mask(args[0])
        if mask is None or mask.classes is None:
            return
        if rule.view:
            _note_views(func, args, kwargs, mask.classes, out)
        else:
            _note(out, _after(mask.classes, args, kwargs, out))


def _note(out: Any, classes: int | None, version: int = 0) -> None:
    if classes is not None and not out.is_inference():
        setattr(out, _MASK, Mask(version, classes))


def _note_views(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], classes: int, out: Any
) -> None:
    """Where views put the dimension of classes: it alone has a stride in a tensor made to be looked into."""
    whole: Tensor = args[0]
    strides = [int(i == classes) for i in range(whole.dim())]
    like = torch.empty_strided(tuple(whole.shape), strides, device="meta")
    try:
        views = tree_leaves(func(like, *args[1:], **kwargs))
    except RuntimeError:  # it cannot be looked into so
        return
    for part, view in zip(tree_leaves(out), views, strict=True):
        shape = zip(view.shape, view.stride(), strict=True)
        line = next((i for i, (size, stride) in enumerate(shape) if stride and size > 1), None)
        every = whole.numel() // (whole.shape[classes] if line is None else 1)
        if part.numel() == every and not part.is_inference():  # all entries, or those of one class
            setattr(part, _MASK, Mask(whole._version, line))  # a view's counter is the whole's


def _mask(tensor: Any) -> Mask | None:
    if not isinstance(tensor, Tensor):
        return None
    found: Mask | None = getattr(tensor, _MASK, None)
    if found is not None and found.version == tensor._version:
        return found
    return Mask(tensor._version, None) if tensor.dtype is torch.bool else None


def _against_all(one: Tensor, other: Tensor, out: Tensor) -> int | None:
    """Along which dimension something is compared with every class, as `one_hot` does."""
    for them in (one, other):
        long = [i for i, size in enumerate(them.shape) if size > 1]
        if len(long) == 1 and out.numel() > them.numel():
            classes = value_of(them)
            if classes is not None and len(_numbers(classes)) == classes.numel():
                return long[0] + out.dim() - them.dim()
    return None


def _numbers(value: Tensor) -> set[Any]:
    with torch._C._DisableTorchDispatch():
        return set(value.flatten().tolist())


def _reduced(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> set[int]:
    """The dimensions that a sum, or `any`, goes over."""
    every = range(args[0].dim())
    given = args[1] if len(args) > 1 else kwargs.get("dim")
    if given is None or given == []:
        return {*every}
    return {every[i] for i in (given if isinstance(given, list | tuple) else [given])}


def _after(
    classes: int, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor
) -> int | None:
    """Where the dimension of classes is after a sum over others."""
    gone = _reduced(args, kwargs)
    if classes in gone:
        return None
    return classes if out.dim() == args[0].dim() else classes - sum(i < classes for i in gone)
