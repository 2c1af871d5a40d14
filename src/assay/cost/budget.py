"""Questions to a formula: the largest size that fits a budget, and where one term overtakes another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from assay.cost.piece import Range
from assay.errors import CannotMeasure, UsageError, say, verbatim

if TYPE_CHECKING:
    from assay.cost.formula import Formula

_FARTHEST = 1 << 60  # a size beyond which nobody asks
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}


def solve(formula: Formula, size: str, below: int, at: Mapping[str, int]) -> int:
    """The largest value of one size at which a formula is at most `below`.

    The search doubles, then bisects; costs grow with every size. Pieces are searched one after the other,
    and the answer is checked against its neighbour.

    Args:
        formula: The formula.
        size: The size to solve for.
        below: The budget, in the unit of the formula.
        at: Values of all other sizes.

    Returns:
        The largest value that fits.

    Raises:
        UsageError: If `size` is not one of the formula's.
        CannotMeasure: If not even the least value fits, or every value does.

    Example:
        >>> from assay.cost.formula import Formula
        >>> from assay.cost.polynomial import Polynomial
        >>> n, b = Polynomial.of("n"), Polynomial.of("b")
        >>> solve(Formula.of(b * n * n * 3 + n), "n", 1_000_000, {"b": 2})
        408
    """
    if size not in formula.sizes:
        known = ", ".join(formula.sizes) or "it has none"
        raise UsageError("solve", size, f"a size of this formula ({known})", "Check the spelling.")

    def fits(value: int) -> bool:
        return formula(**{**at, size: value}) <= below

    if not formula.pieces:
        formula(**at)  # which says why
    others = {name: value for name, value in at.items() if name != size}
    held = ranges(formula, size, others)
    best = None
    for span in sorted(held, key=lambda s: s.low):
        if not fits(span.low):
            continue
        good, bad = span.low, span.low + span.step
        while bad in span and bad < _FARTHEST and fits(bad):
            good, bad = bad, span.low + 2 * (bad - span.low)
        if bad >= _FARTHEST:
            raise CannotMeasure(
                f"solve {size}",
                verbatim(f"{formula} ≤ {below:,}"),
                f"a formula that grows with {size}",
                f"Every {size} fits: solve for another size.",
            )
        if bad not in span and span.high is not None:
            bad = span.high + span.step
        good = last_that(fits, good, bad, span.step)
        best = good if best is None else max(best, good)
    if not held:
        raise CannotMeasure(
            f"solve {size}",
            verbatim(say(others)),
            f"sizes at which there is a formula for every {size}",
            "See the ranges beside the formula, and give other sizes with --at.",
        )
    if best is None:
        least = min(span.low for span in held)
        raise CannotMeasure(
            f"solve {size}",
            verbatim(f"a budget of {below:,}"),
            f"a budget that the least {size}, {least}, fits",
            "Raise the budget, or lower the other sizes.",
        )
    return best


def crossover(one: Formula, other: Formula, size: str, at: Mapping[str, int]) -> int | None:
    """The least value of a size from which on `one` is more than `other`.

    Args:
        one: A cost that grows faster, as that of attention.
        other: A cost that it overtakes, as that of the linear layers.
        size: The size that grows.
        at: Values of all other sizes.

    Returns:
        The value, or None where `one` never overtakes, or is larger from the start.

    Raises:
        UsageError: If `size` is a size of neither.
        CannotMeasure: If one was refused, or there is no size at which both hold.

    Example:
        >>> from assay.cost.formula import Formula
        >>> from assay.cost.polynomial import Polynomial
        >>> n = Polynomial.of("n")
        >>> crossover(Formula.of(n * n), Formula.of(n * 768), "n", {})
        769
    """
    if size not in (*one.sizes, *other.sizes):
        raise UsageError("crossover", size, "a size of one of the formulas", "Check the spelling.")

    for formula in (one, other):
        if not formula.pieces:
            formula(**_needed(formula, at))  # which says why
    others = {name: value for name, value in at.items() if name != size}

    def over(value: int) -> bool:
        sizes = {**others, size: value}
        return one(**_needed(one, sizes)) > other(**_needed(other, sizes))

    common = [
        both
        for mine in ranges(one, size, others)
        for theirs in ranges(other, size, others)
        if (both := mine.meet(theirs)) is not None
    ]
    if not common:
        raise CannotMeasure(
            f"crossover {size}",
            verbatim(say(others) or "no other sizes"),
            "sizes at which both formulas hold",
            "See the ranges beside the formulas, and give other sizes.",
        )
    common.sort(key=lambda span: span.low)
    if over(common[0].low):
        return None
    found = (_first(over, span) for span in common)
    return next((value for value in found if value is not None), None)


def last_that(fits: Callable[[int], bool], good: int, bad: int, step: int = 1) -> int:
    """The last value that fits, by halving.

    Args:
        fits: Whether a value does; from some value on none does.
        good: One that does.
        bad: One that does not, a multiple of `step` further up.
        step: From one value to the next.

    Returns:
        The value.

    Example:
        >>> last_that(lambda n: n * n <= 200, 2, 32)
        14
    """
    while bad - good > step:
        middle = good + (bad - good) // (2 * step) * step
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def ranges(formula: Formula, size: str, others: Mapping[str, int]) -> list[Range]:
    """Where a formula holds along one size.

    Args:
        formula: The formula.
        size: The size.
        others: Values of the others.

    Returns:
        The ranges of its pieces.
    """
    pieces = [piece for piece in formula.pieces if piece.covers(others)]
    return [dict(piece.where).get(size, Range()) for piece in pieces]


def _first(over: Callable[[int], bool], span: Range) -> int | None:
    """The least value of a range at which something is over that grows into it; None without any."""
    good = span.low
    if over(good):
        return good
    bad = good + span.step
    while bad in span and bad < _FARTHEST and not over(bad):
        good, bad = bad, span.low + 2 * (bad - span.low)
    if (
        bad not in span and span.high is not None
    ):  # the end may be over, though twice as much is no size
        bad = span.high - (span.high - span.low) % span.step
        if bad <= good or not over(bad):
            return None
    if bad >= _FARTHEST:
        return None
    return last_that(lambda value: not over(value), good, bad, span.step) + span.step


def _needed(formula: Formula, sizes: Mapping[str, int]) -> dict[str, int]:
    return {name: value for name, value in sizes.items() if name in formula.sizes}


def amount(text: str, name: str = "budget") -> int:
    """Read a budget: `80GB`, `24GiB`, `1e15`, `312T`.

    Args:
        text: A number, and a decimal (k, M, G, T, P) or binary (Ki, Mi, Gi, Ti) prefix, with or without B.
        name: What it is called, for messages.

    Returns:
        The integer.

    Raises:
        UsageError: If it is no positive number with such a prefix.

    Example:
        >>> amount("80GB"), amount("24GiB"), amount("1e15")
        (80000000000, 25769803776, 1000000000000000)
    """
    bare = text.strip().removesuffix("B").removesuffix("b")
    binary = bare.endswith(("i", "I"))
    bare = bare[:-1] if binary else bare
    prefix = bare[-1:].lower() if bare[-1:].isalpha() else ""
    number = bare[: len(bare) - len(prefix)]
    try:
        factor = 1024 ** list(_UNITS).index(prefix) if binary else _UNITS[prefix]
        value = int(float(number) * factor)
    except (ValueError, KeyError, OverflowError):
        value = 0
    if value < 1:
        raise UsageError(
            name, text, "a positive number such as 80GB, 24GiB or 1e15", "Write it so."
        )
    return value
