"""What leaves nothing else to judge: values that are not finite, and a model cut off from its output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from assay.finding import Finding, Number
from assay.scale.nonfinite import Origin
from assay.scale.rows import Row

_TOLD = 4  # names of parameters in a sentence


def non_finite(broken: Sequence[Row], origin: Origin | None, growth: str = "") -> Finding:
    """Where NaN or infinity came from.

    Args:
        broken: Rows with a value or a gradient that is not finite.
        origin: The first operator that made one out of finite numbers, where it was found.
        growth: What keeps the signal from growing until there; "" where it does not grow.

    Returns:
        An error.
    """
    finite = Number("finite", "", "formula")
    if origin is not None:
        place = f"{origin.operator} in {origin.module or 'the model itself'}"
        return Finding(
            rule="scale.non-finite",
            message=f"{origin.count} of {origin.size} outputs of {place} are NaN or infinite: "
            "the first operator to make such values out of finite ones.",
            expected=finite,
            measured=Number(origin.count, "values", "measured"),
            severity="error",
            repair=f"the signal grows until it overflows: {growth}"
            if growth
            else f"guard the argument of `{origin.operator}`: clamp it, add an ε inside roots, "
            "logarithms and denominators, or lower the scale of the layers before it",
            where=origin.where,
            module=origin.module,
            theory="S4",
            weight=math.inf,
        )
    dark = [row for row in broken if not math.isfinite(row.second_moment)]
    if dark:
        first = min(dark, key=lambda row: row.index)
        return Finding(
            rule="scale.non-finite",
            message=f"The output of {first.name} is NaN or infinite, and so was what went into it: the "
            "example inputs or the weights.",
            expected=finite,
            measured=Number(str(first.second_moment), "", "measured", "mean square of the output"),
            severity="error",
            repair="look for values that are not finite in the example inputs and in model.state_dict()",
            where=first.where,
            module=first.module,
            theory="S4",
            weight=math.inf,
        )
    last = max(broken, key=lambda row: row.index)  # a backward pass meets the last operator first
    return Finding(
        rule="scale.non-finite",
        message=f"The gradient of {last.name} is NaN or infinite, although its output is finite.",
        expected=finite,
        measured=Number(str(last.gradient_energy), "", "measured"),
        severity="error",
        repair="look after this line for a root, a norm or a logarithm at 0 (its slope is infinite) and "
        "add an ε inside it",
        where=last.where,
        module=last.module,
        theory="S4",
        weight=math.inf,
    )


def no_gradient(cut_off: int) -> Iterator[Finding]:
    """A model that is to be trained and cannot be.

    Args:
        cut_off: Number of trainable parameters, where the objective depends on none of them.

    Yields:
        At most one warning.
    """
    if cut_off:
        yield Finding(
            "scale.no-gradient",
            f"None of the {cut_off} trainable parameter{'s' * (cut_off > 1)} gets a gradient: "
            "the output does not depend on them in a way that can be differentiated.",
            *_none_of(cut_off),
            "warning",
            repair="look for .detach(), torch.no_grad(), argmax or rounding between the parameters and the "
            "output; freeze what is not to be trained with requires_grad_(False)",
            theory="S4",
            weight=math.inf,
        )


def without_gradient(rows: Sequence[Row], names: Sequence[str]) -> Iterator[Finding]:
    """Trainable parameters that the backward pass does not reach, though it reaches others.

    Args:
        rows: What was measured.
        names: The parameters.

    Yields:
        A warning on operators that ran with such parameters alone: something cuts them off. A note on
        parameters that no operator used: layers that were not called, experts that got no token.
    """
    left = set(names)
    severed = [row for row in rows if row.parameters and left.issuperset(row.parameters)]
    used = {name for row in severed for name in row.parameters}
    if severed:
        first = severed[0]
        yield Finding(
            "scale.severed",
            f"{_count(used)} no gradient, although {'they are' if len(used) > 1 else 'it is'} used: "
            f"{_some(used)}. Nothing that is trained through the output reaches "
            f"{'them' if len(used) > 1 else 'it'}.",
            *_none_of(len(used)),
            "warning",
            repair="look for .detach(), torch.no_grad(), argmax or rounding around this line, or after "
            "it; freeze what is not to be trained with requires_grad_(False)",
            where=first.where,
            module=first.module,
            theory="S4",
            weight=1e6,
        )
    unused = left - used
    if unused:
        yield Finding(
            "scale.unused",
            f"{_count(unused)} no gradient in this pass, and no operator with weights used "
            f"{'them' if len(unused) > 1 else 'it'}: {_some(unused)}.",
            *_none_of(len(unused)),
            "note",
            repair="call the layer or delete it; where it waits for other inputs (an expert without tokens, "
            "a branch), nothing is wrong",
            theory="S4",
        )


def _none_of(count: int) -> tuple[Number, Number]:
    """What was expected of so many parameters, and measured."""
    return (
        Number(count, "parameters with a gradient", "formula"),
        Number(0, "parameters", "measured"),
    )


def _count(names: set[str]) -> str:
    return f"{len(names)} trainable parameter{'s get' if len(names) > 1 else ' gets'}"


def _some(names: set[str]) -> str:
    told = sorted(names)[:_TOLD]
    return ", ".join(told) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")
