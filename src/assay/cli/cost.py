"""`assay cost TARGET`."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from assay.cli import options
from assay.errors import AssayError, CannotMeasure, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assay.builder import Builder
    from assay.cost.asked import Asked
    from assay.cost.cost import Cost
    from assay.cost.seconds import Seconds
    from assay.progress import Progress
    from assay.reporting.report import Report

_BUDGET = 60.0  # seconds
_MEMORY = 0.5  # of what is free: an allocator's slack, and whoever else runs here


@click.command()
@options.target
@click.option(
    "--at",
    multiple=True,
    metavar="NAME=INTEGER,…",
    help="Also print the numbers at these sizes, as in --at n=131072,b=1.",
)
@options.single(
    "--solve",
    metavar="NAME",
    help="The largest value of this size that fits a budget.",
)
@options.single(
    "--fit-memory",
    "memory",
    metavar="BYTES",
    help="The budget of --solve for a training step's peak with Adam's state, as in 80GB or 24GiB.",
)
@options.single(
    "--fit-flops",
    "flops",
    metavar="FLOPS",
    help="The budget of --solve for a training step, as in 1e15.",
)
@options.single(
    "--compare",
    metavar="TARGET",
    help="Another target: the difference, and who overtakes where.",
)
@click.option(
    "--by",
    type=click.Choice(("module", "operator", "class", "line")),
    help="Break flops, operations and bytes down, in every format.",
)
@click.option(
    "--fused",
    is_flag=True,
    help="Attention and dropout as the single kernels that a GPU runs: its memory, and its products.",
)
@click.option(
    "--time",
    "timed",
    is_flag=True,
    help="Measure seconds at growing sizes, and say which of the derived laws they follow.",
)
@click.option(
    "--budget",
    type=float,
    metavar="SECONDS",
    help="How long --time may measure, about. [default: 60]",
)
@options.output
def cost(
    target: str,
    sizes: tuple[str, ...],
    arguments: tuple[str, ...],
    at: tuple[str, ...],
    solve: str | None,
    memory: str | None,
    flops: str | None,
    compare: str | None,
    by: str | None,
    fused: bool,
    timed: bool,
    budget: float | None,
    path: str | None,
    form: str | None,
) -> int:
    """What does a step of TARGET cost, as formulas in its own sizes?"""
    start = time.perf_counter()
    options.check(path, form)
    others = {
        "--at": ",".join(at) if at else None,
        "--solve": solve,
        "--fit-memory": memory,
        "--fit-flops": flops,
        "--compare": compare,
        "--by": by,
        "--fused": "given" if fused else None,
    }
    _check_time(timed, budget, others)
    if timed:
        build = options.builder(target, sizes, arguments)
        found = _timed(build, budget or _BUDGET)
        return options.leave(_reported(target, found, start), path, form)
    point = options.integers("--at", tuple(word for words in at for word in words.split(",")))
    budgeted = memory is not None or flops is not None
    if (solve is not None) != budgeted:
        raise UsageError(
            "--solve" if budgeted else "--fit-memory or --fit-flops",
            None,
            "--solve together with --fit-memory or --fit-flops",
            "As in --solve n --fit-memory 80GB.",
        )
    build = options.builder(target, sizes, arguments)
    second = None if compare is None else options.builder(compare, (), ())
    for option, names in (("--at", point), ("--solve", [] if solve is None else [solve])):
        unknown = sorted(set(names) - set(build.sizes))
        if unknown:
            known = ", ".join(build.sizes) or "it has none"
            raise UsageError(option, unknown[0], f"a size of {target} ({known})", "See `assay ls`.")
    from assay.cost.budget import amount

    given = (("memory", memory), ("flops", flops))
    budgets = {kind: amount(text, f"--fit-{kind}") for kind, text in given if text is not None}
    from assay.cost.asked import compared, largest, not_found, numbers
    from assay.cost.cost import cost_of
    from assay.cost.counted import Counter

    with options.bar() as progress:
        result = replace(_derived(build, point, progress, fused=fused), by=by or "")
        other = None if second is None else cost_of(second, progress, fused=fused)
    full = {**build.sizes, **point}
    counter = Counter(build, result.way, fused=fused)
    there = numbers(result, full, counter) if point else None
    answers: list[Asked] = [there] if there else []
    failures: list[AssayError] = [there.missing] if there and there.missing else []
    for kind, within in budgets.items():
        try:
            answers.append(largest(result, solve or "", kind, within, full, counter))
        except CannotMeasure as error:
            # the formulas, and the other answers, are shown all the same
            answers.append(not_found(solve or "", kind, within, full, counter, error))
            failures.append(error)
    answers += [compared(result, other, full)] if other is not None else []
    result = replace(result, asked=tuple(answers or result.asked))
    code = options.leave(_reported(target, result, start), path, form)
    if failures:
        raise failures[0]
    return code


def _derived(build: Builder, point: Mapping[str, int], progress: Progress, *, fused: bool) -> Cost:
    """The formulas; a size that is asked for at 1, where other operators may run, is 1 in use."""
    from assay.cost.cost import cost_of

    ones = {name: 1 for name, value in point.items() if value == 1 != build.sizes[name]}
    if ones:
        with suppress(AssayError):  # it may not run there with the other sizes as they are
            found = cost_of(build.with_(sizes=ones), progress, fused=fused)
            if found.flops.forward.holds(**found.base):
                return found
    return cost_of(build, progress, fused=fused)


def _check_time(timed: bool, budget: float | None, others: Mapping[str, str | None]) -> None:
    """Refuse combinations that would leave one of two questions without an answer.

    Raises:
        UsageError: If --time stands beside another question, or --budget without it.
    """
    if budget is not None:
        if not timed:
            raise UsageError("--budget", budget, "--time beside it", "Add --time, or leave it out.")
        if not 0 < budget < float("inf"):
            raise UsageError(
                "--budget", budget, "a finite number of seconds above 0", "As in --budget 60."
            )
    for option, value in others.items() if timed else ():
        if value is not None:
            raise UsageError(
                option,
                value,
                "it without --time, which measures and does not count",
                "Ask one after the other; --size says where --time starts.",
            )


def _reported(target: str, result: Cost | Seconds, start: float) -> Report:
    """A report that says at which sizes, and how long the whole command took until now."""
    from assay.reporting.report import of_result

    took = time.perf_counter() - start
    return of_result("cost", target, result, sizes=result.base, seconds=took)


def _timed(build: Builder, budget: float) -> Seconds:
    from assay.cost.seconds import measure_seconds
    from assay.memory import available_memory
    from assay.reporting.memory import require_memory

    require_memory(build)
    free = available_memory()
    with options.bar() as progress:
        return measure_seconds(
            build, budget=budget, memory=free and int(free * _MEMORY), progress=progress
        )
