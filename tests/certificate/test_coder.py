import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.certificate import integers
from assay.certificate.bits import WordReader, shortest_inside
from assay.certificate.coder import EVEN, Contexts, Decoder, Encoder
from assay.errors import MalformedCertificate

decisions = st.lists(st.tuples(st.integers(EVEN, 3), st.integers(0, 1)), max_size=400)


def as_bits(data, bits):
    return f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"[:bits] if data else ""


def encoded(pairs):
    encoder = Encoder()
    encoder.decide(Contexts(4), [c for c, _ in pairs], [b for _, b in pairs])
    return encoder


@settings(max_examples=80)
@given(decisions)
def test_decisions_come_back(pairs):
    data, bits = encoded(pairs).finish()
    assert len(data) == -(-bits // 8)
    assert set(as_bits(data, 8 * len(data))[bits:]) <= {"0"}
    decoder, contexts = Decoder(data), Contexts(4)
    assert [decoder.bit(contexts, context) for context, _ in pairs] == [b for _, b in pairs]


@settings(max_examples=60)
@given(decisions)
def test_length_is_the_ideal_one_and_less_than_two_bits(pairs):
    # slow twin: Krichevsky–Trofimov probabilities as exact fractions
    counts = {}
    ideal = Fraction(1)
    for context, bit in pairs:
        seen = counts.setdefault(context, [0, 0])
        ideal *= (
            Fraction(1, 2) if context == EVEN else Fraction(2 * seen[bit] + 1, 2 * sum(seen) + 2)
        )
        seen[bit] += 1
    cost = math.log2(ideal.denominator) - math.log2(ideal.numerator)
    bits = encoded(pairs).finish()[1]
    assert cost - 1e-6 <= bits < cost + 2
    assert encoded(pairs).position == pytest.approx(cost, abs=1e-5)


def test_all_messages_of_one_length_form_a_prefix_free_code():
    words = []
    for bits in itertools.product((0, 1), repeat=9):
        pairs = [(i % 2 if i % 3 else EVEN, bit) for i, bit in enumerate(bits)]
        words.append(as_bits(*encoded(pairs).finish()))
    ordered = sorted(words)
    assert len(set(words)) == 2**9
    assert not any(b.startswith(a) for a, b in itertools.pairwise(ordered))
    assert sum(Fraction(1, 2 ** len(word)) for word in words) <= 1


def test_what_follows_a_code_word_does_not_matter():
    pairs = [(i % 4, int(i % 5 == 0)) for i in range(300)]
    data, bits = encoded(pairs).finish()
    whole = as_bits(data, bits)
    for tail in ("", "1" * 200, "10" * 100):
        text = whole + tail
        text += "0" * (-len(text) % 8)
        decoder = Decoder(int(text, 2).to_bytes(len(text) // 8, "big"))
        contexts = Contexts(4)
        assert [decoder.bit(contexts, c) for c, _ in pairs] == [b for _, b in pairs]


def test_carries_run_through_full_words():
    # a long run of improbable ones in a nearly certain context pushes the interval's start upwards
    source = random.Random(0)
    for _ in range(30):
        contexts = [0] * 2000 + [EVEN] * 200
        bits = [0] * 1990 + [1] * 10 + [source.choice((1, 1, 1, 0)) for _ in range(200)]
        encoder = Encoder()
        encoder.decide(Contexts(1), contexts, bits)
        decoder, counts = Decoder(encoder.finish()[0]), Contexts(1)
        assert [decoder.bit(counts, c) for c in contexts] == bits


def test_a_carry_propagates():
    encoder = Encoder()
    encoder._words = [5, 0xFFFFFFFF, 0xFFFFFFFF]
    encoder._low = (1 << 64) + 7  # carried over, not yet emitted
    encoder._span = 1 << 32
    encoder.decide(Contexts(1), [EVEN], [0])
    assert encoder._words == [6, 0, 0, 0]


def test_the_shortest_string_is_found_by_brute_force():
    source = random.Random(1)
    for _ in range(200):
        low = source.randrange(2**64)
        span = source.randrange(1, min(2**64, 2**65 - low) + 1) >> source.randrange(40) or 1
        span = min(span, 2**64 - low)
        data, bits = shortest_inside([], low, span)
        value = Fraction(int.from_bytes(data, "big"), 256 ** len(data) if data else 1)
        assert Fraction(low, 2**64) <= value
        assert value + Fraction(1, 2**bits) <= Fraction(low + span, 2**64)
        if bits:  # no string of one bit fewer fits
            wide = Fraction(1, 2 ** (bits - 1))
            first = math.ceil(Fraction(low, 2**64) / wide) * wide
            assert first + wide > Fraction(low + span, 2**64)


def test_reading_far_beyond_the_end_is_refused():
    reader = WordReader(b"\x01")
    assert [reader.word() for _ in range(3)] == [1 << 24, 0, 0]
    with pytest.raises(MalformedCertificate, match="ends before"):
        reader.word()


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2**62), max_size=20))
def test_naturals_come_back(values):
    encoder = Encoder()
    for value in values:
        encoder.natural(value)
    decoder = Decoder(encoder.finish()[0])
    assert [decoder.natural() for _ in values] == values


@pytest.mark.parametrize(("value", "bits"), [(0, 1), (1, 4), (2, 4), (3, 5), (63, 11), (10**6, 28)])
def test_naturals_have_the_length_of_elias_delta(value, bits):
    encoder = Encoder()
    encoder.natural(value)
    assert encoder.position == bits


@pytest.mark.parametrize("word", [b"\x00\x00\x00\x00", b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff"])
def test_naturals_beyond_the_language_are_refused(word):
    with pytest.raises(MalformedCertificate, match="2\\^63"):
        Decoder(word).natural()


symbols = st.lists(
    st.one_of(st.integers(-3, 3), st.integers(-(2**24) + 1, 2**24 - 1)), max_size=200
).map(lambda values: np.array(values, dtype=np.int64))


def coded(values, width):
    encoder = Encoder()
    integers.encode(encoder, values, Contexts(integers.contexts_for(width)), width)
    return encoder


@settings(max_examples=80)
@given(symbols)
def test_integers_come_back_and_their_length_is_known_beforehand(values):
    encoder = coded(values, integers.WEIGHT)
    data, bits = encoder.finish()
    contexts = Contexts(integers.contexts_for(integers.WEIGHT))
    found = integers.decode(Decoder(data), len(values), contexts, integers.WEIGHT)
    assert np.array_equal(found, values)
    expected = integers.length(*integers.tally(values, integers.WEIGHT))
    assert expected - 1e-6 <= bits < expected + 2


@settings(max_examples=40)
@given(st.lists(st.integers(-(2**62) + 1, 2**62 - 1), min_size=1, max_size=30))
def test_whole_numbers_come_back(values):
    array = np.array(values, dtype=np.int64)
    contexts = Contexts(integers.contexts_for(integers.WHOLE))
    data = coded(array, integers.WHOLE).finish()[0]
    assert integers.decode(Decoder(data), len(values), contexts, integers.WHOLE).tolist() == values


def test_every_small_tensor_has_its_own_word():
    # all tensors of three numbers between -4 and 4: prefix-free, and Kraft's sum is below 1
    words = sorted(
        as_bits(*coded(np.array(values), integers.WEIGHT).finish())
        for values in itertools.product(range(-4, 5), repeat=3)
    )
    assert len(set(words)) == 9**3
    assert not any(b.startswith(a) for a, b in itertools.pairwise(words))
    assert sum(Fraction(1, 2 ** len(word)) for word in words) <= 1


def test_gaussian_symbols_cost_their_entropy():
    values = np.round(np.random.default_rng(0).normal(size=20_000) * 4).astype(np.int64)
    share = np.unique(values, return_counts=True)[1] / len(values)
    entropy = -(share * np.log2(share)).sum()
    bits = coded(values, integers.WEIGHT).finish()[1] / len(values)
    assert entropy < bits < 1.01 * entropy
