"""`assay bound`: the arithmetic of a certificate alone."""

from __future__ import annotations

import click

from assay.cli import options


@click.command()
@click.option("--errors", type=int, required=True, help="Wrong training examples.")
@click.option("--examples", type=int, required=True, help="Training examples, N.")
@click.option("--bits", type=int, required=True, help="Length of the model's code word.")
@click.option("--delta", type=float, default=0.05, show_default=True, help="The risk.")
def bound(errors: int, examples: int, bits: int, delta: float) -> int:
    """What do these counts certify? No model, no data: arithmetic."""
    from assay.certificate.bounds import bound as compute

    options.show(compute(errors, examples, bits, delta))
    return 0
