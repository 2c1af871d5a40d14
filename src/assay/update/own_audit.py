"""The card of the user's own model and data: which of their choices of units matters, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from assay.errors import UsageError
from assay.progress import Progress
from assay.state import preserved, preserved_random_state
from assay.subject import Subject
from assay.update.base import Prepared, prepare
from assay.update.card import findings_of
from assay.update.change import Change
from assay.update.contender import require_trainable
from assay.update.law import unit_of_loss
from assay.update.optimizer import Make
from assay.update.own import Input, OwnPlan, OwnTraining, converted
from assay.update.own_changes import MOST, OWN_ROWS, Found, find_changes, of_feature
from assay.update.rows import audit_row
from assay.update.trajectory import train
from assay.update.units_card import Feature, UnitsCard
from assay.update.verdict import Verdict, compare

SEED = 0


def audit_own(
    make: Make, label: str, subject: Subject, steps: int, dtype: torch.dtype, progress: Progress
) -> UnitsCard:
    """Train copies of the user's model on its example inputs in different units.

    Args:
        make: Makes the optimizer.
        label: Its name.
        subject: Model, inputs and loss; not changed.
        steps: Steps of training, at least 1.
        dtype: Precision; the model's own where it does not run in this one.
        progress: Told about every row and feature.

    Returns:
        The card.

    Raises:
        UsageError: If `steps` is no positive integer.
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise UsageError("steps", steps, "an integer of at least 1", "Give steps=20.")
    require_trainable(subject)
    subject.require_finite()
    with preserved(subject.model), preserved_random_state(SEED):
        own, exact = converted(subject, dtype)
    training = OwnTraining(own, SEED)
    found = find_changes(training)
    kind = dtype if exact else _dtype(own)
    plan = OwnPlan(subject.name, steps, SEED, kind)
    ready = prepare(make, label, plan, training, fold=False)
    total = len(OWN_ROWS) + sum(1 for _ in _chosen(found.inputs))
    verdicts, laws = {}, {}
    for done, row in enumerate(OWN_ROWS):
        progress("units", done, total, row)
        if row in found.closed:
            verdict = Verdict(row, "undetermined", reason=f"there is no twin: {found.closed[row]}")
        else:
            variants = found.changes[row]
            verdict, laws[row] = audit_row(ready.lab, ready.base, ready.limits, row, variants)
        verdicts[row] = replace(verdict, control=ready.control)
    features = []
    for done, (which, j) in enumerate(_chosen(found.inputs), len(OWN_ROWS)):
        progress("units", done, total, f"feature {j}")
        features.append(_feature(ready, training, found, which, j))
    progress("units", total, total)
    return UnitsCard(
        label,
        verdicts,
        unit_of_loss(laws.get("loss unit", [])),
        ready.base.losses,
        replace(plan, steps=ready.lab.setting.problem.steps),
        (*_remarks(subject, exact, kind, found, len(features)), *ready.remarks),
        tuple(features),
        findings=findings_of(label, verdicts, tuple(features)),
    )


def _chosen(inputs: tuple[Input, ...]) -> Iterator[tuple[int, int]]:
    """Which features are looked at: all, or those whose units are the least like standard ones."""
    everything = []
    for which, one in enumerate(inputs):
        for j in range(len(one.mean)):
            sigma, mean = float(one.std[j]), float(one.mean[j])
            unlike = abs(math.log(sigma)) + abs(mean / sigma) if sigma > 0 else -1.0
            everything.append((unlike, which, j))
    kept = sorted(everything, key=lambda item: -item[0])[:MOST]
    yield from sorted((which, j) for _, which, j in kept)


def _feature(ready: Prepared, training: OwnTraining, found: Found, which: int, j: int) -> Feature:
    one = found.inputs[which]
    deviations = {"scale": math.nan, "shift": math.nan, "standard": math.nan}
    for name, change in of_feature(found.inputs, which, j).items():
        row = "input scale" if name == "scale" else "input shift"
        if row not in found.closed:
            deviations[name] = _deviation(ready, training, change)
    return Feature(str(one.place), j, float(one.mean[j]), float(one.std[j]), **deviations)


def _deviation(ready: Prepared, training: OwnTraining, change: Change) -> float:
    try:
        return compare(ready.base, train(ready.lab.setting, change.apply(training))).last
    except Exception:  # it raises in these units alone: as far apart as can be
        return math.inf


def _dtype(subject: Subject) -> torch.dtype:
    kinds = (p.dtype for p in subject.model.parameters() if p.is_floating_point())
    return next(kinds, torch.float32)


def _remarks(
    subject: Subject, exact: bool, kind: torch.dtype, found: Found, looked: int
) -> tuple[str, ...]:
    said = []
    if not exact:
        name = str(kind).removeprefix("torch.")
        said.append(f"Model or loss do not run in the precision asked for; this is in {name}.")
    if subject.loss is None:
        said.append(
            "The subject has no loss: the objective is the sum of the output's first tensor, which may "
            "fall without bound."
        )
    features = sum(len(one.mean) for one in found.inputs)
    if features > looked:
        said.append(
            f"Of {features} features, the {looked} whose units are the least like standard ones."
        )
    return tuple(said)
