"""What breaks an expectation on a skip path, and the line that repairs it."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import nn

from assay.finding import Finding, Number, ranked
from assay.highway.breaks import Break, find_breaks
from assay.highway.highways import Highways
from assay.highway.paths import PlainPath, SkipPath
from assay.highway.repair import keep_bias
from assay.view.prose import counted

LONG = 8  # additions or operators from which on a path counts as long
FACTOR = 16.0  # four halvings: a path may lose or gain this much from end to end
READ = 2.0  # times what comes from the end: at such a step the loss reads the state itself
CLEARLY = 2.0  # times that factor: less is a note for a stretch, whose number changes with the seed


def findings(highways: Highways, model: nn.Module) -> tuple[Finding, ...]:
    """Judge the paths.

    Args:
        highways: The paths.
        model: The model, for the names in the repairs.

    Returns:
        Findings, the gravest first.
    """
    judged = [path for path in highways.paths if path.is_sum and path.gradient]
    found = [_opaque(highways), *(_not_finite(path) or _judge(path, model) for path in judged)]
    plain = highways.plain
    if plain is not None:
        broken = _not_finite(plain)
        if broken is None:
            found.append(_none(plain))
        elif all(map(math.isfinite, (path.retention for path in judged))):
            found.append(broken)  # otherwise the path that it lies beside is told already
    found += [_broken(gap) for gap in find_breaks(highways.paths, model)]
    return ranked(tuple(_once_a_line([finding for finding in found if finding is not None])))


def _once_a_line(found: list[Finding]) -> list[Finding]:
    """Notes of one rule and line as one: blocks that are written once differ in their modules only."""
    alike: dict[object, list[Finding]] = {}
    for i, one in enumerate(found):
        together = one.severity == "note" and one.where is not None
        alike.setdefault((one.rule, one.where, one.repair) if together else i, []).append(one)
    return [
        replace(one, message=f"{one.message} So is it with {len(more)} more of this line.")
        if more
        else one
        for one, *more in alike.values()
    ]


def _judge(path: SkipPath, model: nn.Module) -> Finding | None:
    if path.gate is not None and path.tied:
        return _short_memory(path, model)
    if path.gate is not None:
        return _gate_unneeded(path) if path.gate == "data" else _scaled_skip(path)
    if path.norm_on_skip:
        return _norm_on_skip(path)
    return _tied_ungated(path) if path.tied else _unscaled(path)


def _ratio(value: float, convention: str) -> Number:
    return Number(value, "1", "measured", convention)


def _within(convention: str) -> Number:
    return Number(f"between 1/{FACTOR:.0f} and {FACTOR:.0f}", "1", "formula", convention)


def _off(value: float, times: float = 1.0) -> bool:
    return not 1 / (times * FACTOR) <= value <= times * FACTOR


def _octaves(value: float) -> float:
    return abs(math.log2(value)) if value > 0 else 1e3


def _none(plain: PlainPath) -> Finding | None:
    if plain.length < LONG or not plain.gradient or not _off(plain.retention):
        return None
    falls = plain.retention < 1
    what = f"No skip path over {plain.length} {plain.unit}"
    verb = "reaches" if falls else "arrives at"
    if plain.tied:
        repair = "keep a part of the state: h = z * h + (1 - z) * c with z = sigmoid(…), or nn.GRU"
    else:
        repair = "add a skip: x = x + block(x), with the last weights of each block near zero"
    return Finding(
        rule="highway.none",
        message=f"{what}: {plain.retention:.2g} of the gradient {verb} the first.",
        expected=_within("four halvings end to end"),
        measured=_ratio(plain.retention, "gradient norm at the first over that at the last"),
        severity="warning" if plain.tied or _off(plain.retention, CLEARLY) else "note",
        repair=repair,
        where=plain.where,
        module=plain.modules[0],
        theory="H2" if plain.tied else "H1",
        weight=_octaves(plain.retention),
    )


def _broken(gap: Break) -> Finding:
    before, after = gap.before.length, gap.after.length
    many = len(gap.blocks) > 1
    return Finding(
        rule="highway.broken",
        message=(
            f"The skips break at {', '.join(gap.blocks)}, built like {'their' if many else 'its'} "
            f"neighbours: one path of {before} ends before {'them' if many else 'it'}, and another of "
            f"{after} begins after."
        ),
        expected=Number(before + after + len(gap.blocks), "additions", "formula", "in one path"),
        measured=Number(max(before, after), "additions", "measured", "in the longer one"),
        severity="note",
        repair="x = x + block(x) there too; look for a forgotten skip, or a detach() on it",
        where=gap.after.where,
        module=gap.blocks[0],
        theory="H1",
    )


def _tied_ungated(path: SkipPath) -> Finding:
    steps = path.length
    growth = path.growth if path.growth == path.growth else 1.0
    worst = max(growth, path.retention, key=_octaves)
    grave = steps > 2 and _off(worst)
    return Finding(
        rule="highway.tied-ungated",
        message=(
            f"{steps} additions share one diversion and no gate, so they add coherently: the state "
            f"grows {growth:.3g}-fold and the gradient {path.retention:.3g}-fold over the path. "
            "To leave out a step or to overwrite the state, a gate driven by data is the direct "
            "way; pure accumulation needs none."
        ),
        expected=Number(math.e, "1", "bound", "(1 + 1/T)^T, for diversions of slope 1/T"),
        measured=_ratio(worst, "size of the state, or of the gradient, end over start"),
        severity="warning" if grave else "note",
        repair=(
            f"h = h + f(h) / {steps}, or let the data decide: h = z * h + (1 - z) * c with "
            "z = sigmoid(…)"
        ),
        where=path.where,
        module=path.modules[0],
        theory="H2",
        weight=_octaves(worst),
    )


def _short_memory(path: SkipPath, model: nn.Module) -> Finding | None:
    steps = path.length
    if steps < LONG or not path.half_life < steps / 4:
        return None
    gate = "data" if path.gate == "data" else "a constant"
    read = _read_along(path)
    where = (
        " But most states have a gradient that need not come from the end, as where the loss reads each: "
        "what is near is learned all the same, and what lies many half-lives back hardly is."
        if read
        else ""
    )
    return Finding(
        rule="highway.short-memory",
        message=(
            f"The gate (by {gate}) forgets: the gradient halves every {path.half_life:.2g} steps, "
            f"{path.retention:.2g} of it survives the {steps} steps of the path.{where}"
        ),
        expected=Number(
            steps / 4, "steps", "formula", "half-life of at least a quarter of the path"
        ),
        measured=Number(path.half_life, "steps", "measured", "straight line through log norms"),
        severity="note" if read else "warning",
        repair=keep_bias(path, model),
        where=path.where,
        module=path.modules[0],
        theory="H2",
        weight=_octaves(path.retention),
    )


def _read_along(path: SkipPath) -> bool:
    """Whether most states have a gradient that need not come from the end, and is not small either.

    Returns:
        True where both are so: a half-life of a fifth of the path leaves much at most steps, and what the
        layer below a last state is sent comes along the layer above, and is small.
    """
    if not path.arriving:
        return False
    last = path.arriving[0]
    carried = [last * kept for kept in path.gradient]
    reads = [
        all_of_it > READ * alone and all_of_it > 1 / FACTOR
        for all_of_it, alone in zip(path.arriving, carried, strict=True)
    ]
    return sum(reads) > len(reads) / 2


def _gate_unneeded(path: SkipPath) -> Finding | None:
    if path.length < 2:
        return None
    loses = path.length >= LONG and _off(path.retention)
    kept = f" It passes on {path.retention:.2g} of the gradient." if loses else ""
    return Finding(
        rule="highway.gate-unneeded",
        message=(
            f"{path.length} additions are gated by data although each diversion has weights of its "
            "own, which can already weight its contribution. A gate is for shared weights and a "
            f"state that is overwritten by choice.{kept}"
        ),
        expected=Number("no gate", "", "formula"),
        measured=_ratio(path.retention, "fraction of the gradient's norm that survives the path"),
        severity="warning" if loses else "note",
        repair="x = x + f(x) with the last weights of f near zero does the same for less",
        where=path.where,
        module=path.modules[0],
        theory="H1",
        weight=_octaves(path.retention),
    )


def kept(retention: float, it: str) -> str:
    """What a path does to the gradient's norm, in words.

    Args:
        retention: The norm at its start over that at its end.
        it: What the path is called in this sentence.

    Returns:
        As in "0.3 of the gradient's norm survives it".
    """
    if f"{retention:.3g}" == "1":
        return f"all of the gradient's norm survives {it}"
    if retention > 1:
        return f"the gradient's norm grows {retention:.3g}-fold along {it}"
    return f"{retention:.3g} of the gradient's norm survives {it}"


def _scaled_skip(path: SkipPath) -> Finding | None:
    if path.length < LONG or not _off(path.retention):
        return None
    return Finding(
        rule="highway.scaled-skip",
        message=(
            f"Constants multiply the skip along {path.length} additions, and each other: "
            f"{kept(path.retention, 'the path')}."
        ),
        expected=_within("four halvings end to end"),
        measured=_ratio(path.retention, "gradient norm at the start over that at the end"),
        severity="warning",
        repair="x = x + a * f(x): leave the skip as it is, and scale the diversion",
        where=path.where,
        module=path.modules[0],
        theory="H1",
        weight=_octaves(path.retention),
    )


def _not_finite(path: SkipPath | PlainPath) -> Finding | None:
    steps = next((k for k, norm in enumerate(path.gradient) if not math.isfinite(norm)), None)
    if steps is None:
        return None
    where = f"a skip path of {counted(path.length, 'addition')}"
    if isinstance(path, PlainPath):
        where = f"a stretch without a skip path, of {path.length} {path.unit}"
    overflows = math.isinf(path.gradient[steps])
    return Finding(
        rule="highway.not-finite",
        message=(
            f"The gradient is {'infinite' if overflows else 'NaN'} at {steps} steps back from the end "
            f"of {where}."
        ),
        expected=Number("finite", "", "formula"),
        measured=_ratio(path.gradient[steps], "gradient norm there over that at the end"),
        severity="error",
        repair="scale the diversions or weights down until it stays finite"
        if overflows
        else "look there for a division by zero, the root of zero, or a logarithm of zero",
        where=path.where,
        module=path.modules[max(len(path.modules) - 1 - steps, 0)],
        theory="H3",
    )


def _opaque(highways: Highways) -> Finding | None:
    if not highways.opaque or highways.paths:
        return None
    return Finding(
        rule="highway.opaque",
        message=(
            "No skip path was found, but not all of the graph could be looked into: "
            f"{', '.join(f'`{name}`' for name in highways.opaque)}."
        ),
        expected=Number(0, "operators", "formula", "that autograd records as one node"),
        measured=Number(len(highways.opaque), "operators", "measured", "kinds of them"),
        severity="warning",
        repair="measure without them; checkpoint(…, use_reentrant=False) can be looked into",
        theory="H3",
    )


def _norm_on_skip(path: SkipPath) -> Finding:
    additions = f"{path.length} additions" if path.length > 1 else "a single addition"
    return Finding(
        rule="highway.norm-on-skip",
        message=(
            f"A norm lies on the skip path of {additions} (post-norm), so the path is "
            f"not the identity: {kept(path.retention, 'it')}."
        ),
        expected=Number(1.0, "1", "formula", "an identity path passes the gradient on"),
        measured=_ratio(path.retention, "fraction of the gradient's norm that survives the path"),
        severity="warning" if path.length >= LONG and _off(path.retention) else "note",
        repair="x = x + f(norm(x)), and one norm at the end (norm_first=True in nn.Transformer)",
        where=path.where,
        module=path.modules[0],
        theory="H1",
        weight=_octaves(path.retention),
    )


def _unscaled(path: SkipPath) -> Finding | None:
    if path.length < LONG or not _off(path.retention):
        return None
    scale = 1 / math.sqrt(path.length)
    repair = f"x = x + {scale:.2g} * f(x)  # 1/√L, or zero the last weights of each diversion"
    if path.activation_on_skip and path.retention < 1:
        repair = "x = x + f(relu(x)): take the rectifier off the skip"
    rectified = ", with a rectifier on the skip," if path.activation_on_skip else ""
    return Finding(
        rule="highway.unscaled",
        message=(
            f"{path.length} diversions of full size{rectified} change the gradient "
            f"{path.retention:.3g}-fold from the end of the skip path to its start."
        ),
        expected=_within("four doublings end to end"),
        measured=_ratio(path.retention, "gradient norm at the start over that at the end"),
        severity="warning",
        repair=repair,
        where=path.where,
        module=path.modules[0],
        theory="H1",
        weight=_octaves(path.retention),
    )
