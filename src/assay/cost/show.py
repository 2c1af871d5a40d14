"""How a cost is shown: formulas, growth along one size, and tables by class and by module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.view.blocks import Column, Formulas, Lines, Paragraph, Series, Table, View

if TYPE_CHECKING:
    from assay.cost.cost import Cost, Phases
    from assay.cost.formula import Formula

QUESTION = "What do forward and backward cost, as an exact formula in your own sizes?"
_WAYS = {
    "meta": "Derived on the meta device: nothing was allocated.",
    "fake": "Derived on fake tensors: nothing was allocated.",
    "moved": "The model was built for real, then run on the meta device.",
    "real": "The model looks at values, so it was run for real at every size.",
}
_POINTS = 13


def show(cost: Cost) -> View:
    """The view of a cost.

    Args:
        cost: The formulas.

    Returns:
        The view.
    """
    if cost.flops.forward.reason:
        return View("Cost", QUESTION, f"No formula: {cost.flops.forward.reason}", _counts(cost))
    return View(
        "Cost",
        QUESTION,
        _answer(cost),
        (
            Formulas(
                tuple((name, str(formula)) for name, formula in cost.formulas().items()),
                "Exact in the sizes. Flops: multiplications and additions of matrix products and "
                "convolutions, two for each pair. Operations: all arithmetic.",
            ),
            *_growth(cost),
            _by_class(cost),
            _by_module(cost),
        ),
        _notes(cost),
    )


def _answer(cost: Cost) -> str:
    forward, backward = cost.flops.forward, cost.flops.backward
    if not forward.terms:
        return f"There are no matrix products; all operations together are {cost.order}."
    at = ", ".join(f"{name}={value}" for name, value in cost.base.items())
    text = (
        f"A forward pass costs `{forward}` operations in matrix products and convolutions, "
        f"{forward.order}"
    )
    lengths = [name for name in ("n", "m") if name in forward.names]
    if len(lengths) == 2 and len(forward.names) > 2:
        text += f"; {forward.order_in(*lengths)} in n and m alone"
    text += "."
    if backward.terms:
        ratio = backward(**cost.base) / forward(**cost.base)
        text += f" The backward pass costs {ratio:.2f} times that" + (f" at {at}." if at else ".")
    return text


def _growth(cost: Cost) -> list[Lines]:
    """Operations of a training step by class, against the size in which they grow fastest."""
    total = cost.operations.total
    names = sorted(total.names, key=lambda name: -total.degree(name))
    if not names or not total.degree(names[0]):
        return []
    # a length, where there is one that the cost grows in: it is what users vary
    name = next((n for n in ("n", *names) if n in names and total.degree(n)), names[0])
    start, step = total.lattice(name)
    points = []
    for k in range(_POINTS):
        x = max(cost.base[name], start) * 2**k
        x = x - (x - start) % step
        points.append(x)
    points = sorted(set(points))
    lines = []
    for kind, phases in cost.by_class.items():
        y = [phases.total(**{**cost.base, name: x}) for x in points]
        if any(y):
            lines.append(Series(kind, points, y))
    moved = [cost.bytes.total(**{**cost.base, name: x}) for x in points]
    lines.append(Series("bytes moved", points, moved, "dashed"))
    return [
        Lines(
            tuple(lines),
            name,
            "operations",
            f"One training step against {name}, other sizes at their base",
            log_x=True,
            log_y=True,
        )
    ]


def _by_class(cost: Cost) -> Table:
    columns = (
        Column("operator class"),
        Column("forward", "operations", code=True),
        Column("backward", "operations", code=True),
        Column("at base", "operations", "right"),
    )
    some = {kind: p for kind, p in cost.by_class.items() if p.total.terms}
    return _table(columns, some, cost, "All arithmetic by operator class.")


def _by_module(cost: Cost) -> Table:
    columns = (
        Column("module", code=True),
        Column("forward", "flops", code=True),
        Column("backward", "flops", code=True),
        Column("at base", "flops", "right"),
    )
    return _table(
        columns, cost.modules, cost, "Matrix products and convolutions by module, dearest first."
    )


def _table(
    columns: tuple[Column, ...], phases: Mapping[str, Phases], cost: Cost, caption: str
) -> Table:
    ranked = sorted(phases.items(), key=lambda item: -_at(item[1].total, cost))
    rows = tuple(
        (name or "(the model itself)", str(p.forward), str(p.backward), f"{_at(p.total, cost):,}")
        for name, p in ranked
    )
    return Table(columns, rows, caption)


def _at(formula: Formula, cost: Cost) -> int:
    return formula(**cost.base)


def _counts(cost: Cost) -> tuple[Paragraph, ...]:
    sizes = ", ".join(f"{k}={v}" for k, v in cost.base.items())
    return (
        Paragraph(f"Fix a size with `-a name=value` to derive the others; base sizes {sizes}."),
    )


def _notes(cost: Cost) -> tuple[str, ...]:
    domain = str(cost.flops.forward.domain)
    far = [", ".join(f"{k}={v}" for k, v in sizes.items()) for sizes in cost.checked]
    widest = max(far, key=len, default="")
    notes = [
        _WAYS[cost.way],
        f"Every formula was checked, to the integer, at {len(cost.checked)} sizes that it was not fitted "
        f"on{f' (one of them: {widest})' if widest else ''}.",
    ]
    if domain:
        notes.append(f"Valid for {domain}; elsewhere the formula refuses to answer.")
    notes.append(
        "Bytes are what operators read and write, unfused. Saved bytes are what autograd keeps for the "
        "backward pass, parameters left out."
    )
    if cost.uncounted:
        notes.append(f"Not counted: {', '.join(cost.uncounted)}.")
    return tuple(notes)
