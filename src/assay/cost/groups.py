"""Groups of counts, of which each may be left without a law while the others have theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from assay.cost.convention import CONVOLUTION, PRODUCT
from assay.cost.tally import FLOPS, OPERATIONS, PARAMETERS, PEAK, TRAINABLE, WEIGHTS, Key

_ESSENTIAL = (FLOPS, PARAMETERS, WEIGHTS, TRAINABLE)  # without these there is no formula at all


class Group(NamedTuple):
    """Counts of one quantity, in one phase, by operators of one class.

    Args:
        quantity: The quantity.
        phase: "forward" or "backward".
        kind: The class of operators; "" for quantities that have none.
    """

    quantity: str
    phase: str
    kind: str

    @property
    def essential(self) -> bool:
        """Whether it is flops, what these are made of, or parameters: what everybody asks for."""
        return self.quantity in _ESSENTIAL or (
            self.quantity == OPERATIONS and self.kind in (PRODUCT, CONVOLUTION)
        )


def group_of(key: Key) -> Group:
    """The group of a count."""
    return Group(key.quantity, key.phase, key.kind)


def groups_of(keys: Iterable[Key]) -> frozenset[Group]:
    """The groups of some counts."""
    return frozenset(map(group_of, keys))


@dataclass(frozen=True)
class Wanted:
    """Which counts a search is to explain: never the peak, which is no sum.

    Args:
        without: Groups that are left out.
        essential: Whether everything that is not essential is left out.
        alone: If given, this group is wanted and nothing else.
    """

    without: frozenset[Group] = frozenset()
    essential: bool = False
    alone: Group | None = None

    def __contains__(self, key: Key) -> bool:
        if self.all:
            return key.quantity != PEAK
        group = group_of(key)
        if self.alone is not None:
            return group == self.alone
        if key.quantity == PEAK or group in self.without:
            return False
        return not self.essential or group.essential

    @property
    def all(self) -> bool:
        """Whether nothing is left out."""
        return not self.without and not self.essential and self.alone is None


EVERYTHING, ESSENTIAL = Wanted(), Wanted(essential=True)
