"""Which storages are alive: bytes kept for the backward pass, and the peak."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from assay.subject import tensors

_REGISTERED = ("_parameters", "_buffers", "_modules")
_PLAIN = (bool, int, float, str, type(None))  # as most attributes of modules are


class Live:
    """Bytes of the storages that are alive, each storage once however many tensors look into it.

    A storage is followed by a weak reference, so that following it does not keep it.

    Args:
        before: Tensors that are there already: parameters, buffers, inputs.

    Example:
        >>> import torch
        >>> live = Live([torch.zeros(4)])
        >>> x = torch.ones(8)
        >>> live.see(x), live.see(x.view(2, 4)), live.bytes
        (True, False, 32)
        >>> del x
        >>> live.bytes
        0
    """

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        self.bytes = 0
        self._known: dict[int, weakref.ref[Any]] = {}
        for tensor in before:
            self.see(tensor)

    def see(self, tensor: Tensor) -> bool:
        """Take note of a tensor's storage.

        Returns:
            Whether it is a new one.
        """
        storage = tensor.untyped_storage()
        address = id(storage)  # torch hands out the same Python object while the storage lives
        if address in self._known:
            return False
        size = storage.nbytes()
        self.bytes += size

        def gone(_: Any) -> None:
            self.bytes -= size
            self._known.pop(address, None)

        self._known[address] = weakref.ref(storage, gone)
        return True


class Named:
    """Names of storages, for as long as these live: the address of a dead one is used again.

    Args:
        named: Tensors, each with a name for its storage.

    Example:
        >>> import torch
        >>> w = torch.zeros(4)
        >>> own = Named([(w, "w")])
        >>> own.of(w.view(2, 2)), own.of(torch.ones(4))
        ('w', '')
    """

    def __init__(self, named: Iterable[tuple[Tensor, str]]) -> None:
        self._names: dict[int, tuple[str, weakref.ref[Any]]] = {}
        for tensor, name in named:
            storage = tensor.untyped_storage()
            address = id(storage)

            def gone(_: Any, address: int = address) -> None:
                self._names.pop(address, None)

            self._names[address] = name, weakref.ref(storage, gone)

    def of(self, tensor: Tensor) -> str:
        """The name of the storage that a tensor looks into; "" where it has none."""
        found = self._names.get(id(tensor.untyped_storage()))
        return found[0] if found else ""


def held_besides(model: nn.Module, loss: Any) -> list[Tensor]:
    """Tensors that are there all the time and no parameters or buffers: plain attributes, and closures.

    A table of positions, or a graph's matrix of neighbours, is often one of these.

    Args:
        model: The model; attributes of its modules count, and what their `forward` took along.
        loss: The loss, which may have taken some along as well.

    Returns:
        The tensors.
    """
    functions = [loss, *(getattr(type(m), "forward", None) for m in model.modules())]
    held: list[Any] = []
    for module in model.modules():
        own = vars(module)
        held += [v for k, v in own.items() if k not in _REGISTERED and type(v) not in _PLAIN]
        functions.append(own.get("forward"))
    for function in dict.fromkeys(filter(callable, functions)):
        for cell in getattr(inspect.unwrap(function), "__closure__", None) or ():
            with suppress(ValueError):  # not filled yet
                held.append(cell.cell_contents)
    once = {id(value): value for value in held}  # all modules share a configuration
    return [t for value in once.values() for t in tensors(value) if t.layout is torch.strided]


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors of an operator's arguments or output: lists are at most one deep there.

    Args:
        value: The arguments, or the output.

    Returns:
        Tensors that have a storage: in place of a sparse or a nested one those that it is made of.
    """
    if isinstance(value, Tensor):
        return [value] if value.layout is torch.strided else _made_of(value)
    if isinstance(value, list | tuple):
        return [t for item in value for t in tensors_of(item)]
    return []


def _made_of(tensor: Tensor) -> list[Tensor]:
    if is_traceable_wrapper_subclass(tensor):
        return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
    with torch._C._DisableTorchDispatch():  # nothing is computed here
        if tensor.layout is torch.sparse_coo:
            return [tensor._indices(), tensor._values()]
        if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
            return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
        if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
            return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []
