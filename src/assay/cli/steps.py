"""`assay steps TARGET`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from assay.cli import options
from assay.errors import UsageError

if TYPE_CHECKING:
    from assay.subject import Subject
    from assay.update.optimizer import Make

_PLAIN = "torch.optim:SGD,torch.optim:RMSprop"


@click.command()
@options.target
@click.option(
    "--optimizers",
    metavar="PKG:NAME,…",
    default=_PLAIN,
    help="Two or more optimizers; the first one leads. [default: SGD and RMSProp]",
)
@click.option(
    "--optimizer",
    metavar="PKG:NAME",
    help="One more beside them; it leads where --optimizers is not given.",
)
@click.option("--lr", type=float, help="Learning rate of --optimizer. [default: its own]")
@click.option(
    "--norm",
    type=click.Choice(("parameter", "function", "loss")),
    default="parameter",
    show_default=True,
    help="What is made equal: ‖ΔΦ‖, the change of the outputs, or the predicted decrease.",
)
@click.option(
    "--warmup", type=int, default=10, show_default=True, help="Steps before the comparison."
)
@options.seed
@options.output
def steps(
    target: str,
    sizes: tuple[str, ...],
    arguments: tuple[str, ...],
    optimizers: str,
    optimizer: str | None,
    lr: float | None,
    norm: str,
    warmup: int,
    seed: int,
    path: str | None,
    form: str | None,
) -> int:
    """Do optimizers, scaled to equal norm, move TARGET the same way?

    An optimizer that raises is named with its reason and the others are compared; the exit code is then 3.
    """
    options.check(path, form)
    build = options.builder(target, sizes, arguments)
    from assay.reporting.memory import require_memory
    from assay.reporting.optimizers import compared, entered
    from assay.reporting.report import of_result
    from assay.state import preserved_random_state
    from assay.update.broadcast import told_as_finding
    from assay.update.compare import compare_steps

    makers = _makers(optimizers)
    extra = _extra(optimizer, lr, makers)
    if extra and optimizers != _PLAIN:
        makers |= [extra]
    _require_two(makers, optimizers)
    require_memory(build)
    with preserved_random_state(seed):
        subject = build()
    ours = optimizers == _PLAIN
    if ours:
        extra = extra or _own(subject)
        if extra:
            makers, ours = entered(*extra, makers, subject.model)
    with options.bar() as progress, told_as_finding():
        given = {"norm": norm, "warmup": warmup, "seed": seed, "progress": progress}
        if optimizers == _PLAIN:
            found = compared(makers, subject, ours=ours, **given)
        else:
            found = compare_steps(makers, subject, **given)  # type: ignore[arg-type]
    report = replace(of_result("step", target, found), sizes=dict(build.sizes))
    code = options.leave(report, path, form)
    for name, text in found.tracebacks:
        click.echo(f"{name} raised:\n{text}", err=True)
    return 3 if found.failed else code


def _makers(several: str) -> dict[str, Make]:
    """The optimizers by the names that a reader sees."""
    from assay.update.optimizer import optimizer_factory

    names = {"SGD": "SGD", "RMSprop": "RMSProp"} if several == _PLAIN else {}
    rate = {"lr": 0.01} if several == _PLAIN else {}  # as in the report
    makers: dict[str, Make] = {}
    for word in several.split(","):
        make = optimizer_factory(word.strip(), **rate)
        makers[_unused(names.get(make.__name__, make.__name__), word, makers)] = make
    return makers


def _require_two(makers: dict[str, Make], several: str) -> None:
    if len(makers) < 2:
        raise UsageError(
            "--optimizers",
            several,
            "two or more, with commas between",
            f"As in --optimizers {_PLAIN}.",
        )


def _extra(one: str | None, lr: float | None, makers: dict[str, Make]) -> tuple[str, Make] | None:
    """The one of `--optimizer`, with the name that a reader sees."""
    extra = options.optimizer(one, lr)
    return extra and (_unused(extra.__name__, str(one), makers), extra)


def _unused(name: str, word: str, taken: dict[str, Make]) -> str:
    if name not in taken:
        return name
    if word in taken:
        raise UsageError("--optimizers", word, "each optimizer once", "Leave one of them out.")
    return word


def _own(subject: Subject) -> tuple[str, Make] | None:
    """The subject's own optimizer, where it brings one."""
    from assay.reporting.optimizers import optimizer_name

    make = subject.optimizer
    return make and (optimizer_name(make, subject.model), make)
