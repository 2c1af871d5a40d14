"""The units card: which changes of units leave an optimizer's trajectory alone (Theory U3–U8)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from assay.errors import AssayError, UsageError, UserCodeError, verbatim
from assay.finding import Finding, Result
from assay.progress import Progress, silent
from assay.state import preserved_random_state
from assay.update.base import run, run_base
from assay.update.card import findings_of, view_of
from assay.update.change import Change, changes
from assay.update.law import (
    SHRINK,
    UNDECAYED,
    Laboratory,
    Law,
    describe,
    find_cause,
    find_laws,
    unit_of_rate,
)
from assay.update.optimizer import (
    Make,
    build_optimizer,
    is_refusal,
    name_of,
)
from assay.update.trajectory import Setting, Trajectory, find_feeding, train
from assay.update.verdict import LEAK, Verdict, compare, judge, thresholds
from assay.update.world import Network, Problem, World
from assay.view.blocks import View

CONTROLS = 3  # runs whose first weights are jittered by round-off
CLOSURE_STEPS = (
    4  # a closure is called many times a step (L-BFGS 20), which makes steps long and chaotic
)
SMALL = 1e-2  # deviations that an ε could cause in a row that does not rescale
DIAGONAL = ("input scale", "hidden scale", "loss unit", "target unit")  # rows that only rescale


@dataclass(frozen=True, repr=False)
class UnitsCard(Result):
    """The card of one optimizer: `card["input scale"].verdict`.

    Args:
        name: The optimizer.
        verdicts: One for each row, in the order of the card.
        lr_unit: The unit that the learning rate carries, read off the card.
        losses: Loss after every step in the reference's units.
        problem: The reference problem.
        remarks: How the optimizer had to be fed, and what it did that a reader should know.

    Example:
        >>> import functools
        >>> card = audit_units(functools.partial(torch.optim.SGD, lr=0.01))
        >>> card["input rotation"].verdict, card["input scale"].verdict
        ('invariant', 'not invariant')
        >>> card["loss unit"].law
        'becomes invariant when lr is multiplied by ln 2'
    """

    name: str
    verdicts: Mapping[str, Verdict]
    lr_unit: str
    losses: tuple[float, ...]
    problem: Problem
    remarks: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = field(default=(), kw_only=True)

    def __getitem__(self, row: str) -> Verdict:
        """The verdict of one row.

        Args:
            row: As in "input scale".

        Returns:
            The verdict.

        Raises:
            UsageError: If the card has no such row.
        """
        if row in self.verdicts:
            return self.verdicts[row]
        close = difflib.get_close_matches(str(row), self.verdicts, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Check the spelling."
        raise UsageError("row", row, f"one of {', '.join(self.verdicts)}", hint)

    def __iter__(self) -> Iterator[str]:
        return iter(self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    def view(self) -> View:
        """The card as a table of marks, and a trajectory in two units laid over the other."""
        return view_of(
            self.name, self.verdicts, self.lr_unit, self.losses, self.problem, self.remarks
        )


def audit_units(
    make_optimizer: Make,
    problem: Problem | None = None,
    *,
    name: str | None = None,
    progress: Progress = silent,
) -> UnitsCard:
    """Train one function in different units with the same optimizer, and compare in function space.

    For every row a twin of the reference problem is made that starts as exactly the same function written
    in other units (`x̃ = c x` with `W̃ = W / c`), both are trained on the same batches, and their outputs
    are compared after every step. A control run, whose first weights differ by round-off, says which
    difference means nothing; where round-off itself grows too large the verdict is "undetermined".

    Args:
        make_optimizer: `make_optimizer(model) -> optimizer`: a function of the model; or a class such as
            `torch.optim.Adam` or a `functools.partial` of one, which get `model.parameters()`. An
            optimizer that needs a closure, sparse gradients or 2-D parameters is given them.
        problem: Sizes and precision of the reference problem.
        name: What to call the optimizer.
        progress: Told about every row.

    Returns:
        The card.

    Raises:
        UsageError: If `make_optimizer` cannot be called, or returns something that cannot step, torch refuses
            its arguments, or `problem` is of another kind.
        UserCodeError: If `make_optimizer` or the optimizer's step raises on the reference problem.
        CannotMeasure: If the optimizer moves nothing, or training diverges at every rate.
        AssayError: If `make_optimizer` raises one itself; it is passed on.

    Example:
        >>> card = audit_units(torch.optim.Adam)
        >>> card["loss unit"].verdict, card["loss unit"].law[:9]
        ('invariant', 'up to ε: ')
    """
    problem = problem or Problem()
    if not isinstance(problem, Problem):
        raise UsageError(
            "problem",
            verbatim(type(problem).__name__),
            "an assay.update.world.Problem, or nothing for the reference problem",
            "The card is about an optimizer; `assay.compare_steps` measures steps on your own model.",
        )
    label = name or name_of(make_optimizer)
    all_changes = changes(problem)
    reference = problem.world()
    setting = Setting(make_optimizer, label, problem)
    try:
        feeding, narrow = find_feeding(setting, reference)
    except UserCodeError as error:
        if not is_refusal(error.error):
            raise
        raise UsageError(
            "optimizer",
            verbatim(label),
            f"arguments that it takes, but it raised {type(error.error).__name__}: {error.error}",
            "Change its arguments.",
        ) from error
    except AssayError:
        raise
    except Exception as error:
        raise UserCodeError("optimizer", label, error) from error
    if feeding.closure:
        problem = replace(problem, steps=min(problem.steps, CLOSURE_STEPS))
    setting = replace(setting, feeding=feeding, problem=problem, wide=narrow is not None)
    remarks = _remarks(setting, narrow)
    setting, base, slowed = run_base(setting, reference)
    remarks += slowed
    if base.unmoved:
        remarks = (*remarks, f"It never moved {', '.join(base.unmoved)}, which had gradients.")
    draw = torch.Generator().manual_seed(problem.seed + 3)
    controls = [run(setting, reference.jittered(draw)) for _ in range(CONTROLS)]
    reseeded = run(replace(setting, seed=setting.seed + 1), reference)
    if not torch.equal(reseeded.outputs, base.outputs):
        controls.append(reseeded)
        remarks = (
            *remarks,
            "It draws random numbers; all runs use the same seed, one control another.",
        )
    comparisons = [compare(base, run) for run in controls]
    limits = thresholds(base, comparisons)
    control = max(c.last for c in comparisons)
    lab = Laboratory(setting, reference, _options(setting, reference))
    verdicts, laws = {}, {}
    for done, (row, variants) in enumerate(all_changes.items()):
        progress("units", done, len(all_changes), row)
        verdicts[row], laws[row] = _audit_row(lab, base, limits, row, variants)
        verdicts[row] = replace(verdicts[row], control=control)
    progress("units", len(all_changes), len(all_changes))
    return UnitsCard(
        label,
        verdicts,
        unit_of_rate(laws),
        base.losses,
        problem,
        remarks,
        findings=findings_of(label, verdicts),
    )


def _audit_row(
    lab: Laboratory,
    base: Trajectory,
    limits: tuple[float, ...],
    row: str,
    variants: tuple[Change, ...],
) -> tuple[Verdict, list[Law]]:
    """The verdict of one row, from its mild changes; extreme ones only add how far it holds."""
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
        cause = find_cause(lab, world, comparison.last) if suspect else None
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
        elif cause is not None and cause[0] == "ε" and comparison.last <= LEAK:
            laws = [Law(0, 0, comparison.last, ("ε",))] if diagonal else []
            verdict = _worse(
                verdict, replace(now, verdict="invariant", law=_up_to(lab, cause, now))
            )
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
    if verdict.verdict == "invariant" and not verdict.law:
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


def _up_to(lab: Laboratory, cause: tuple[str, float], verdict: Verdict) -> str:
    return "up to" + _comes_from(lab, cause, verdict).removeprefix("comes from")


def _comes_from(lab: Laboratory, cause: tuple[str, float], verdict: Verdict) -> str:
    what, left = cause
    value = next(iter(lab.named(SHRINK if what == "ε" else UNDECAYED).values()))
    return f"comes from {what}: {verdict.deviation:.1e} at {what} = {value}, {left:.1e} without"


def _options(setting: Setting, reference: World) -> dict[str, Any]:
    """The optimizer's options as they are: its first parameter group without the parameters."""
    with preserved_random_state(setting.seed):
        model = Network(reference.weights, setting.feeding.folded)
        optimizer = build_optimizer(setting.make, model, setting.name)
    groups = getattr(optimizer, "param_groups", None) or [{}]
    return {key: value for key, value in groups[0].items() if key != "params"}


def _remarks(setting: Setting, narrow: torch.dtype | None) -> tuple[str, ...]:
    feeding, found = setting.feeding, []
    if feeding.folded:
        found.append("It takes 2-D parameters only: biases stand as weights of a constant input 1.")
    if feeding.closure:
        found.append("It is given a closure, which it calls as often as it likes.")
    if feeding.sparse:
        found.append("It is given sparse gradients, without any entry left out.")
    if narrow is not None:
        dtype = str(setting.problem.dtype).removeprefix("torch.")
        found.append(
            f"Its step casts to {str(narrow).removeprefix('torch.')}; the card is about the algorithm, so "
            f"such casts were kept in {dtype}."
        )
    return tuple(found)
