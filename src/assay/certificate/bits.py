"""From an interval of real numbers to a bit string and back: what makes a code prefix-free.

A bit string c of m bits stands for the dyadic interval [0.c, 0.c + 2^−m). Two strings are prefixes of
one another exactly when their intervals overlap, so strings taken inside disjoint intervals form a
prefix-free code, and Kraft's sum is their total length: at most 1 (Theory L2).
"""

from __future__ import annotations

import numpy as np

from assay.certificate.malformed import reject

WORD = 32  # bits that the coder emits at a time


def shortest_inside(words: list[int], low: int, span: int) -> tuple[bytes, int]:
    r"""The shortest bit string whose dyadic interval lies inside a coder's final interval.

    The interval starts at `words` followed by the 64 bits of `low` (which may carry into the words)
    and is `span` units of the last of those bits long.

    Args:
        words: Leading 32-bit words.
        low: The next 64 bits, or more by a carry.
        span: Length of the interval, 1 ≤ span ≤ 2^64.

    Returns:
        The string, filled up with zero bits to whole bytes, and its length in bits without them.

    Example:
        >>> shortest_inside([], 0, 2**64)  # the whole unit interval: the empty string
        (b'', 0)
        >>> shortest_inside([], 2**63, 2**62)  # [1/2, 3/4) is "10"
        (b'\x80', 2)
    """
    shift = 2 * WORD
    while (-(-low >> shift) + 1) << shift > low + span:  # -(-a >> s) is a / 2^s rounded up
        shift -= 1
    tail = 2 * WORD - shift
    head = int.from_bytes(np.array(words, dtype=">u4").tobytes(), "big")
    value = (head << tail) + -(-low >> shift)
    bits = WORD * len(words) + tail
    return (value << (-bits % 8)).to_bytes((bits + 7) // 8, "big"), bits


class WordReader:
    """Reads 32-bit words from a code word, with zeros after its end.

    Bits after the end cannot matter to what is decoded, since the whole dyadic interval lies inside
    the message's. But a decoder that has *settled* more bits than there are is reading nonsense.

    Args:
        data: The code word, filled up to whole bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def word(self) -> int:
        """Read the next 32 bits.

        Returns:
            An integer below 2^32.

        Raises:
            MalformedCertificate: If the string ended more than 64 bits ago.
        """
        if self._position > len(self._data) + 8:
            reject(
                "code word",
                f"{len(self._data)} bytes",
                "a complete one, but it ends before its last symbol",
            )
        piece = self._data[self._position : self._position + 4]
        self._position += 4
        return int.from_bytes(piece.ljust(4, b"\0"), "big")
