"""Language 1: the frozen, prefix-free code for models that the certificates are written in.

A code word says everything about a model that its builder did not say before the data: the seed, the
sizes and other arguments, and for every tensor either "as built" or integers on a grid, which are the
weights themselves or their change from the built ones. `docs/certificate.md` has the grammar. Nothing
here may change: a new idea is a new language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from assay.certificate import integers
from assay.certificate.coder import LIMIT, Contexts, Decoder, Encoder
from assay.certificate.integers import WEIGHT, WHOLE, Symbols
from assay.certificate.malformed import reject
from assay.certificate.prior import Slot
from assay.errors import CannotMeasure, verbatim

VERSION = 1
STEPS = range(-128, 128)  # indices of steps: from 2^64 down to 0.75 · 2^−63
POOL = 512  # tensors smaller than this share one set of contexts: learning one costs about 50 bits
TEXT = 4096  # most bytes of the builder's arguments

_STEP_WIDTH = 9


class Mode(IntEnum):
    """How the numbers of a tensor are said."""

    BUILT = 0  # as the builder made them
    GRID = 1  # symbol × step
    CHANGE = 2  # built value + symbol × step


@dataclass(frozen=True)
class Coded:
    """One tensor of a message.

    Args:
        mode: How its numbers are said.
        step: Index of the grid's step, see `step_size`; 0 where there is no grid.
        symbols: Integers `[numbers in the tensor]`, empty for `BUILT`.
    """

    mode: Mode
    step: int
    symbols: Symbols

    def values(self, built: Tensor) -> Tensor:
        """The tensor that this says.

        Args:
            built: What the builder made.

        Returns:
            A new tensor of the same shape and type.
        """
        if self.mode is Mode.BUILT:
            return built.clone()
        if not (built.is_floating_point() or built.is_complex()):
            return torch.from_numpy(self.symbols).reshape(built.shape).to(built)
        value = torch.from_numpy(self.symbols * step_size(self.step))
        if self.mode is Mode.CHANGE:
            value = value + torch.from_numpy(numbers(built))
        if built.is_complex():
            value = torch.view_as_complex(value.reshape(-1, 2))
        return value.reshape(built.shape).to(built)


@dataclass(frozen=True)
class Message:
    """What a code word says.

    Args:
        seed: The seed that the builder runs under.
        sizes: Values of the builder's sizes, in the order of their names.
        arguments: Its other arguments as text.
        anchored: Whether tensors may refer to built values.
        tensors: One for every slot.
    """

    seed: int
    sizes: tuple[int, ...]
    arguments: str
    anchored: bool
    tensors: tuple[Coded, ...]


@dataclass(frozen=True)
class Code:
    """A code word.

    Args:
        data: The word, filled up with zero bits to whole bytes.
        bits: Its length without the filling: |h|.
        shares: Bits that each tensor took, header left out.
    """

    data: bytes
    bits: int
    shares: tuple[float, ...]


def step_size(index: int) -> float:
    """The step of a grid: 1, 0.75, 0.5, 0.375, 0.25 for index 0 to 4, and so on.

    Args:
        index: One of `STEPS`.

    Returns:
        A float whose products with symbols of 22 bits are exact in float32.
    """
    return float((0.75 if index % 2 else 1.0) * 2.0 ** -(index // 2))


def numbers(tensor: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A continuous tensor as one row of float64 numbers.

    Returns:
        A new array `[numbers in the tensor]`.
    """
    tensor = tensor.detach().cpu()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    row: np.ndarray[tuple[int], np.dtype[np.float64]] = tensor.double().reshape(-1).numpy().copy()
    return row


class _Grammar:
    """The contexts of one message, handed out in the same order to encoder and decoder."""

    def __init__(self) -> None:
        self.modes = Contexts(2)
        self.steps = Contexts(integers.contexts_for(_STEP_WIDTH))
        self.last_step = 0
        self._pools = {
            True: Contexts(integers.contexts_for(WEIGHT)),
            False: Contexts(integers.contexts_for(WHOLE)),
        }

    def symbols(self, slot: Slot) -> tuple[Contexts, int]:
        width = WEIGHT if slot.continuous else WHOLE
        if slot.size < POOL:
            return self._pools[slot.continuous], width
        return Contexts(integers.contexts_for(width)), width


def encode(message: Message, slots: Sequence[Slot]) -> Code:
    """Write a message as a code word.

    Args:
        message: What to say.
        slots: The tensors of the built model.

    Returns:
        The code word.

    Raises:
        CannotMeasure: If the arguments' text or a tensor is longer than the language allows.
    """
    text = message.arguments.encode()
    if len(text) > TEXT or b"\0" in text:
        raise CannotMeasure(
            "arguments",
            message.arguments,
            f"text of at most {TEXT} bytes without a null",
            "Give the builder shorter arguments: they are part of the code word.",
        )
    encoder, grammar = Encoder(), _Grammar()
    encoder.natural(message.seed)
    for size in message.sizes:
        encoder.natural(size)
    for byte in (*text, 0) if text else (0,):
        encoder.plain(byte, 8)
    encoder.plain(message.anchored, 1)
    shares = []
    for slot, coded in zip(slots, message.tensors, strict=True):
        start = encoder.position
        _encode_tensor(encoder, grammar, slot, coded, message.anchored)
        shares.append(encoder.position - start)
    data, bits = encoder.finish()
    return Code(data, bits, tuple(shares))


def decode(data: bytes, slots: Sequence[Slot], sizes: int) -> tuple[Message, Code]:
    """Read a code word, and insist that it is the one that `encode` writes.

    Args:
        data: The code word, filled up to whole bytes.
        slots: The tensors of the built model.
        sizes: How many sizes the builder has.

    Returns:
        The message, and its code word encoded anew.

    Raises:
        MalformedCertificate: If `data` is not exactly one code word with zero filling.

    Example:
        >>> slots = [Slot("bias", torch.zeros(3), True)]
        >>> said = Message(0, (), "", True, (Coded(Mode.GRID, 2, np.array([1, 0, -3])),))
        >>> decode(encode(said, slots).data, slots, sizes=0)[0].tensors[0].values(torch.zeros(3))
        tensor([ 0.5000,  0.0000, -1.5000])
    """
    decoder, grammar = Decoder(data), _Grammar()
    seed = decoder.natural()
    numbers = tuple(decoder.natural() for _ in range(sizes))
    text = bytearray()
    while byte := decoder.plain(8):
        text.append(byte)
        if len(text) > TEXT:
            reject("code word", "arguments without an end", f"at most {TEXT} bytes and a null")
    try:
        arguments = text.decode()
    except UnicodeDecodeError:
        reject("code word", "arguments that are not UTF-8", "UTF-8 text")
    anchored = bool(decoder.plain(1))
    tensors = tuple(_decode_tensor(decoder, grammar, slot, anchored) for slot in slots)
    message = Message(seed, numbers, arguments, anchored, tensors)
    code = encode(message, slots)
    if code.data != data:
        reject(
            "code word",
            f"{len(data)} bytes",
            "one canonical code word, zero bits to the next byte, and nothing",
        )
    return message, code


def _encode_tensor(
    encoder: Encoder, grammar: _Grammar, slot: Slot, coded: Coded, anchored: bool
) -> None:
    if slot.size >= LIMIT // 64:  # up to 64 decisions a number must fit into one context's count
        raise CannotMeasure(
            slot.name,
            verbatim(f"{slot.size:,} numbers"),
            f"fewer than {LIMIT // 64:,} in one tensor",
            "Split the tensor.",
        )
    if anchored:
        encoder.decide(grammar.modes, (0,), (coded.mode is not Mode.BUILT,))
        if coded.mode is not Mode.BUILT and slot.continuous:
            encoder.decide(grammar.modes, (1,), (coded.mode is Mode.CHANGE,))
    if coded.mode is Mode.BUILT:
        return
    if slot.continuous:
        jump = np.array([coded.step - grammar.last_step])
        integers.encode(encoder, jump, grammar.steps, _STEP_WIDTH)
        grammar.last_step = coded.step
    contexts, width = grammar.symbols(slot)
    integers.encode(encoder, coded.symbols, contexts, width)


def _decode_tensor(decoder: Decoder, grammar: _Grammar, slot: Slot, anchored: bool) -> Coded:
    mode = Mode.GRID
    if anchored:
        if not decoder.bit(grammar.modes, 0):
            return Coded(Mode.BUILT, 0, np.zeros(0, dtype=np.int64))
        if slot.continuous and decoder.bit(grammar.modes, 1):
            mode = Mode.CHANGE
    step = 0
    if slot.continuous:
        step = grammar.last_step + int(integers.decode(decoder, 1, grammar.steps, _STEP_WIDTH)[0])
        if step not in STEPS:
            reject("code word", f"step {step} of {slot.name}", f"a step in {STEPS}")
        grammar.last_step = step
    contexts, width = grammar.symbols(slot)
    return Coded(mode, step, integers.decode(decoder, slot.size, contexts, width))
