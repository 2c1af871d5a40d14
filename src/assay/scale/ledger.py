"""The records of one run, and where every tensor that is alive comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from assay.running import ModuleStack
from assay.scale.gradients import Gradients
from assay.scale.lineage import DATA, INPUT, Lineage
from assay.scale.record import Record
from assay.scale.rows import Kind
from assay.scale.saturated import Attention, Scores
from assay.subject import tensors
from assay.where import Location


class Ledger:
    """What is known of a run so far.

    Args:
        model: The model that is about to run.
        inputs: Its inputs, in any nest.
        modules: Tells which module is running, and at which line.
    """

    def __init__(self, model: nn.Module, inputs: Any, modules: ModuleStack) -> None:
        self.modules = modules
        self.records: list[Record] = []
        self.unmeasured: set[str] = set()
        self.gradients = Gradients()
        self.softmax_at: Location | None = None  # where the last softmax was
        self.attentions: dict[tuple[str, Location | None], Attention] = {}
        self.paused = False
        self._trained = {name for name, p in model.named_parameters() if p.requires_grad}
        self._keys: dict[Any, int] = {}
        self._fed = 0  # bits: the records that a parameter feeds
        self._lineage = WeakIdKeyDictionary()
        for x in tensors(inputs):
            self._lineage[x] = INPUT
        for name, p in model.named_parameters():
            self._lineage[p] = Lineage(parameters=(name,))
        for buffer in model.buffers():
            self._lineage[buffer] = Lineage(constant=True)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Measure inside without being recorded.

        Yields:
            Nothing.
        """
        before, self.paused = self.paused, True
        try:
            with torch.no_grad():
                yield
        finally:
            self.paused = before

    # Tensors

    def of(self, x: Any) -> Lineage:
        """Where a tensor comes from."""
        found = self._lineage.get(x) if isinstance(x, Tensor) else None
        return found if isinstance(found, Lineage) else DATA

    def knows(self, x: Tensor) -> bool:
        """Whether a tensor is the model's own, or something was noted of it."""
        return self._lineage.get(x) is not None

    def is_weight(self, x: Any) -> bool:
        """Whether something is a tensor that is made of parameters alone."""
        return bool(self.of(x).parameters)

    def is_trained(self, weight: Lineage) -> bool:
        """Whether the first parameter that a weight is made of can get a gradient now."""
        return torch.is_grad_enabled() and weight.parameters[0] in self._trained

    def pass_on(self, line: Lineage, out: Any) -> None:
        """Note where all tensors of an output come from."""
        for x in tensors(out):
            self._lineage[x] = line

    def average(self, line: Lineage, numbers: float, out: Any) -> None:
        """The same of means over so many numbers together."""
        if isinstance(out, Tensor) and out.numel():
            line = replace(line, averaged=numbers / out.numel())
        self.pass_on(line, out)

    # Records

    def record(
        self,
        kind: Kind,
        name: str,
        parameters: tuple[str, ...],
        axes: tuple[int, ...],
        where: Location | None,
        salt: Any = None,
    ) -> Record:
        """The record of this operator at this place: a loop finds the one of its first round."""
        path = self.modules.path
        key = (path, name, where, parameters, salt)
        if key not in self._keys:
            index = self._keys[key] = len(self.records)
            self.records.append(Record(index, kind, name, path, parameters, where, axes))
            self._fed |= bool(parameters) << index
        return self.records[self._keys[key]]

    def marked(self, rows: int) -> list[Record]:
        """The records that some bits stand for."""
        return [record for record in self.records if rows >> record.index & 1]

    def consume(
        self, lines: Sequence[Lineage], reader: str | int, *, with_factor: bool = True
    ) -> None:
        """Note that something reads the outputs of records."""
        for line in lines:
            if line.origin is not None and line.origin != reader:
                self.records[line.origin].readers.add(reader)
                self.records[line.origin].factors.add(line.factor if with_factor else 1.0)
                self.records[line.origin].read_raw |= not line.mapped
            for part in line.parts:
                self.records[part].readers.add(reader if reader == "batch norm" else "other")
                self.records[part].factors.add(1.0)
                self.records[part].read_raw = True
            for other in (line.squares, line.size):  # they were for something else than a norm
                if other is not None:
                    self.records[other].readers.add("other")

    def close(
        self,
        record: Record,
        on: Lineage,
        out: Any,
        pair: int = 0,
        scores: Scores | None = None,
    ) -> None:
        """Measure an output, remember where it comes from, and ask for its gradient."""
        first = floating(out)
        if first is None or not first.numel():
            self.give_up(record.operator, on, out)
            return
        with self.pause():
            call = record.add_output(first)
            call.reads = on.rows
        own = 1 << record.index
        self._lineage[first] = Lineage(
            origin=record.index,
            rows=on.rows | own,
            sizes=on.sizes | own,
            last=own,
            raw=on.raw and record.fan_in is None,
            signal=True,
            pair=pair,
            scores=scores,
        )
        self.gradients.ask(first, record, call)

    def give_up(self, name: str, on: Lineage, out: Any) -> None:
        """Note that an operator's output has no moments."""
        self.unmeasured.add(name)
        self.pass_on(Lineage(rows=on.rows, sizes=on.sizes, last=on.last, signal=True), out)

    def attend(self, attention: Attention) -> None:
        """Note scores that a softmax reads: of several calls at one place the first."""
        self.attentions.setdefault((attention.module, attention.where), attention)

    # What a tensor depends on

    def latest(self, rows: int) -> int:
        """The number of the last of some records that a parameter feeds: alike in every round of a loop."""
        return (rows & self._fed).bit_length()

    def latest_bit(self, line: Lineage) -> int:
        """Bits: of the records that a parameter feeds, the last one that a tensor depends on."""
        return 1 << self.latest(line.rows) >> 1

    def axes_of(self, line: Lineage, dimensions: int) -> tuple[int, ...]:
        """Channels stand in dimension 1 of what a convolution made, last in everything else."""
        if line.origin is not None and self.records[line.origin].axes == (1,):
            return (1,)
        latest = line.rows.bit_length() - 1
        conv = latest >= 0 and self.records[latest].axes == (1,)
        return (1,) if conv and dimensions >= 3 else (-1,)


def floating(out: Any) -> Tensor | None:
    """The first tensor that an operator returned; None where it is no floating-point tensor."""
    first = out[0] if isinstance(out, tuple | list) else out
    return first if isinstance(first, Tensor) and first.is_floating_point() else None
