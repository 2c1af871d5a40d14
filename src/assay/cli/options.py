"""What the subcommands share: options, their parsing, the progress bar, and how a result leaves."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from assay.errors import UsageError, require_seed, verbatim
from assay.place import split_target
from assay.progress import Progress

if TYPE_CHECKING:
    from assay.builder import Builder
    from assay.finding import Result
    from assay.reporting.report import Report

_results: list[TextIO] = []  # standard output, while the user's code prints to standard error
FORMATS = ("text", "json", "html", "sarif")
_F = TypeVar("_F", bound=Callable[..., Any])


def target(function: _F) -> _F:
    """Add the TARGET argument with its `--size` and `-a`."""
    for decorate in (
        click.option(
            "-a",
            "arguments",
            metavar="NAME=VALUE",
            multiple=True,
            help="Another argument of the builder (or configuration value of an hf: target).",
        ),
        click.option(
            "--size",
            "sizes",
            metavar="NAME=INTEGER",
            multiple=True,
            help="A named size of the builder, as in --size n=128. May be repeated.",
        ),
        click.argument("target"),
    ):
        function = decorate(function)
    return function


def output(function: _F) -> _F:
    """Add `--format` and `--output`."""
    for decorate in (
        click.option(
            "-o",
            "--output",
            "path",
            type=click.Path(dir_okay=False),
            help="Write to this file; the suffix (.html, .json, .sarif, .txt) says how.",
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(FORMATS),
            help="How the result is printed. [default: text]",
        ),
    ):
        function = decorate(function)
    return function


def _checked_seed(_context: click.Context, _option: click.Parameter, value: int) -> int:
    require_seed(value, "--seed")
    return value


def single(*names: str, **attributes: Any) -> Callable[[_F], _F]:
    """An option that is given once at the most; click would take the last of several, and say nothing."""
    return click.option(*names, multiple=True, callback=_once, **attributes)


def _once(_context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    if len(values) > 1:
        raise UsageError(
            option.opts[0], verbatim(", ".join(values)), "it to be given once", "Ask one by one."
        )
    return values[0] if values else None


seed = click.option(
    "--seed",
    type=int,
    callback=_checked_seed,
    default=0,
    show_default=True,
    help="Seed of the model's initial weights.",
)


def pairs(option: str, given: tuple[str, ...]) -> dict[str, Any]:
    """Read `name=value` words; a value is a Python literal where it reads as one, else text.

    Args:
        option: The option's name, for messages.
        given: The words.

    Returns:
        The values by name.

    Raises:
        UsageError: If a word has no `=`, no name, or a name is given twice.

    Example:
        >>> pairs("-a", ("lr=1e-3", "act=relu", "bias=False"))
        {'lr': 0.001, 'act': 'relu', 'bias': False}
    """
    values: dict[str, Any] = {}
    for word in given:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(option, word, "NAME=VALUE", f"Write, for example, {option} n=128.")
        if name in values:
            raise UsageError(option, word, f"`{name}` to be given once", "Leave one of them out.")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


def integers(option: str, given: tuple[str, ...]) -> dict[str, int]:
    """Read `name=integer` words.

    Args:
        option: The option's name, for messages.
        given: The words.

    Returns:
        The sizes by name.

    Raises:
        UsageError: If a value is not an integer of at least 1.
    """
    values = pairs(option, given)
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(
                f"{option} {name}", value, "an integer of at least 1", f"As in {option} {name}=16."
            )
    return values


def builder(target: str, sizes: tuple[str, ...], arguments: tuple[str, ...]) -> Builder:
    """The builder that a command line names.

    Args:
        target: The TARGET word.
        sizes: The `--size` words.
        arguments: The `-a` words.

    Returns:
        The builder.

    Raises:
        UsageError: If the target is none, or a value is given twice.
    """
    split_target(target)  # what is plainly wrong is said before torch is loaded
    chosen, fixed = integers("--size", sizes), pairs("-a", arguments)
    if twice := sorted(set(chosen) & set(fixed)):
        raise UsageError(
            "-a",
            verbatim(f"{twice[0]}={fixed[twice[0]]}"),
            f"`{twice[0]}` to be given once, not with --size too",
            "--size changes its value in use, -a holds it there; leave one of them out.",
        )
    from assay.target import load

    return load(target, sizes=chosen, arguments=fixed)


@contextmanager
def bar() -> Iterator[Progress]:
    """A progress bar on standard error while work goes on; where that is no terminal, a line now and then.

    Yields:
        What to call as work goes on.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        from assay.cli.lines import Lines

        with Lines(sys.stderr) as lines:
            yield lines
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Bar(*columns, console=console, transient=True) as live:
        known: dict[str, Any] = {}

        def advance(task: str, done: int, total: int, note: str = "") -> None:
            if task not in known:
                known[task] = live.add_task(task, total=total, note=note)
            live.update(known[task], completed=done, total=total, note=note)

        yield advance


def check(path: str | None, form: str | None) -> None:
    """Refuse an unwritable output before any work is done, and keep standard output for the result.

    What a user's own code prints goes to standard error where a program will read the result.

    Args:
        path: The `--output`, or None.
        form: The `--format`, or None.
    """
    if path is not None:
        from assay.reporting.files import check_writable

        _require_one_format(path, form)
        check_writable(path, form)
    elif form not in (None, "text"):
        _results.append(sys.stdout)
        sys.stdout = sys.stderr


def _require_one_format(path: str, form: str | None) -> None:
    """Refuse a format that the file's own suffix contradicts."""
    from assay.reporting.files import SUFFIXES

    said = SUFFIXES.get(os.path.splitext(path)[1].lower())
    if form is not None and said is not None and said != form:
        raise UsageError(
            "--format",
            form,
            f"{said}, which the suffix of {path} says",
            "Leave --format out, or rename the file.",
        )


def give_back() -> None:
    """Let standard output be what it was before `check`."""
    while _results:
        sys.stdout = _results.pop()


def show(result: Result) -> None:
    """Print a result: in colour and as wide as the terminal; elsewhere as the same plain text always.

    Args:
        result: What was measured.
    """
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(result, crop=False)  # a traceback is wrapped by the terminal itself
    else:
        click.echo(str(result))


def leave(report: Report, path: str | None, form: str | None) -> int:
    """Print a report, and write it where `--output` says.

    Args:
        report: What was measured.
        path: The `--output`, or None.
        form: The `--format`, or None: by the suffix for a file, text for the terminal.

    Returns:
        The exit code.
    """
    give_back()
    if path is not None:
        report.save(path, form)
        form = "text"  # what goes to the terminal beside a file is for people
    if form in (None, "text"):
        show(report)
        if path is not None:
            click.echo(f"Written to {path}")
    else:
        data = report.render(str(form)).rstrip("\n")
        # a program reads it, as UTF-8 always; a stream that stands in for standard output may take text alone
        click.echo(data.encode("utf-8", "replace") if hasattr(sys.stdout, "buffer") else data)
    return report.exit_code


def optimizer(name: str | None, lr: float | None) -> Any:
    """The optimizer factory that `--optimizer` and `--lr` name.

    Args:
        name: `package.module:Name`, or None.
        lr: A learning rate, or None.

    Returns:
        A function from a model to its optimizer, or None.

    Raises:
        UsageError: If there is a rate but no optimizer, or the rate is no rate.
    """
    if name is None:
        if lr is not None:
            raise UsageError(
                "--lr", lr, "--optimizer beside it", "Add --optimizer torch.optim:SGD."
            )
        return None
    if lr is not None and not 0 < lr < float("inf"):
        raise UsageError("--lr", lr, "a finite number above 0", "Give --lr 0.01, say.")
    from assay.update.optimizer import optimizer_factory

    return optimizer_factory(name, **({} if lr is None else {"lr": lr}))


def section(
    name: str,
    target: str,
    sizes: tuple[str, ...],
    arguments: tuple[str, ...],
    path: str | None,
    form: str | None,
    **settings: Any,
) -> int:
    """Run one section of the report by itself.

    Args:
        name: The section.
        target: The TARGET word.
        sizes: The `--size` words.
        arguments: The `-a` words.
        path: The `--output`, or None.
        form: The `--format`, or None.
        **settings: Passed on to `assay.report`.

    Returns:
        The exit code.
    """
    check(path, form)
    build = builder(target, sizes, arguments)
    from assay.reporting.report import report

    with bar() as progress:
        result = report(build, sections=(name,), progress=progress, **settings)
    return leave(result, path, form)
