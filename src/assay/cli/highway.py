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
    """Where do long paths of TARGET keep signal and gradient, and is a gate needed?"""
    return options.section("highway", target, sizes, arguments, path, form, seed=seed)
