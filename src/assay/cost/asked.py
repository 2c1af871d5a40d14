"""What a user asked of a cost beside its formulas: numbers at sizes, the largest that fits, another model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.cost.formula import Formula
from assay.errors import say
from assay.view.blocks import Column, Formulas, Paragraph, Table

if TYPE_CHECKING:
    from assay.cost.cost import Cost
    from assay.cost.tables import End

_ADAM = "Adam, AdamW"


@dataclass(frozen=True)
class Numbers:
    """A cost at given sizes.

    Args:
        at: The sizes.
        values: By the name of the formula; None where there is no formula.
    """

    at: Mapping[str, int]
    values: Mapping[str, int | None]

    def blocks(self) -> tuple[Table, ...]:
        """As a table.

        Returns:
            The table.
        """
        columns = Column("quantity"), Column("number", align="right")
        rows = tuple(
            (name, "no formula here" if value is None else f"{value:,}")
            for name, value in self.values.items()
        )
        return (Table(columns, rows, f"At {say(self.at)}:", shown=len(rows)),)


@dataclass(frozen=True)
class Largest:
    """The largest value of a size within a budget.

    Args:
        size: The size.
        value: Its largest value.
        budget: Bytes or flops.
        of: What the budget is of.
        at: The other sizes.
        end: Where a table of embeddings ends before the budget does.
    """

    size: str
    value: int
    budget: int
    of: str
    at: Mapping[str, int]
    end: End | None = None

    def blocks(self) -> tuple[Paragraph, ...]:
        """As a sentence.

        Returns:
            The sentence.
        """
        at = say(self.at) or "no other sizes"
        within = (
            f"The largest {self.size} within {self.budget:,} {self.of}, at {at}: {self.value:,}"
        )
        if self.end is None:
            return (Paragraph(within),)
        return (Paragraph(f"{within}. The model ends at {self.end.value:,}: {self.end.why}."),)


@dataclass(frozen=True)
class Compared:
    """A cost less another's, and who overtakes whom.

    Args:
        one: The name of the first.
        other: The name of the second.
        differences: By the name of the formula.
        overtakes: (size, value from which on, who costs more, than whom).
    """

    one: str
    other: str
    differences: Mapping[str, Formula]
    overtakes: tuple[tuple[str, int, str, str], ...]

    def blocks(self) -> tuple[Formulas | Paragraph, ...]:
        """As formulas and sentences.

        Returns:
            The blocks.
        """
        rows = tuple((name, str(difference)) for name, difference in self.differences.items())
        said = tuple(
            Paragraph(f"From {size} = {value:,} on, {more} costs more than {less}.")
            for size, value, more, less in self.overtakes
        )
        return (Formulas(rows, f"{self.one} less {self.other}:"), *said)


Asked = Numbers | Largest | Compared


def numbers(cost: Cost, at: Mapping[str, int]) -> Numbers:
    """Every formula at sizes.

    Args:
        cost: The formulas.
        at: The sizes.

    Returns:
        The numbers.
    """
    return Numbers(
        at, {name: f(**at) if f.holds(**at) else None for name, f in cost.formulas().items()}
    )


def largest(cost: Cost, size: str, kind: str, budget: int, at: Mapping[str, int]) -> Largest:
    """The largest value of a size at which a training step fits a budget.

    Args:
        cost: The formulas.
        size: The size.
        kind: "memory" or "flops".
        budget: Bytes or flops.
        at: The other sizes.

    Returns:
        The value.

    Raises:
        UsageError: If nothing fits, or everything does.
    """
    from assay.cost.budget import solve

    others = {name: value for name, value in at.items() if name != size}
    formula, of = cost.flops.total, "flops of a training step"
    if kind == "memory":
        formula = cost.peak_bytes + cost.optimizer_bytes[_ADAM]
        of = "bytes (the peak of a training step, and the state of Adam)"
    value, end = solve(formula, size, budget, others), cost.ends.get(size)
    return Largest(size, value, budget, of, others, end if end and end.value < value else None)


def compared(one: Cost, other: Cost, at: Mapping[str, int]) -> Compared:
    """The difference of two models' flops and parameters, and where one overtakes the other.

    Args:
        one: The first.
        other: The second.
        at: Sizes; those that grow apart.

    Returns:
        The comparison.
    """
    from assay.cost.budget import crossover

    differences = {
        "flops, forward": one.flops.forward - other.flops.forward,
        "flops, backward": one.flops.backward - other.flops.backward,
        "parameters": one.parameters - other.parameters,
    }
    mine, theirs = (one.flops.total, one.name), (other.flops.total, other.name)
    sizes = {**other.base, **at}
    found = [
        (size, value, more[1], less[1])
        for size in one.base
        if size in other.base
        for more, less in ((mine, theirs), (theirs, mine))
        if (value := crossover(more[0], less[0], size, sizes)) is not None
    ]
    return Compared(one.name, other.name, differences, tuple(found))
