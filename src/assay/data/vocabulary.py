"""Letters, phonemes, and their ids."""

from __future__ import annotations

from collections.abc import Iterable

from assay.errors import UsageError

PAD, START, END = 0, 1, 2  # ids; letters have only PAD
_MARKS = ("<pad>", "<start>", "<end>")

LETTERS = "abcdefghijklmnopqrstuvwxyz'-."
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P"),
    *("R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)


class Vocabulary:
    """Symbols and their ids; the id of a symbol is its position.

    Args:
        symbols: The symbols, the special ones first. The first is the padding.

    Example:
        >>> phonemes = phoneme_vocabulary()
        >>> phonemes.encode(("K", "AE", "T"))
        [26, 4, 35]
        >>> phonemes.decode([26, 4, 35, END, PAD])
        ('K', 'AE', 'T')
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        self.symbols = tuple(symbols)
        self._ids = {s: i for i, s in enumerate(self.symbols) if s not in _MARKS}

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._ids

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """The ids of `symbols`.

        Args:
            symbols: A word, or a pronunciation.

        Returns:
            One id a symbol; no padding, no marks.

        Raises:
            UsageError: If a symbol is not of this vocabulary.
        """
        try:
            return [self._ids[symbol] for symbol in symbols]
        except KeyError as error:
            known = f"one of {' '.join(self._ids)}"
            raise UsageError("symbol", error.args[0], known, "Check the spelling.") from None

    def decode(self, ids: Iterable[int]) -> tuple[str, ...]:
        """The symbols of `ids`, up to the end mark; padding and the start mark are passed over.

        Args:
            ids: Ids, as `encode` or a model gives them.

        Returns:
            The symbols.
        """
        found: list[str] = []
        for i in ids:
            symbol = self.symbols[int(i)]
            if symbol == "<end>":
                break
            if symbol not in _MARKS:
                found.append(symbol)
        return tuple(found)


def letter_vocabulary() -> Vocabulary:
    """Padding, then a–z, apostrophe, hyphen and dot: 30 ids."""
    return Vocabulary((_MARKS[PAD], *LETTERS))


def phoneme_vocabulary(*, stress: bool = False) -> Vocabulary:
    """Padding, start and end mark, then the phonemes of the dictionary.

    Args:
        stress: Whether a vowel is three symbols, one for each degree of stress.

    Returns:
        A vocabulary of 42 ids, or of 72 with stress.
    """
    vowels = [v + degree for v in VOWELS for degree in "012"] if stress else VOWELS
    return Vocabulary((*_MARKS, *vowels, *CONSONANTS))
