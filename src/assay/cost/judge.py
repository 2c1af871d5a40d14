"""What in a cost is worth telling: what no table has, bytes that outgrow operations, a dear backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from assay.cost.convention import CONVOLUTION, PRODUCT
from assay.cost.decompositions import UNCOUNTABLE
from assay.cost.growth import at_sizes
from assay.cost.known import LOAD
from assay.cost.quotient import split
from assay.cost.tally import BACKWARD, FORWARD, Amount, Part
from assay.finding import Finding, Number
from assay.where import location

if TYPE_CHECKING:
    from assay.cost.cost import Cost
    from assay.cost.formula import Formula

_FAR = 12  # octaves above the base, where the fastest growth rules
_UNBIND = (
    "Indexing in a loop over {size}, as `x[:, t]`, fills a whole tensor in each step of the backward pass, "
    "and adds it to the others. Use `x.unbind(1)` once, before the loop."
)
_CAT = (
    "A tensor that grows by `torch.cat` in a loop is copied each time: append to a list, and join it once, "
    "after the loop."
)
_TABLE = (
    "The gradient of an embedding is a whole table, whichever rows were used: "
    "`nn.Embedding(…, sparse=True)` keeps those rows only."
)
_REPAIRS = {
    **dict.fromkeys(
        ("select_backward", "slice_backward", "index_put", "_index_put_impl_"), _UNBIND
    ),
    "cat": _CAT,
    "stack": _CAT,
    "embedding_dense_backward": _TABLE,
    "_embedding_bag_backward": _TABLE,
    "_embedding_bag_dense_backward": _TABLE,
}
_ELSE = "Look at what is made anew in each step of a loop over {size}, or for all pairs of it."
_PASSES = (
    "No product grows with {size}, only what is passed over: operators that are fused, as by "
    "`torch.compile`, pass over their data once."
)
_DEAR = 3.0  # backward over forward: 2 is a chain of products, 3 one with everything recomputed


def judge(cost: Cost) -> tuple[Finding, ...]:
    """The findings of a cost.

    Args:
        cost: The formulas.

    Returns:
        The findings, unranked.
    """
    found = [*_refused(cost), *_uncounted(cost)]
    if not cost.flops.forward.reason:
        if not _of_nothing(cost):
            found += _bytes(cost)
        found += [*_backward(cost), *_grouped(cost)]
    return tuple(found)


def _refused(cost: Cost) -> list[Finding]:
    found = [
        (
            name,
            f"The formulas do not hold for every {name}, but {text}.",
            "-a name=value holds a size at another value.",
        )
        for name, text in cost.narrowed.items()
    ]
    if reason := cost.flops.forward.reason:
        sizes = ", ".join(cost.base)
        text = f"There is no polynomial in {sizes}: {reason}."
        found.append(
            (sizes, text if sizes else f"There is no number: {reason}.", _remedy(cost, reason))
        )
    return [
        Finding(
            "cost.no-formula",
            text,
            Number(f"a polynomial in {sizes}" if sizes else "the same each time", "", "formula"),
            Number("none of degree 4 or less that holds everywhere", "", "measured"),
            "note",
            remedy,
            theory="C3",
        )
        for sizes, text, remedy in found
    ]


def _remedy(cost: Cost, reason: str) -> str:
    if f"named {LOAD}" in reason and not any(name in reason for name in ("item()", "local_scalar")):
        return f"Give the builder a size named `{LOAD}`: how many entries a mask selects."
    if "depends on values" in reason:
        return "Have the work depend on shapes alone, or take the value from an argument of the builder."
    if "remembers earlier runs" in reason:
        return "Have it do the same each time: without layers or tokens that are dropped at random."
    blamed = cost.blamed or "the size that branches or halves"
    return f"Hold {blamed} at one value, with -a name=value, and derive the others."


def _uncounted(cost: Cost) -> list[Finding]:
    reasons = {name: UNCOUNTABLE.get(name.split(".")[1]) for name in cost.uncounted}
    return [
        Finding(
            "cost.uncounted",
            f"{name} is {f'not counted ({why})' if why else 'in no table'}: its operations are missing from "
            "every total.",
            Number("every operator counted", "", "formula"),
            Number(name, "", "measured"),
            "note" if why else "warning",
            'assay.cost.convention.register_operator("namespace::name", lambda *args, out, **kwargs: …) '
            "tells how many operations a call is.",
            cost.where.get(name),
            theory="C3",
        )
        for name, why in reasons.items()
    ]


def _of_nothing(cost: Cost) -> bool:
    """Whether products run and multiply nothing, as where inputs hold no example: nothing outgrows that."""
    parts = cost.parts.base if cost.parts else ()
    multiplies = any(part.kind in (PRODUCT, CONVOLUTION) for part in parts)
    return multiplies and cost.products.forward.is_zero


def _bytes(cost: Cost) -> list[Finding]:
    """Bytes that grow faster than products: moving data, not computing, will decide."""
    return [
        _outgrown(cost, phase, name)
        for phase in (FORWARD, BACKWARD)
        for moved, (_, done) in [(getattr(cost.bytes, phase), _computed(cost, phase))]
        for name in cost.base
        if moved.pieces and done.pieces and moved.degree(name) > done.degree(name)
        if name not in _parts(moved)  # it cannot grow alone
    ]


def _parts(formula: Formula) -> set[str]:
    """Sizes that must divide others."""
    names = {name for piece in formula.pieces for name, _ in piece.where}
    return {part for name in names if (both := split(name)) for part in both[1]}


def _computed(cost: Cost, phase: str) -> tuple[str, Formula]:
    """What a pass is for: its products, or whatever it computes where there are none.

    All arithmetic is no measure: the sums of gradients that an index in a loop causes are arithmetic too.

    Returns:
        The unit, and the formula.
    """
    products: Formula = getattr(cost.products, phase)
    return (
        ("operations", getattr(cost.operations, phase)) if products.is_zero else ("flops", products)
    )


def _outgrown(cost: Cost, phase: str, size: str) -> Finding:
    moved: Formula = getattr(cost.bytes, phase)
    unit, done = _computed(cost, phase)
    movers = dearest_lines(cost, phase, size)
    operators = tuple(dict.fromkeys(mover.operator for mover in movers))
    by = (
        f" They are moved by {' and '.join(f'`{name}`' for name in operators[:2])}."
        if movers
        else ""
    )
    return Finding(
        "cost.bytes-outgrow-operations",
        f"In the {phase} pass bytes grow as {moved.order_in(size)} where "
        f"{'matrix products' if unit == 'flops' else 'operations'} grow as {done.order_in(size)}: at a large "
        f"{size} the time is spent moving data.{by}",
        Number(done.order_in(size), unit, "formula"),
        Number(moved.order_in(size), "bytes", "formula"),
        "note",
        repair_of(operators, size, moved.degree(size)),
        location(movers[0].line) if movers else None,
        movers[0].module if movers else "",
        theory="C2",
    )


def repair_of(operators: tuple[str, ...], size: str, degree: int) -> str:
    """What to do about operators whose bytes outgrow everything else.

    Args:
        operators: Their names.
        size: The size in which they do.
        degree: With which power of it the bytes grow: with the first, no loop makes
            anything anew for all of it.

    Returns:
        A sentence or two.
    """
    known = (_REPAIRS[name] for name in operators if name in _REPAIRS)
    return next(known, _ELSE if degree > 1 else _PASSES).format(size=size)


class Mover(NamedTuple):
    """One operator on one line of the user's code, or of a library's."""

    module: str
    line: str
    operator: str

    @property
    def place(self) -> tuple[str, str]:
        """The line, or the module where it is none of the user's."""
        return ("", self.line) if self.line else (self.module, "")


def dearest_lines(cost: Cost, phase: str, size: str) -> list[Mover]:
    """The operators whose bytes grow as fast as all bytes do, on the line that moves most.

    Args:
        cost: The formulas.
        phase: "forward" or "backward".
        size: The size that grows.

    Returns:
        The operators of that line, or of that module where all lines are torch's; the dearest first.
    """
    if cost.parts is None:
        return []
    degree = getattr(cost.bytes, phase).degree(size)
    far = {**cost.base, size: cost.base[size] << _FAR}
    weights: dict[Mover, int] = {}
    places: dict[tuple[str, str], int] = {}
    split = cost.parts.split(lambda part: "\n".join((part.module, part.line, part.operator)))
    for name, share in split.items():
        module, line, operator = name.split("\n")
        formula: Formula = getattr(share.bytes, phase)
        if formula.degree(size) == degree:
            weight = at_sizes(formula, far if formula.holds(**far) else cost.base)
            mover = Mover(module, line, operator)
            weights[mover] = weight
            places[mover.place] = places.get(mover.place, 0) + weight
    dearest = max(places, key=lambda place: places[place], default=None)
    found = [mover for mover in weights if mover.place == dearest]
    return sorted(found, key=lambda mover: -weights[mover])


def _backward(cost: Cost) -> list[Finding]:
    """A backward pass that is dear by itself: what checkpointing runs again is a choice, and left out."""
    products = cost.products
    if not (products.forward.holds(**cost.base) and products.backward.holds(**cost.base)):
        return []
    forward, backward = products.forward(**cost.base), products.backward(**cost.base)
    done = cost.parts.base if cost.parts else {}
    backward -= sum(_products(part, amount) for part, amount in done.items() if part.again)
    if not forward or backward <= _DEAR * forward:
        return []
    excess: dict[tuple[str, str], int] = {}
    for part, amount in done.items():
        if not part.again:
            which, times = (part.module, part.line), 1 if part.phase == BACKWARD else -2
            excess[which] = excess.get(which, 0) + times * _products(part, amount)
    module, line = max(excess, key=lambda which: excess[which], default=("", ""))
    return [
        Finding(
            "cost.backward-ratio",
            f"The backward pass costs {backward / forward:.2f} times the forward pass, and nothing is run "
            "again as checkpointing does.",
            Number(2.0, "times forward", "formula"),
            Number(backward / forward, "times forward", "formula"),
            "note",
            "Look for a custom backward, or for a forward pass under no_grad that is repeated: the line "
            "is where the most is added.",
            location(line),
            module,
            theory="C2",
        )
    ]


def _products(part: Part, amount: Amount) -> int:
    return amount.operations if part.kind in (PRODUCT, CONVOLUTION) else 0


def _grouped(cost: Cost) -> list[Finding]:
    """Where torch's own count of the backward pass is not what is computed."""
    said, done = cost.flops.backward, cost.products.backward
    if not (said.holds(**cost.base) and done.holds(**cost.base)):
        return []
    told, true = said(**cost.base), done(**cost.base)
    excess = {
        part: amount.flops - amount.operations
        for part, amount in (cost.parts.base if cost.parts else {}).items()
        if part.kind == CONVOLUTION and amount.flops > amount.operations
    }
    if told <= true or not excess:
        return []
    worst = max(excess, key=lambda part: excess[part])
    return [
        Finding(
            "cost.grouped-convolutions",
            f"torch's FlopCounterMode, and flops here, have {told / true:.3g} times the products of the "
            "backward pass: they count the gradient of a grouped convolution's weight as if it were not "
            "grouped.",
            Number(true, "operations", "formula", "of products, backward"),
            Number(told, "flops", "formula", "as FlopCounterMode counts, backward"),
            "note",
            "Take operations, which have what is computed; flops are for comparison with other tools.",
            location(worst.line),
            worst.module,
            theory="C2",
        )
    ]
