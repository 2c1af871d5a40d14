"""Slow, obvious twins of what this room measures, and programs to measure."""

import inspect
import weakref

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from assay.builder import as_builder
from assay.errors import CannotMeasure


def flops(build, **sizes):
    """What torch's own counter says of the forward and of the backward pass, on the meta device."""
    with torch.device("meta"):
        subject = as_builder(build)(**sizes)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            value = subject.objective(subject.forward())
            forward = counter.get_total_flops()
            if value.requires_grad:
                value.backward()
    return forward, counter.get_total_flops() - forward


def answers(cost, **sizes):
    """Forward and backward flops by the formula; None where it does not answer."""
    try:
        return cost.flops.forward(**sizes), cost.flops.backward(**sizes)
    except CannotMeasure:
        return None


def wrong_answers(cost, build, grid):
    """The sizes at which a formula answers, and not what torch's counter says."""
    return [
        (sizes, said, true)
        for sizes in grid
        if (said := answers(cost, **sizes)) is not None and said != (true := flops(build, **sizes))
    ]


class Program(nn.Module):
    """A module that runs a function of itself and its input."""

    def __init__(self, function, d=4, **attributes):
        super().__init__()
        self.function, self.lin = function, nn.Linear(d, d)
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.function(self, x)


def program(function, **attributes):
    """A builder with sizes b and n of a program on `[b, n, 4]`."""

    def build(b: int = 2, n: int = 16):
        return Program(function, **attributes), torch.randn(b, n, 4)

    build.__name__ = getattr(function, "__name__", "program")
    return build


def builder_with(size, function):
    """A builder whose only size has a given name; `function(value)` makes what it returns."""

    def build(**given):
        return function(given[size])

    kind = inspect.Parameter.KEYWORD_ONLY
    parameter = inspect.Parameter(size, kind, default=3, annotation=int)
    build.__signature__ = inspect.Signature([parameter])
    return build


class Alive(TorchDispatchMode):
    """Bytes of storages from when an operator first shows them until they are gone."""

    def __init__(self, before):
        super().__init__()
        self.known, self.now, self.peak = {}, 0, 0
        for tensor in before:
            self.see(tensor)

    def see(self, tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            size, address = storage.nbytes(), storage._cdata
            self.now += size
            self.peak = max(self.peak, self.now)

            def gone(_):
                self.now -= size
                del self.known[address]

            self.known[address] = weakref.ref(storage, gone)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return out


def alive(build, **sizes):
    """The peak of a run without hooks of any kind: with data, unless it is called for another device."""
    subject = as_builder(build)(**sizes)
    given = tree_leaves((subject.inputs, dict(subject.kwargs or {})))
    model = subject.model
    inputs = [t for t in given if isinstance(t, torch.Tensor)]
    with Alive([*model.parameters(), *model.buffers(), *inputs]) as watch:
        output = subject.forward()
        subject.objective(output).backward()
    return watch.peak


def kept(build, **sizes):
    """Bytes that autograd keeps for the backward pass beside the parameters, each storage once."""
    subject = as_builder(build)(**sizes)
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output = subject.forward()
        value = subject.objective(output)
    weights = {p.untyped_storage()._cdata for p in subject.model.parameters()}
    del output, value
    return sum(s.nbytes() for address, s in storages.items() if address not in weights)
