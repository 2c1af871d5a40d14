"""Watches every operator of a forward pass at dispatch, below modules and below autograd.

Module hooks miss what calls `F.linear` with somebody else's weight: `nn.MultiheadAttention`, packed
projections, tied heads. At dispatch nothing is missed. Two things have to be rebuilt there: which
parameter an operand is (it arrives transposed, split or cast), and where an activation came from. Both
are kept as a `Lineage` of every tensor that is alive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from assay.running import ModuleStack
from assay.scale import operators
from assay.scale.activations import Function
from assay.scale.dropout import Dropouts
from assay.scale.ledger import Ledger
from assay.scale.lineage import Lineage
from assay.scale.modules import elementwise, has_fixed_statistics
from assay.scale.normalised import mapped
from assay.scale.operation import Operation
from assay.scale.reading import activated, read
from assay.scale.record import Record
from assay.scale.saturated import Attention
from assay.scale.squashed import Squash, Squashed
from assay.where import Location

_SQUASH: dict[str, Squash] = {"sigmoid": "sigmoid", "relu": "ReLU"}


class Recorder(TorchDispatchMode):
    """A dispatch mode that keeps a `Record` of every operator that a parameter feeds.

    Args:
        model: The model that is about to run.
        inputs: Its inputs, in any nest.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.strangers: dict[int, nn.Parameter] = {}  # used, and none of the model's
        self.stranger_at: Location | None = None
        self._parameters = dict(model.named_parameters())
        self._modules = _Modules(model, self)
        self._ledger = Ledger(model, inputs, self._modules)
        self._opaque: tuple[nn.Module, Lineage, float] | None = None
        self.gradients = self._ledger.gradients
        self.dropouts = Dropouts(lambda: self._modules.path)

    @property
    def records(self) -> list[Record]:
        """What was recorded, in the order of first execution."""
        return self._ledger.records

    @property
    def unmeasured(self) -> set[str]:
        """Names of operators that a parameter feeds and whose output has no moments."""
        return self._ledger.unmeasured

    @property
    def attentions(self) -> list[Attention]:
        """The scores that a softmax read."""
        return list(self._ledger.attentions.values())

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record what runs inside; call `gradients.release` after the backward pass.

        Yields:
            Nothing.
        """
        try:
            with self._modules.following(), self.dropouts, self:
                yield
            self.gradients.arm()
            for record in self.records:
                record.look_back(self._parameters)
        finally:
            self.gradients.pending.clear()

    def returned(self, given: Sequence[Tensor]) -> None:
        """Note what the model returned, and by which constants it is multiplied."""
        for line in map(self._ledger.of, given):
            if line.origin is not None:
                self.records[line.origin].factors.add(line.factor)
                self.records[line.origin].read_raw |= not line.mapped

    def squashed(self, given: Sequence[Tensor]) -> list[Squashed]:
        """Those of some tensors that are what a softmax, a sigmoid or a ReLU returned."""
        found = []
        for x in given:
            line = self._ledger.of(x)
            made = self.records[line.origin] if line.origin is not None else None
            if line.weights and line.factor == 1:
                found.append(Squashed(x, "softmax", self._ledger.softmax_at))
            elif made is not None and line.factor == 1 and made.operator.lower() in _SQUASH:
                found.append(Squashed(x, _SQUASH[made.operator.lower()], made.where))
        return found

    # Modules that are an activation as a whole (a GELU is one, though it is made of five operators)

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module starts: look whether it is an activation of a signal."""
        first = args[0] if len(args) == 1 and isinstance(args[0], Tensor) else None
        if self._ledger.paused or self._opaque or first is None or not self._ledger.of(first).rows:
            return
        if has_fixed_statistics(module):
            self._opaque = (module, self._ledger.of(first), 0.0)
            return
        with self._ledger.pause():
            if self._modules.activation(module) is not None:
                self._opaque = (module, self._ledger.of(first), operators.mean_square(first))

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A module ends: if it is an activation, its output is a row."""
        if self._opaque and self._opaque[0] is module:
            (_, source, square), self._opaque = self._opaque, None
            if has_fixed_statistics(module):
                mapped(source, type(module).__name__, (), self._ledger, output)
            elif isinstance(output, Tensor) and output.is_floating_point():
                name, function = type(module).__name__, self._modules.activation(module)
                activated(self._ledger, name, function, source, square, output)
        elif "Dropout" in type(module).__name__ and args and isinstance(output, Tensor):
            self._ledger.pass_on(self._ledger.of(args[0]), output)

    # Operators

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # a backward pass inside the forward pass (forces, penalties) is no signal of the model
        if self._ledger.paused or torch._C._current_graph_task_id() != -1:
            return func(*args, **kwargs)
        self.gradients.arm()
        given = list(operators.arguments(args, kwargs))
        self._meet(given)
        lines = [self._ledger.of(x) for x in given]
        op = Operation(func, operators.name_of(func), args, kwargs, given, lines)
        finish = read(op, self._ledger, inside_activation=self._opaque is not None)
        out = func(*args, **kwargs)
        finish(out)
        return out

    def _meet(self, given: Sequence[Tensor]) -> None:
        """Note parameters that are to be trained and are none of the model's."""
        for x in given:
            if not isinstance(x, nn.Parameter) or self._ledger.knows(x):
                continue
            if x.requires_grad and torch.is_grad_enabled():
                if not self.strangers:
                    self.stranger_at = self._modules.line()
                self.strangers[id(x)] = x


class _Modules(ModuleStack):
    """Tells a recorder when modules start and end, and knows which of them are activations."""

    def __init__(self, model: nn.Module, recorder: Recorder) -> None:
        super().__init__(model)
        self._recorder = recorder
        self._functions: dict[nn.Module, Function | None] = {}

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        super().enter(module, args)
        self._recorder.enter(module, args)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._recorder.leave(module, args, output)
        super().leave(module, args, output)

    def activation(self, module: nn.Module) -> Function | None:
        """The function of a leaf module without parameters that acts on each number by itself."""
        if module not in self._functions:
            self._functions[module] = elementwise(module)
        return self._functions[module]
