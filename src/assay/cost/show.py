"""How a cost is shown: formulas, growth along one size, and tables by class and by module."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from assay.cost.growth import at_sizes, growth
from assay.cost.piece import beyond
from assay.cost.quotient import split
from assay.errors import say
from assay.view.blocks import Column, Formulas, Paragraph, Table, View
from assay.view.prose import listed
from assay.where import location

if TYPE_CHECKING:
    from assay.cost.cost import Cost
    from assay.cost.formula import Formula
    from assay.cost.phases import Phases
    from assay.cost.piece import Piece

QUESTION = "What do forward and backward cost, as an exact formula in your own sizes?"
_WAYS = {
    "meta": "Derived on the meta device, without data.",
    "traced": "Derived on the meta device, without data, as if traced for compilation.",
    "fake": "Derived on fake tensors, without data.",
    "moved": "The model was built for real, then run on the meta device.",
    "real": "The model looks at values, so it was run for real at every size.",
}
_EXACT, _PIECES = (
    "Exact in the sizes.",
    "Exact in the sizes, each law for those that stand beside it.",
)
_CONVENTIONS = (
    "Flops: multiplications and additions of matrix products and convolutions, two for each pair. "
    "Operations: all arithmetic."
)
_UNFUSED = (
    "Attention is counted unfused: two products forward and four backward. On a GPU one kernel does five "
    "backward, and keeps no scores: ask with --fused for the memory that it takes there."
)
_FUSED_ATTENTION = (
    "Attention is a single kernel, as on a GPU: it keeps its inputs, its output and a number for each "
    "query, and does five products backward."
)
_FUSED_DROPOUT = "Dropout is a single kernel, as on a GPU: it keeps a byte for each element."
_NOT_FUSED = "There is neither attention nor dropout that --fused could make a single kernel."
_ROWS = 40  # of a breakdown that was asked for
_LAWS = 3  # rivals of a peak that are still written out


def show(cost: Cost) -> View:
    """The view of a cost.

    Args:
        cost: The formulas.

    Returns:
        The view.
    """
    if cost.flops.forward.reason:
        answers = [block for answer in cost.asked for block in answer.blocks()]
        said = (*answers, *_counts(cost))
        return View("Cost", QUESTION, f"No formula: {cost.flops.forward.reason}", said)
    return View(
        "Cost",
        QUESTION,
        _answer(cost),
        (
            Formulas(
                tuple(
                    (name, _written(name, formula, cost))
                    for name, formula in cost.formulas().items()
                ),
                f"{_PIECES if cost.status == 'piecewise' else _EXACT} {_CONVENTIONS}",
            ),
            *(block for answer in cost.asked for block in answer.blocks()),
            *growth(cost),
            *([_chosen(cost)] if cost.by else [_by_class(cost), _by_module(cost)]),
        ),
        _notes(cost),
    )


def _answer(cost: Cost) -> str:
    forward, backward = cost.products.forward, cost.products.backward
    if forward.is_zero:
        return f"There are no matrix products; all operations together are {cost.order}."
    at = say(cost.base)
    text = (
        f"A forward pass costs `{_law(forward, cost)}` operations in matrix products and convolutions, "
        f"{forward.order}"
    )
    lengths = [name for name in ("n", "m") if name in forward.needed]
    if len(lengths) == 2 and len(forward.needed) > 2:
        text += f"; {forward.order_in(*lengths)} in n and m alone"
    text += "."
    if not backward.is_zero and backward.holds(**cost.base) and forward.holds(**cost.base):
        ratio = backward(**cost.base) / forward(**cost.base)
        text += f" The backward pass costs {ratio:.2f} times that" + (f" at {at}." if at else ".")
    return text


def _counted(name: str, cost: Cost) -> int:
    """What one of the headline quantities was at the base sizes; 0 where nobody kept it."""
    if name == "peak bytes":
        return cost.peak_at_base.bytes if cost.peak_at_base else 0
    quantity, _, phase = name.partition(", ")
    done = cost.parts.base if cost.parts else {}
    return sum(
        {"operations": amount.operations, "bytes": amount.moved}.get(quantity, 0)
        for part, amount in done.items()
        if part.phase == phase
    )


def _written(name: str, formula: Formula, cost: Cost) -> str:
    """A formula as text; of a peak with many laws only how many there are, and which one rules here."""
    if formula.reason:
        counted = _counted(name, cost)
        at = f"at {say(cost.base)}" if cost.base else "once"
        return f"no formula; counted {at}: {counted:,}" if counted else "no formula"
    if not _shortened(formula, cost):
        return _law(formula, cost)
    rivals = max(len(piece.rivals) for piece in formula.pieces)
    piece = next(p for p in formula.pieces if p.covers(cost.base))
    ruling = max(piece.every, key=lambda p: p.fraction(cost.base))
    return f"the largest of {rivals + 1} laws, at the base sizes {ruling}"


def _shortened(formula: Formula, cost: Cost) -> bool:
    """Whether a formula has too many laws to be written out."""
    rivals = max((len(piece.rivals) for piece in formula.pieces), default=0)
    return rivals >= _LAWS and formula.holds(**cost.base)


def _law(formula: Formula, cost: Cost) -> str:
    """A formula as text; where it ends as the flops do, the notes say where that is."""
    if formula.reason:
        return "no formula"
    pieces, main = formula.pieces, cost.flops.forward.pieces
    if len(pieces) == 1 and len(main) == 1 and _ends(pieces[0]) == _ends(main[0]):
        return str(pieces[0])
    return str(formula)


def _ends(piece: Piece) -> dict[str, tuple[int | None, int]]:
    """Where a piece ends, and by what steps its sizes go; not where it begins."""
    return {name: (span.high, span.step) for name, span in piece.where}


def _by_class(cost: Cost) -> Table:
    columns = (
        Column("operator class"),
        Column("forward", "operations", code=True),
        Column("backward", "operations", code=True),
        Column("at base", "operations", "right"),
    )
    some = {kind: p for kind, p in cost.by_class.items() if not p.total.is_zero}
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


def _chosen(cost: Cost) -> Table:
    """The breakdown that was asked for, in full: flops, operations, bytes, and the share of the whole."""
    found = cost.breakdown(cost.by)
    done = sum(share.base.operations for share in found.values()) or 1
    moved = sum(share.base.moved for share in found.values()) or 1
    columns = (
        Column(cost.by, code=True),
        Column("of operations", "%", "right"),
        Column("of bytes", "%", "right"),
        Column("flops", code=True),
        Column("operations", code=True),
        Column("bytes at base", align="right"),
    )
    rows = tuple(
        (
            _named(name, cost.by),
            f"{100 * share.base.operations / done:.2f}",
            f"{100 * share.base.moved / moved:.2f}",
            _of(share.flops, cost),
            _of(share.operations, cost),
            f"{share.base.moved:,}",
        )
        for name, share in found.items()
    )
    caption = f"A training step, forward and backward, by {cost.by}; shares at the base sizes."
    return Table(columns, rows, caption, shown=_ROWS)


def _named(name: str, by: str) -> str:
    where = location(name) if by == "line" else None
    if where:
        return where.short
    return name or {"line": "(torch)", "module": "(the model itself)"}.get(by, "other")


def _of(phases: Phases, cost: Cost) -> str:
    total = phases.total
    return _law(total, cost) if total.pieces else "no formula"


def _table(
    columns: tuple[Column, ...], phases: Mapping[str, Phases], cost: Cost, caption: str
) -> Table:
    ranked = sorted(phases.items(), key=lambda item: -_at(item[1].total, cost))
    rows = tuple(
        (
            name or "(the model itself)",
            _law(p.forward, cost),
            _law(p.backward, cost),
            _number(p.total, cost),
        )
        for name, p in ranked
    )
    return Table(columns, rows, caption)


def _at(formula: Formula, cost: Cost) -> int:
    return at_sizes(formula, cost.base)


def _number(formula: Formula, cost: Cost) -> str:
    return f"{formula(**cost.base):,}" if formula.holds(**cost.base) else "–"


def _everywhere(pieces: tuple[Piece, ...]) -> bool:
    """Whether pieces that follow each other along one size leave nothing out."""
    limited = {
        name for piece in pieces for name, span in piece.where if split(name) or span.text(name)
    }
    if len(limited) != 1:
        return not limited and bool(pieces)
    (name,) = limited
    if split(name):
        return False
    spans = sorted((dict(piece.where)[name] for piece in pieces), key=lambda span: span.low)
    follow = all(
        below.high is not None and above.low <= below.high + 1 for below, above in pairwise(spans)
    )
    return (
        spans[0].low == 1 and spans[-1].high is None and follow and {s.step for s in spans} == {1}
    )


def _counts(cost: Cost) -> tuple[Paragraph, ...]:
    sizes = say(cost.base)
    if not sizes:
        return ()
    return (
        Paragraph(f"Fix a size with `-a name=value` to derive the others; base sizes {sizes}."),
    )


def _fixed(cost: Cost) -> list[str]:
    """Which sizes the formulas hold at one value of, and what would help."""
    pieces = cost.flops.forward.pieces
    said = []
    for name, value in cost.base.items():
        if not pieces or not all(piece.fixes(name, value) for piece in pieces):
            continue
        least = min(dict(piece.where)[name].low for piece in pieces)
        only = f"Only for {name} {'=' if least == value else 'up to'} {value:,}: "
        if divisors := cost.divisors.get(name):
            runs = listed([str(x) for x in divisors])
            said.append(
                f"{only}it has to divide something, as heads a width (the model runs at {runs} too, and not "
                "at all multiples). With that as a size of its own there is a law in both."
            )
        else:
            said.append(
                f"{only}at evenly spaced values around it the model does not run, other sizes at their base. "
                f"Give it others with --size, at which it runs with more values of {name}."
            )
    return said


def _kernels(cost: Cost) -> list[str]:
    """What is said of the kernels of a GPU: of those alone that the model would call."""
    if not cost.fused:
        return [_UNFUSED] if cost.attends else []
    drops = any(
        part.operator == "native_dropout" for part in (cost.parts.base if cost.parts else ())
    )
    said = [_FUSED_ATTENTION] * cost.attends + [_FUSED_DROPOUT] * drops
    return said or [_NOT_FUSED]


def _notes(cost: Cost) -> tuple[str, ...]:
    far = [say(sizes) for sizes in cost.checked]
    widest = max(far, key=len, default="")
    notes = [_WAYS[cost.way]]
    if cost.base and not cost.checked:
        notes.append("There were no other sizes to check the formulas at.")
    elif cost.base:
        notes.append(
            f"Every formula was checked, to the integer, at {len(cost.checked)} sizes that it was not fitted "
            f"on{f' (one of them: {widest})' if widest else ''}"
            f"{'; the peak to 1 %' if cost.peak_bytes.pieces else ''}."
        )
    conditions = dict.fromkeys(p.condition for p in cost.flops.forward.pieces)
    if _everywhere(cost.flops.forward.pieces):
        conditions = {"": None}
    if any(conditions):
        holds = "; or ".join(c for c in conditions if c)
        ended = beyond(cost.flops.forward.pieces)
        more = say({name: value for name, value in ended.items() if name not in cost.stops})
        stops = " or ".join(say({name: value}) for name, value in cost.stops.items())
        larger = f" The model does not run at {stops}." if stops else ""
        larger += f" For more, ask with `--size {more}`, if it runs there." if more else ""
        notes.append(f"Valid for {holds}; elsewhere the formula refuses to answer.{larger}")
    own: dict[str, list[str]] = {}
    for name, formula in cost.formulas().items():
        if len(formula.pieces) == 1 or _shortened(formula, cost):
            ranges = dict.fromkeys(piece.condition for piece in formula.pieces)
            if not ranges.keys() <= conditions.keys() and not _everywhere(formula.pieces):
                own.setdefault("; or ".join(c for c in ranges if c), []).append(name)
    for held, names in own.items():
        these = listed([name.replace(", ", " ") for name in names])
        notes.append(f"{these.capitalize()}: valid for {held or 'all sizes'}.")
    notes += _fixed(cost)
    notes += [
        f"With data it runs up to {name} = {end.value:,}: {end.why}."
        for name, end in cost.ends.items()
    ]
    notes += _kernels(cost)
    notes.append(
        "Bytes are what operators read and write, unfused. Saved bytes are what autograd keeps for the "
        "backward pass, parameters left out. The peak is of tensors alive, without an allocator's slack."
    )
    if cost.peak_at_base and cost.peak_at_base.operator:
        most = f"At {say(cost.base)} most" if cost.base else "Most"
        notes.append(f"{most} bytes are alive {cost.peak_at_base}.")
    for name, formula in cost.formulas().items():
        if formula.reason:
            notes.append(f"No formula for {name.replace(', ', ' ')}: {formula.reason}.")
    if cost.masks:
        at = [
            f"{name}{f' at {where.short}' if where else ''}" for name, where in cost.masks.items()
        ]
        notes.append(f"Every mask was taken to select `load` entries: {'; '.join(at)}.")
    if cost.uncounted:
        notes.append(f"Not counted: {', '.join(cost.uncounted)}.")
    return tuple(notes)
