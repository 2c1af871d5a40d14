"""`assay.report`: every question of one model, and a report that reads the same everywhere."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from assay._version import __version__
from assay.builder import as_builder
from assay.errors import UsageError, require_seed, say
from assay.finding import Finding, Result, plain, ranked
from assay.progress import Progress, silent
from assay.reporting.files import check_writable, format_of, write_atomically
from assay.reporting.optimizers import OptimizerFactory
from assay.reporting.sections import Job, Section, chosen_steps, run_step
from assay.view.blocks import Cell, Column, Mark, Table, View
from assay.view.prose import counted, listed

__all__ = ["Environment", "Report", "Section", "check_writable", "of_result", "report"]

SCHEMA = "https://assay-dev.github.io/assay/result.schema.json"
SCHEMA_VERSION = 1
OF_THE_MODEL = ("scale", "highway", "cost", "step")  # the other sections need not run it


@dataclass(frozen=True)
class Environment:
    """Where and with what a report was made: what somebody needs to make it again."""

    assay: str
    torch: str
    python: str
    device: str
    seconds: float

    def __str__(self) -> str:
        took = f", {self.seconds:.1f} s" if self.seconds else ""
        return f"assay {self.assay}, torch {self.torch}, Python {self.python}, {self.device}{took}"


@dataclass(frozen=True, repr=False)
class Report(Result):
    """All sections of one model. `findings` are those of every section, the gravest first.

    Args:
        target: The name of what was assayed.
        sizes: Its sizes.
        sections: In the order of the questions.
        environment: Versions, device and time.
    """

    target: str
    sizes: Mapping[str, int]
    sections: tuple[Section, ...]
    environment: Environment

    @property
    def exit_code(self) -> int:
        """3 if a section failed or left a question open, else 1 if there is an error or a warning, else 0."""
        if any(s.status == "failed" or (s.result and s.result.unanswered) for s in self.sections):
            return 3
        return int(any(finding.fails for finding in self.findings))

    @property
    def verdict(self) -> str:
        """What came of it all, in one or two sentences."""
        failed = [s.view.title for s in self.sections if s.status == "failed"]
        measured = sum(section.status == "measured" for section in self.sections)
        total = len(self.sections)
        found = _tally(self.findings).capitalize() or "Nothing found"
        text = f"{found} in {counted(measured, 'measured section')}." if measured else ""
        own = [s for s in self.sections if s.name in OF_THE_MODEL]
        if failed and own and not any(s.status == "measured" for s in own):
            run = all(s.raised == "forward" for s in own if s.status == "failed")
            text = f"The model could not be {'run' if run else 'measured'}. {text}".strip()
        if failed:
            text += f" {len(failed)} of {total} could not be measured: {', '.join(failed)}."
        return text.strip()

    def view(self) -> View:
        """The verdict and the six answers.

        Returns:
            A view; the sections have their own.
        """
        rows = tuple((state_of(s)[0], s.view.answer) for s in self.sections)
        return View(
            title=f"{self.target}  {say(self.sizes)}".strip(),
            question="",
            answer=self.verdict,
            blocks=(Table((Column("section"), Column("answer")), rows, shown=len(rows)),),
            notes=(str(self.environment),),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data as `docs/result.schema.json` describes it.

        Returns:
            The report, with the address and version of its schema.
        """
        return {
            "$schema": SCHEMA,
            "schema": SCHEMA_VERSION,
            "target": self.target,
            "sizes": dict(self.sizes),
            "exit_code": self.exit_code,
            "verdict": self.verdict,
            "findings": plain(self.findings),
            "sections": [section.to_dict() for section in self.sections],
            "environment": plain(self.environment),
        }

    def to_json(self) -> str:
        """The report as JSON.

        Returns:
            JSON, indented by two.
        """
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_sarif(self) -> str:
        """The findings as a SARIF 2.1.0 log, for code hosts and editors.

        Returns:
            JSON, indented by two.
        """
        from assay.reporting.sarif import to_sarif

        return json.dumps(to_sarif(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_html(self) -> str:
        """One self-contained page: no script, no font, no network.

        Returns:
            An HTML document.
        """
        from assay.reporting.page import to_page

        return to_page(self)

    def to_text(self) -> str:
        """Everything as plain text: the summary, then each section in full.

        Returns:
            Text, 100 columns wide.
        """
        from assay.view.text import to_text

        if len(self.sections) == 1:
            return str(self)
        rule = "\n\n" + "─" * 100 + "\n\n"
        parts = [str(self)]
        for section in self.sections:
            found = section.result.findings if section.result else ()
            parts.append(
                "\n\n".join(filter(None, (to_text(section.view, found), section.traceback)))
            )
        return rule.join(parts)

    def render(self, form: str) -> str:
        """The report in one of its formats.

        Args:
            form: "text", "json", "html" or "sarif".

        Returns:
            Its text.

        Raises:
            UsageError: If there is no such format.
        """
        forms = {
            "text": self.to_text,
            "json": self.to_json,
            "html": self.to_html,
            "sarif": self.to_sarif,
        }
        if form not in forms:
            raise UsageError("format", form, f"one of {', '.join(forms)}", "Choose one of these.")
        return forms[form]()

    def save(self, path: str | os.PathLike[str], format: str | None = None) -> None:
        """Write the report to `path`, in one step: nothing half-written is ever seen there.

        Args:
            path: Where to; the suffix .html, .json, .sarif or .txt decides the format.
            format: "text", "json", "html" or "sarif", where the suffix should not decide.

        Raises:
            UsageError: If the format is unknown or the file cannot be written.
        """
        form = format_of(path, format)
        check_writable(path, form)
        text = self.render(form).rstrip("\n")
        write_atomically(path, f"{text}\n")  # as the command prints it

    def __str__(self) -> str:
        from assay.view.text import render

        return render(self.__rich__())

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        from assay.view.text import findings_block, to_rich

        if len(self.sections) == 1:  # of one question, everything; of six, the summary
            (only,) = self.sections
            found = only.result.findings if only.result else ()
            return Group(to_rich(only.view, found), *_tracebacks(self.sections))
        summary = to_rich(self.view())
        parts = [*findings_block(self.findings), *_tracebacks(self.sections)]
        ending = 'Every table and picture: `.save("report.html")`, or `--output report.html`.'
        return Group(summary, *parts, Text(""), Text(ending.replace("`", ""), style="dim"))

    def _repr_html_(self) -> str:
        from assay.reporting.page import to_notebook

        return to_notebook(self)


def report(
    build: Any,
    *,
    sizes: Mapping[str, int] | None = None,
    delta: float = 0.05,
    optimizer: OptimizerFactory | None = None,
    seed: int = 0,
    sections: Sequence[str] | None = None,
    progress: Progress = silent,
    **base_sizes: int,
) -> Report:
    """Ask all six questions of one model. A section that fails says why; the others still appear.

    Args:
        build: A builder, any callable that `Builder` takes, a module, a `Subject`, or `(model, inputs)`.
        sizes: Sizes that replace the builder's defaults, also those that are called as an argument here is.
        delta: The risk of the certificate's bounds, between 0 and 1.
        optimizer: `optimizer(model) -> torch.optim.Optimizer`, the one in use; by default the subject's
            own, else SGD.
        seed: Seeds the initial weights and every section, each by itself.
        sections: Names of the sections to run, out of scale, highway, cost, step, units, certificate;
            by default all.
        progress: Called as work goes on.
        **base_sizes: Sizes by their names, as for `derive_cost`: `report(mlp, d=16)`.

    Returns:
        The report. Your model and the random state are as before.

    Raises:
        UsageError: If an argument, a size or the name of a section is wrong.

    Example:
        >>> from torch import nn, ones
        >>> def mlp(b: int = 4, d: int = 8):
        ...     return nn.Linear(d, d), ones(b, d)
        >>> [section.name for section in report(mlp, sections=("scale",)).sections]
        ['scale']
    """
    if not 0 < delta < 1:
        raise UsageError("delta", delta, "a risk between 0 and 1", "Give delta=0.05, say.")
    if optimizer is not None and not callable(optimizer):
        raise UsageError(
            "optimizer",
            optimizer,
            "a function from a model to its optimizer",
            "Give optimizer=lambda model: torch.optim.Adam(model.parameters()).",
        )
    require_seed(seed)
    steps = chosen_steps(None if sections is None else tuple(sections))
    builder = as_builder(build)
    if twice := sorted(set(sizes or {}) & set(base_sizes)):
        raise UsageError(
            f"size {twice[0]}",
            base_sizes[twice[0]],
            "it to be given once, not in sizes= too",
            "Leave one of them out.",
        )
    if sizes or base_sizes:
        builder = builder.with_(sizes={**(sizes or {}), **base_sizes})
    job = Job(builder, delta, optimizer, seed, progress)
    start = time.perf_counter()
    done = []
    for index, step in enumerate(steps):
        progress("report", index, len(steps), step.title)
        done.append(run_step(step, job))
    progress("report", len(steps), len(steps))
    return _assemble(builder.name, builder.sizes, done, _device(job), time.perf_counter() - start)


def of_result(
    name: str,
    target: str,
    result: Result,
    *,
    sizes: Mapping[str, int] | None = None,
    seconds: float = 0.0,
) -> Report:
    """A report of one measurement that was made already, so that it prints and saves like any other.

    Args:
        name: The name of its section, "cost".
        target: What was measured.
        result: The measurement.
        sizes: The sizes it was made at; none by default.
        seconds: How long it took.

    Returns:
        A report with one section.
    """
    section = Section(name, "measured", result.view(), result, seconds=seconds)
    return _assemble(target, sizes or {}, [section], "cpu", seconds)


def state_of(section: Section) -> tuple[Cell, str]:
    """What became of a section: its title with a mark, and the same in words.

    Args:
        section: The section.

    Returns:
        A cell such as "✗ Scale", and a phrase such as "1 error and 2 warnings".
    """
    title = section.view.title
    if section.status == "failed":
        return Cell(title, "unknown"), "could not be measured"
    if section.status == "not applicable":
        return Cell(f"– {title}"), "not applicable"
    found = section.result.findings if section.result else ()
    mark: Mark = "bad" if section.worst else "good"
    if mark == "good" and getattr(section.result, "status", "") == "refused":
        mark = "unknown"  # it was asked, and has no formula
    return Cell(title, mark), _tally(found) or "nothing found"


def _assemble(
    target: str, sizes: Mapping[str, int], sections: Sequence[Section], device: str, seconds: float
) -> Report:
    found = tuple(f for section in sections if section.result for f in section.result.findings)
    versions = (__version__, torch.__version__, platform.python_version())
    return Report(
        target=target,
        sizes=dict(sizes),
        sections=tuple(sections),
        environment=Environment(*versions, device, round(seconds, 3)),
        findings=ranked(found),
    )


def _device(job: Job) -> str:
    """The device that the model's first parameter lies on."""
    subject = job._subject
    first = next(subject.model.parameters(), None) if subject is not None else None
    if first is None or first.device.type != "cuda":
        return "cpu" if first is None else first.device.type
    return f"{first.device} ({torch.cuda.get_device_name(first.device)})"


def _tracebacks(sections: Sequence[Section]) -> list[Any]:
    from rich.text import Text

    from assay.view.pieces import Unwrapped
    from assay.view.prose import clean

    parts: list[Any] = []
    for section in sections:
        if section.traceback:
            parts += [Text(""), Text(f"{section.view.title} failed with:", style="bold")]
            # a traceback is copied and searched for: its lines stay what they were
            parts.append(Unwrapped(Text(clean(section.traceback.rstrip()), style="dim")))
    return parts


def _tally(findings: Sequence[Finding]) -> str:
    """How many there are of each severity, "1 error and 2 notes"; "" of none."""
    numbers = [(sum(f.severity == s for f in findings), s) for s in ("error", "warning", "note")]
    return listed([counted(number, severity) for number, severity in numbers if number])
