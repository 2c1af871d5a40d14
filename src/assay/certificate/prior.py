"""What is known before the data: the tensors that a builder makes from a seed.

A code may refer to anything that was fixed before the examples were seen. Here that is the builder:
names, shapes and types of its tensors, and the values it draws for them. Values that a builder
*brings* (a checkpoint that it loads, a module that is handed over ready-made) are another matter: they
may have been trained on these very examples, and a bound that takes them for free would be false. So
the builder runs under two seeds, and a parameter that is the same under both, yet not one constant,
counts as brought; unless the user vouches for it, all weights are then coded in full.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from assay.builder import Builder
from assay.errors import CannotMeasure, require_seed, verbatim
from assay.state import copied, preserved_random_state
from assay.subject import Subject


@dataclass(frozen=True)
class Slot:
    """One tensor of a model's state, counted once however many names it has.

    Args:
        name: Its first name.
        tensor: The model's own tensor, not a copy.
        parameter: True for a parameter, False for a persistent buffer.
    """

    name: str
    tensor: Tensor
    parameter: bool

    @property
    def continuous(self) -> bool:
        """Whether it holds real or complex numbers, which are quantised; others are coded exactly."""
        return self.tensor.is_floating_point() or self.tensor.is_complex()

    @property
    def size(self) -> int:
        """Real numbers in it: a complex one counts as two."""
        return self.tensor.numel() * (2 if self.tensor.is_complex() else 1)


def slots(model: nn.Module) -> tuple[Slot, ...]:
    """The tensors that make up a model: parameters, then persistent buffers, tied ones once.

    Batch norm's `num_batches_tracked` is left out: it is read in training mode only.

    Args:
        model: A module with real (not meta, not lazy) tensors.

    Returns:
        The slots, in the order of registration.

    Raises:
        CannotMeasure: If a tensor has no data.

    Example:
        >>> [slot.name for slot in slots(nn.BatchNorm1d(3))]
        ['weight', 'bias', 'running_mean', 'running_var']
    """
    named: list[tuple[str, Tensor, bool]] = [(n, p, True) for n, p in model.named_parameters()]
    for prefix, module in model.named_modules():
        for name, buffer in module._buffers.items():
            unread = isinstance(module, _NormBase) and name == "num_batches_tracked"
            if buffer is not None and name not in module._non_persistent_buffers_set and not unread:
                named.append((f"{prefix}.{name}" if prefix else name, buffer, False))
    found: dict[tuple[object, ...], Slot] = {}
    for name, tensor, parameter in named:
        if tensor.is_meta or nn.parameter.is_lazy(tensor):
            raise CannotMeasure(
                name,
                verbatim("a tensor without data"),
                "weights with values",
                "Run a lazy module once in the builder, and build on a real device.",
            )
        if tensor.numel():
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            found.setdefault(place, Slot(name, tensor, parameter))
    return tuple(found.values())


@dataclass(frozen=True)
class Prior:
    """A builder under a seed, with what it makes.

    Args:
        builder: The user's builder.
        seed: The seed that it is run under.
        subject: What it built; a copy where the builder hands out one module every time.
        slots: The slots, with copies of their values as built.
        brought: Names of parameters that neither come from the seed nor are one constant.
        tables: Names of buffers of that kind: tables of positions, or what somebody computed from data.
        repeatable: Whether building again gave the same values.
        shared: Whether the builder hands out one and the same module.
    """

    builder: Builder
    seed: int
    subject: Subject
    slots: tuple[Slot, ...]
    brought: tuple[str, ...]
    tables: tuple[str, ...]
    repeatable: bool
    shared: bool

    @classmethod
    def of(cls, builder: Builder, seed: int) -> Prior:
        """Build under `seed`, once more, and once under another seed.

        Args:
            builder: The user's builder.
            seed: An integer of at least 0, below 2^62.

        Returns:
            What is known before the data.

        Raises:
            UsageError: If the seed is out of range.
        """
        require_seed(seed)
        first = _build(builder, seed)
        initial = tuple(
            replace(slot, tensor=slot.tensor.detach().clone()) for slot in slots(first.model)
        )
        again = _build(builder, seed)
        shared = again.model is first.model
        repeatable = _same(initial, slots(again.model))
        del again
        other = slots(_build(builder, seed + 1).model)
        fixed = [slot for slot in initial if _is_brought(slot.name, slot.tensor, other)]
        brought = tuple(slot.name for slot in fixed if slot.parameter)
        tables = tuple(slot.name for slot in fixed if not slot.parameter)
        if shared:
            first = _copied(first)
        return cls(builder, seed, first, initial, brought, tables, repeatable, shared)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the slots."""
        return tuple(slot.name for slot in self.slots)

    @property
    def values(self) -> tuple[Tensor, ...]:
        """Values of the slots as built."""
        return tuple(slot.tensor for slot in self.slots)

    def fresh(self) -> Subject:
        """Build once more under the same seed; never the user's own module."""
        subject = _build(self.builder, self.seed)
        return _copied(subject) if self.shared else subject

    def anchored(self, trust: bool) -> bool:
        """Whether a code may refer to the built values.

        Args:
            trust: Whether the user vouches that brought weights were made without the examples.

        Returns:
            True if they can be built again and are not brought, or vouched for.
        """
        return self.repeatable and (trust or not self.brought)

    def digest(self, anchored: bool) -> str:
        """SHA-256 of what a code refers to: names, shapes, types, and the values if `anchored`."""
        total = hashlib.sha256(b"assay prior 1\n")
        for slot in self.slots:
            total.update(f"{slot.name} {list(slot.tensor.shape)} {slot.tensor.dtype}\n".encode())
            if anchored:
                total.update(raw_bytes(slot.tensor))
        return total.hexdigest()


def raw_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor as they lie in memory, row by row.

    Returns:
        The bytes.
    """
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _build(builder: Builder, seed: int) -> Subject:
    with preserved_random_state(seed):
        return builder()


def _copied(subject: Subject) -> Subject:
    try:
        return replace(subject, model=copied(subject.model))
    except Exception as error:
        raise CannotMeasure(
            "builder",
            verbatim(f"one {subject.name} that cannot be copied ({error})"),
            "a function that builds a new module every time",
            "Give the function that makes the model, so that yours stays untouched.",
        ) from error


def _same(slots: tuple[Slot, ...], others: tuple[Slot, ...]) -> bool:
    return len(slots) == len(others) and all(
        raw_bytes(slot.tensor) == raw_bytes(other.tensor)
        for slot, other in zip(slots, others, strict=True)
    )


def _is_brought(name: str, value: Tensor, others: tuple[Slot, ...]) -> bool:
    """Whether a tensor is the same under another seed, without being one number all over."""
    if bool((value == value.reshape(-1)[0]).all()):
        return False
    return any(
        other.name == name
        and other.tensor.shape == value.shape
        and torch.equal(other.tensor, value)
        for other in others
    )
