"""The example files as modules, imported as assay imports a target."""

from itertools import product
from pathlib import Path

import pytest

from assay.data.cmudict import encode_pronunciations
from assay.place import import_place

EXAMPLES = Path(__file__).parents[2] / "examples"


def _example(name):
    path = str(EXAMPLES / f"{name}.py")
    return import_place(path, path)


@pytest.fixture(scope="session")
def g2p():
    return _example("g2p")


@pytest.fixture(scope="session")
def recurrent():
    return _example("recurrent")


@pytest.fixture(scope="session")
def residual():
    return _example("residual")


@pytest.fixture(scope="session")
def small_dictionary():
    """Every word of one to three letters from eight, with a spelling rule: "ch" is one phoneme."""
    sounds = {"a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH"}
    words = {}
    for length in (1, 2, 3):
        for letters in product(sounds, repeat=length):
            word = "".join(letters)
            spelled = word.replace("ch", "C")
            words[word] = (tuple("CH" if x == "C" else sounds[x] for x in spelled),)
    return encode_pronunciations(words, longest=6)
