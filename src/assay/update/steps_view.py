"""How a comparison of steps reads: the angle, the decrease of each, and the angle in every layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from assay.update.steps_findings import AWAY, HARDLY
from assay.view.blocks import Angle, Bars, Block, Cell, Column, Lines, Series, Table, View

if TYPE_CHECKING:
    from assay.update.steps import Pair, Step, Steps

_EQUAL = {
    "parameter": "parameter norm",
    "function": "function norm (RMS change of the outputs)",
    "loss": "predicted loss decrease",
}


def view_of(steps: Steps) -> View:
    """A comparison as a reader sees it.

    Args:
        steps: The comparison.

    Returns:
        The view.
    """
    blocks: list[Block] = []
    if steps.pairs:
        leader = steps.rows[0].name
        mine = [pair for pair in steps.pairs if leader in (pair.a, pair.b)]
        arrows = tuple((pair.b if pair.a == leader else pair.a, pair.degrees) for pair in mine)
        blocks.append(
            Angle(((leader, 0.0), *arrows), "Angle between steps in parameter space, degrees")
        )
    blocks.append(_table(steps))
    blocks.extend(_units(steps))
    blocks.extend(_curves(steps))
    blocks.extend(_layers(steps))
    return View("Step", _question(steps), _answer(steps), tuple(blocks), _notes(steps))


def _question(steps: Steps) -> str:
    *others, last = [row.name for row in steps.rows] or ["an optimizer"]
    if not others:
        return f"What does the step of {last} do?"
    names = f"{', '.join(others)} and {last}"
    return f"At equal {_EQUAL[steps.norm]}, do {names} go the same way?"


def _answer(steps: Steps) -> str:
    said = [f.message for f in steps.findings if f.rule in AWAY]
    for pair in steps.pairs[:3]:
        text = f"The steps of {pair.a} and {pair.b} are {pair.degrees:.1f}° apart"
        if pair.closed_form is not None:
            text += f" (closed form: {pair.closed_form:.1f}°)"
        if pair.function_degrees is not None:
            text += f", and the changes of the outputs that they cause {pair.function_degrees:.1f}°"
        said.append(text + ".")
    falls = ", ".join(
        f"{row.name} {_fall(row)} (predicted {row.predicted:.3g})" for row in steps.rows
    )
    if falls:
        said.append(
            f"At equal {_EQUAL[steps.norm]} the {steps.objective} of {steps.loss:.4g} falls by {falls}."
        )
    said.extend(_across_units(steps))
    if steps.failed:
        said.append("Not compared: " + "; ".join(f"{n} ({why})" for n, why in steps.failed) + ".")
    return " ".join(said)


def _across_units(steps: Steps) -> list[str]:
    """How the first angle depends on the units of the inputs, in a sentence."""
    if not steps.units or not steps.units[0].degrees:
        return []
    other = next(iter(steps.units[0].degrees))
    seen = [one.degrees[other] for one in steps.units]
    known = [value for value in seen if value is not None]
    if not known or max(known) - min(known) < 1.0:
        return []
    angles = ", ".join(
        f"{_degrees(v)}° ({one.units})" for v, one in zip(seen, steps.units, strict=True)
    )
    return [f"The angle to {other} depends on the units of the inputs: {angles}."]


def _decrease(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "no finite number"


def _fall(row: Step) -> str:
    if not math.isfinite(row.decrease):
        return _decrease(row.decrease)
    return f"{row.decrease:.3g}{', so it rises' if row.decrease < 0 else ''}"


def _table(steps: Steps) -> Table:
    rows = []
    for row in steps.rows:
        good = row.decrease > max(steps.resolution, HARDLY * row.predicted)
        small = (row.decrease >= 0 and not good) or abs(row.decrease) <= steps.resolution
        rows.append(
            (
                row.name,
                f"{row.own_norm:.3g}",
                f"{row.parameter_norm:.3g}",
                f"{row.function_norm:.3g}" if math.isfinite(row.function_norm) else "not finite",
                f"{row.predicted:.3g}",
                Cell(_fall(row), "unknown" if small else ("good" if good else "bad")),
                _degrees(row.to_gradient),
            )
        )
    return Table(
        (
            Column("optimizer"),
            Column("own step", "‖ΔΦ‖", "right"),
            Column("scaled to", "‖ΔΦ‖", "right"),
            Column("outputs change", "RMS", "right"),
            Column("predicted decrease", "loss", "right"),
            Column("decrease", "loss", "right"),
            Column("angle to −gradient", "degrees", "right"),
        ),
        tuple(rows),
        f"One step from the same weights after {steps.warmup} warm-up steps, scaled to equal "
        f"{_EQUAL[steps.norm]} = {steps.radius:.3g}. Predicted: −g·ΔΦ. Decreases within "
        f"±{steps.resolution:.1e} are round-off.",
    )


def _units(steps: Steps) -> list[Block]:
    if not steps.units:
        return []
    first = next(iter(steps.units[0].parameter))
    columns = (
        Column("units of the inputs"),
        Column("optimizer"),
        Column(f"angle to {first}", "degrees", "right"),
        Column("decrease, parameter norm", "loss", "right"),
        Column("decrease, function norm", "loss", "right"),
    )
    rows = tuple(
        (
            one.units,
            name,
            _degrees(0.0 if name == first else one.degrees[name]),
            _decrease(decrease),
            _decrease(one.function[name]),
        )
        for one in steps.units
        for name, decrease in one.parameter.items()
    )
    return [
        Table(
            columns,
            rows,
            "The same steps in other units of the inputs, the weights that read them rewritten to match: the "
            "angle, and the decrease of the loss at equal norm. Parameter norm depends on the units, and "
            "function norm does not.",
        )
    ]


def _curves(steps: Steps) -> list[Block]:
    series = []
    for row in steps.rows:
        if all(map(math.isfinite, row.curve)):
            series.append(Series(row.name, steps.multiples, row.curve))
            straight = tuple(m * row.predicted for m in steps.multiples)
            series.append(Series(f"{row.name}, predicted", steps.multiples, straight, "dashed"))
    if not series:
        return []
    return [
        Lines(
            tuple(series),
            "length, as a multiple of the equal-norm step",
            "loss decrease",
            "How far each direction carries",
            log_x=True,
        )
    ]


def _layers(steps: Steps) -> list[Block]:
    if not steps.pairs:
        return []
    pair = steps.pairs[0]
    known = [(name, value) for name, value in pair.layers.items() if value is not None]
    blocks: list[Block] = []
    if known:
        widest = sorted(known, key=lambda item: -item[1])[:12]
        blocks.append(
            Bars(
                tuple(widest),
                "degrees",
                f"{pair.a} against {pair.b}, parameter by parameter"
                + (
                    f" (the {len(widest)} widest of {len(known)})"
                    if len(known) > len(widest)
                    else ""
                ),
                limits=(0.0, max(90.0, widest[0][1])),
                reference=(pair.degrees, "all parameters"),
            )
        )
    blocks.append(_layer_table(steps.pairs))
    return blocks


def _layer_table(pairs: tuple[Pair, ...]) -> Table:
    names = pairs[0].layers
    return Table(
        (
            Column("parameter", code=True),
            *(Column(f"{pair.a} – {pair.b}", "degrees", "right") for pair in pairs),
        ),
        tuple((name, *(_degrees(pair.layers[name]) for pair in pairs)) for name in names),
        "Angle between the steps in each parameter; – where a step leaves it alone.",
        shown=8,
    )


def _degrees(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _notes(steps: Steps) -> tuple[str, ...]:
    leader = steps.rows[0].name if steps.rows else "the first optimizer"
    notes = [
        f"Warm-up: {leader} trains a copy for {steps.warmup} steps on the example inputs; the others see the "
        "same weights and gradients at every one of them. The common norm is that of its own next step.",
        "Equal parameter norm depends on the units of inputs and hidden units; equal function norm does not.",
    ]
    if any(pair.closed_form is not None for pair in steps.pairs):
        notes.append(
            "Closed form (Theory U1): cos = Σ g²/(√s + ε) / (‖g‖ ‖g/(√s + ε)‖), with s the running mean of "
            "g² kept from the gradients themselves."
        )
    return (*notes, *steps.remarks)
