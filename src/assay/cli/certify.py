"""`assay certify TARGET`."""

from __future__ import annotations

import click

from assay.cli import options


@click.command()
@options.target
@click.option("-o", "--output", "path", type=click.Path(dir_okay=False), help="The .assay file.")
@click.option("--delta", type=float, default=0.05, show_default=True, help="The claim's risk.")
@options.seed
def certify(
    target: str,
    sizes: tuple[str, ...],
    arguments: tuple[str, ...],
    path: str | None,
    delta: float,
    seed: int,
) -> int:
    """How far can the training error of TARGET be trusted?

    With --output it writes a file that anyone can verify.
    """
    if path is not None:
        from assay.reporting.files import check_writable

        check_writable(path, "assay")
    build = options.builder(target, sizes, arguments)
    from assay.certificate.certify import certify as make

    with options.bar() as progress:
        certificate = make(build, None, delta=delta, seed=seed, progress=progress)
    if path is not None:
        certificate.save(path)
    options.show(certificate)
    if path is not None:
        click.echo(f"Written to {path}; check it with `assay verify {path} {target}`.")
    return int(any(finding.fails for finding in certificate.findings))
