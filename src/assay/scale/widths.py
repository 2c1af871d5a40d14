"""How wide the weights of an operator should be, whether they are, and how that is written (S1, S3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.scale.gain import Gain
from assay.scale.rows import Row

_NAMED = 6  # names in a sentence


def expression(parameter: str) -> str:
    """How the user writes a parameter: `layers.0.weight` is `model.layers[0].weight`.

    Returns:
        A Python expression.

    Example:
        >>> expression("layers.0.weight")
        'model.layers[0].weight'
    """
    return "model" + "".join(
        f"[{part}]" if part.isdigit() else f".{part}" for part in parameter.split(".")
    )


def and_more(rows: Sequence[Row], opening: str = "the same, each with its own fan-in,") -> str:
    """For which weights something is to be done, beside those of the first of several rows.

    Args:
        rows: What reads these weights.
        opening: What.

    Returns:
        "; the same, each with its own fan-in, for 2 more (4.weight, 6.weight)", the first names of many; ""
        where there are no others.
    """
    names = dict.fromkeys(row.parameters[0] for row in rows if row.parameters)
    others = list(names)[1:]
    told = ", ".join(others[:_NAMED]) + ", …" * (len(others) > _NAMED)
    return f"; {opening} for {len(others)} more ({told})" if others else ""


def constant(row: Row) -> float:
    """What a parameter is multiplied with on its way to what reads the product, before and behind it.

    Returns:
        The factor's size; NaN where the weight is made of the parameter otherwise.
    """
    return abs(row.weight_factor * row.factor)


def is_a_factor(number: float) -> bool:
    """Whether a factor is told: 1 within what an ε of a norm leaves of it is none.

    Returns:
        Whether.
    """
    return not math.isclose(number, 1, rel_tol=1e-4)


def constants(row: Row) -> tuple[float, str]:
    """The c of the activation that reads this row, and what to do to its output.

    Returns:
        The variance of the weights times fan-in; and "; …", or "".
    """
    found = row.gain
    if found is None or row.readout:  # what the model returns is as it should be
        return 1.0, ""
    if found.input_scale is not None:
        return found.input_scale**2, centre(found, row.activation)
    rest = f"; multiply the output of {row.activation} by {found.output_gain:.4g}"
    return 1.0, rest + (f" and subtract {found.shift:.4g}" if abs(found.shift) > 1e-3 else "")


def centre(found: Gain, activation: str) -> str:
    """What to subtract behind weights of the input scale; "" where the mean is 0.

    Args:
        found: The activation's gain.
        activation: Its name.

    Returns:
        "; subtract 0.6833 after ReLU".
    """
    shift = found.input_shift or 0.0
    return f"; subtract {shift:.4g} after {activation}" if abs(shift) > 1e-3 else ""


def width_of(row: Row, square: bool) -> float:
    """What the variance of the weights times their fan-in should be.

    Args:
        row: A product.
        square: To keep the mean square, where the activation has such a width, and not the variance.

    Returns:
        c.
    """
    known = row.gain.square_scale if row.gain is not None else None
    return known**2 if square and known is not None and not row.readout else constants(row)[0]


def has_width(row: Row, width: float) -> bool:
    """Whether weights have a width already, as nearly as drawing them again would give it.

    Args:
        row: A product.
        width: Their variance times fan-in, as it should be.

    Returns:
        Whether.
    """
    near = 1.12 + 3 / math.sqrt(2 * max(1, row.units * (row.fan_in or 1)))  # what chance leaves
    return 1 / near < ratio(row, width) < near


def ratio(row: Row, width: float) -> float:
    """How wide weights are, as a multiple of what they should be.

    Args:
        row: A product.
        width: Their variance times fan-in, as it should be.

    Returns:
        A ratio of standard deviations.
    """
    return (row.weight_std or 0.0) * abs(row.factor) * math.sqrt((row.fan_in or 0) / width)


def set_by(row: Row) -> str:
    """The parameter a factor on which is one on the weights.

    Returns:
        How the user writes it.
    """
    return expression((row.scaled_by or row.parameters)[0])


def drawn(row: Row, std: str) -> str:
    """Weights of a standard deviation, whatever constants they are multiplied with and whatever divides them.

    Args:
        row: The product or lookup that reads them.
        std: Python of the standard deviation.

    Returns:
        Python to write, or what to do.
    """
    factor, weight = constant(row), expression(row.parameters[0])
    if math.isnan(factor):
        over = f"/{abs(row.factor):.4g}" if is_a_factor(row.factor) else ""
        if row.divided and row.weight_std:
            now = f"{row.weight_std:.4g}"
            times, again = f"{std}{over}" + f"/{now}" * (now != "1"), expression(row.divided[0])
            told = f"`{expression(row.scaled_by[0])}.data *= {times}`" if row.scaled_by else ""
            return (
                f"{told or f'multiply the weights that are made of `{again}` by `{times}`'} (to draw "
                f"`{again}` again changes nothing: it is divided by its own size)"
            )
        return f"give the weights that are made of `{weight}` the standard deviation `{std}{over}`"
    over = f"/{factor:.4g}" if is_a_factor(factor) else ""
    return f"`nn.init.normal_({weight}, std={std}{over})`"


def normal(row: Row, square: str) -> str:
    """Weights of a variance.

    Returns:
        As `drawn`.
    """
    return drawn(row, f"math.sqrt({square})")


def orthogonal(row: Row) -> str:
    """The same of an orthogonal matrix.

    Returns:
        Python to write.
    """
    factor, weight = constant(row), expression(row.parameters[0])
    if math.isnan(factor):
        return f"make what comes of `{weight}` orthogonal"
    gain = f", gain={1 / factor:.4g}" if is_a_factor(factor) else ""
    return f"`nn.init.orthogonal_({weight}{gain})`"
