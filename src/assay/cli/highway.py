"""`assay highway TARGET`."""

from __future__ import annotations

import click

from assay.cli import options


@click.command()
@options.target
@options.seed
@options.output
def highway(
    target: str,
    sizes: tuple[str, ...],
    arguments: tuple[str, ...],
    seed: int,
    path: str | None,
    form: str | None,
) -> int:
    """Do long paths of TARGET keep signal and gradient?

    Where its skip paths are, what lies on them, what survives, and whether a gate is needed.
    """
    return options.section("highway", target, sizes, arguments, path, form, seed=seed)
