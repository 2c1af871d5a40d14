"""What can be said of tensors without data: that numbers are finite, and how many a mask selects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isinf
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.utils._python_dispatch import TorchDispatchMode

from assay.cost.convention import Rule
from assay.cost.lean import lean
from assay.cost.masks import entries, follow_masks
from assay.cost.values import VALUE, Spelled, computed, follow, spelled, value_of, without_data
from assay.where import Location, here

LOAD = "load"  # the size of a builder that says how many entries a mask selects
_aten = torch.ops.aten
_NONZERO, _SELECT = _aten.nonzero.default, _aten.masked_select.default
_SCALAR = _aten._local_scalar_dense.default
_MASKS = {_NONZERO, _SELECT}
_BINCOUNT = _aten.bincount.default
# Attributes of tensors, each with the version that it was true of: whether every entry is True, or
# every one False; and that numbers were drawn from [0, 1)
_UNIFORM, _UNIT = "_assay_uniform", "_assay_unit"


class Known:
    """Answers what a tensor without data cannot, where the answer does not depend on the data.

    1. A model that asks whether its numbers are finite is told that they are.
    2. Where the builder has a size named `load`, a mask selects so many entries, and `mask.any()` is true.
    3. Tensors that code spells out keep their values (see `assay.cost.values`).
    4. A number drawn from [0, 1) is not below 0, and is below 1: a layer that is dropped with probability 0
       stays (`if torch.rand([]) < self.layerdrop`).

    Args:
        load: How many entries a mask selects; None where the builder has no such size.

    Attributes:
        assumed: Where the load was taken in the forward pass, by operator.
        backward: Whether the backward pass has begun.
    """

    def __init__(self, load: int | None = None) -> None:
        self.load = load
        self.assumed: dict[str, Location | None] = {}
        self.backward = False

    def indexed(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments in which masks became as many indices as they select.

        Args:
            func: The operator, one that takes indices.
            args: Its arguments.

        Returns:
            The arguments, or those that were given.
        """
        if not any(_is_mask(i) for i in args[1] or ()):
            return args
        indices: list[Any] = []
        for index in args[1]:
            if not _is_mask(index):
                indices.append(index)
            elif (value := value_of(index)) is not None:
                indices += [without_data(i, index) for i in value.nonzero().unbind(1)]
            elif self.load is not None:
                self._assume(func, here(3))
                indices += [self._rows(index, ()) for _ in range(index.dim())]
            else:
                return args
        return args[0], indices, *args[2:]

    def run(self, rule: Rule, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The outcome of an operator, as far as it can be known.

        Args:
            rule: What is known of the operator.
            func: The operator.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The outcome.

        Raises:
            DynamicOutputShapeException: Where a shape depends on data that are not known.
            DataDependentOutputException: Where a number does.
        """
        if rule.dynamic:
            if func is _SCALAR and (answer := _of(args[0])) is not None:
                return answer
            out = computed(func, args, kwargs)
            if out is not None:
                return out
            if self.load is not None and func in _MASKS:
                self._assume(func, here(3))
                if func is _SELECT:
                    return torch.empty(self.load, dtype=args[0].dtype, device=args[0].device)
                return self._rows(args[0], (args[0].dim(),))
            if self.load is not None and func is _BINCOUNT and (most := _most(args, kwargs)):
                return torch.empty(most, dtype=torch.int64, device=args[0].device)
        try:
            return func(*args, **kwargs)
        except (DynamicOutputShapeException, DataDependentOutputException):
            out = computed(func, args, kwargs)
            if out is None:
                raise
            return out

    def nothing_of(self, tensor: Tensor) -> bool:
        """Whether nothing but its shape is known of a tensor, as of nearly all that hold no integers."""
        return (
            type(tensor) is Tensor
            and tensor.is_floating_point()
            and getattr(tensor, VALUE, None) is None
            and getattr(tensor, _UNIT, None) is None
        )

    def note(
        self, rule: Rule, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        """Follow values that code spelled out, and whether all entries of a boolean tensor are alike."""
        follow(rule, func, args, kwargs, out)
        alike, uniform = _RULES.get(func), None
        if alike is not None and isinstance(out, Tensor):
            uniform = alike(*args[:2])
            if uniform is None and self.load is not None and func is _aten.any.default:
                uniform = True
            if uniform is not None:
                _tell(out, _UNIFORM, uniform)
        elif func in _DRAWS and isinstance(out, Tensor):
            _tell(out, _UNIT, True)
        if self.load is not None and uniform is None:
            follow_masks(rule, func, args, kwargs, out)
            number = entries(self.load, func, args, kwargs, out)
            if number is not None and isinstance(out, Tensor):
                line = here(3)
                spelled(out, number, lambda: self._assume(func, line))

    def _rows(self, mask: Tensor, more: tuple[int, ...]) -> Tensor:
        assert self.load is not None
        return torch.empty(self.load, *more, dtype=torch.int64, device=mask.device)

    def _assume(self, func: Any, line: Location | None) -> None:
        if not self.backward:
            self.assumed.setdefault(str(func), line)


@lean
class _Following(TorchDispatchMode):
    """Follows what is known while a model is built."""

    def __init__(self, known: Known, rules: dict[Any, Rule], drawn: set[Any]) -> None:
        super().__init__()
        self._known, self._rules, self._drawn = known, rules, drawn

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = self._rules.get(func)
        if rule is None:
            rule = self._rules[func] = Rule(func)
        if rule.in_place and torch.Tag.nondeterministic_seeded in func.tags and args[0].is_meta:
            # initialisers draw for every weight, of which there is nothing but the shape
            key = func, args[0].dtype, args[1:], tuple(kwargs.items())
            if key in self._drawn:
                return args[0]
            self._drawn.add(key)
        if rule.indexed:
            args = self._known.indexed(func, args)
        out = self._known.run(rule, func, args, kwargs)
        self._known.note(rule, func, args, kwargs, out)
        return out


@contextmanager
def followed(load: int | None, rules: dict[Any, Rule], drawn: set[Any]) -> Iterator[None]:
    """Follow what is known on the meta device, while a model and its inputs are built.

    Args:
        load: How many entries a mask selects; None where the builder has no such size.
        rules: What is known of operators; filled in.
        drawn: Calls of initialisers that ran before, and need not again; filled in.

    Yields:
        Nothing.
    """
    with Spelled(), _Following(Known(load), rules, drawn):
        yield


def selects(operator: str) -> bool:
    """Whether an operator, as it is named in an error, may have to do with a mask."""
    named = ("nonzero", "masked_select", "aten.index", "item()", "_local_scalar_dense")
    return any(name in operator for name in named)


def _most(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many values `bincount` counts: with experts as many as there are."""
    weights = args[1] if len(args) > 1 else None
    least = args[2] if len(args) > 2 else 0
    plain = weights is None and kwargs.get("weights") is None
    return int(kwargs.get("minlength", least)) if plain else 0


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def _tell(tensor: Tensor, what: str, answer: bool) -> None:
    """Keep what is known of a tensor's entries, until something is written into them."""
    if not tensor.is_inference():
        setattr(tensor, what, (answer, tensor._version))


def _of(tensor: Any, what: str = _UNIFORM) -> bool | None:
    answer, version = getattr(tensor, what, (None, None))
    return answer if answer is None or version == tensor._version else None


def _same(one: Any, other: Any) -> bool | None:
    """`x == x`: true of every number but NaN; `x == inf` of none."""
    if one is other:
        return True
    return False if isinstance(other, float) and isinf(other) else None


def _unlike(one: Any, other: Any) -> bool | None:
    same = _same(one, other)
    return None if same is None else not same


def _below(one: Any, other: Any) -> bool | None:
    """`x < other` of numbers from [0, 1)."""
    if not (_of(one, _UNIT) and isinstance(other, int | float)):
        return None
    return False if other <= 0 else True if other >= 1 else None


def _not_below(one: Any, other: Any) -> bool | None:
    below = _below(one, other)
    return None if below is None else not below


def _both(one: Any, other: Any) -> bool | None:
    a, b = _of(one), _of(other)
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def _either(one: Any, other: Any) -> bool | None:
    a, b = _of(one), _of(other)
    if a is True or b is True:
        return True
    return None if a is None or b is None else False


def _not(one: Any, *_: Any) -> bool | None:
    a = _of(one)
    return None if a is None else not a


def _kept(one: Any, *_: Any) -> bool | None:
    return _of(one)


def _never(*_: Any) -> bool:
    return False


_DRAWS = {_aten.rand.default, _aten.rand_like.default}
_RULES: Mapping[Any, Callable[..., bool | None]] = {
    _aten.eq.Tensor: _same,
    _aten.eq.Scalar: _same,
    _aten.ne.Tensor: _unlike,
    _aten.ne.Scalar: _unlike,
    _aten.lt.Scalar: _below,
    _aten.ge.Scalar: _not_below,
    _aten.isnan.default: _never,
    _aten.isinf.default: _never,
    _aten.mul.Tensor: _both,
    _aten.logical_and.default: _both,
    _aten.bitwise_and.Tensor: _both,
    _aten.logical_or.default: _either,
    _aten.bitwise_or.Tensor: _either,
    _aten.logical_not.default: _not,
    _aten.bitwise_not.default: _not,
    _aten.all.default: _kept,
    _aten.all.dim: _kept,
    _aten.any.default: _kept,
    _aten.any.dim: _kept,
    _aten.clone.default: _kept,
    _aten.view.default: _kept,
}
