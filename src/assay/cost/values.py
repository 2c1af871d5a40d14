"""Values of tensors without data, where code spelled them out: grids of patches, lengths, positions.

Nobody knows what is in a token or a weight on the meta device. But what `arange`, `zeros` and
`torch.tensor([…])` make is known, and so is what is computed from it: whether positions are packed, where
an image ends. It is computed only where the code asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from assay.cost.compared import noting, with_numbers
from assay.cost.convention import Rule
from assay.cost.fake import remembering
from assay.cost.tracked import Size

VALUE = "_assay_value"  # the attribute of a tensor on the meta device whose values are known
_MOST = 1 << 22  # elements of a tensor whose values may be asked for


class _Value:
    """How values are computed, and these once somebody asked.

    It holds no tensor of the model, which would then live too long. A tensor that is written to has
    another version, as have all views of it: then the value is no longer true.
    """

    __slots__ = ("_found", "_make", "version")

    def __init__(self, make: Callable[[], Any], version: int) -> None:
        self._make: Callable[[], Any] | None = make
        self.version = version

    def get(self) -> Any:
        if self._make is not None:
            self._found, self._make = self._make(), None
        return self._found


def value_of(tensor: Any) -> Tensor | None:
    """The values of a tensor without data.

    Args:
        tensor: Anything.

    Returns:
        A tensor with data; None where the values are not known.
    """
    later = later_value_of(tensor)
    return None if later is None else later()


def later_value_of(tensor: Any) -> Callable[[], Tensor] | None:
    """What computes the values of a tensor without data, as they are now; it does not hold the tensor.

    Args:
        tensor: Anything.

    Returns:
        A function without arguments; None where the values are not known.
    """
    if isinstance(tensor, FakeTensor):
        constant = tensor.constant
        return None if constant is None else lambda: constant
    found = _current(tensor)
    if found is None:
        return None

    def value() -> Tensor:
        with torch._C._DisableTorchDispatch(), torch.no_grad():
            known: Tensor = found.get()
        return known

    return value


def _current(tensor: Any) -> _Value | None:
    found: _Value | None = getattr(tensor, VALUE, None)
    return found if found is not None and found.version == tensor._version else None


def follow(rule: Rule, func: Any, args: Any, kwargs: Mapping[str, Any], out: Any) -> None:
    """Note the values of what an operator made on the meta device, where all that it read is known.

    Args:
        rule: What is known of the operator.
        func: The operator.
        args: Its arguments.
        kwargs: Its keyword arguments.
        out: What it returned.
    """
    first = args[0] if args else None
    if type(first) in (list, tuple) and first:
        first = first[0]
    if isinstance(first, Tensor):
        if func in _FILLS:
            spelled(out, _FILLS[func])
            return
        if getattr(first, VALUE, None) is None:
            return  # as nearly always
    elif not rule.maker:
        return
    if rule.in_place:
        _follow_in_place(func, args, kwargs, out)
    elif (rule.functional or rule.view) and not _arbitrary(rule, func):
        known = _known((args, dict(kwargs)), _current)
        if known is not None:
            # a view will share the counter of what it looks into
            version = first._version if rule.view and isinstance(first, Tensor) else 0
            _note(lambda: _computed(func, known), out, version)


def spelled(out: Tensor, number: Any, asked: Callable[[], None] = lambda: None) -> None:
    """Note that each entry of a tensor without data is one number.

    Args:
        out: The tensor, just made.
        number: The number.
        asked: Called once somebody asks for it.
    """
    shape, dtype = tuple(map(int, out.shape)), out.dtype

    def make() -> Tensor:
        asked()
        return torch.full(shape, number, dtype=dtype, device="cpu")

    _note(make, out)


def _arbitrary(rule: Rule, func: Any) -> bool:
    """Whether an operator draws numbers, or leaves what it finds in memory."""
    return torch.Tag.nondeterministic_seeded in func.tags or "empty" in rule.name


def _note(make: Callable[[], Any], out: Any, version: int = 0) -> None:
    if isinstance(out, Tensor):
        if out.is_meta and out.numel() <= _MOST and not out.is_inference():
            setattr(out, VALUE, _Value(make, version))
    elif isinstance(out, list | tuple):
        whole = _Value(make, 0)
        for k, part in enumerate(out):
            _note(lambda k=k: whole.get()[k], part, version)  # type: ignore[misc]


def _follow_in_place(func: Any, args: Any, kwargs: Mapping[str, Any], out: Tensor) -> None:
    known = _known((args, dict(kwargs)), _current)
    if known is None or out is not args[0]:
        return

    def make() -> Any:
        (target, *rest), named = known
        return _computed(func, ((_Value(lambda: target.get().clone(), 0), *rest), named))

    if out._base is None:  # what a view writes is seen by others
        setattr(out, VALUE, _Value(make, out._version + 1))  # autograd counts on its way back


class _Unknown(Exception):
    """Not all values are known."""


def _known(given: Any, value: Callable[[Tensor], Any]) -> Any:
    """Arguments with values in place of tensors; None where one of them has no value."""

    def known(item: Any) -> Any:
        if not isinstance(item, Tensor):
            return item
        found = value(item)
        if found is None:
            raise _Unknown
        return found

    try:
        return tree_map(known, given)
    except _Unknown:
        return None


def _computed(func: Any, known: Any) -> Any:
    args, kwargs = tree_map(lambda item: item.get() if isinstance(item, _Value) else item, known)
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": "cpu"}
    return func(*args, **kwargs)


def computed(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """An operator on known values, whose outcome has a shape or a value that depends on them.

    Args:
        func: The operator.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Returns:
        The outcome, without data but known; None where not all values are.
    """
    like = next((x for x in tree_leaves((args, dict(kwargs))) if isinstance(x, Tensor)), None)
    known = _known((args, dict(kwargs)), value_of)
    if like is None or known is None:
        return None
    with torch._C._DisableTorchDispatch(), torch.no_grad():
        out = func(*known[0], **known[1])
    return tree_map(lambda o: without_data(o, like) if isinstance(o, Tensor) else o, out)


def without_data(value: Tensor, like: Tensor) -> Tensor:
    """A tensor without data of which the values are known.

    Args:
        value: The values.
        like: A tensor without data of the kind that is wanted.

    Returns:
        A fake tensor, or one on the meta device.
    """
    if isinstance(like, FakeTensor):
        return remembering(value, like)
    out = torch.empty_like(value, device="meta")
    _note(lambda: value, out)
    return out


def as_numbers(data: Any) -> Any:
    """Data in which a tensor of one number that is known is that number.

    `torch.tensor` looks into the tensors of a list without asking for their values.

    Args:
        data: A number, a tensor, or lists of them.

    Returns:
        The data.
    """
    if isinstance(data, list | tuple):
        if _NUMBERS.issuperset(map(type, data)):  # as nearly always, and these are long
            return data
        return [as_numbers(item) for item in data]
    if not isinstance(data, Tensor) or data.dim():
        return data
    value = value_of(data)
    return data if value is None else value.item()


_NUMBERS = {int, float, bool}
_aten = torch.ops.aten
_FILLS = {
    _aten.zeros_like.default: 0,
    _aten.new_zeros.default: 0,
    _aten.ones_like.default: 1,
    _aten.new_ones.default: 1,
}
_READ = {Tensor.tolist, Tensor.numpy, Tensor.__format__}  # which are not operators
_COMPARED = 16  # numbers of a tensor that a size is compared with; a longer one is data
_COMPARISONS = {
    getattr(owner, name)
    for name in ("eq", "ne", "lt", "le", "gt", "ge")
    for owner, name in ((torch, name), (Tensor, name), (Tensor, f"__{name}__"))
}


def _compared(args: tuple[Any, ...]) -> None:
    """A size beside a tensor that is spelled out is compared with its numbers."""
    for one, other in (args, args[::-1]) if len(args) == 2 else ():
        if type(one) is Size and isinstance(other, Tensor) and other.numel() <= _COMPARED:
            spelled = type(other) is Tensor and other.device.type == "cpu"  # made before
            value = other.detach() if spelled else value_of(other)
            if value is not None:
                with_numbers(one, value.reshape(-1).tolist())


class Spelled(TorchFunctionMode):
    """Follows what does not come by as an operator: `torch.tensor([…])`, `x.tolist()`."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return call(func, args, kwargs or {})


def call(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a function of torch.

    Args:
        func: The function.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Returns:
        What it returns.
    """
    if func in _READ:
        value = value_of(args[0])
        if value is not None:
            return func(value, *args[1:], **kwargs)
    if func is Tensor.cpu and value_of(args[0]) is not None:
        return args[0]  # to be read next
    if func is Tensor.detach:  # autograd makes another tensor of what the operator returned
        out = func(*args, **kwargs)
        found = _current(args[0])
        if found is not None and out.is_meta:
            setattr(out, VALUE, found)
        return out
    if func in _COMPARISONS:
        _compared(args)
    if func is not torch.tensor and func is not torch.as_tensor:
        return noting(func, args, func(*args, **kwargs))
    args = tuple(map(as_numbers, args))
    out = func(*args, **kwargs)
    data = args[0] if args else kwargs.get("data")
    if type(out) is Tensor and out.is_meta and not isinstance(data, Tensor):
        dtype = out.dtype
        _note(lambda: torch.tensor(data, dtype=dtype, device="cpu"), out)
    return out
