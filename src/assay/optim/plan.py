"""Which rule every parameter of a model gets, said in a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from assay.optim.layers import Kind, Reading, readings
from assay.optim.watch import Port, Watch


@dataclass(eq=False)
class Slot:
    """A weight with its bias: what is stepped as one.

    Args:
        name: Of the weight, or of the bias where it stands alone.
        weight: The parameter.
        bias: The parameter that takes a shift of the inputs up, or None.
        reading: How the weight reads as a matrix.
        ports: Its inputs; several where it is packed of several projections.
        source: The slot whose weights say what its inputs are, in place of ports.
        note: What the listing says.
        fallback: Whether it has no rule of its own.
    """

    name: str
    weight: Parameter
    bias: Parameter | None
    reading: Reading
    ports: tuple[Port, ...] = ()
    source: Slot | None = None
    note: str = ""
    fallback: bool = False
    bias_name: str = ""
    watched: list[tuple[nn.Module, tuple[Any, ...]]] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """What arithmetic applies."""
        return self.reading.kind

    def view(self, tensor: Tensor) -> Tensor:
        """`[groups, outputs, inputs, taps]` of a tensor of the weight's shape."""
        return self.reading.view(tensor)


@dataclass(frozen=True)
class Use:
    """One module's use of a parameter."""

    path: str
    module: nn.Module
    reading: Reading
    weight: Parameter
    bias: Parameter | None

    def named(self, name: str) -> str:
        """The full name of a parameter of this module."""
        return f"{self.path}.{name}" if self.path else name


def plan(model: nn.Module, trained: set[int], *, centre_all: bool = False) -> list[Slot]:
    """Give every trained parameter a rule.

    Args:
        model: The model.
        trained: `id` of the parameters that the optimizer has.
        centre_all: Take moments about the mean also where no bias takes a shift up.

    Returns:
        Slots; together they have every trained parameter of the model once.
    """
    by_weight: dict[int, list[Use]] = {}
    for use in _uses(model):
        by_weight.setdefault(id(use.weight), []).append(use)
    slots = [_slot(uses, trained, centre_all) for uses in by_weight.values()]
    slots = [
        s
        for s in slots
        if id(s.weight) in trained or (s.bias is not None and id(s.bias) in trained)
    ]
    _one_slot_a_bias(slots, centre_all)
    by_id = {id(s.weight): s for s in slots}
    for slot in slots:
        if slot.reading.source is not None:
            use = by_weight[id(slot.weight)][0]
            slot.source = by_id.get(id(use.module._parameters[slot.reading.source]))
            if slot.source is None:
                slot.fallback, slot.note = True, "its value projection is not trained here"
    covered = {id(p) for s in slots for p in (s.weight, s.bias) if p is not None}
    for name, p in model.named_parameters():
        if id(p) in trained and id(p) not in covered:
            covered.add(id(p))
            slots.append(whole(name, p))
    return slots


def whole(name: str, p: Parameter) -> Slot:
    """The slot of a parameter that nothing is known of: it is stepped as one vector.

    Returns:
        A slot marked as a fallback.
    """
    reading = Reading("", None, "whole", lambda w: w.reshape(1, 1, -1, 1), "")
    return Slot(name, p, None, reading, note="no rule: one vector with one rate", fallback=True)


def attach(slots: list[Slot], watch: Watch) -> None:
    """Hang hooks on the modules whose inputs the slots read.

    Args:
        slots: From `plan`.
        watch: Owns the hooks.
    """
    jobs: dict[int, tuple[nn.Module, list[Port], list[Any]]] = {}
    for slot in slots:
        for module, finders in slot.watched:
            _, ports, inputs = jobs.setdefault(id(module), (module, [], []))
            ports.extend(slot.ports)
            inputs.extend(finders)
    for module, ports, inputs in jobs.values():
        watch.attach(module, ports, inputs)


def _uses(model: nn.Module) -> Iterator[Use]:
    skipped: set[int] = set()
    for path, module in model.named_modules(remove_duplicate=True):
        if id(module) in skipped:
            continue
        for reading in readings(module):
            weight, bias = _parameter(module, reading.weight), _parameter(module, reading.bias)
            if weight is not None:
                yield Use(path, module, reading, weight, bias)
            if reading.weight == "out_proj.weight":
                skipped.add(id(module.out_proj))


def _parameter(module: nn.Module, name: str | None) -> Parameter | None:
    """A parameter of this name that is no computed one, as of a weight norm."""
    if name is None:
        return None
    *path, last = name.split(".")
    found = module.get_submodule(".".join(path))._parameters.get(last)
    return found if isinstance(found, Parameter) else None


def _slot(uses: list[Use], trained: set[int], centre_all: bool) -> Slot:
    first = uses[0]
    bias = first.bias if first.bias is not None and id(first.bias) in trained else None
    readings_ = [u.reading for u in uses]
    note = first.reading.note
    if len(uses) > 1:
        names = ", ".join(u.path for u in uses)
        kinds = {r.kind for r in readings_}
        if kinds == {"matrix", "embedding"}:
            token = next(u for u in uses if u.reading.kind == "embedding")
            note = f"tied ({names}), read as an embedding"
            slot = Slot(
                first.named(first.reading.weight), first.weight, None, token.reading, note=note
            )
            return slot
        if len({id(u.bias) for u in uses}) > 1:
            bias = None
            note = f"tied ({names}), with different biases, so not centred"
        else:
            note = f"{note}, tied ({names})"
    reading = first.reading
    # a bias that is not trained cannot take a shift up
    centred = (bias is not None or centre_all) and reading.kind == "matrix"
    name = first.named(reading.weight)
    ports = tuple(
        Port(name if len(reading.widths) == 1 else f"{name}[{i}]", width, centred)
        for i, width in enumerate(reading.widths)
    )
    slot = Slot(name, first.weight, bias, reading, ports, note=note)
    if bias is not None and reading.bias is not None:
        slot.bias_name = first.named(reading.bias)
    slot.watched = [(u.module, u.reading.inputs) for u in uses if u.reading.inputs]
    if reading.unseen:
        slot.fallback, slot.note = True, f"{note}: {reading.unseen}"
    return slot


def _one_slot_a_bias(slots: list[Slot], centre_all: bool) -> None:
    """A bias that several weights share goes with the first of them."""
    seen: set[int] = set()
    for slot in slots:
        if slot.bias is not None and id(slot.bias) in seen:
            slot.bias = None
            for port in slot.ports:
                port.centred = centre_all
        elif slot.bias is not None:
            seen.add(id(slot.bias))


def is_half(dtype: torch.dtype) -> bool:
    """Whether arithmetic is done in float32 instead."""
    return dtype in (torch.bfloat16, torch.float16)
