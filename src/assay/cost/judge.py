"""What in a cost is worth telling: uncounted operators, bytes that outgrow operations, a dear backward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.finding import Finding, Number

if TYPE_CHECKING:
    from assay.cost.cost import Cost

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
        found += [*_bytes(cost), *_backward(cost)]
    return tuple(found)


def _refused(cost: Cost) -> list[Finding]:
    reason = cost.flops.forward.reason
    if not reason:
        return []
    return [
        Finding(
            "cost.no-formula",
            f"There is no polynomial in {', '.join(cost.base)}. {reason}",
            Number("a polynomial in the sizes", "", "formula"),
            Number("none of degree 4 or less in each size", "", "measured"),
            "note",
            "Fix the size that branches or halves, with -a name=value, and derive the others.",
            theory="C3",
        )
    ]


def _uncounted(cost: Cost) -> list[Finding]:
    return [
        Finding(
            "cost.uncounted",
            f"{name} is in no table: its operations are missing from every total.",
            Number("every operator counted", "", "formula"),
            Number(name, "", "measured"),
            "warning",
            'assay.cost.convention.register_operator("namespace::name", count) tells its cost.',
            cost.where.get(name),
            theory="C3",
        )
        for name in cost.uncounted
    ]


def _bytes(cost: Cost) -> list[Finding]:
    """Bytes that grow faster than operations: copying, not computing, will decide."""
    return [
        Finding(
            "cost.bytes-outgrow-operations",
            f"In the {phase} pass bytes grow as {moved.order_in(name)} where operations grow as "
            f"{done.order_in(name)}: at a large {name} the time is spent copying.",
            Number(done.order_in(name), "operations", "formula"),
            Number(moved.order_in(name), "bytes", "formula"),
            "note",
            f"Look for indexing in a loop over {name}, as `x[:, t]`: its backward fills a whole "
            f"tensor each time. Use `x.unbind(1)` once, before the loop.",
            theory="C2",
        )
        for phase in ("forward", "backward")
        for moved, done in [(getattr(cost.bytes, phase), getattr(cost.operations, phase))]
        for name in cost.base
        if moved.pieces and done.pieces and moved.degree(name) > done.degree(name)
    ]


def _backward(cost: Cost) -> list[Finding]:
    if not (cost.flops.forward.holds(**cost.base) and cost.flops.backward.holds(**cost.base)):
        return []
    forward, backward = cost.flops.forward(**cost.base), cost.flops.backward(**cost.base)
    if not forward or backward <= _DEAR * forward:
        return []
    return [
        Finding(
            "cost.backward-ratio",
            f"The backward pass costs {backward / forward:.2f} times the forward pass.",
            Number(2.0, "times forward", "formula"),
            Number(backward / forward, "times forward", "formula"),
            "note",
            "Look for a custom backward, or for a forward pass under no_grad that is repeated.",
            theory="C2",
        )
    ]
