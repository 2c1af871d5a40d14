"""`assay ls PLACE`: what could be a target."""

from __future__ import annotations

import click


@click.command()
@click.argument("place")
def ls(place: str) -> int:
    """List the builders in PLACE (path/file.py or package.module) with their sizes."""
    from rich.console import Console
    from rich.table import Table

    from assay.builder import Builder
    from assay.place import import_place
    from assay.target import builders_in

    module = import_place(place, place)
    table = Table("target", "sizes", "about", box=None, pad_edge=False)
    for name in builders_in(module):
        value = getattr(module, name)
        build = value if isinstance(value, Builder) else Builder(value)
        about = (getattr(value, "__doc__", None) or "").strip().partition("\n")[0]
        sizes = ", ".join(f"{size}={default}" for size, default in build.sizes.items())
        table.add_row(f"{place}:{name}", sizes, about)
    Console().print(table)
    return 0
