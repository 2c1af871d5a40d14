"""A law with floors for a size whose counts are no polynomial."""

from __future__ import annotations

from dataclasses import replace

from assay.cost.atoms import floors_in_shapes, guessed_floors
from assay.cost.axis import Axis
from assay.cost.hints import periods
from assay.cost.interpolate import Interpolant
from assay.cost.law import Law, Laws
from assay.cost.samples import Fails, Samples, equal, put

_SKIPPED = (0, 1, 4, 16)  # the smallest sizes may take a path of their own


def with_floors(i: int, laws: Laws, samples: Samples, *, guess: bool) -> Law | None:
    """A law of one size with floors of it, or with products of them where it has floors already.

    Args:
        i: Which size.
        laws: The laws that do not explain the counts.
        samples: Counts at points.
        guess: Whether to guess from counts what shapes do not show.

    Returns:
        The law, from the least value on at which it holds; None where there is none.
    """
    law, low = laws.all[i], laws.low
    if i >= laws.sizes or law.span.high is not None or law.mixed:
        return None
    if law.atoms:
        return replace(law, mixed=True)
    name, step = samples.names[i], law.span.step
    try:
        for skipped in _SKIPPED:
            start = law.value(skipped)
            atoms = floors_in_shapes(
                name, lambda x: samples.tally(put(low, i, x)).shapes, start, step
            )
            if atoms is not None:
                break
        guessed = not atoms and guess and step == 1
        if guessed:
            model = samples.probe.model
            assert model is not None
            hints = periods(samples.probe.constants, model, samples.base[i])
            atoms = guessed_floors(
                name, hints, lambda x: samples.counts(put(low, i, x)), law.span.low
            )
    except Fails:
        return None
    if not atoms:
        return None
    better = replace(law, atoms=atoms, mixed=guessed, guessed=guessed)
    start = law.value(2 * better.period) if guessed else start
    return _downward(i, replace(better, span=replace(law.span, low=start)), laws, samples)


def _downward(i: int, law: Law, laws: Laws, samples: Samples) -> Law:
    """The law from the least value on at which it holds."""
    low, names = laws.low, (*samples.names, *samples.stacks)
    axes = [Axis.powers(name, [x], 0) for name, x in zip(names, low, strict=True)]
    axes[i] = law.axis(names[i])
    found, x = Interpolant(samples.counts, axes), law.span.low
    while x > laws.all[i].span.low:
        point = put(low, i, x - law.span.step)
        if not samples.runs(point) or not equal(found.at(point), samples.counts(point)):
            break
        x -= law.span.step
    return replace(law, span=replace(law.span, low=x))
