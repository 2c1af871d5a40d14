"""`assay report TARGET`: the main job."""

from __future__ import annotations

import click

from assay.cli import options

_EXAMPLES = """\b
Examples:
  assay report examples/g2p.py:attention --output report.html
  assay report hf:gpt2 -a n_layer=2 --size n=32
"""


@click.command(epilog=_EXAMPLES)
@options.target
@click.option(
    "--optimizer",
    metavar="PKG:NAME",
    help="The optimizer in use, as in torch.optim:AdamW. [default: the subject's own, else SGD]",
)
@click.option("--lr", type=float, help="Its learning rate. [default: the optimizer's own]")
@click.option(
    "--delta", type=float, default=0.05, show_default=True, help="The certificate's risk."
)
@options.seed
@options.output
def report(
    target: str,
    sizes: tuple[str, ...],
    arguments: tuple[str, ...],
    optimizer: str | None,
    lr: float | None,
    delta: float,
    seed: int,
    path: str | None,
    form: str | None,
) -> int:
    """Ask all six questions of TARGET, on one page."""
    options.check(path, form)
    build = options.builder(target, sizes, arguments)
    make = options.optimizer(optimizer, lr)
    from assay.reporting.report import report as measure

    with options.bar() as progress:
        result = measure(build, delta=delta, optimizer=make, seed=seed, progress=progress)
    return options.leave(result, path, form)
