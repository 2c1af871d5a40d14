"""A law with floors for a size whose counts are no polynomial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from assay.cost.atoms import floors_in_shapes, guessed_floors
from assay.cost.axis import Axis
from assay.cost.hints import periods
from assay.cost.interpolate import Interpolant
from assay.cost.law import Law, Laws
from assay.cost.piece import Range
from assay.cost.polynomial import Atom, Mark
from assay.cost.samples import Fails, Samples, equal, put
from assay.cost.tally import FORWARD, Key, Tally

_SKIPPED = (0, 1, 4, 16, 64, 330)  # the smallest sizes may take a path of their own
# degrees of floors, and whether to have products of two: windows, strides of an image, rows of a sequence
# times what it is padded to, attention among patches, attention from them to patches of another stride
_FORMS = ((1, False), (2, False), (2, True), (4, False), (4, True))
_SIMPLE = 3  # so many are tried from further up too, before the others, which take many runs
_PATCHES = (1, 6)  # so many may be a special case
_TICKS = 8  # of the longest period: more than the highest degree has nodes
_STEPS = 4000  # operators that a probe may run to find the floors of a loop
_ONCE = 4  # and so many times as many, if it is one probe
_SHORT = 8  # periods of which each residue may have a law of its own
_ROOM = 32  # values that a range with an end must have
_NEIGHBOURS = 16  # values in a row that a law is tried on


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
    if i >= laws.sizes or law.mixed or not _long(law.span):
        return None
    if law.atoms:
        return replace(law, degree=max(law.degree, 2), mixed=True)
    name, step = samples.names[i], law.span.step
    try:
        for skipped in _SKIPPED:
            start = law.value(skipped)
            atoms = floors_in_shapes(
                name,
                lambda x: samples.tally(put(low, i, x)).shapes,
                start,
                step,
                affordable=lambda x: x in law.span and samples.runs(put(low, i, x)),
            )
            if atoms is not None:
                break
        else:
            start, most = law.span.low, _affordable(i, law, laws, samples)
            atoms = floors_in_shapes(
                name,
                lambda x: calls(samples.tally(put(low, i, x))),
                start,
                step,
                every=False,
                affordable=lambda x, most=most: x in law.span and x <= most,  # type: ignore[misc]
                once=lambda x, most=most: x in law.span and x <= _ONCE * most,  # type: ignore[misc]
            )
        found = False  # whether they explain the counts along this size
        if atoms:
            better = replace(law.since(start), atoms=atoms)
            # one patch alone is a special case, and so are as many as there are heads
            begins = (start, *(better.value(k * better.period) for k in _PATCHES))
            for forms, begin in product((_FORMS[:_SIMPLE], _FORMS[_SIMPLE:]), begins):
                simplest = _simplest(i, better.since(begin), forms, laws, samples)
                if simplest is not None:
                    better, found = simplest, True
                    break
        if not found and guess and step == 1 and law.span.high is None:
            model = samples.probe.model
            assert model is not None
            hints = periods(samples.probe.constants, model, samples.base[i])
            guessed = guessed_floors(
                name, hints, lambda x: samples.counts(put(low, i, x)), law.span.low
            )
            if guessed:
                atoms, degree = guessed
                better = replace(law, atoms=atoms, degree=degree, mixed=True, guessed=True)
                better = better.since(law.value(2 * better.period))
                better = _by_residues(i, better, laws, samples)
    except Fails:
        return None
    return _downward(i, better, laws, samples) if atoms else None


def _by_residues(i: int, law: Law, laws: Laws, samples: Samples) -> Law:
    """A guessed law, or one with a parabola of its own for every residue where it explains too little.

    Returns:
        The law.
    """
    name, values = samples.names[i], [law.value(k) for k in range(5 * law.period)]
    if law.period > _SHORT or not unexplained(i, law.axis(name), values, laws, samples):
        return law
    marks = tuple(Mark(law.period, residue) for residue in range(1, law.period))
    own = replace(law, atoms=(Atom(name, 0, law.period),), mixed=False, marks=marks)
    return law if unexplained(i, own.axis(name), values, laws, samples) else own


def _long(span: Range) -> bool:
    """Whether a range has room for floors to show, and for values to hold them against."""
    return span.high is None or (span.high - span.low) // span.step >= _ROOM


def _affordable(i: int, law: Law, laws: Laws, samples: Samples) -> int:
    """The largest value of a size at which a loop over it still takes no more than some operators."""
    few, more = (samples.tally(put(laws.low, i, law.value(k))).steps for k in (0, _NEIGHBOURS))
    each = max((more - few) / _NEIGHBOURS, 1e-9)
    return law.value(min(int(max(_STEPS - few, 0) / each), 1 << 20))


def calls(tally: Tally) -> tuple[int, ...]:
    """How often each line called each operator going forward, also once more, and how much it moved."""
    forward = [a for part, a in tally.parts.items() if part.phase == FORWARD or part.again]
    return tuple(value for amount in forward for value in (amount.calls, amount.moved))


def _simplest(
    i: int, law: Law, forms: Sequence[tuple[int, bool]], laws: Laws, samples: Samples
) -> Law | None:
    """The law with squares of floors, and with residues that are marked, only where they are needed.

    Where a floor steps up, and just before, nothing may have to be padded; then other operators run.

    Args:
        i: Which size.
        law: Its floors and where they begin.
        forms: Degrees of floors, and whether to have products of two.
        laws: The laws of the others.
        samples: Counts at points.

    Returns:
        The first that explains the counts along this size; None where none does.
    """
    values = [x for x in map(law.value, range(12 * law.period + 12)) if x in law.span]
    # one floor without marks reads better than with
    bare = [(form, False) for form in forms if len(law.atoms) == 1 and form in _FORMS[:_SIMPLE]]
    for (degree, mixed), marked in (*bare, *((form, True) for form in forms)):
        if mixed and degree > 2 and len(law.atoms) < 2:
            continue
        form = replace(law, degree=degree, mixed=mixed)
        for before in (1, 0):
            marks = [Mark(a.period, a.residue(-before)) for a in law.atoms]
            later = [[x for x in values if x >= law.value(law.period) and x in m] for m in marks]
            ticks = {law.value(law.period * k + 3 * k % law.period) for k in range(_TICKS)}
            tried = {*values[:_NEIGHBOURS], *ticks, *(x for xs in later for x in xs[:1])}
            usual = [x for x in values if not (marked and any(x in mark for mark in marks))]
            if not usual:
                continue
            axis = Axis.floors(samples.names[i], usual, law.atoms, degree=degree, mixed=mixed)
            # a table of positions may end before
            run = [x for x in sorted(tried) if x in law.span and samples.runs(put(laws.low, i, x))]
            bad = unexplained(i, axis, run, laws, samples)
            needed = tuple(dict.fromkeys(m for m in marks if any(x in m for x in bad)))
            if all(marked and any(x in mark for mark in needed) for x in bad):
                return replace(form, marks=needed)
    return None


def unexplained(i: int, axis: Axis, xs: list[int], laws: Laws, samples: Samples) -> list[int]:
    """Values of one size at which a law does not explain the counts, where all others are least.

    Args:
        i: Which size.
        axis: The law, as nodes and functions.
        xs: Values to try.
        laws: The laws of the others.
        samples: Counts at points.

    Returns:
        Those of the values.
    """
    found = _along(i, axis, laws, samples)
    points = [(x, put(laws.low, i, x)) for x in xs]
    return [
        x for x, at in points if not samples.runs(at) or not equal(found.at(at), samples.counts(at))
    ]


def _along(i: int, axis: Axis, laws: Laws, samples: Samples) -> Interpolant[Key]:
    names = (*samples.names, *samples.stacks)
    axes = [Axis.powers(name, [x], 0) for name, x in zip(names, laws.low, strict=True)]
    axes[i] = axis
    return Interpolant(samples.counts, axes)


def _downward(i: int, law: Law, laws: Laws, samples: Samples) -> Law:
    """The law from the least value on at which it holds."""
    low = laws.low
    found, x = _along(i, law.axis(samples.names[i]), laws, samples), law.span.low
    while x > laws.all[i].span.low:
        point = put(low, i, x - law.span.step)
        if not samples.runs(point) or not equal(found.at(point), samples.counts(point)):
            break
        x -= law.span.step
    return law.since(x)
