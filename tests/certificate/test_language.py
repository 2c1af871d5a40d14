import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import slot

from assay import CannotMeasure
from assay.certificate.integers import WEIGHT
from assay.certificate.language import (
    POOL,
    STEPS,
    TEXT,
    Code,
    Coded,
    Message,
    Mode,
    decode,
    encode,
    numbers,
    step_size,
)
from assay.errors import MalformedCertificate

NONE = np.zeros(0, dtype=np.int64)
SLOTS = [
    slot(3, 2, name="weight"),
    slot(4, name="half", dtype=torch.bfloat16),
    slot(2, name="wave", dtype=torch.complex64),
    slot(2, name="steps", dtype=torch.int64),
    slot(POOL, name="wide"),
]


@st.composite
def messages(draw):
    anchored = draw(st.booleans())
    tensors = []
    for place in SLOTS:
        modes = list(Mode) if anchored else [Mode.GRID]
        if not place.continuous:
            modes = [mode for mode in modes if mode is not Mode.CHANGE]
        mode = draw(st.sampled_from(modes))
        if mode is Mode.BUILT:
            tensors.append(Coded(mode, 0, NONE))
            continue
        step = draw(st.sampled_from(STEPS)) if place.continuous else 0
        few = draw(st.lists(st.integers(1 - 2**WEIGHT, 2**WEIGHT - 1), min_size=1, max_size=12))
        symbols = np.resize(np.array(few, dtype=np.int64), place.size)
        tensors.append(Coded(mode, step, symbols))
    return Message(
        seed=draw(st.integers(0, 2**62 - 1)),
        sizes=tuple(draw(st.lists(st.integers(1, 10**6), min_size=2, max_size=2))),
        arguments=draw(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9)),
        anchored=anchored,
        tensors=tuple(tensors),
    )


def plainly(message):
    return (
        message.seed,
        message.sizes,
        message.arguments,
        message.anchored,
        [(coded.mode, coded.step, coded.symbols.tolist()) for coded in message.tensors],
    )


@settings(max_examples=30)
@given(messages())
def test_messages_come_back(message):
    code = encode(message, SLOTS)
    found, again = decode(code.data, SLOTS, sizes=2)
    assert plainly(found) == plainly(message)
    assert again == code
    assert sum(code.shares) <= code.bits


@settings(max_examples=30)
@given(messages(), messages())
def test_no_code_word_begins_another(one, other):
    a, b = (as_text(encode(message, SLOTS)) for message in (one, other))
    assert plainly(one) == plainly(other) or not (a.startswith(b) or b.startswith(a))


def as_text(code: Code):
    return f"{int.from_bytes(code.data, 'big'):0{8 * len(code.data)}b}"[: code.bits]


@pytest.mark.parametrize("text", ["a", "ab", "abcdefg", "é", "日本"])
def test_text_costs_eight_bits_a_byte_and_eight_for_its_end(text):
    """L2: the null counts. What else the message says is the same in both."""

    def bits(arguments):
        return encode(Message(0, (), arguments, True, ()), ()).bits

    assert bits("") == 1 + 8 + 1  # seed 0, the null, anchored
    assert bits(text) - bits("") == 8 * len(text.encode())


def test_null_terminated_strings_are_prefix_free_by_brute_force():
    """All texts of at most two of three bytes: no word begins another, Kraft's sum is at most 1."""
    words = {
        text: encode(Message(0, (), text, True, ()), ())
        for n in range(3)
        for text in map("".join, itertools.product("abc", repeat=n))
    }
    strings = {
        text: "".join(f"{byte:08b}" for byte in code.data)[: code.bits]
        for text, code in words.items()
    }
    for one, other in itertools.permutations(strings.values(), 2):
        assert not other.startswith(one)
    assert sum(Fraction(1, 2**code.bits) for code in words.values()) <= 1


def test_a_small_language_satisfies_kraft():
    place = [slot(2)]
    words = []
    for seed, anchored, mode, step in itertools.product((0, 1), (True, False), Mode, (-1, 0, 1)):
        if (mode is not Mode.GRID and not anchored) or (mode is Mode.BUILT and step):
            continue
        for pair in itertools.product((-2, -1, 0, 1, 2), repeat=2):
            coded = Coded(mode, step, NONE if mode is Mode.BUILT else np.array(pair))
            words.append(as_text(encode(Message(seed, (), "", anchored, (coded,)), place)))
    words = sorted(set(words))
    assert len(words) == 2 * (1 + 3 * 25 + 3 * 25 + 3 * 25)  # built, grid, change; unanchored grid
    assert not any(b.startswith(a) for a, b in itertools.pairwise(words))
    assert sum(Fraction(1, 2 ** len(word)) for word in words) <= 1


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_code_word_or_malformed(data):
    try:
        _, code = decode(data, SLOTS[:4], sizes=1)
    except MalformedCertificate:
        return
    assert code.data == data


@settings(max_examples=40)
@given(messages(), st.data())
def test_a_damaged_code_word_never_says_the_same(message, data):
    word = encode(message, SLOTS).data
    place = data.draw(st.integers(0, 8 * len(word) - 1))
    damaged = bytearray(word)
    damaged[place // 8] ^= 1 << place % 8
    try:
        found, _ = decode(bytes(damaged), SLOTS, sizes=2)
    except MalformedCertificate:
        return
    assert plainly(found) != plainly(message)


def test_truncated_and_lengthened_words_are_malformed():
    symbols = np.arange(6) - 2
    message = Message(5, (7,), "x", True, (Coded(Mode.GRID, 3, symbols),))
    data = encode(message, SLOTS[:1]).data
    for length in range(len(data)):
        with pytest.raises(MalformedCertificate):
            decode(data[:length], SLOTS[:1], sizes=1)
    for tail in (b"\0", b"\1", b"junk" * 9):
        with pytest.raises(MalformedCertificate):
            decode(data + tail, SLOTS[:1], sizes=1)


def test_a_short_file_for_a_large_model_is_refused_at_once():
    # decoding a million numbers from nothing would settle more bits than there are
    with pytest.raises(MalformedCertificate):
        decode(b"\xff" * 12, [slot(1000, 1000)], sizes=0)


@pytest.mark.parametrize("text", ["a\0b", "x" * (TEXT + 1)])
def test_arguments_that_the_language_cannot_say(text):
    with pytest.raises(CannotMeasure, match="arguments"):
        encode(Message(0, (), text, True, ()), [])


@pytest.mark.parametrize("text", [b"\xff\xfe", b"x" * (TEXT + 1)])
def test_arguments_that_are_no_text_are_malformed(text):
    from assay.certificate.coder import Encoder

    encoder = Encoder()
    encoder.natural(0)
    for byte in (*text, 0):
        encoder.plain(byte, 8)
    encoder.plain(1, 1)
    with pytest.raises(MalformedCertificate, match="arguments"):
        decode(encoder.finish()[0], [], sizes=0)


def test_steps_beyond_the_language_are_malformed():
    message = Message(0, (), "", True, (Coded(Mode.GRID, 300, np.array([1])),))
    with pytest.raises(MalformedCertificate, match="step 300"):
        decode(encode(message, [slot(1)]).data, [slot(1)], sizes=0)


def test_a_tensor_too_large_for_the_counts_is_refused():
    vast = slot(1).tensor.expand(2**24, 1)
    place = slot(1).__class__("vast", vast, True)
    with pytest.raises(CannotMeasure, match="vast"):
        encode(Message(0, (), "", False, (Coded(Mode.GRID, 0, NONE),)), [place])


def test_steps_halve_every_two():
    assert [step_size(i) for i in (-2, -1, 0, 1, 2, 3)] == [2.0, 1.5, 1.0, 0.75, 0.5, 0.375]


def test_values_are_what_the_symbols_say():
    symbols = np.array([4, -1, 0])
    built = torch.tensor([1.0, 2.0, 3.0])
    assert Coded(Mode.GRID, 2, symbols).values(built).tolist() == [2.0, -0.5, 0.0]
    assert Coded(Mode.CHANGE, 2, symbols).values(built).tolist() == [3.0, 1.5, 3.0]
    assert Coded(Mode.BUILT, 0, NONE).values(built).tolist() == built.tolist()
    whole = Coded(Mode.GRID, 0, symbols).values(torch.zeros(3, dtype=torch.int32))
    assert whole.tolist() == [4, -1, 0]
    assert whole.dtype == torch.int32
    wave = Coded(Mode.GRID, 0, np.array([1, 2, 3, 4])).values(torch.zeros(2, dtype=torch.cfloat))
    assert wave.tolist() == [1 + 2j, 3 + 4j]
    assert numbers(wave).tolist() == [1, 2, 3, 4]


def test_golden_word():
    # language 1 is frozen: this word must never change
    message = Message(3, (2, 64), "", True, (Coded(Mode.CHANGE, 5, np.array([0, 1, -1, 7, 0, 0])),))
    code = encode(message, SLOTS[:1])
    assert (code.data.hex(), code.bits) == GOLDEN


GOLDEN = ("629c100f659e0380", 58)
