"""Watches every operator of a forward pass at dispatch, below modules and below autograd.

Module hooks miss what calls `F.linear` with somebody else's weight: `nn.MultiheadAttention`, packed
projections, tied heads. At dispatch nothing is missed. Two things have to be rebuilt there: which
parameter an operand is (it arrives transposed, split or cast), and where an activation came from. Both
are kept as a `Lineage` of every tensor that is alive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from assay.scale import operators
from assay.scale.activations import Function
from assay.scale.lineage import Lineage, constant_factor
from assay.scale.modules import ModuleStack, elementwise, is_norm
from assay.scale.norms import divisor
from assay.scale.record import Call, Record
from assay.scale.rows import Kind
from assay.scale.twice import Squashed
from assay.subject import tensors
from assay.where import Location

_DATA = Lineage()
_INPUT = Lineage(signal=True, given=True, raw=True)
_LARGE = 1e30  # a mean square above: a mask of attention, not a signal
_ARITHMETIC: dict[str, Kind] = {"add": "shift", "sub": "shift", "mul": "scale", "div": "scale"}


class Recorder(TorchDispatchMode):
    """A dispatch mode that keeps a `Record` of every operator that a parameter feeds.

    Args:
        model: The model that is about to run.
        inputs: Its inputs, in any nest.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.unmeasured: set[str] = set()
        self._softmax_at: Location | None = None  # where the last softmax was
        self.strangers: dict[int, nn.Parameter] = {}  # used, and none of the model's
        self.stranger_at: Location | None = None
        self._modules = _Modules(model, self)
        self._lineage = WeakIdKeyDictionary()
        for x in tensors(inputs):
            self._lineage[x] = _INPUT
        for name, p in model.named_parameters():
            self._lineage[p] = Lineage(parameters=(name,))
        for buffer in model.buffers():
            self._lineage[buffer] = Lineage(constant=True)
        self._parameters = dict(model.named_parameters())
        self._trained = {name for name, p in model.named_parameters() if p.requires_grad}
        self._keys: dict[Any, int] = {}
        self._fed_rows = 0  # bits: the records that a parameter feeds
        self._pending: list[tuple[Tensor, Record, Call]] = []
        self._handles: list[Any] = []
        self._opaque: tuple[nn.Module, Lineage, float] | None = None
        self._paused = False
        self.differentiating = (
            False  # gradients before are of a backward pass inside the forward pass
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record what runs inside; call `release` after the backward pass.

        Yields:
            Nothing.
        """
        try:
            with self._modules.following(), self:
                yield
            self._arm()
            for record in self.records:
                record.look_back(self._parameters)
        finally:
            self._pending.clear()

    def release(self) -> None:
        """Take the gradient hooks off whatever tensors the caller keeps."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def returned(self, given: Sequence[Tensor]) -> None:
        """Note what the model returned, and by which constants it is multiplied."""
        for line in map(self._of, given):
            if line.origin is not None:
                self.records[line.origin].factors.add(line.factor)

    def squashed(self, given: Sequence[Tensor]) -> list[Squashed]:
        """Those of some tensors that are what a softmax or a sigmoid returned."""
        found = []
        for x in given:
            line = self._of(x)
            made = self.records[line.origin] if line.origin is not None else None
            if line.weights and line.factor == 1:
                found.append(Squashed(x, "softmax", self._softmax_at))
            elif made is not None and made.operator.lower() == "sigmoid" and line.factor == 1:
                found.append(Squashed(x, "sigmoid", made.where))
        return found

    # Modules that are an activation as a whole (a GELU is one, though it is made of five operators)

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module starts: look whether it is an activation of a signal."""
        first = args[0] if len(args) == 1 and isinstance(args[0], Tensor) else None
        if self._paused or self._opaque or first is None or not self._of(first).rows:
            return
        with self._pause():
            if self._modules.activation(module) is not None:
                self._opaque = (module, self._of(first), operators.mean_square(first))

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A module ends: if it is an activation, its output is a row."""
        if self._opaque and self._opaque[0] is module:
            (_, source, square), self._opaque = self._opaque, None
            if isinstance(output, Tensor) and output.is_floating_point():
                function = self._modules.activation(module)
                self._activation(type(module).__name__, function, source, square, output)
        elif "Dropout" in type(module).__name__ and args and isinstance(output, Tensor):
            self._lineage[output] = self._of(args[0])

    @contextmanager
    def _pause(self) -> Iterator[None]:
        before, self._paused = self._paused, True
        try:
            with torch.no_grad():
                yield
        finally:
            self._paused = before

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
        if self._paused or torch._C._current_graph_task_id() != -1:
            return func(*args, **kwargs)
        self._arm()
        name = operators.name_of(func)
        finish = self._read(func, name, args, kwargs)
        out = func(*args, **kwargs)
        finish(out)
        return out

    def _read(
        self, func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Callable[[Any], None]:
        """Look at the operands, before an operator that works in place overwrites them."""
        given = list(operators.arguments(args, kwargs))
        lines = [self._of(x) for x in given]
        weights = [(x, line) for x, line in zip(given, lines, strict=True) if line.parameters]
        data = [line for line in lines if not line.parameters and not line.constant]
        self._meet(given)
        rows, sizes, last, signal, raw, pair = 0, 0, 0, False, False, 0
        for line in lines:
            rows, sizes, last = rows | line.rows, sizes | line.sizes, last | line.last
            signal, raw, pair = signal or line.signal, raw or line.raw, pair | line.pair
        if name == "exp" or name in operators.SOFTMAX:
            sizes = 0  # what comes out is no multiple of what goes in
        beside = name in operators.STRUCTURAL and all(x.given for x in lines if x.signal)
        on = Lineage(
            rows=rows, sizes=sizes, last=last, signal=signal, given=beside and signal, raw=raw
        )
        if operators.takes_shape_only(name):
            return partial(self._pass_on, _DATA)
        if given and not data and not (weights and name in operators.LOOKUPS):
            names = tuple(dict.fromkeys(n for _, line in weights for n in line.parameters))
            factor = constant_factor(func, name, args, self._of) if names else 1.0
            made = Lineage(parameters=names, constant=not names, factor=factor)
            return partial(self._pass_on, made)
        if operators.keeps_numbers(func, name) and lines:
            return partial(self._pass_on, lines[0])
        if self._opaque:
            return partial(self._pass_on, on)
        if operators.is_normaliser(name) or is_norm(self._modules.innermost):
            by_unit = "batch_norm" in name or "BatchNorm" in type(self._modules.innermost).__name__
            self._consume(lines, "batch norm" if by_unit else "norm")
            on = replace(on, sizes=0, given=False, raw=False)
            rest: Callable[[Any], None] = partial(self._pass_on, on)
            if weights:
                kind = "norm" if operators.is_normaliser(name) else _ARITHMETIC.get(name, "other")
                rest = self._fed(kind, name, weights, on, self._norm_axes(name, weights))
            return partial(self._normalise, func, name, args, lines, rest)
        if weights:
            return self._read_fed(name, args, weights, lines, on)
        if name in operators.ACTIVATIONS and lines[0].rows:
            function = partial(_apply, func, args[1:], kwargs)
            with self._pause():  # before it may be overwritten
                square = operators.mean_square(given[0])
            return partial(self._activation, name, function, lines[0], square)
        parts = self._channels(name, args, given, lines)
        if parts:
            return partial(self._pool, name, replace(on, parts=parts), given[0], lines[0])
        signals = [line for line in lines if line.signal]
        sized = self._sized(name, args, given, lines, len(signals), on) if lines else None
        if sized is not None:
            return partial(self._pass_on, sized)
        if len(signals) == 1 and (name == "mul" or (name == "div" and lines[0].signal)):
            factor = constant_factor(func, name, args, self._of)  # by a number or a mask
            factor = factor if math.isfinite(factor) else signals[0].factor
            return partial(self._pass_on, replace(signals[0], factor=factor))
        if name in operators.SOFTMAX:
            self._mark_scores(pair)
        elif operators.is_attention(name):
            self._mark_scores(self._latest(lines[0]) | self._latest(lines[1]))
            self._mark_values(lines[2])
        elif name in operators.MATRIX_PRODUCTS and len(signals) == 2:
            pair = self._latest(signals[0]) | self._latest(signals[1])
            for weighing, weighed in (signals, signals[::-1]):
                if weighing.weights:
                    self._mark_values(weighed)
        if name in ("add", "sub") and len(signals) == 2 and rows:
            found = self._read_sum(name, given, lines, on)
            if found is not None:
                return found
        weights_now = name in operators.SOFTMAX
        # a factor on one of two signals in a product, or on logits, is a matter of both, or of the softmax
        alone = len(signals) < 2 and not weights_now
        label = "gate" if name == "mul" else "other"
        product = name == "mul" or name in operators.MATRIX_PRODUCTS
        if product and len(signals) == 2 and all(x.rows and not x.weights for x in signals):
            self._consume(self._looked_up(signals), "pair", with_factor=False)
            lines = [x for x in lines if x not in self._looked_up(lines)]
        self._consume(lines, label, with_factor=alone)
        if weights_now:
            self._softmax_at = self._modules.line()
        line = replace(on, pair=pair, weights=weights_now)
        if name in operators.AVERAGES:
            return partial(self._average, line, lines[0].averaged * given[0].numel())
        return partial(self._pass_on, line)

    def _normalise(
        self,
        func: Any,
        name: str,
        args: Sequence[Any],
        lines: Sequence[Lineage],
        rest: Callable[[Any], None],
        out: Any,
    ) -> None:
        """Note by what a norm divides the output of a record, and then what comes of it."""
        origin = lines[0].origin if lines else None
        if origin is not None:
            with self._pause():
                found = divisor(func, name, args, self._modules.innermost, out)
            self.records[origin].divisors.append(found)
        for part in lines[0].parts if lines else ():  # of which nothing is known
            self.records[part].divisors.append(None)
        rest(out)

    def _channels(
        self, name: str, args: Sequence[Any], given: Sequence[Tensor], lines: Sequence[Lineage]
    ) -> tuple[int, ...]:
        """The records whose outputs an operator pools, or puts side by side as channels.

        Returns:
            Their indices; none where it does something else.
        """
        if name == "cat":
            dim = args[1] if len(args) > 1 else 0
            if given[0].dim() < 2 or dim % given[0].dim() != 1:
                return ()
        elif name not in operators.POOLS:
            return ()
        found = [x.parts if x.origin is None else (x.origin,) for x in lines]
        return tuple(dict.fromkeys(part for parts in found for part in parts))

    def _pool(self, name: str, line: Lineage, x: Tensor, source: Lineage, out: Any) -> None:
        if name in operators.AVERAGES:
            self._average(line, source.averaged * x.numel(), out)
        else:
            self._pass_on(line, out)

    def _meet(self, given: Sequence[Tensor]) -> None:
        """Note parameters that are to be trained and are none of the model's."""
        for x in given:
            if not isinstance(x, nn.Parameter) or self._lineage.get(x) is not None:
                continue
            if x.requires_grad and torch.is_grad_enabled():
                if not self.strangers:
                    self.stranger_at = self._modules.line()
                self.strangers[id(x)] = x

    def _looked_up(self, lines: Sequence[Lineage]) -> list[Lineage]:
        """Those that are rows of a table as it is."""
        return [
            x for x in lines if x.origin is not None and self.records[x.origin].kind == "lookup"
        ]

    def _sized(
        self,
        name: str,
        args: Sequence[Any],
        given: Sequence[Tensor],
        lines: Sequence[Lineage],
        signals: int,
        on: Lineage,
    ) -> Lineage | None:
        """A step of a norm written by hand, as in `x / x.norm()` or `x * rsqrt(x.pow(2).mean() + ε)`.

        Returns:
            What comes of it; None where it is no such step.
        """
        first, line = lines[0], replace(on, signal=True)
        if name in ("mul", "div") and len(lines) == 2 and signals == 2:
            for x, size in ((0, 1), (1, 0))[: 2 if name == "mul" else 1]:
                origin = lines[x].origin
                if origin is not None and origin == lines[size].size:
                    self._consume([lines[x]], "norm")
                    return replace(line, sizes=0, raw=False)
        squared = name == "pow" and not isinstance(args[1], Tensor) and args[1] == 2
        if first.origin is not None and (
            squared or (name == "mul" and signals == 2 and given[0] is given[1])
        ):
            return replace(line, squares=first.origin)
        if first.origin is not None and name in operators.SIZES:
            return replace(line, size=first.origin)
        if first.squares is not None and name in ("mean", "sum"):
            return replace(line, size=first.squares)
        if first.size is not None and signals == 1 and name in operators.SIZE_STEPS:
            return first
        return None

    def _read_fed(
        self,
        name: str,
        args: Sequence[Any],
        weights: Sequence[tuple[Tensor, Lineage]],
        lines: Sequence[Lineage],
        on: Lineage,
    ) -> Callable[[Any], None]:
        """An operator with a parameter and data among its operands."""
        if name in operators.STRUCTURAL:
            self._consume(lines, "other")
            return partial(self._pass_on, replace(on, signal=True))
        found = operators.product(name, args, self._is_weight)
        if found is None:
            kind: Kind = "activation" if name == "_prelu_kernel" else _ARITHMETIC.get(name, "other")
            axes = (1,) if name == "_prelu_kernel" else None
            return self._fed(kind, name, weights, on, axes, lines)
        kind = "product" if found.data is not None else "lookup"
        names = self._of(found.weight).parameters
        if found.bias is not None:
            names += self._of(found.bias).parameters
        source = self._of(found.data) if found.data is not None else _DATA
        # measured before the operator runs: it may overwrite its input
        with self._pause():
            record = self._record(kind, name, names, found.axes, self._modules.line())
            record.add_input(found)
        weight = self._of(found.weight)
        record.weight_factor = weight.factor
        if math.isnan(weight.factor):
            record.weight = found.weight
        record.trained |= torch.is_grad_enabled() and weight.parameters[0] in self._trained
        record.add_reads(on)
        record.reads_input = source.given
        record.averaged = max(record.averaged, source.averaged)
        self._consume([line for line in lines if line is not source], "other")
        self._consume([source], record.index)
        return partial(self._close, record, on)

    def _fed(
        self,
        kind: Kind,
        name: str,
        weights: Sequence[tuple[Tensor, Lineage]],
        on: Lineage,
        axes: tuple[int, ...] | None,
        lines: Sequence[Lineage] = (),
    ) -> Callable[[Any], None]:
        """An operator that a parameter feeds without being a factor of a product."""
        names = tuple(dict.fromkeys(n for _, line in weights for n in line.parameters))
        where = self._modules.line()

        def finish(out: Any) -> None:
            first = out[0] if isinstance(out, tuple | list) else out
            if not isinstance(first, Tensor) or not first.is_floating_point():
                self._unmeasured(name, out, on)
                return
            chosen = axes or operators.parameter_axes([w for w, _ in weights], first)
            record = self._record(kind, name, names, chosen, where)
            record.add_reads(on)
            self._consume(lines, record.index)
            self._close(record, on, out)

        return finish

    def _read_sum(
        self, name: str, given: Sequence[Tensor], lines: Sequence[Lineage], on: Lineage
    ) -> Callable[[Any], None] | None:
        """The sum of two signals, as in a residual stream: the larger one sets its scale."""
        if not all(x.is_floating_point() for x in given[:2]):
            return None
        a, b = lines[0].rows, lines[1].rows
        with self._pause():
            sizes = [operators.mean_square(x) for x in given[:2]]
        if not all(size < _LARGE for size in sizes):
            return None
        only_smaller = (b & ~a) if sizes[0] >= sizes[1] else (a & ~b)
        for record in self.records:
            if only_smaller >> record.index & 1:
                record.beside_larger = True
        if isinstance(
            self._modules.innermost, nn.RNNBase | nn.RNNCellBase
        ):  # gates: a sum of two products, not a stream
            self._consume(lines, "other")
            return partial(self._pass_on, replace(on, signal=True))
        main = lines[0] if sizes[0] >= sizes[1] else lines[1]
        axes = self._axes_of(main, given[0].dim())
        salt = ((a | b) & self._fed_rows).bit_length()  # the latest parameter: alike in every round
        record = self._record("sum", name, (), axes, self._modules.line(), salt)
        record.add_reads(replace(on, last=main.last))
        record.skip = next(
            (
                x.origin
                for x, other in ((lines[0], lines[1]), (lines[1], lines[0]))
                if x.origin is not None and x.rows != other.rows and not x.rows & ~other.rows
            ),
            None,
        )
        self._consume(lines, record.index)
        return partial(self._close, record, on, pair=lines[0].pair | lines[1].pair)

    def _activation(
        self,
        name: str,
        function: Function | None,
        source: Lineage,
        square: float,
        out: Any,
    ) -> None:
        first = out[0] if isinstance(out, tuple | list) else out
        axes = self._axes_of(source, first.dim())
        latest = (source.rows & self._fed_rows).bit_length()
        salt = source.origin if source.origin is not None else -latest
        record = self._record("activation", name, (), axes, self._modules.line(), salt)
        record.function = function
        record.squares.append(square)
        record.add_reads(source)
        self._consume([source], record.index)
        self._close(record, source, out)

    # Bookkeeping

    def _of(self, x: Any) -> Lineage:
        found = self._lineage.get(x) if isinstance(x, Tensor) else None
        return found if isinstance(found, Lineage) else _DATA

    def _is_weight(self, x: Any) -> bool:
        return bool(self._of(x).parameters)

    def _consume(
        self, lines: Sequence[Lineage], reader: str | int, *, with_factor: bool = True
    ) -> None:
        for line in lines:
            if line.origin is not None and line.origin != reader:
                self.records[line.origin].readers.add(reader)
                self.records[line.origin].factors.add(line.factor if with_factor else 1.0)
            for part in line.parts:
                self.records[part].readers.add(reader if reader == "batch norm" else "other")
                self.records[part].factors.add(1.0)
            for other in (line.squares, line.size):  # they were for something else than a norm
                if other is not None:
                    self.records[other].readers.add("other")

    def _record(
        self,
        kind: Kind,
        name: str,
        parameters: tuple[str, ...],
        axes: tuple[int, ...],
        where: Location | None,
        salt: Any = None,
    ) -> Record:
        """The record of this operator at this place: a loop finds the one of its first round."""
        path = self._modules.path
        key = (path, name, where, parameters, salt)
        if key not in self._keys:
            index = self._keys[key] = len(self.records)
            self.records.append(Record(index, kind, name, path, parameters, where, axes))
            self._fed_rows |= bool(parameters) << index
        return self.records[self._keys[key]]

    def _close(self, record: Record, on: Lineage, out: Any, pair: int = 0) -> None:
        """Measure an output, remember where it comes from, and ask for its gradient."""
        first = out[0] if isinstance(out, tuple | list) else out
        if not isinstance(first, Tensor) or not first.is_floating_point() or not first.numel():
            self._unmeasured(record.operator, out, on)
            return
        with self._pause():
            call = record.add_output(first)
        own = 1 << record.index
        self._lineage[first] = Lineage(
            origin=record.index,
            rows=on.rows | own,
            sizes=on.sizes | own,
            last=own,
            raw=on.raw and record.fan_in is None,
            signal=True,
            pair=pair,
        )
        self._pending.append((first, record, call))

    def _latest(self, line: Lineage) -> int:
        """Bits: of the records that a parameter feeds, the last one that a tensor depends on."""
        fed = (line.rows & self._fed_rows).bit_length()
        return 1 << fed >> 1

    def _mark_scores(self, rows: int) -> None:
        for record in self.records:
            record.scores |= bool(rows >> record.index & 1)

    def _mark_values(self, line: Lineage) -> None:
        latest = self._latest(line)
        for record in self.records:
            record.values |= bool(latest >> record.index & 1)

    def _unmeasured(self, name: str, out: Any, on: Lineage) -> None:
        self.unmeasured.add(name)
        self._pass_on(Lineage(rows=on.rows, sizes=on.sizes, last=on.last, signal=True), out)

    def _pass_on(self, line: Lineage, out: Any) -> None:
        for x in tensors(out):
            self._lineage[x] = line

    def _average(self, line: Lineage, numbers: float, out: Any) -> None:
        if isinstance(out, Tensor) and out.numel():
            line = replace(line, averaged=numbers / out.numel())
        self._pass_on(line, out)

    def _arm(self) -> None:
        """Hook the outputs of earlier operators: autograd gives them a gradient after dispatch."""
        for x, record, call in self._pending:
            if x.requires_grad:
                self._handles.append(x.register_hook(partial(self._keep, record, call)))
        self._pending.clear()

    def _keep(self, record: Record, call: Call, gradient: Tensor) -> None:
        if self.differentiating:
            record.add_gradient(call, gradient)

    def _axes_of(self, line: Lineage, dimensions: int) -> tuple[int, ...]:
        """Channels stand in dimension 1 of what a convolution made, last in everything else."""
        if line.origin is not None and self.records[line.origin].axes == (1,):
            return (1,)
        latest = line.rows.bit_length() - 1
        conv = latest >= 0 and self.records[latest].axes == (1,)
        return (1,) if conv and dimensions >= 3 else (-1,)

    def _norm_axes(
        self, name: str, weights: Sequence[tuple[Tensor, Lineage]]
    ) -> tuple[int, ...] | None:
        if "batch_norm" in name or "group_norm" in name:
            return (1,)
        return (-1,) if operators.is_normaliser(name) else None


def _apply(func: Any, rest: Sequence[Any], kwargs: Mapping[str, Any], x: Tensor) -> Any:
    out = func(x, *rest, **kwargs)
    return out[0] if isinstance(out, tuple | list) else out


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
