"""`assay scale TARGET`."""

from __future__ import annotations

import click

from assay.cli import options


@click.command()
@options.target
@options.seed
@options.output
def scale(
    target: str,
    sizes: tuple[str, ...],
    arguments: tuple[str, ...],
    seed: int,
    path: str | None,
    form: str | None,
) -> int:
    """Does every unit of TARGET start with zero mean and unit variance?"""
    return options.section("scale", target, sizes, arguments, path, form, seed=seed)
