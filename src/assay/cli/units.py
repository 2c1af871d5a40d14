"""`assay units OPTIMIZER`."""

from __future__ import annotations

import click

from assay.cli import options


@click.command()
@click.argument("optimizer")
@click.option("-a", "arguments", metavar="NAME=VALUE", multiple=True, help="As in -a lr=1e-3.")
@options.output
def units(optimizer: str, arguments: tuple[str, ...], path: str | None, form: str | None) -> int:
    """Which units does training with OPTIMIZER secretly depend on?

    As in `assay units torch.optim:Adam -a lr=1e-3`.
    """
    options.check(path, form)
    chosen = options.pairs("-a", arguments)
    from assay.reporting.report import of_result
    from assay.update.audit import audit_units
    from assay.update.optimizer import optimizer_factory

    make = optimizer_factory(optimizer, **chosen)
    with options.bar() as progress:
        card = audit_units(make, name=optimizer, progress=progress)
    return options.leave(of_result("units", optimizer, card), path, form)
