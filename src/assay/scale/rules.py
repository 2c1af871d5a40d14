"""What counts as a finding about scale: one per cause, never one per row (Theory S1, S2, S4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from assay.finding import Finding, Number, Severity
from assay.scale.backward import Back, ancestors, backward, energy
from assay.scale.broken import no_gradient, non_finite, without_gradient
from assay.scale.nonfinite import Origin
from assay.scale.repairs import (
    STANDARDISE,
    closed_gate,
    keeping_the_square,
    open_gate,
    price,
    repair_all,
    repair_one,
    spread,
)
from assay.scale.rows import Row
from assay.scale.skips import skips
from assay.scale.stuck import stuck, symmetric
from assay.scale.widths import orthogonal

NOTE = 10.0  # a factor within [1/10, 10] is nothing to speak of
WARNING = 1e3  # a factor outside [1/1000, 1000] stops layers from learning together
MEAN_NOTE, MEAN_WARNING = 1.0, 3.0  # |mean| of a unit in its standard deviations
USUAL = 1e-3  # no norm of any library has a larger ε by default
PERIODIC = {"sin", "sine"}  # activations that do not saturate
ENOUGH = 32  # samples: fewer leave a ReLU dark by chance, 2⁻³² is no chance


def find(
    rows: Sequence[Row],
    origin: Origin | None,
    cut_off: int = 0,
    left_out: Sequence[str] = (),
    still: Sequence[str] = (),
) -> tuple[Finding, ...]:
    """All findings about these rows.

    Args:
        rows: What was measured.
        origin: Where values stopped being finite, if they did.
        cut_off: Number of trainable parameters, where the objective depends on none of them.
        left_out: Names of trainable parameters that got no gradient, where others got one.
        still: Names of trainable parameters whose gradient is exactly zero.

    Returns:
        The findings, unranked.
    """
    broken = [row for row in rows if not row.finite]
    if origin or broken:  # numbers from there on are about NaN
        dark = [row.index for row in broken if not math.isfinite(row.second_moment)]
        before = [row for row in rows if row.index < min(dark, default=0)]
        grown = [f for f in _forward_variance(before) if f.fails and float(f.measured.value) > 1]
        return (non_finite(broken, origin, grown[0].repair if grown else ""), *grown)
    alike = tuple(symmetric(rows))
    return (
        *no_gradient(cut_off),
        *without_gradient(rows, left_out),
        *_forward_variance(rows),
        *_forward_mean(rows),
        *stuck(rows, still),
        *alike,
        *(() if alike else _backward_variance(rows)),  # equal units: gradients cancel or add up
        *_over_calls(rows),
        *_dead_units(rows),
        *_epsilon(rows),
        *_no_effect(rows),
    )


def products(rows: Sequence[Row]) -> list[Row]:
    """The rows that set the scale of the signal: products that are not normalised right after.

    Left out are branches beside a larger signal, gates, frozen weights (they are somebody's, not to be drawn
    again), and weights that are all zero (a zero-initialised branch or head is a choice).

    Returns:
        The rows, in order.
    """
    return [row for row in rows if row.kind in ("product", "lookup") and _sets_scale(row)]


def _sets_scale(row: Row) -> bool:
    beside = row.normalised or row.beside_larger or row.gate or row.frozen
    return row.varies and not beside and row.weight_square != 0.0


def severity(factor: float) -> Severity:
    """How bad a factor is that should be 1.

    Returns:
        "warning" outside [1/1000, 1000], else "note".
    """
    return "warning" if not 1 / WARNING <= factor <= WARNING else "note"


def outside(factor: float, band: float = NOTE) -> bool:
    """Whether a factor is outside [1/band, band].

    Returns:
        False also for what is not positive: there is nothing to compare.
    """
    return factor > 0 and math.isfinite(factor) and not 1 / band <= factor <= band


def _forward_variance(rows: Sequence[Row]) -> Iterator[Finding]:
    """Growth and shrinkage away from variance 1, one finding each."""
    chain = products(rows)
    for grows in (False, True):
        off = [row for row in chain if outside(row.level) and (row.level > 1) is grows]
        if grows:  # in front of a sine the width is a frequency
            off = [row for row in off if row.activation.lower() not in PERIODIC]
        if not off:
            continue
        inner = [row for row in off if not row.readout]
        worst = max(inner or off, key=lambda row: abs(math.log(row.level)))
        level: Severity = severity(worst.level) if inner else "note"
        source, cause = off[0].input_second_moment, ""
        raw = bool(off[0].reads_input and source and outside(source) and (source > 1) is grows)
        if raw:
            cause = f" The model's input itself has mean square {source:.3g}: standardise it."
        gate = None if grows or raw else closed_gate(worst, rows)
        if gate is not None:
            cause = f" {gate.name} lets {math.sqrt(gate.second_moment):.3g} of it through: it starts closed."
        yield Finding(
            rule="scale.forward-variance",
            message=f"The signal's variance {'grows' if grows else 'shrinks'} to {worst.level:.3g} at "
            f"{worst.name}; outside [0.1, 10]: {len(off)} of {len(chain)} that set the scale"
            f"{_rate(chain, worst)}.{cause}",
            expected=Number(1.0, "1", "formula", "mean over units of their variance"),
            measured=Number(worst.level, "1", "measured", "mean over units of their variance"),
            severity=level,
            repair=_forward_repair(inner or off, chain, rows, raw=raw, readout=not inner),
            where=off[0].where,
            module=off[0].module,
            theory="S1, S2",
            weight=abs(math.log10(worst.level)),
        )


def _forward_repair(
    off: Sequence[Row], chain: Sequence[Row], rows: Sequence[Row], *, raw: bool, readout: bool
) -> str:
    if raw:
        return f"{STANDARDISE}; then measure again"
    gate = closed_gate(off[0], rows) if off[0].level < 1 else None
    if gate is not None:
        return open_gate(gate, rows)
    if readout:
        more = (
            ""
            if len(off) == 1
            else f"; the same, each with its own fan-in, for {len(off) - 1} more"
        )
        small = "a head that begins small is often meant to; if not, " if off[0].level < 1 else ""
        return f"{small}{repair_one(off[0], rows)}{more}"
    if off[0].kind == "lookup" or len(off) == 1:
        return repair_one(off[0], rows)
    return repair_all(chain, rows, off)


def _count(number: int, noun: str, several: str = "") -> str:
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def _rate(chain: Sequence[Row], worst: Row) -> str:
    """The factor per layer, where there are layers to speak of."""
    steps = [row for row in chain if row.index <= worst.index]
    if len(steps) < 3 or steps[0].level <= 0:
        return ""
    return f" (a factor {(worst.level / steps[0].level) ** (1 / (len(steps) - 1)):.3g} per layer)"


def _forward_mean(rows: Sequence[Row]) -> Iterator[Finding]:
    """Units whose mean dwarfs what varies, because their inputs are not centred."""

    def ratio(row: Row) -> float:
        return (row.input_mean or 0.0) / math.sqrt(row.input_variance or 1.0)

    seen = [
        row
        for row in products(rows)
        if row.input_variance
        and row.samples >= ENOUGH
        and ((row.fan_in or 0) >= 8 or row.reads_input)
        # else the variance's own finding says it
        and not (outside(row.level) and outside(row.second_moment))
    ]
    off = [row for row in seen if ratio(row) > MEAN_NOTE]
    if not off:
        return
    worst = max(off, key=ratio)
    feeder = next(
        (r for r in reversed(rows) if r.index < off[0].index and r.kind == "activation"), None
    )
    text = "subtract each input unit's mean, or put a batch norm in front"
    if off[0].reads_input:
        text = STANDARDISE
    elif feeder is not None and feeder.gain is not None and feeder.gain.input_scale is not None:
        text = spread(feeder, feeder.gain, rows) or text
    yield Finding(
        rule="scale.forward-mean",
        message=f"The units that enter {worst.name} have means of {ratio(worst):.3g} standard deviations: "
        f"examples look alike there; {len(off)} of {len(seen)} products have inputs above 1.",
        expected=Number(0.0, "standard deviations", "formula", "rms over units"),
        measured=Number(ratio(worst), "standard deviations", "measured", "rms over units"),
        severity="warning" if ratio(worst) > MEAN_WARNING else "note",
        repair=text,
        where=off[0].where,
        module=off[0].module,
        theory="S2",
        weight=math.log10(ratio(worst)) + 1,
    )


def _backward_variance(rows: Sequence[Row]) -> Iterator[Finding]:
    """Gradients against the ends that they come from, for plain and for normalised operators apart.

    Yields:
        At most one finding for each of the two groups.
    """
    kinds = [
        row
        for row in rows
        if row.kind in ("product", "lookup") and not (row.beside_larger or row.frozen)
    ]
    for group in (products(rows), [row for row in kinds if row.normalised and row.varies]):
        # a loop's rows add up over its calls: `_over_calls` judges them
        chain = [row for row in group if energy(row) > 0 and not (_loops(row) or row.score)]
        found = backward(chain, rows)
        if not found:
            continue
        worst = max(found, key=lambda back: _size(back.unexplained))
        row, end, factor = worst.row, worst.end, worst.factor
        between = range(row.index, end.index)
        if not outside(worst.unexplained) or any(_loops(r) and r.index in between for r in rows):
            continue
        times = ", times what it is of," if row.normalised else ""
        earlier = _count(worst.operators, "operator with weights", "operators with weights")
        what = f"ratio of gradient energies{' times mean squares' if row.normalised else ''}"
        yield Finding(
            rule="scale.backward-variance",
            message=f"The gradient{times} {'grows' if factor > 1 else 'shrinks'} by {factor:.3g} (in the "
            f"square) from {end.name} back to {row.name}, {earlier} earlier"
            f"{_by_means(worst)}.",
            expected=Number(1.0, "1", "formula", what),
            measured=Number(factor, "1", "measured", what),
            severity=severity(worst.unexplained),
            repair=_backward_repair(chain, worst, rows),
            where=row.where,
            module=row.module,
            theory="S4",
            weight=abs(math.log10(worst.unexplained)),
        )


def _by_means(back: Back) -> str:
    """What else accounts for a part of the factor."""
    known = []
    if back.factor < 1 < back.averages:
        known.append(
            f"means over {back.averages:.4g} values on the way account for {1 / back.averages:.3g} of it"
        )
    if (back.readout < 1) is (back.factor < 1) and back.readout != 1:
        known.append(f"the width of the readout accounts for {back.readout:.3g} of it")
    return "".join(f"; {part}" for part in known)


def _backward_repair(chain: Sequence[Row], back: Back, rows: Sequence[Row]) -> str:
    worst, factor, depth = back.row, back.factor, back.depth
    gate = closed_gate(back.end, rows) if factor < 1 else None
    if gate is not None:
        return open_gate(gate, rows)
    if worst.normalised:
        return _past_skips(back, rows)
    own = price(worst, depth)
    if factor > 1 and own > math.sqrt(factor):  # most of it is what unit variance forward costs
        return (
            f"unit variance forward costs χ^{depth} = {own:.3g} with {worst.activation}: add skip "
            f"connections, or take an activation with a smaller χ (`assay.init.gain('elu').chi` = 1.079)"
            f"{keeping_the_square(worst)}"
        )
    return repair_all(chain, rows)


def _past_skips(back: Back, rows: Sequence[Row]) -> str:
    """What to do where norms divide by all widths: it is a matter of what goes past the operators."""
    found, most = skips(back, rows), math.sqrt(back.factor)
    if not found.any:
        return "add skip connections around the operators between them"
    if back.factor < 1:
        return "see in the column E g² where it happens: a mean over many positions divides it"
    if found.sums > most:
        return (
            "the skips between them are outweighed by their branches: start each branch at zero, "
            "`nn.init.zeros_` of the weight of its last norm or last matrix"
        )
    if found.alone and found.sums * found.joined < most:
        return (
            f"add skip connections around the operators between them that have none ({found.alone} of "
            f"{found.operators}): most of it is there"
        )
    return "see in the column E g² where it happens: it is spread, and most of it has skips past it"


def _loops(row: Row) -> bool:
    return row.kind == "product" and row.calls is not None and row.calls.count >= 4


def _over_calls(rows: Sequence[Row]) -> Iterator[Finding]:
    """Loops over time: the first call against the last."""
    worst: tuple[float, Row, str] | None = None
    for row in rows:
        if row.calls is None or not _loops(row) or row.frozen:
            continue
        for direction, pair in (("gradient", row.calls.gradient), ("signal", row.calls.variance)):
            if pair is None or min(pair) <= 0:
                continue
            factor = pair[0] / pair[1] if direction == "gradient" else pair[1] / pair[0]
            if outside(factor) and (worst is None or _size(factor) > _size(worst[0])):
                worst = factor, row, direction
    if worst is None:
        return
    factor, row, direction = worst
    assert row.calls is not None
    way = "back to the first" if direction == "gradient" else "from the first to the last"
    yield Finding(
        rule="scale.backward-variance" if direction == "gradient" else "scale.forward-variance",
        message=f"Over the {row.calls.count} calls of {row.name}, {way}, the {direction} "
        f"{'grows' if factor > 1 else 'shrinks'} by {factor:.3g} (in the square).",
        expected=Number(1.0, "1", "formula", "ratio of two calls"),
        measured=Number(factor, "1", "measured", "ratio of two calls"),
        severity=severity(factor),
        repair="carry the state past this operator: an ungated skip, or a gate whose bias starts near "
        "keeping (`assay highway` shows which)"
        if factor < 1
        else f"scale what each call adds to the state by 1/{row.calls.count}; where the state is replaced, "
        f"{orthogonal(row)}",
        where=row.where,
        module=row.module,
        theory="S4",
        weight=_size(factor) / math.log(10),
    )


def _size(factor: float) -> float:
    return abs(math.log(factor))


def _dead_units(rows: Sequence[Row]) -> Iterator[Finding]:
    varying = {row.index for row in rows if row.varies}
    before = ancestors(rows)
    trained = {row.index for row in rows if row.fan_in and not row.frozen}
    seen = [
        row
        for row in rows
        if row.kind == "activation"
        and row.samples >= ENOUGH
        and (row.varies or varying.intersection(row.follows))  # all of them, by its own doing
        and trained.intersection(before[row.index])
    ]
    off = [row for row in seen if _dead(row) >= max(2, 0.05 * row.units)]
    if not off:
        return
    worst = max(off, key=lambda row: _dead(row) / row.units)
    dead, share = _dead(worst), _dead(worst) / worst.units
    what = "they carry nothing and learn nothing."
    if dead == worst.units:
        what = "nothing gets past them, and what is before them learns nothing by them."
    yield Finding(
        rule="scale.dead-units",
        message=f"{dead} of {worst.units} units after {worst.name} have the same value for all "
        f"{worst.samples} samples: {what}",
        expected=Number(0, "units", "formula"),
        measured=Number(dead, "units", "measured"),
        severity="warning" if share >= 0.5 else "note",
        repair=f"centre what enters {worst.operator}: a zero bias, and inputs with zero mean",
        where=worst.where,
        module=worst.module,
        theory="S2",
        weight=share,
    )


def _dead(row: Row) -> int:
    return row.dead if row.varies else row.units


def _epsilon(rows: Sequence[Row]) -> Iterator[Finding]:
    """Norms that divide by their ε and not by the size of what they are given."""
    seen = [(row, row.divisor) for row in rows if row.divisor is not None and row.varies]
    off = [(row, found) for row, found in seen if outside(found.kept)]
    if not off:
        return
    row, first = off[0]  # what comes later may be small because of it
    worst = min(found.kept for _, found in off)
    wider = "wider weights in front of it: what a norm is given has to be well above its ε"
    smaller = f"a norm with an ε of at most {first.size / 100:.1g}"
    yield Finding(
        rule="scale.epsilon",
        message=f"The norm that reads {row.name} divides by its ε = {first.epsilon:.3g}, not by the variance "
        f"{first.size:.3g} that it is given: what comes out has mean square {first.kept:.3g} before its "
        f"affine map; so at {len(off)} of {_count(len(seen), 'operator')} before norms.",
        expected=Number(1.0, "1", "formula", "mean square of what a norm divided"),
        measured=Number(first.kept, "1", "measured", "variance / (variance + ε)"),
        severity=severity(worst),
        repair=smaller if first.epsilon > USUAL else wider,
        where=row.where,
        module=row.module,
        theory="S4",
        weight=abs(math.log10(worst)) if worst > 0 else 300.0,
    )


def _no_effect(rows: Sequence[Row]) -> Iterator[Finding]:
    """Weights whose width looks wrong and does not matter."""
    kinds = [row for row in rows if row.kind in ("product", "lookup") and row.no_effect]
    off = [row for row in kinds if row.varies and outside(row.level) and not row.frozen]
    if not off:
        return
    worst = max(off, key=lambda row: abs(math.log(row.level)))
    yield Finding(
        rule="scale.no-effect",
        message=f"The variance is {worst.level:.3g} at {worst.name}, but everything that reads it divides "
        f"by its size: a factor on these weights and their bias has no effect on the signal "
        f"({_count(len(off), 'such operator')}).",
        expected=Number("any", "", "formula"),
        measured=Number(worst.level, "1", "measured", "mean over units of their variance"),
        severity="note",
        repair="nothing to repair; the width still sets how large one step is beside the weights",
        where=worst.where,
        module=worst.module,
        theory="S4",
        weight=0.0,
    )
