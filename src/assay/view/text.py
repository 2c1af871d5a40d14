"""Results in the terminal: the same blocks as the page, in characters."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from assay.finding import Finding, Number, ranked
from assay.view.blocks import Arcs, Bars, Block, Formulas, Lines, Paragraph, Table, View
from assay.view.grid import write_formulas, write_table
from assay.view.pieces import MOST, hanging, prose
from assay.view.prose import clean
from assay.view.sparks import write_angle, write_arcs, write_bars, write_lines

WIDTH = 100  # of the plain text, so that it is the same on every machine
SEVERITIES = {
    "error": ("✗", "bold red"),
    "warning": ("!", "bold yellow"),
    "note": ("·", "bold cyan"),
}


def to_text(view: View, findings: Sequence[Finding] = ()) -> str:
    """Plain text, 100 columns wide, without colour: the same on every machine.

    Args:
        view: What to show.
        findings: What broke an expectation.

    Returns:
        The text; it ends without a newline.

    Example:
        >>> print(to_text(View("Cost", "What does a step cost?", "`2*n` operations.")))
        Cost
        What does a step cost?
        <BLANKLINE>
        2*n operations.
    """
    return render(to_rich(view, findings))


def render(content: RenderableType) -> str:
    """Print any rich renderable as the plain text of `to_text`.

    Args:
        content: What to print.

    Returns:
        The text, without trailing spaces.
    """
    console = Console(
        file=io.StringIO(),
        width=WIDTH,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
        _environ={},  # neither COLUMNS nor FORCE_COLOR changes a result's text
    )
    with console.capture() as captured:
        console.print(content, crop=False)  # lines of tracebacks are as long as they are
    return "\n".join(row.rstrip() for row in captured.get().splitlines()).strip("\n")


def to_rich(view: View, findings: Sequence[Finding] = ()) -> RenderableType:
    """What a rich console prints: answer first, then findings, pictures, tables and notes.

    Args:
        view: What to show.
        findings: What broke an expectation.

    Returns:
        A rich renderable.
    """
    parts: list[RenderableType] = [Text(clean(view.title), style="bold")]
    if view.question:
        parts.append(prose(view.question, "dim"))
    parts += [Text(""), prose(view.answer, "bold")]
    parts += findings_block(findings)
    for block in view.blocks:
        parts += [Text(""), *_block(block)]
    if view.notes:
        parts.append(Text(""))
        parts += [hanging("·", prose(note, "dim"), "dim") for note in view.notes]
    return Group(*parts)


def findings_block(findings: Sequence[Finding]) -> list[RenderableType]:
    """Findings in the order of their importance, the first dozen in full.

    Args:
        findings: In any order.

    Returns:
        Renderables, with an empty line before each finding.
    """
    parts: list[RenderableType] = []
    order = ranked(tuple(findings))
    for finding in order[:MOST]:
        parts += [Text(""), _finding(finding)]
    if len(order) > MOST:
        parts += [Text(""), Text(f"… and {len(order) - MOST} more findings", style="dim")]
    return parts


def _finding(finding: Finding) -> RenderableType:
    mark, style = SEVERITIES[finding.severity]
    head = Text(f"{mark} {finding.severity}", style=style)
    head.append(f"  {clean(finding.rule)}", style="dim")
    if finding.where is not None:
        head.append(f"  {clean(finding.where.short)}", style="cyan")
    if finding.module:
        head.append(f"  {clean(finding.module)}", style="dim")
    rows: list[tuple[str, RenderableType]] = []
    if finding.where is not None and finding.where.code:
        rows.append(("code", Text(clean(finding.where.code), style="cyan")))
    rows.append(("expected", _number(finding.expected, finding.theory)))
    rows.append(("measured", _number(finding.measured)))
    if finding.repair:
        rows.append(("repair", prose(finding.repair, "green")))
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, content in rows:
        grid.add_row(name, content)
    return Group(head, Padding(prose(finding.message), (0, 0, 0, 2)), Padding(grid, (0, 0, 0, 2)))


def origin(value: Number, theory: str = "") -> str:
    """How a number was had, in a few words; "measured" goes without saying beside a measurement.

    Args:
        value: The number.
        theory: The row of the theory that an expectation rests on.

    Returns:
        As in "formula, ratio of RMS norms, theory H2".
    """
    method = "" if value.method == "measured" else value.method
    return ", ".join(
        part for part in (method, value.convention, theory and f"theory {theory}") if part
    )


def _number(value: Number, theory: str = "") -> Text:
    text = Text(clean(value), style="bold")
    said = clean(origin(value, theory))
    return text.append(f"  ({said})", style="dim not bold") if said else text


def _block(block: Block) -> list[RenderableType]:
    if isinstance(block, Table):
        return write_table(block)
    if isinstance(block, Paragraph):
        return [prose(block.text)]
    if isinstance(block, Formulas):
        return write_formulas(block)
    if isinstance(block, Lines):
        return write_lines(block)
    if isinstance(block, Bars):
        return write_bars(block)
    if isinstance(block, Arcs):
        return write_arcs(block)
    return write_angle(block)
