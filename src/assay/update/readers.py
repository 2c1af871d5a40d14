"""Which weights read an input: the ones that have to change when its features are written in other units.

One forward pass is watched, function by function. Where a product takes the input (or a view of it) and a
parameter (or a view of one), every column of the parameter belongs to one feature. Whether these are all
the readers is not decided here: `assay.update.own` changes units and looks whether the function stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from assay.state import preserved
from assay.subject import Subject

_LINEAR = {"linear"}
_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_CELLS = {"lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
_PRODUCTS = {"matmul", "mm", "__matmul__", "bmm"}


@dataclass(frozen=True)
class Reader:
    """A weight that multiplies the input.

    Args:
        weight: Name of the parameter.
        view: Size, stride and offset of the matrix in it, `[out, in, …]`, features along the second axis.
        features: `[in]`: which feature each column reads.
        bias: Name of the parameter that is added to the product, `[out]`, or None.
    """

    weight: str
    view: tuple[tuple[int, ...], tuple[int, ...], int]
    features: Tensor
    bias: str | None

    def of(self, parameter: Tensor) -> Tensor:
        """The matrix `[out, in, …]` as a view of `parameter` or of a tensor like it."""
        return parameter.as_strided(*self.view)

    def per_column(self, values: Tensor, like: Tensor) -> Tensor:
        """One value a feature `[d]` as one a column, shaped to multiply `like` `[out, in, …]`."""
        columns = values[self.features].to(like)
        return columns.reshape(1, -1, *(1,) * (like.dim() - 2))


def find_readers(subject: Subject, tensor: Tensor, axis: int) -> tuple[Reader, ...]:
    """The weights that read `tensor` in one forward pass.

    Args:
        subject: Model and inputs; `tensor` is among the inputs, and contiguous.
        tensor: One of them.
        axis: Along which its features lie.

    Returns:
        Each weight once.
    """
    watch = _Watch(subject.model, tensor, axis)
    with preserved(subject.model), torch.enable_grad(), watch:  # it may differentiate inside
        subject.forward()
    return tuple(watch.found.values())


class _Watch(TorchFunctionMode):
    """Notes every product of the watched input with a parameter."""

    def __init__(self, model: nn.Module, tensor: Tensor, axis: int) -> None:
        super().__init__()
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.homes = {_home(p): p for p in model.parameters()}
        self.tensor = tensor
        shape = [1] * tensor.dim()
        shape[axis] = -1
        index = torch.arange(tensor.shape[axis]).view(shape).expand(tensor.shape)
        self.index = index.contiguous()  # laid out as the input is, so that views of it can follow
        self.found: dict[str, Reader] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, after a look at what it is given."""
        options = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        for reader in self._readers(name, args, options):
            self.found.setdefault(reader.weight, reader)
        return func(*args, **options)

    def _readers(
        self, name: str, args: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Iterator[Reader]:
        given = [a for a in (*args, *options.values()) if isinstance(a, Tensor)]
        mine = given[0] if given else None
        if mine is None or _home(mine) != _home(self.tensor) or mine.dtype != self.tensor.dtype:
            return
        if name in _LINEAR and len(given) > 1:
            yield from self._reader(mine, -1, given[1], given[2] if len(given) > 2 else None)
        elif name in _CONVOLUTIONS:
            yield from self._reader(mine, 1, given[1], given[2] if len(given) > 2 else None)
        elif name in _CELLS:
            weights = [t for t in given[1:] if id(t) in self.names]
            if weights:
                yield from self._reader(mine, -1, weights[0], weights[2] if weights[2:] else None)
        elif name in _RECURRENT:
            lists = (i for i, a in enumerate(args) if isinstance(a, list) and _are(a, self.names))
            where = next(lists, None)
            if where is not None:
                for weight, bias in _first_layer(args[where], args[where + 1 :]):
                    yield from self._reader(mine, -1, weight, bias)
        elif name in _PRODUCTS and len(given) == 2 and given[1].dim() == 2:
            yield from self._reader(mine, -1, given[1].T, None)

    def _reader(
        self, mine: Tensor, axis: int, weight: Tensor, bias: Tensor | None
    ) -> Iterator[Reader]:
        parameter = self.homes.get(_home(weight))
        if parameter is None or weight.dtype != parameter.dtype:
            return
        features = self._features(mine, axis)
        if features is None or weight.dim() < 2 or weight.shape[1] != len(features):
            return
        view = (tuple(weight.shape), tuple(weight.stride()), int(weight.storage_offset()))
        added = None if bias is None else self.names.get(id(bias))
        yield Reader(self.names[id(parameter)], view, features, added)

    def _features(self, mine: Tensor, axis: int) -> Tensor | None:
        """Which feature each position of `mine` along `axis` is, or None where that varies."""
        offset = int(mine.storage_offset()) - int(self.tensor.storage_offset())
        seen = self.index.as_strided(mine.shape, mine.stride(), offset).movedim(axis, -1)
        flat = seen.reshape(-1, seen.shape[-1])
        return flat[0] if len(flat) and bool((flat == flat[0]).all()) else None


def _home(tensor: Tensor) -> int:
    """Where the memory of a tensor, and of every view of it, begins; -1 where it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr()
    except NotImplementedError:  # sparse, or inside a transform of `torch.func`
        return -1


def _are(values: Any, names: Mapping[int, str]) -> bool:
    return bool(values) and all(id(v) in names for v in values)


def _first_layer(flat: Any, rest: tuple[Any, ...]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Input weights and biases of a recurrent net's first layer.

    Args:
        flat: Layer by layer and direction by direction w_ih, w_hh, and b_ih, b_hh if there are biases.
        rest: What torch is given after it: biases, layers, dropout, training, both directions…

    Yields:
        w_ih, and b_ih or None, for one direction or both.
    """
    biased, layers, _, _, both, *_ = rest
    directions = 2 if both else 1
    stride = len(flat) // (layers * directions)
    for start in range(0, stride * directions, stride):
        yield flat[start], flat[start + 2] if biased else None
