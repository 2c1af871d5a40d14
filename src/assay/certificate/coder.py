"""Adaptive arithmetic coding of binary decisions, in exact integers.

A message is a sequence of decisions. Each cuts the current interval of the unit line in two, in
proportion to Krichevsky and Trofimov's estimate (1981): after n₀ zeros and n₁ ones of its context, a
zero has probability (n₀ + ½) / (n₀ + n₁ + 1). Nothing about the data has to be sent ahead, and the cost
above the best fixed probability is at most ½ log₂ n + 1 bits a context. Messages whose decisions tell
where they end get disjoint intervals, hence a prefix-free code (see `bits`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from assay.certificate.bits import WORD, WordReader, shortest_inside
from assay.certificate.malformed import reject

EVEN = -1  # the context of a decision that is even and stays so
LIMIT = 2**30  # decisions in one context: keeps every cut of a 32-bit interval non-empty

_FULL, _BOTTOM, _MASK = 1 << 2 * WORD, 1 << WORD, (1 << WORD) - 1


class Contexts:
    """Counts of zeros and ones for a family of contexts, as 2n + 1 so that halves stay integers.

    Args:
        size: Number of contexts.
    """

    def __init__(self, size: int) -> None:
        self.zeros = [1] * size
        self.ones = [1] * size


class Encoder:
    """Turns decisions into a code word.

    Example:
        >>> encoder = Encoder()
        >>> encoder.decide(Contexts(1), [0] * 100, [1] * 100)  # a hundred ones are cheap
        >>> encoder.finish()[1]
        5
    """

    def __init__(self) -> None:
        self._words: list[int] = []
        self._low = 0
        self._span = _FULL

    @property
    def position(self) -> float:
        """Bits that the decisions so far have cost."""
        return WORD * (len(self._words) + 2) - math.log2(self._span)

    def decide(self, contexts: Contexts, which: Iterable[int], bits: Iterable[int]) -> None:
        """Code decisions one after the other.

        Args:
            contexts: Their counts; updated.
            which: For each decision its context, or `EVEN`.
            bits: For each decision 0 or 1.
        """
        words, low, span = self._words, self._low, self._span
        zeros, ones = contexts.zeros, contexts.ones
        for context, bit in zip(which, bits, strict=True):
            if context < 0:
                part = span >> 1
            else:
                zero = zeros[context]
                part = span * zero // (zero + ones[context])
            if bit:
                low += part
                span -= part
                if context >= 0:
                    ones[context] += 2
            else:
                span = part
                if context >= 0:
                    zeros[context] += 2
            if span < _BOTTOM:
                top = low >> WORD
                if top >= _BOTTOM:
                    _carry(words)
                    top -= _BOTTOM
                words.append(top)
                low = (low & _MASK) << WORD
                span <<= WORD
        self._low, self._span = low, span

    def plain(self, value: int, count: int) -> None:
        """Code the lowest `count` bits of `value` as even decisions.

        Args:
            value: A non-negative integer.
            count: How many bits.
        """
        self.decide(
            _NONE, [EVEN] * count, [value >> place & 1 for place in range(count - 1, -1, -1)]
        )

    def natural(self, value: int) -> None:
        """Code an integer of at least 0 by itself: Elias's delta code of `value + 1`.

        Args:
            value: The integer, below 2^63.
        """
        length = (value + 1).bit_length()
        size = length.bit_length()
        self.plain(0, size - 1)
        self.plain(length, size)
        self.plain(value + 1 - (1 << length - 1), length - 1)

    def finish(self) -> tuple[bytes, int]:
        """Close the code word with the fewest bits that no continuation can undo.

        Returns:
            The code word filled up with zero bits to whole bytes, and its length in bits.
        """
        return shortest_inside(self._words, self._low, self._span)


class Decoder:
    """Turns a code word back into decisions; the mirror of `Encoder`.

    Args:
        data: The code word, filled up to whole bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._reader = WordReader(data)
        self._span = _FULL
        self._offset = self._reader.word() << WORD | self._reader.word()

    def bit(self, contexts: Contexts, context: int) -> int:
        """Decode one decision.

        Args:
            contexts: The counts; updated.
            context: Its context, or `EVEN`.

        Returns:
            0 or 1.

        Raises:
            MalformedCertificate: If the code word has ended long before.
        """
        span = self._span
        if context < 0:
            part = span >> 1
        else:
            zero = contexts.zeros[context]
            part = span * zero // (zero + contexts.ones[context])
        if self._offset >= part:
            self._offset -= part
            span -= part
            bit = 1
            if context >= 0:
                contexts.ones[context] += 2
        else:
            span = part
            bit = 0
            if context >= 0:
                contexts.zeros[context] += 2
        if span < _BOTTOM:
            span <<= WORD
            self._offset = self._offset << WORD | self._reader.word()
        self._span = span
        return bit

    def plain(self, count: int) -> int:
        """Decode `count` even decisions.

        Args:
            count: How many bits.

        Returns:
            The integer that they spell, most significant bit first.
        """
        value = 0
        for _ in range(count):
            value = value << 1 | self.bit(_NONE, EVEN)
        return value

    def natural(self) -> int:
        """Decode an integer of at least 0.

        Returns:
            The integer, below 2^63.

        Raises:
            MalformedCertificate: If it is larger.
        """
        size = 1
        while not self.bit(_NONE, EVEN):
            size += 1
            if size > 7:
                reject("code word", "an integer of more than 64 bits", "integers below 2^63")
        length = 1 << size - 1 | self.plain(size - 1)
        if length > 63:
            reject("code word", f"an integer of {length} bits", "integers below 2^63")
        return (1 << length - 1 | self.plain(length - 1)) - 1


_NONE = Contexts(0)


def _carry(words: list[int]) -> None:
    place = len(words) - 1
    while words[place] == _MASK:
        words[place] = 0
        place -= 1
    words[place] += 1
