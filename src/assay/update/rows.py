"""One row of the card: the same function trained in other units, judged, with its law or its cause."""

from __future__ import annotations

from dataclasses import replace

from assay.update.change import Change
from assay.update.law import (
    HIDDEN,
    SHRINK,
    UNDECAYED,
    Cause,
    Laboratory,
    Law,
    describe,
    find_cause,
    find_laws,
)
from assay.update.trajectory import Trajectory, train
from assay.update.verdict import LEAK, Verdict, compare, judge

SMALL = 1e-2  # deviations that an ε could cause in a row that does not rescale
DIAGONAL = ("input scale", "hidden scale", "loss unit", "target unit")  # rows that only rescale


def audit_row(
    lab: Laboratory,
    base: Trajectory,
    limits: tuple[float, ...],
    row: str,
    variants: tuple[Change, ...],
) -> tuple[Verdict, list[Law]]:
    """The verdict of one row, from its mild changes; extreme ones only add how far it holds.

    Args:
        lab: Runs the training.
        base: The reference's run.
        limits: Deviation after every step up to which two trajectories count as the same.
        row: The row.
        variants: Its changes, mildest first.

    Returns:
        The verdict without its control, and the laws under which the twin is the same function.
    """
    mild = [change for change in variants if change.kind != "extreme"]
    diagonal = row in DIAGONAL
    verdict = Verdict(row, "invariant", deviation=0.0)
    laws = [Law(0, 0, 0.0)] if diagonal else []
    for change in mild:
        world = change.apply(lab.reference)
        try:
            twin = train(lab.setting, world)
        except Exception as error:
            why = f"in these units ({change.factors}) it raised {type(error).__name__}: {error}"
            return Verdict(row, "undetermined", reason=why), []
        comparison = compare(base, twin)
        if not comparison.matched:
            why = "making the optimizer changed the weights: the twins do not start as one function"
            return Verdict(row, "undetermined", comparison.last, reason=why), []
        answer, step = judge(comparison, limits)
        # ε and weight decay carry units, so a rescaling shows them; elsewhere only a small deviation can
        suspect = answer == "not invariant" and (diagonal or comparison.last <= SMALL)
        cause = find_cause(lab, world, comparison.last, SMALL) if suspect else None
        exact = change.kind == "dyadic" or len(mild) == 1
        now = Verdict(
            row,
            answer,
            comparison.last,
            bitwise=comparison.bitwise if exact else verdict.bitwise,
            losses=twin.losses,
        )
        if answer == "undetermined":
            why = "round-off alone grows as large: the trajectory is chaotic at this lr"
            verdict = replace(now, reason=why)
        elif cause is not None and cause.what in ("ε", HIDDEN) and comparison.last <= LEAK:
            laws = [Law(0, 0, comparison.last, (cause.what,))] if diagonal else []
            verdict = _worse(
                verdict, replace(now, verdict="invariant", law=_up_to(lab, cause, now))
            )
        elif answer == "not invariant" and diagonal and cause is None and comparison.last <= LEAK:
            why = f"up to {comparison.last:.1e} whose cause was not found (an iteration's tolerance, say)"
            laws = [Law(0, 0, comparison.last)]
            verdict = _worse(verdict, replace(now, verdict="invariant", law=why))
        elif answer == "not invariant":
            law, laws = "", []
            if diagonal:
                laws = find_laws(lab, next(v for v in mild if v.kind == "plain"))
                law = describe(change, laws)
            if cause is not None:
                law = "the deviation " + _comes_from(lab, cause, now)
            where = f"the trajectories part at step {step}"
            if not twin.finite:
                where += f"; in other units ({change.factors}) the outputs are not finite"
            return replace(now, law=law, reason=where), laws
        else:
            verdict = _worse(verdict, now)
    if verdict.verdict == "undetermined":
        return verdict, []  # what was not seen has no law
    if not verdict.law:
        verdict = replace(verdict, law=_range(lab, base, limits, variants))
    return verdict, laws


def _worse(one: Verdict, other: Verdict) -> Verdict:
    """Of two invariances the larger deviation; undetermined stays undetermined; bitwise is the latest."""
    if one.verdict == "undetermined" or one.deviation > other.deviation:
        return replace(one, bitwise=other.bitwise)
    return other


def _range(
    lab: Laboratory, base: Trajectory, limits: tuple[float, ...], variants: tuple[Change, ...]
) -> str:
    """How far an invariance holds, where extreme factors are tried."""
    held = []
    for change in variants:
        if change.kind != "extreme":
            continue
        try:
            comparison = compare(base, train(lab.setting, change.apply(lab.reference)))
        except Exception as error:
            return f"for moderate factors; with {change.factors} it raises {type(error).__name__}"
        if judge(comparison, limits)[0] == "not invariant":
            return f"for moderate factors; with {change.factors} the deviation is {comparison.last:.1e}"
        held.append(change.factors)
    return f"also with {' and '.join(held)}" if held else ""


def _up_to(lab: Laboratory, cause: Cause, verdict: Verdict) -> str:
    return "up to" + _comes_from(lab, cause, verdict).removeprefix("comes from")


def _comes_from(lab: Laboratory, cause: Cause, verdict: Verdict) -> str:
    options = lab.named(SHRINK if cause.what == "ε" else UNDECAYED)
    value = "" if cause.what == HIDDEN else f" at {cause.what} = {next(iter(options.values()))}"
    return f"comes from {cause.what}: {verdict.deviation:.1e}{value}, {cause.left:.1e} {cause.how}"
