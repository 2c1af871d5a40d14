"""An adaptive code for integers that are mostly small: quantised weights.

An integer becomes binary decisions: is it zero; its sign; how many bits its magnitude has (unary);
the bits below the leading one, of which the first two are adaptive and the rest even. Each decision
has its own Krichevsky–Trofimov context, so a tensor's own distribution is learnt on the way and any
integer in range has a code: no escape symbol, no table sent ahead.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from assay.certificate.coder import EVEN, Contexts, Decoder, Encoder

Symbols = NDArray[np.int64]
Counts = NDArray[np.int64]

WEIGHT = 24  # magnitudes of quantised weights have at most 24 bits: exact in float32
WHOLE = 62  # magnitudes of integer buffers

_ZERO, _SIGN, _LENGTH = 0, 1, 2
_CHUNK = 1 << 16


def contexts_for(width: int) -> int:
    """How many contexts integers of `width` bits need.

    Returns:
        The number.
    """
    return 2 + 4 * width


def encode(encoder: Encoder, symbols: Symbols, contexts: Contexts, width: int) -> None:
    """Code integers one after the other.

    Args:
        encoder: Where to.
        symbols: The integers `[n]`, of magnitude below 2^width.
        contexts: `contexts_for(width)` of them; updated.
        width: Most bits of a magnitude.
    """
    for which, bits in _decisions(symbols, width):
        encoder.decide(contexts, which.tolist(), bits.tolist())


def decode(decoder: Decoder, count: int, contexts: Contexts, width: int) -> Symbols:
    """Decode integers; the mirror of `encode`.

    Args:
        decoder: Where from.
        count: How many, n.
        contexts: As when encoding; updated.
        width: Most bits of a magnitude.

    Returns:
        The integers `[n]`.
    """
    bit = decoder.bit
    below = _LENGTH + width
    found = np.zeros(count, dtype=np.int64)
    for index in range(count):
        if not bit(contexts, _ZERO):
            continue
        negative = bit(contexts, _SIGN)
        length = 0  # bits below the leading one
        while length < width - 1 and bit(contexts, _LENGTH + length):
            length += 1
        value = 1
        for place in range(length):
            if place == 0:
                context = below + 3 * length
            elif place == 1:
                context = below + 3 * length + (value & 1) + 1
            else:
                context = EVEN
            value = value << 1 | bit(contexts, context)
        found[index] = -value if negative else value
    return found


def tally(symbols: Symbols, width: int) -> tuple[Counts, int]:
    """Count the decisions of each context.

    Args:
        symbols: The integers `[n]`.
        width: Most bits of a magnitude.

    Returns:
        Zeros and ones of every context, `[contexts, 2]`, and the number of even decisions.
    """
    size = contexts_for(width)
    counts = np.zeros(2 * size, dtype=np.int64)
    even = 0
    for which, bits in _decisions(symbols, width):
        kept = which >= 0
        counts += np.bincount(2 * which[kept] + bits[kept], minlength=2 * size)
        even += int((~kept).sum())
    return counts.reshape(size, 2), even


def length(counts: Counts, even: int = 0) -> float:
    """What the decisions cost: adaptive codes depend on the counts alone, not on their order.

    Args:
        counts: Zeros and ones of every context, `[contexts, 2]`.
        even: Number of even decisions.

    Returns:
        Bits, not yet rounded up.

    Example:
        >>> round(length(np.array([[100, 0]])), 2)  # a hundred zeros
        4.15
    """
    zeros, ones = counts[:, 0], counts[:, 1]
    nats = gammaln(zeros + ones + 1) - gammaln(zeros + 0.5) - gammaln(ones + 0.5) + np.log(np.pi)
    return float(nats.sum() / np.log(2)) + even


def _decisions(symbols: Symbols, width: int) -> Iterator[tuple[Symbols, Symbols]]:
    """Contexts and bits, in the order in which they are coded, some thousands of symbols at a time."""
    for start in range(0, len(symbols), _CHUNK):
        part = symbols[start : start + _CHUNK]
        size = np.abs(part)
        below = _bits_below(size)
        some = size > 0
        most = int(below.max(initial=0))
        columns = 2 + min(most + 1, width - 1) + most
        which = np.full((len(part), columns), EVEN, dtype=np.int64)
        bits = np.zeros((len(part), columns), dtype=np.int64)
        used = np.zeros((len(part), columns), dtype=bool)
        which[:, 0], bits[:, 0], used[:, 0] = _ZERO, some, True
        which[:, 1], bits[:, 1], used[:, 1] = _SIGN, part < 0, some
        column = 2
        for place in range(min(most + 1, width - 1)):
            which[:, column] = _LENGTH + place
            bits[:, column], used[:, column] = below > place, some & (below >= place)
            column += 1
        for place in range(most):
            bits[:, column] = size >> np.maximum(below - 1 - place, 0) & 1
            used[:, column] = below > place
            if place < 2:
                before = bits[:, column - 1] + 1 if place else 0
                which[:, column] = _LENGTH + width + 3 * below + before
            column += 1
        yield which[used], bits[used]


def _bits_below(size: Symbols) -> Symbols:
    """Bits below the leading one; -1 for zero."""
    if len(size) and int(size.max()) < 1 << 52:  # floats are exact there
        return np.frexp(size.astype(np.float64))[1].astype(np.int64) - 1
    return np.array([int(value).bit_length() - 1 for value in size], dtype=np.int64)
