"""Of several findings that would set the same weights, the first one's repair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from assay.finding import Finding
from assay.scale.repairs import Repair

_BEHIND = 1e-9
Advised = tuple[Finding, Repair]  # the repair that the finding has the text of


def once(found: Sequence[Advised]) -> Iterator[Finding]:
    """Let a finding wait for the repair of another one where both would set the same weights.

    Two widths for one weight contradict each other, and what the one leaves of the other is to be measured.

    Args:
        found: The findings, causes first.

    Yields:
        The same findings, in order.
    """
    taken: dict[str, Finding] = {}
    for finding, repair in found:
        shared = sorted(taken.keys() & repair.sets)
        if not shared:
            taken.update(dict.fromkeys(repair.sets, finding))
            yield finding
            continue
        first = taken[shared[0]]
        rule = f"{'the other ' * (first.rule == finding.rule)}`{first.rule}`"
        told = shared[0] + f" and {len(shared) - 1} more" * (len(shared) > 1)
        yield replace(
            finding,
            weight=min(finding.weight, first.weight - _BEHIND),  # who waits is told behind
            repair=f"first what {rule} says of the same weights ({told}); then measure again",
        )


def waiting(found: Iterable[Advised], rule: str) -> Iterator[Advised]:
    """Let findings wait for the repair of one that changes what all of them are about.

    Args:
        found: The findings, with their repairs.
        rule: The one that is to be repaired first; "" where there is none.

    Yields:
        The same, in order.
    """
    for finding, repair in found:
        if rule:
            text = f"first what `{rule}` says; then measure again"
            yield replace(finding, repair=text), Repair(text)
        else:
            yield finding, repair
