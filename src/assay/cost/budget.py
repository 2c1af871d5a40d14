"""Questions to a formula: the largest size that fits a budget, and where one term overtakes another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from numbers import Integral, Real
from typing import TYPE_CHECKING

from assay.cost.piece import Range
from assay.errors import CannotMeasure, UsageError, say, verbatim

if TYPE_CHECKING:
    from assay.cost.formula import Formula
    from assay.cost.sides import Last

FARTHEST = 1 << 60  # a size beyond which nobody asks
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}


def solve(formula: Formula, size: str, below: float, at: Mapping[str, int]) -> Last:
    """The largest value of one size at which a formula is at most `below`.

    Args:
        formula: The formula.
        size: The size to solve for.
        below: The budget, in the unit of the formula.
        at: Values of all other sizes.

    Returns:
        The largest value that fits, and the next at which the formula holds.

    Raises:
        UsageError: If `size` is not one of the formula's, or a value is missing or none.
        NothingFits: If no value fits.
        CannotMeasure: If every one does from some on, or there is no formula.

    Example:
        >>> from assay.cost.formula import Formula
        >>> from assay.cost.polynomial import Polynomial
        >>> n, b = Polynomial.of("n"), Polynomial.of("b")
        >>> solve(Formula.of(b * n * n * 3 + n), "n", 1_000_000, {"b": 2})
        Last(at=408, after=409)
    """
    from assay.cost.formula import Formula
    from assay.cost.polynomial import Polynomial
    from assay.cost.sides import last_side

    if size not in formula.sizes:
        known = ", ".join(formula.sizes) or "it has none"
        raise UsageError("solve", size, f"a size of this formula ({known})", "Check the spelling.")
    _check_budget(below)
    others = _plain(size, at)
    formula.require_sizes({**others, size: 1})
    held = ranges(formula, size, others)
    if not held:
        raise CannotMeasure(
            f"solve {size}",
            verbatim(say(others)),
            f"sizes at which there is a formula for every {size}",
            "See the ranges beside the formula, and give other sizes with --at.",
        )
    budget = Formula.of(Polynomial.constant(int(below // 1)))
    best = last_side(formula, budget, size, others, over=False)
    if best is None:
        raise NothingFits(
            f"solve {size}",
            verbatim(f"a budget of {below:,}"),
            f"a budget that fits {_cheapest(formula, size, held, others)}",
            "Raise the budget, or lower the other sizes.",
        )
    if best.at > FARTHEST // 2:
        dear = last_side(formula, budget, size, others, over=True)
        whoever = f"Every {size}" + (f" from {dear.after:,} on" if dear and dear.after else "")
        if dear and dear.at > FARTHEST // 2:
            whoever = f"Some {size}"
        raise CannotMeasure(
            f"solve {size}",
            verbatim(f"a budget of {below:,}"),
            f"a formula that grows with {size}",
            f"{whoever} fits, however large: solve for another size.",
        )
    return best


class NothingFits(CannotMeasure):
    """A budget that a formula exceeds wherever it holds."""


def _check_budget(below: object) -> None:
    if not isinstance(below, Real) or isinstance(below, bool) or not isfinite(below):
        raise UsageError(
            "below",
            below,
            "a number of bytes or operations",
            'As in below=80 * 10**9; the command reads "80GB".',
        )


def _cheapest(formula: Formula, size: str, held: Sequence[Range], others: Mapping[str, int]) -> str:
    """The value that a budget must fit at least, and what it takes: the least, unless costs fall later."""
    least = min(span.low for span in held)
    ends = [(span, span.high or FARTHEST) for span in held]
    most = max(end - (end - span.low) % span.step for span, end in ends)
    takes = formula(**{**others, size: least})
    if takes > formula(**{**others, size: most}):
        return f"some {size}"
    return f"the least {size}{' with a formula' if least > 1 else ''}, {least:,}, which takes {takes:,}"


def crossover(one: Formula, other: Formula | float, size: str, at: Mapping[str, int]) -> int | None:
    """The least value of a size from which on `one` is more than `other`, wherever both hold.

    Args:
        one: A cost that grows faster, as that of attention.
        other: A cost that it overtakes, as that of the linear layers; or a number.
        size: The size that grows.
        at: Values of all other sizes.

    Returns:
        The value, or None where `one` never overtakes for good, or is larger from the start.

    Raises:
        UsageError: If `size` is a size of neither, a value is missing or unknown, or `other` is no cost.
        CannotMeasure: If one was refused, or there is no size at which both hold.

    Example:
        >>> from assay.cost.formula import Formula
        >>> from assay.cost.polynomial import Polynomial
        >>> n = Polynomial.of("n")
        >>> crossover(Formula.of(n * n), Formula.of(n * 768), "n", {})
        769
    """
    from assay.cost.formula import Formula
    from assay.cost.polynomial import Polynomial
    from assay.cost.sides import last_side

    if isinstance(other, Real) and not isinstance(other, bool) and isfinite(other):
        other = Formula.of(Polynomial.constant(int(other // 1)))  # costs are integers
    if not isinstance(other, Formula):
        raise UsageError(
            "other", other, "a formula or a number", "As in formula.crossover(10**9, size)."
        )
    names = tuple(dict.fromkeys((*one.sizes, *other.sizes)))
    unknown = [name for name in at if name not in names]
    if size not in names or unknown:
        argument, name = ("size", unknown[0]) if size in names else ("crossover", size)
        known = ", ".join(names) or "they have none"
        raise UsageError(
            argument, name, f"a size of one of the formulas ({known})", "Check the spelling."
        )
    others = _plain(size, at)
    for formula in (one, other):
        formula.require_sizes(_needed(formula, {**others, size: 1}))
    last = last_side(one, other, size, others, over=False)
    if last is not None:  # where it is now more, now less without an end, it overtakes nowhere
        return last.after if last.at <= FARTHEST // 2 else None
    if last_side(one, other, size, others, over=True) is None:
        raise CannotMeasure(
            f"crossover {size}",
            verbatim(say(others) or "no other sizes"),
            "sizes at which both formulas hold",
            "See the ranges beside the formulas, and give other sizes.",
        )
    return None


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
    from assay.cost.multiples import pieces_along

    return [dict(piece.where).get(size, Range()) for piece in pieces_along(formula, size, others)]


def _plain(size: str, at: Mapping[str, int]) -> dict[str, int]:
    """All sizes but one, as Python's integers: numpy's would overflow."""
    values = {name: value for name, value in at.items() if name != size}
    return {n: int(value) if isinstance(value, Integral) else value for n, value in values.items()}


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
