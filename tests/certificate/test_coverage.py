"""Theory L1 and L2 by finite enumeration: no sampling, no tolerance.

The world has three inputs and two labels, so six kinds of example. Hypotheses are all eight rules from
inputs to labels, each with a real code word of the coder. Every composition of N draws is enumerated
with its exact probability, and the probability that any rule's true error exceeds its bound is summed.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from assay import bound
from assay.certificate import integers
from assay.certificate.coder import Contexts, Encoder

N = 7
WORLDS = [
    # P(input, label) for the six kinds, labels 0 and 1 of inputs a, b, c
    (Fraction(3, 10), 0, Fraction(2, 10), Fraction(1, 10), Fraction(1, 10), Fraction(3, 10)),
    (Fraction(1, 6),) * 6,  # pure noise: every rule errs half the time
    (Fraction(1, 100), Fraction(49, 100), 0, Fraction(1, 4), Fraction(1, 4), 0),
]


def code_word(rule):
    """Labels as adaptive symbols: the rule 000 is short, mixed ones are longer."""
    encoder = Encoder()
    symbols = np.array(rule, dtype=np.int64)
    integers.encode(encoder, symbols, Contexts(integers.contexts_for(4)), 4)
    return encoder.finish()


RULES = list(itertools.product((0, 1), repeat=3))
BITS = {rule: code_word(rule)[1] for rule in RULES}


def compositions(total, parts):
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in compositions(total - first, parts - 1):
            yield (first, *rest)


def probability(counts, world):
    ways = math.factorial(N)
    chance = Fraction(1)
    for count, p in zip(counts, world, strict=True):
        ways //= math.factorial(count)
        chance *= p**count
    return ways * chance


def mistakes(rule, amounts):
    """What falls on the wrong label, of counts or of probabilities."""
    return sum(amounts[2 * x + 1 - rule[x]] for x in range(3))


@pytest.mark.parametrize("delta", [0.3, 0.05])
@pytest.mark.parametrize("form", ["binomial", "kl", "course"])
@pytest.mark.parametrize("world", WORLDS)
def test_the_bounds_fail_with_probability_at_most_delta(world, form, delta):
    limit = {
        (rule, k): getattr(bound(k, N, BITS[rule], delta), form)
        for rule in RULES
        for k in range(N + 1)
    }
    truth = {rule: mistakes(rule, world) for rule in RULES}
    failing = sum(
        (
            probability(counts, world)
            for counts in compositions(N, 6)
            if any(truth[rule] > limit[rule, mistakes(rule, counts)] for rule in RULES)
        ),
        Fraction(0),
    )
    assert failing <= Fraction(delta)


def test_with_a_wrong_price_the_same_enumeration_catches_it():
    # without paying for the code, the best of eight rules is too good to be true in the noise world
    world, delta = WORLDS[1], 0.05
    free = [bound(k, N, 0, delta).binomial for k in range(N + 1)]
    truth = {rule: mistakes(rule, world) for rule in RULES}
    failing = sum(
        (
            probability(counts, world)
            for counts in compositions(N, 6)
            if any(truth[rule] > free[mistakes(rule, counts)] for rule in RULES)
        ),
        Fraction(0),
    )
    assert failing > Fraction(delta)


def test_the_code_words_satisfy_kraft():
    words = [code_word(rule) for rule in RULES]
    assert sum(Fraction(1, 2**bits) for _, bits in words) <= 1
