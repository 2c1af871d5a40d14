"""Bounds on the true error of a coded rule, from its training errors and its length in bits.

Floats are rounded up: every number here is at least the exact value of its formula. Logarithms are
taken in 50-digit decimal arithmetic, which is the same on every machine, so that whoever verifies a
certificate gets the same floats to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from functools import lru_cache

from assay.errors import UsageError
from assay.finding import Result
from assay.view.blocks import Bars, Formulas, View

LAMBDA = 5  # the course's λ: fixed, because choosing it by looking would need a union bound
VACUOUS = 0.99  # above it, two decimals rounded up read 1.00

_DECIMAL = Context(prec=50)
_GUARD = Decimal("1e-30")  # far above the rounding of 50 digits, far below a float's
_STIRLING = (
    tuple(  # B_2i / (2i (2i−1)): the series brackets ln n!, so the first term left out bounds it
        Decimal(a) / Decimal(b)
        for a, b in ((1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156))
    )
)


@dataclass(frozen=True, repr=False)
class Bounds(Result):
    """Upper bounds on the true error, all holding together with probability at least 1 − δ.

    `binomial ≤ kl ≤ course` for every input: each is a relaxation of the one before, so wherever the
    smallest holds the others hold too. Theory L1–L3.

    Args:
        errors: Training examples that the coded rule gets wrong.
        examples: Number N of independent training examples.
        bits: Length of the rule's code word in a prefix-free code fixed before the data.
        delta: Probability, over the draw of the examples, that the bounds may fail.
        course: `10/9 (k/N + 5/N (bits ln 2 + ln 1/δ))`, Theory L1 with λ = 5.
        kl: The largest p with `kl(k/N ‖ p) ≤ (bits ln 2 + ln 1/δ) / N`.
        binomial: The largest p with `P(Bin(N, p) ≤ k) ≥ δ 2^−bits`: the exact tail.
    """

    errors: int
    examples: int
    bits: int
    delta: float
    course: float
    kl: float
    binomial: float

    @property
    def rate(self) -> float:
        """Training error, a fraction."""
        return self.errors / self.examples

    @property
    def best(self) -> float:
        """The smallest of the three, which is the exact binomial one."""
        return self.binomial

    @property
    def vacuous(self) -> bool:
        """Whether the smallest bound, rounded up to two decimals, is 1.00."""
        return self.best > VACUOUS

    def holdout(self, examples: int | None = None, errors: int | None = None) -> float:
        """What a test set would certify in place of training examples and code (0 bits).

        Args:
            examples: Its size; by default as many as the training set.
            errors: Errors on it; by default the training error's share of it, rounded up.

        Returns:
            The exact binomial (Clopper–Pearson) upper bound at the same δ, rounded up.

        Raises:
            UsageError: If `errors` does not lie between 0 and `examples`.

        Example:
            >>> bound(0, 100, bits=200).holdout() < 0.03
            True
        """
        size = self.examples if examples is None else examples
        if errors is None:
            errors = -(-self.errors * size // self.examples)
        return bound(errors, size, 0, self.delta).binomial

    def affordable(self, target: float) -> int | None:
        """How many bits the code word may have for `binomial` to be at most `target`.

        Args:
            target: A true error, strictly between 0 and 1.

        Returns:
            The number of bits at this training error, or None where not even 0 bits would do.

        Raises:
            UsageError: If `target` is not strictly between 0 and 1.

        Example:
            >>> b = bound(10, 1000, bits=300)
            >>> bound(10, 1000, b.affordable(0.2)).binomial <= 0.2
            True
        """
        if not 0 < target < 1:
            raise UsageError("target", target, "a number between 0 and 1", "Give an error rate.")
        if target <= self.rate:
            return None
        with localcontext(_DECIMAL):
            tail = _log_tail(self.errors, self.examples, target)
            room = (Decimal(self.delta).ln() - tail - _GUARD) / Decimal(2).ln()
            return int(room) if room >= 0 else None

    def view(self) -> View:
        """What the three bounds say, beside the training error."""
        says = "says nothing (vacuous)" if self.vacuous else f"is at most {upward(self.best)}"
        afford = self.affordable(0.5) if self.rate < 0.5 else None
        spare = f" For a bound of 0.5 the code word may have {afford:,} bits." if afford else ""
        return View(
            title="Bound",
            question="How far can the training error be trusted?",
            answer=(
                f"{self.errors:,} errors on {self.examples:,} examples ({self.rate:.4f}) by a rule of "
                f"{self.bits:,} bits: with probability {1 - self.delta:g} over the draw of the "
                f"examples, the true error {says}.{spare} A test set of the same size and error "
                f"would certify {upward(self.holdout())}."
            ),
            blocks=(
                Bars(
                    rows=(
                        ("training error", self.rate),
                        ("test set of the same size", self.holdout()),
                        ("exact binomial tail", self.binomial),
                        ("kl inversion", self.kl),
                        ("course form (λ = 5)", self.course),
                    ),
                    x_label="error",
                    title="Upper bounds on the true error",
                    limits=(0.0, 1.0),
                ),
                formulas(),
            ),
            notes=NOTES,
        )


NOTES = (
    "The bounds hold for independent examples from one distribution, and a code fixed before they "
    "were seen; every number is rounded up.",
    "All three hold on the same event of probability at least 1 − δ, because binomial ≤ kl ≤ course.",
)


def formulas() -> Formulas:
    """The three bounds as formulas, for a view.

    Returns:
        A block.
    """
    return Formulas(
        rows=(
            ("binomial", "max { p : P(Bin(N, p) ≤ k) ≥ δ · 2^−bits }"),
            ("kl", "max { p : kl(k/N ‖ p) ≤ (bits · ln 2 + ln 1/δ) / N }"),
            ("course", "10/9 · (k/N + 5/N · (bits · ln 2 + ln 1/δ))"),
        ),
        caption="k errors on N examples, a code word of that many bits (Theory L1–L3).",
    )


def upward(value: float, digits: int = 3) -> str:
    """A bound as text, never smaller than it is.

    Args:
        value: A number between 0 and 1.
        digits: Decimals to keep.

    Returns:
        The text.

    Example:
        >>> upward(0.1231), upward(0.123), upward(1.0)
        ('0.124', '0.123', '1.000')
    """
    scale = 10**digits
    shown = math.ceil(
        Decimal(repr(value)) * scale
    )  # of what is written, not of its binary expansion
    return f"{shown / scale:.{digits}f}"


def bound(errors: int, examples: int, bits: int, delta: float = 0.05) -> Bounds:
    """Bound the true error of a rule that was chosen by looking at its training examples.

    Args:
        errors: Training examples that the rule gets wrong, 0 ≤ errors ≤ examples.
        examples: Number of independent training examples, at least 1.
        bits: Length of its code word in a prefix-free code that was fixed before the data; 0 for a
            rule chosen without looking (a test set).
        delta: Probability of failure, strictly between 0 and 1.

    Returns:
        The bounds, rounded up and capped at 1 (Theory L1–L3).

    Raises:
        UsageError: If an argument is out of range or not an integer.

    Example:
        >>> b = bound(errors=8763, examples=60_000, bits=1955)
        >>> b.binomial <= b.kl <= b.course
        True
        >>> print(upward(b.kl, 4), upward(b.course, 4))
        0.2313 0.2881
    """
    errors, examples, bits = (
        _whole("errors", errors),
        _whole("examples", examples),
        _whole("bits", bits),
    )
    if examples < 1:
        raise UsageError("examples", examples, "at least 1", "Count the training examples.")
    if not 0 <= errors <= examples:
        raise UsageError(
            "errors",
            errors,
            f"an integer from 0 to {examples}",
            "Count wrong examples, not tokens.",
        )
    if bits < 0:
        raise UsageError("bits", bits, "an integer of at least 0", "Give the code word's length.")
    if isinstance(delta, bool) or not isinstance(delta, int | float) or not 0 < delta < 1:
        raise UsageError("delta", delta, "a number strictly between 0 and 1", "0.05 is usual.")
    with localcontext(_DECIMAL):
        price = bits * Decimal(2).ln() - Decimal(delta).ln()  # nats: ln 1/P(h) + ln 1/δ
        course = (errors + LAMBDA * price) / examples / (1 - Decimal(1) / (2 * LAMBDA))
        kl = _invert(lambda p: _log_chernoff(errors, examples, p), errors, examples, price)
        exact = _invert(lambda p: _log_tail(errors, examples, p), errors, examples, price)
    return Bounds(
        errors=errors,
        examples=examples,
        bits=bits,
        delta=float(delta),
        course=min(1.0, _float_above(course)),
        kl=kl,
        binomial=min(kl, exact),
    )


def below_truth(errors: int, examples: int, delta: float) -> float:
    """A lower bound on the true error from a test set: the exact binomial tail from the other side.

    Args:
        errors: Errors on the test set.
        examples: Its size.
        delta: Probability of failure.

    Returns:
        The lower Clopper–Pearson limit, rounded down to within a float's spacing of 1.
    """
    return max(0.0, 1.0 - bound(examples - errors, examples, 0, delta).binomial)


def _whole(name: str, value: object) -> int:
    index = getattr(type(value), "__index__", None)
    if index is None or isinstance(value, bool):
        raise UsageError(name, value, "an integer", f"Give {name} as a whole number.")
    return int(index(value))


def _float_above(value: Decimal) -> float:
    """The smallest float that is at least `value`, with the guard for the rounding of `value`."""
    value = value + value * _GUARD
    nearest = float(value)
    return math.nextafter(nearest, math.inf) if Decimal(nearest) < value else nearest


def _invert(
    log_probability: Callable[[float], Decimal], errors: int, examples: int, price: Decimal
) -> float:
    """The smallest float p ≥ k/N at which so few errors are certainly less likely than e^−price."""
    low, high = errors / examples, 1.0
    if errors == examples:
        return 1.0
    while True:
        middle = low + (high - low) / 2
        if not low < middle < high:
            return high
        if middle * examples > errors and log_probability(middle) < -price - _GUARD:
            high = middle
        else:
            low = middle


def _log_chernoff(errors: int, examples: int, p: float) -> Decimal:
    """−N kl(k/N ‖ p): Chernoff's bound on ln P(Bin(N, p) ≤ k)."""
    total = Decimal(0)
    for count, share in ((errors, Decimal(p)), (examples - errors, 1 - Decimal(p))):
        if count:
            total -= count * (Decimal(count) / (examples * share)).ln()
    return total


def _log_tail(errors: int, examples: int, p: float) -> Decimal:
    """An upper bound, tight to about 1e-12, on ln P(Bin(N, p) ≤ k) where k/N < p < 1."""
    k, n, share = errors, examples, Decimal(p)
    last = (
        _log_factorial(n) - _log_factorial(k) - _log_factorial(n - k) + (n - k) * (1 - share).ln()
    )
    if k:
        last += k * share.ln()
    # The terms below the last one, relative to it: ratios are under 1 and fall, so stop early and
    # close with a geometric series. Products and sums of positive floats: the same everywhere.
    odds = math.nextafter(float((1 - share) / share), math.inf)
    term = total = 1.0
    steps = 0
    for j in range(k, 0, -1):
        ratio = j * odds / (n - j + 1)
        term *= ratio
        total += term
        steps += 1
        if term < 1e-17 * total:
            total += term * ratio / (1 - ratio)
            break
    rounding = 1 + 8 * (steps + 2) * 2.0**-53
    return last + Decimal(total * rounding).ln() + _GUARD


@lru_cache(maxsize=64)
def _log_factorial(n: int) -> Decimal:
    """The logarithm of n!, to about 1e-38."""
    with localcontext(_DECIMAL):
        if n < 1024:
            return Decimal(math.factorial(n)).ln()
        x = Decimal(n)
        series = sum((c / x ** (2 * i + 1) for i, c in enumerate(_STIRLING)), Decimal(0))
        return x * x.ln() - x + (2 * _pi() * x).ln() / 2 + series


@lru_cache(maxsize=1)
def _pi() -> Decimal:
    """The number π to 50 digits by Machin's formula."""

    def arctan_of_inverse(n: int) -> Decimal:
        power, total, k = Decimal(1) / n, Decimal(0), 0
        while abs(power) > Decimal("1e-55"):
            total += power / (2 * k + 1)
            power, k = -power / (n * n), k + 1
        return total

    with localcontext(Context(prec=60)):
        return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))
