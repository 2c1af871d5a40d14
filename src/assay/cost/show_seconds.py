"""How seconds are shown: each size's picture, exponents beside what was derived, and every point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.errors import say
from assay.view.blocks import Column, Lines, Series, Table, View

if TYPE_CHECKING:
    from assay.cost.seconds import Seconds, TimeLaw

QUESTION = "How do the seconds of forward and backward grow, and with what?"
_NONE = "–"


def show_seconds(found: Seconds) -> View:
    """The view of a measurement of seconds.

    Args:
        found: Points and laws.

    Returns:
        The view.
    """
    return View(
        "Cost",
        QUESTION,
        _answer(found),
        (*(_picture(found, size) for size in _sizes(found)), _exponents(found), _points(found)),
        _notes(found),
    )


def _sizes(found: Seconds) -> list[str]:
    return list(dict.fromkeys(law.size for law in found.laws))


def _answer(found: Seconds) -> str:
    """The law of the size along which seconds grow fastest; first where bytes decide."""
    top = max(found.laws, key=lambda law: (law.by_bytes, law.measured.exponent))
    text = (
        f"The seconds of the {top.phase} pass grow as {top.size}^({top.measured}): {verdict(top)}"
    )
    if top.work in top.orders:
        text += f"; its {top.work} are {top.orders[top.work]} in {top.size}"
        text += f" and its bytes {top.orders['bytes']}." if "bytes" in top.orders else "."
        return text
    return f"{text}."


def verdict(law: TimeLaw) -> str:
    """What the seconds of a law follow, in words.

    Args:
        law: The law.

    Returns:
        As in "as the bytes".
    """
    if not law.predicted:
        return "there is no formula to compare with"
    if law.moving is not None:
        return f"{law.moving} with the bytes at {law.size} = {law.values[-1]:,}"
    if law.follows:
        if len(law.follows) > 1 and len(law.follows) == len(law.predicted):
            return "as all that was derived"
        return f"as the {' and the '.join(law.follows)}"
    least, most = min(law.predicted.values()), max(law.predicted.values())
    if any(law.measured.low <= one <= law.measured.high for one in law.predicted.values()):
        return "the times scatter too much to tell"
    if law.measured.exponent > most:
        return "faster than all that was derived"
    if law.measured.exponent < least:
        return "slower than all that was derived: fixed costs still decide"
    return "between what was derived"


def _picture(found: Seconds, size: str) -> Lines:
    """Seconds measured, and dashed what they would be if products set them, from the least size up."""
    series, expected = [], []
    for law in (law for law in found.laws if law.size == size):
        others = {name: value for name, value in found.base.items() if name != size}
        points = sorted(
            (t.sizes[size], seconds)
            for t in found.timings
            if {n: v for n, v in t.sizes.items() if n != size} == others
            and (seconds := getattr(t, law.phase)) is not None
        )
        x, y = [value for value, _ in points], [seconds for _, seconds in points]
        series.append(Series(law.phase, x, y))
        formula = getattr(found.cost.products, law.phase)
        amounts = [
            formula(**at) if formula.holds(**at) else 0 for at in ({**others, size: v} for v in x)
        ]
        if min(amounts) > 0:
            scaled = [y[0] * amount / amounts[0] for amount in amounts]
            expected.append(Series(f"{law.phase}, if as products", x, scaled, "dashed"))
    return Lines(
        (*series, *expected),
        size,
        "seconds",
        f"Seconds against {size}, other sizes at their base",
        log_x=True,
        log_y=True,
    )


def _exponents(found: Seconds) -> Table:
    columns = (
        Column("size", code=True),
        Column("phase"),
        Column("seconds", align="right"),
        Column("go"),
        Column("products", align="right"),
        Column("bytes", align="right"),
        Column("operations", align="right"),
        Column("calls", align="right"),
    )
    rows = tuple(
        (
            f"{law.size} = {law.values[0]:,}…{law.values[-1]:,}",
            law.phase,
            str(law.measured),
            verdict(law),
            *(_exponent(law, name) for name in ("products", "bytes", "operations", "calls")),
        )
        for law in found.laws
    )
    caption = (
        "Exponents: the slope of the logarithm over these sizes. Seconds: measured, with a 95 % interval. "
        "The others: of the exact formulas."
    )
    return Table(columns, rows, caption)


def _exponent(law: TimeLaw, name: str) -> str:
    return f"{law.predicted[name]:.2f}" if name in law.predicted else _NONE


def _points(found: Seconds) -> Table:
    columns = (
        Column("sizes", code=True),
        Column("forward", "ms", "right"),
        Column("backward", "ms", "right"),
        Column("repeats", align="right"),
    )
    rows = tuple(
        (
            say(timing.sizes),
            f"{1e3 * timing.forward:.4g}",
            f"{1e3 * timing.backward:.4g}" if timing.backward is not None else _NONE,
            str(timing.repeats),
        )
        for timing in found.timings
    )
    return Table(columns, rows, "Every point: medians of the repeats, after one pass to warm up.")


def _notes(found: Seconds) -> tuple[str, ...]:
    device = found.timings[0].device
    threads = f" with {found.threads} thread{'s' if found.threads != 1 else ''}"
    notes = [
        f"Measured on {device}{threads if device == 'cpu' else ''}, with the kernels that torch chooses; the "
        "formulas are of unfused operators.",
        "Calls are of operators that do more than rename data: each has a fixed cost, which decides at small "
        "sizes.",
    ]
    notes += [f"No further along {why}." for why in found.stopped.values()]
    if found.cost.flops.forward.reason:
        notes.append(f"No formula: {found.cost.flops.forward.reason}.")
    return tuple(notes)
