"""`assay units OPTIMIZER`, `assay units --all`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from assay.cli import options
from assay.errors import UsageError

if TYPE_CHECKING:
    from assay.finding import Result

_EXAMPLES = """\b
Examples:
  assay units torch.optim:Adam -a lr=1e-3
  assay units torch.optim:Adam --on net.py:mlp
  assay units --all --package pytorch_optimizer --output table.html
"""
_DTYPES = ("float64", "float32", "bfloat16")


@click.command(epilog=_EXAMPLES)
@click.argument("optimizer", required=False)
@click.option("-a", "arguments", metavar="NAME=VALUE", multiple=True, help="As in -a lr=1e-3.")
@click.option("--on", "target", metavar="TARGET", help="Your own model instead of the reference.")
@click.option("--size", "sizes", metavar="NAME=INTEGER", multiple=True, help="A size of TARGET.")
@click.option("--all", "everything", is_flag=True, help="One table of all of torch.optim.")
@click.option(
    "--package",
    "packages",
    metavar="MODULE",
    multiple=True,
    help="One table of every optimizer of this module; may be repeated, and beside --all.",
)
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(_DTYPES),
    default="float64",
    show_default=True,
    help="Precision of the training.",
)
@options.seed
@options.output
def units(
    optimizer: str | None,
    arguments: tuple[str, ...],
    target: str | None,
    sizes: tuple[str, ...],
    everything: bool,
    packages: tuple[str, ...],
    steps: int,
    dtype: str,
    seed: int,
    path: str | None,
    form: str | None,
) -> int:
    """Which units does training with OPTIMIZER secretly depend on?

    With --on: which units of your own model and data, feature by feature. With --all or --package: one table;
    an optimizer that raises stands in it with its reason, and the exit code is then 3.
    """
    options.check(path, form)
    chosen = options.pairs("-a", arguments)
    _check(optimizer, target, sizes, everything, packages, chosen)
    if optimizer is None:
        names = (*(("torch.optim",) if everything else ()), *packages)
        return _table(names, steps, dtype, path, form)
    import torch

    from assay.reporting.report import of_result
    from assay.update.audit import audit_units
    from assay.update.optimizer import optimizer_factory

    make = optimizer_factory(optimizer, **chosen)
    problem = _subject(target, sizes, seed) if target is not None else None
    kind = getattr(torch, dtype)
    with options.bar() as progress:
        card: Result = audit_units(
            make, problem, name=optimizer, steps=steps, dtype=kind, progress=progress
        )
    return options.leave(of_result("units", target or optimizer, card), path, form)


def _subject(target: str, sizes: tuple[str, ...], seed: int) -> Any:
    from assay.reporting.memory import require_memory
    from assay.state import preserved_random_state

    build = options.builder(target, sizes, ())
    require_memory(build)
    with preserved_random_state(seed):
        return build()


def _table(
    places: tuple[str, ...], steps: int, dtype: str, path: str | None, form: str | None
) -> int:
    import torch

    from assay.reporting.report import of_result
    from assay.update.table import audit_many, optimizers_of
    from assay.update.world import Problem

    found: dict[str, Any] = {}
    for place in places:
        for name, find in optimizers_of(place).items():
            found[name if name not in found else f"{name} ({place})"] = find
    with options.bar() as progress:
        problem = Problem(steps=steps, dtype=getattr(torch, dtype))
        table = audit_many(found, problem, progress=progress)
    code = options.leave(of_result("units", ", ".join(places), table), path, form)
    return 3 if table.failed else code


def _check(
    optimizer: str | None,
    target: str | None,
    sizes: tuple[str, ...],
    everything: bool,
    packages: tuple[str, ...],
    arguments: dict[str, Any],
) -> None:
    many = everything or bool(packages)
    if optimizer is None and not many:
        raise UsageError(
            "OPTIMIZER", optimizer, "package.module:name, or --all", "As in torch.optim:Adam."
        )
    if optimizer is not None and many:
        raise UsageError(
            "OPTIMIZER", optimizer, "no single one beside --all and --package", "Leave one out."
        )
    if many and (target is not None or arguments):
        what = "--on" if target is not None else "-a"
        raise UsageError(
            what,
            target or arguments,
            "a single OPTIMIZER beside it",
            f"Leave out {what}: a table is of default options on the reference problem.",
        )
    if sizes and target is None:
        raise UsageError("--size", sizes[0], "--on TARGET beside it", "Add --on net.py:mlp.")
