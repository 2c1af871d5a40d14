"""Symbols and ids: a round trip, the end mark, and what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.vocabulary import END, PAD, START, letter_vocabulary, phoneme_vocabulary
from assay.errors import UsageError
from assay.subject import IGNORED


@settings(max_examples=50)
@given(st.booleans(), st.data())
def test_encoding_and_decoding_are_inverse(stress, data):
    for vocabulary in (letter_vocabulary(), phoneme_vocabulary(stress=stress)):
        known = [symbol for symbol in vocabulary.symbols if symbol in vocabulary]
        symbols = tuple(data.draw(st.lists(st.sampled_from(known), max_size=12)))
        ids = vocabulary.encode(symbols)
        assert vocabulary.decode(ids) == symbols
        assert vocabulary.decode([PAD, *ids, PAD]) == symbols


def test_decoding_stops_at_the_end_mark():
    phonemes = phoneme_vocabulary()
    ids = phonemes.encode(("K", "AE", "T"))
    assert phonemes.decode([START, *ids[:2], END, ids[2], IGNORED]) == ("K", "AE")


@pytest.mark.parametrize("symbol", ["<end>", "ZZ", "k"])
def test_an_unknown_symbol_is_named(symbol):
    with pytest.raises(UsageError, match=symbol):
        phoneme_vocabulary().encode([symbol])
