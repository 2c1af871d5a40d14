"""`assay steps TARGET`."""

from __future__ import annotations

import click

from assay.cli import options


@click.command()
@options.target
@click.option(
    "--optimizer",
    metavar="PKG:NAME",
    help="A third optimizer beside SGD and RMSProp, as in torch.optim:AdamW.",
)
@click.option("--lr", type=float, help="Its learning rate. [default: the optimizer's own]")
@options.seed
@options.output
def steps(
    target: str,
    sizes: tuple[str, ...],
    arguments: tuple[str, ...],
    optimizer: str | None,
    lr: float | None,
    seed: int,
    path: str | None,
    form: str | None,
) -> int:
    """Do optimizers, scaled to equal norm, move TARGET the same way?"""
    make = options.optimizer(optimizer, lr)
    return options.section("step", target, sizes, arguments, path, form, seed=seed, optimizer=make)
