"""`assay ls PLACE`: what could be a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from assay.builder import Builder

_REST = 40  # columns beside a target; a narrower window wraps the lines by itself


@click.command()
@click.argument("place")
def ls(place: str) -> int:
    """List the builders in PLACE, with their sizes.

    PLACE is path/file.py or package.module; of a whole TARGET, as hf:gpt2, the list has one row.
    """
    found = _found(place)
    if not found:
        click.echo(
            f"{place} has no builders: no function or module of its own that needs nothing but sizes. "
            "Name a file, or a module of a package, in which there are some."
        )
        return 0
    from rich.console import Console
    from rich.table import Table

    longest = max(map(len, found))
    table = Table(box=None, pad_edge=False)
    table.add_column("target", no_wrap=True, min_width=longest)  # it is copied: never cut
    table.add_column("sizes", overflow="fold")
    table.add_column("about", overflow="fold")
    for target, (build, about) in found.items():
        sizes = ", ".join(f"{size}={default}" for size, default in build.sizes.items())
        table.add_row(target, sizes, about)
    console = Console()
    console.width = max(console.width, longest + _REST)
    console.print(table)
    return 0


def _found(place: str) -> dict[str, tuple[Builder, str]]:
    """The builders by their targets, each with the first line of what its author says of it."""
    from assay.builder import Builder
    from assay.place import import_place
    from assay.target import builders_in, load

    if ":" in place and not place.endswith(".py"):
        build = load(place)
        return {place: (build, _first_line(build.function))}
    module = import_place(place, place, "place")
    values = {f"{place}:{name}": getattr(module, name) for name in builders_in(module)}
    return {
        target: (value if isinstance(value, Builder) else Builder(value), _first_line(value))
        for target, value in values.items()
    }


def _first_line(value: object) -> str:
    return (getattr(value, "__doc__", None) or "").strip().partition("\n")[0]
