"""The six questions: which section asks what, and how one runs without stopping the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from assay.builder import Builder
from assay.errors import RAISED, AssayError, UsageError, UserCodeError, said
from assay.finding import Result, Severity, plain
from assay.progress import Progress, silent
from assay.reporting.memory import require_memory
from assay.reporting.optimizers import (
    OptimizerFactory,
    compared,
    entered,
    made_for,
    optimizer_name,
    rmsprop,
    sgd,
)
from assay.state import preserved_random_state, quiet, unlogged
from assay.subject import Subject
from assay.view.blocks import View
from assay.where import raised_at

Status = Literal["measured", "not applicable", "failed"]


class NotApplicable(Exception):
    """A question that does not arise for this subject; the text says what would make it arise."""


@dataclass(frozen=True)
class Section:
    """One question of the report, and what became of it.

    Args:
        name: "scale", "highway", "cost", "step", "units" or "certificate".
        status: "measured", "not applicable" or "failed".
        view: What a reader sees.
        result: The measurement, or None.
        reason: Why there is none, in one paragraph; "" where it is measured.
        traceback: Of the error behind a failure, where it is not shown under another section already.
        seconds: How long it took.
        raised: What of the user's code raised, as "forward"; "" where none did.
    """

    name: str
    status: Status
    view: View
    result: Result | None = None
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0
    raised: str = ""

    @property
    def worst(self) -> Severity | None:
        """The gravest severity among its findings, notes left out."""
        found = {f.severity for f in self.result.findings} if self.result else set()
        return "error" if "error" in found else "warning" if "warning" in found else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON.

        Returns:
            Name, title, question, answer, status, reason, traceback, seconds, notes and result.
        """
        return {
            "name": self.name,
            "title": self.view.title,
            "question": self.view.question,
            "answer": self.view.answer,
            "status": self.status,
            "reason": self.reason,
            "traceback": self.traceback,
            "seconds": round(self.seconds, 3),
            "notes": list(self.view.notes),
            "result": plain(self.result),
        }


@dataclass
class Job:
    """What the sections share: the builder, the settings, and one subject, built when first asked for."""

    build: Builder
    delta: float = 0.05
    optimizer: OptimizerFactory | None = None
    seed: int = 0
    progress: Progress = silent
    _subject: Subject | None = None
    _name: str | None = None
    _error: BaseException | None = None
    _told: dict[str, str] = field(
        default_factory=dict
    )  # error and place -> the section that shows it

    @property
    def subject(self) -> Subject:
        """The subject; an error in building it is raised again for every section that asks."""
        if self._error is not None:
            raise self._error
        if self._subject is None:
            try:
                require_memory(self.build)
                with preserved_random_state(self.seed):
                    self._subject = self.build()
            except RAISED as error:
                self._error = error
                raise
        return self._subject

    def optimizer_in_use(self) -> tuple[OptimizerFactory, str]:
        """The optimizer to ask about, and its name; "" where none was given and SGD stands in."""
        make = self.optimizer or self.subject.optimizer
        if make is None:
            return sgd, ""
        if self._name is None:
            self._name = optimizer_name(make, self.subject.model)
        return make, self._name

    def tell_once(self, section: str, failure: BaseException, text: str) -> tuple[str, str]:
        """Keep a traceback for the first section that fails with the same error in the same place.

        Args:
            section: The title of the section that failed.
            failure: What it failed with.
            text: The traceback.

        Returns:
            The traceback or "", and a sentence on where it is shown or "".
        """
        if not text:
            return "", ""
        error = failure.error if isinstance(failure, UserCodeError) else failure
        where = raised_at(error) or raised_at(error, torch=True)
        key = f"{said(error)} {where}" if where else text
        first = self._told.setdefault(key, section)
        return (text, "") if first == section else ("", f" Its traceback is shown under {first}.")


@dataclass(frozen=True)
class Step:
    """A section to come: its name, title, question, and the function that answers it."""

    name: str
    title: str
    question: str
    run: Callable[[Job], Result]


def _scale(job: Job) -> Result:
    from assay.scale.measure import measure_scale

    return measure_scale(job.subject)


def _highway(job: Job) -> Result:
    from assay.highway.highways import find_highways

    return find_highways(job.subject)


def _cost(job: Job) -> Result:
    from assay.cost.cost import cost_of

    with unlogged(), quiet():  # the model has been built, and has warned
        return cost_of(job.build, job.progress)


def _step(job: Job) -> Result:
    job.subject.require_finite()
    _require_trained(job, "No step moves this model")
    make, name = job.optimizer_in_use()
    makers: dict[str, OptimizerFactory] = {"SGD": sgd, "RMSProp": rmsprop}
    ours = True
    if name:
        makers, ours = entered(name, make, makers, job.subject.model)
    given = {"norm": "parameter", "seed": job.seed, "progress": job.progress}
    return compared(makers, job.subject, ours=ours, **given)


def _units(job: Job) -> Result:
    from assay.update.audit import audit_units

    make, name = job.optimizer_in_use()
    if not name:
        _require_trained(job, "No optimizer trains this model")
    try:
        card = audit_units(make, name=name or "SGD", progress=job.progress)
        if name:
            return card
        # that SGD depends on units is in the table; of an optimizer that nobody named it is no news
        return replace(card, findings=tuple(f for f in card.findings if f.fails))
    except UserCodeError as error:
        if error.argument == "make_optimizer" and _needs_its_model(make, job):
            raise NotApplicable(
                "The card trains a small model of its own, and the function that makes "
                f"`{name}` asks for a part of yours ({said(error.error)}). Ask about the one inside it, "
                "as in `assay units torch.optim:AdamW -a lr=1e-3`."
            ) from error
        raise


def _whose_units(job: Job) -> tuple[str, ...]:
    """Notes on what the card is of."""
    name = job.optimizer_in_use()[1]
    own = (
        "The card is of the optimizer, on a small reference network. What the units of your own model and "
        f"data do: `assay units OPTIMIZER --on {job.build.name}`."
    )
    unnamed = "No optimizer was named, so this is the card of `torch.optim.SGD`; name yours."
    return (own,) if name else (own, unnamed)


def _require_trained(job: Job, why: str) -> None:
    """A model without trainable parameters is no failure: these questions do not arise."""
    weights = list(job.subject.model.parameters())
    if any(p.requires_grad for p in weights):
        return
    if not weights:
        raise NotApplicable(f"{why}: it has no parameters.")
    raise NotApplicable(
        f"{why}: all of its {len(weights)} parameters are frozen. Set `requires_grad_(True)` on those that "
        "training moves, and ask again."
    )


def _needs_its_model(make: OptimizerFactory, job: Job) -> bool:
    """Whether an optimizer that failed on the card's model is one for the subject's model alone."""
    try:
        made_for(make, job.subject.model)
    except RAISED:
        return False
    return True


def _certificate(job: Job) -> Result:
    from assay.certificate.certify import certify

    examples = job.subject.examples
    if examples is None:
        raise NotApplicable(
            "A certificate is about training examples, and the subject brings none. Return "
            "`assay.Subject(model, inputs, examples=(inputs, targets), fit=…)` from the builder."
        )
    return certify(job.build, examples, delta=job.delta, seed=job.seed, progress=job.progress)


STEPS = (
    Step(
        "scale",
        "Scale",
        "Does every unit start with zero mean and unit variance, forward and backward?",
        _scale,
    ),
    Step("highway", "Highway", "Do long paths keep signal and gradient alive?", _highway),
    Step("cost", "Cost", "What does a step cost, as a formula in the model's own sizes?", _cost),
    Step("step", "Step", "Do optimizers, at equal norm, move the model the same way?", _step),
    Step("units", "Units", "Which units does training secretly depend on?", _units),
    Step("certificate", "Certificate", "How far can the training error be trusted?", _certificate),
)


def chosen_steps(names: tuple[str, ...] | None) -> tuple[Step, ...]:
    """The steps of these names, in the order of the report.

    Args:
        names: Names of sections, or None for all.

    Returns:
        The steps.

    Raises:
        UsageError: If there is no section of a name, or there are no names.
    """
    known = {step.name: step for step in STEPS}
    for name in names or ():
        if name not in known:
            raise UsageError("sections", name, f"some of {', '.join(known)}", "Check the spelling.")
    if names is not None and not names:
        raise UsageError("sections", names, f"some of {', '.join(known)}", "Name at least one.")
    return tuple(step for step in STEPS if names is None or step.name in names)


def run_step(step: Step, job: Job) -> Section:
    """Ask one question. Whatever goes wrong becomes part of the answer; Ctrl-C passes through.

    Args:
        step: The question.
        job: What it is asked of.

    Returns:
        The section.

    Raises:
        UsageError: If the builder cannot be called as the user asked, or returns nothing to measure: then no
            section can say anything.
    """
    start = time.perf_counter()
    result, reason, text = None, "", ""
    status: Status = "measured"
    failure: BaseException | None = None
    view = View(step.title, step.question, "")
    from assay.update.broadcast import told_as_finding

    try:
        with (
            preserved_random_state(job.seed),
            told_as_finding(),
        ):  # what a section says does not depend on the others
            result = step.run(job)
            view = result.view()
        if step.name == "units":
            view = replace(view, notes=(*view.notes, *_whose_units(job)))
    except NotApplicable as error:
        status, reason = "not applicable", str(error)
    except UsageError as error:
        if error is job._error:
            raise
        failure = error
    except RAISED as error:
        failure = error
    if failure is not None:
        status, result = "failed", None
        reason, text = _explain(failure)
        text, where = job.tell_once(step.title, failure, text)
        reason += where
    if status != "measured":
        view = View(step.title, step.question, reason)
    raised = failure.argument if isinstance(failure, UserCodeError) else ""
    seconds = time.perf_counter() - start
    return Section(step.name, status, view, result, reason, text, seconds, raised)


def _explain(error: BaseException) -> tuple[str, str]:
    """A paragraph on what went wrong, and the traceback where it helps."""
    if isinstance(error, SystemExit):  # nothing of assay's exits
        error = UserCodeError("code", "what this section runs", error)
    if isinstance(error, UserCodeError):
        return str(error).replace("traceback above", "traceback"), error.user_traceback()
    if isinstance(error, AssayError):
        return str(error), ""
    reason = (
        f"{said(error)}. This is an error inside assay, or one that it does not "
        "expect: please report it with the traceback."
    )
    return reason, "".join(traceback.format_exception(error))
