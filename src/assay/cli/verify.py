"""`assay verify FILE TARGET`."""

from __future__ import annotations

import click

from assay.cli import options


@click.command()
@click.argument("certificate", type=click.Path(dir_okay=False))
@options.target
def verify(
    certificate: str, target: str, sizes: tuple[str, ...], arguments: tuple[str, ...]
) -> int:
    """Check every claim of a CERTIFICATE on TARGET.

    The claims are held against TARGET's own architecture and examples.

    Nothing in the file is trusted or run: the code word is decoded, the errors are counted again,
    and the bounds are computed again.
    """
    build = options.builder(target, sizes, arguments)
    from assay.certificate.verify import verify as check

    with options.bar() as progress:
        verification = check(certificate, build, None, progress=progress)
    options.show(verification)
    return int(any(finding.fails for finding in verification.findings))
