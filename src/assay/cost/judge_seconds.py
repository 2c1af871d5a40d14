"""What in measured seconds is worth telling: memory that decides, growth that nothing derived explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.cost.judge import dearest_lines, repair_of
from assay.finding import Finding, Number
from assay.where import location

if TYPE_CHECKING:
    from assay.cost.seconds import Seconds, TimeLaw


def judge_seconds(found: Seconds) -> tuple[Finding, ...]:
    """The findings of a measurement of seconds.

    Args:
        found: The laws.

    Returns:
        The findings, unranked.
    """
    findings = []
    for law in found.laws:
        if law.by_bytes:
            findings.append(_bytes(found, law))
        elif law.outgrows:
            findings.append(_outgrown(law))
    return tuple(findings)


def _bytes(found: Seconds, law: TimeLaw) -> Finding:
    movers = dearest_lines(found.cost, law.phase, law.size)
    operators = tuple(dict.fromkeys(mover.operator for mover in movers))
    done, moved = law.predicted[law.work], law.predicted["bytes"]
    unit = "flops" if law.work == "products" else law.work
    return Finding(
        "cost.bytes-decide",
        f"At {law.size} = {law.values[-1]:,}, {law.moving} of the seconds of the {law.phase} pass go with "
        f"the bytes. They grow as {law.size}^({law.measured}), {law.work} as {law.size}^{done:.2f}, bytes "
        f"as {law.size}^{moved:.2f}: memory is what is waited for.",
        Number(done, "", "formula", f"exponent of {law.size} in the {unit}"),
        Number(law.measured.exponent, "", "measured", f"exponent of {law.size} in the seconds"),
        "note",
        repair_of(operators, law.size, getattr(found.cost.bytes, law.phase).degree(law.size)),
        location(movers[0].line) if movers else None,
        movers[0].module if movers else "",
        theory="C2",
    )


def _outgrown(law: TimeLaw) -> Finding:
    most = max(law.predicted, key=lambda name: law.predicted[name])
    return Finding(
        "cost.seconds-outgrow",
        f"The seconds of the {law.phase} pass grow as {law.size}^({law.measured}), faster than anything "
        f"that was derived: {most} grow as {law.size}^{law.predicted[most]:.2f}.",
        Number(law.predicted[most], "", "formula", f"exponent of {law.size} in the {most}"),
        Number(law.measured.exponent, "", "measured", f"exponent of {law.size} in the seconds"),
        "note",
        "Look for data that no longer fit into a cache, for swapping, and for work outside of torch.",
        theory="C1",
    )
