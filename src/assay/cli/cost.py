"""`assay cost TARGET`."""

from __future__ import annotations

import click

from assay.cli import options
from assay.errors import UsageError


@click.command()
@options.target
@click.option(
    "--at",
    metavar="NAME=INTEGER,…",
    help="Also print the numbers at these sizes, as in --at n=131072,b=1.",
)
@options.output
def cost(
    target: str,
    sizes: tuple[str, ...],
    arguments: tuple[str, ...],
    at: str | None,
    path: str | None,
    form: str | None,
) -> int:
    """What do forward and backward cost, as exact formulas in TARGET's own sizes?"""
    options.check(path, form)
    point = options.integers("--at", tuple(at.split(","))) if at else {}
    build = options.builder(target, sizes, arguments)
    unknown = sorted(set(point) - set(build.sizes))
    if unknown:
        raise UsageError(
            "--at", unknown[0], f"a size of {target} ({', '.join(build.sizes)})", "See `assay ls`."
        )
    from assay.cost.cost import cost_of
    from assay.reporting.report import of_result

    with options.bar() as progress:
        result = cost_of(build, progress)
    code = options.leave(of_result("cost", target, result), path, form)
    if point and form in (None, "text"):
        full = {**build.sizes, **point}
        click.echo(f"At {', '.join(f'{k}={v}' for k, v in full.items())}:")
        for name, formula in result.formulas().items():
            number = f"{formula(**full):,}" if formula.holds(**full) else "no formula here"
            click.echo(f"  {name:<28} {number:>24}")
    return code
