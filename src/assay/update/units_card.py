"""The result of an audit of units: a verdict for every row, and how it is looked up."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from assay.errors import UsageError
from assay.finding import Finding, Result
from assay.update.own import OwnPlan
from assay.update.verdict import Verdict
from assay.update.world import Problem
from assay.view.blocks import View


@dataclass(frozen=True)
class Feature:
    """What the unit of one feature of your inputs does to training: deviations as in `Verdict`.

    Args:
        input: Position or name of the input.
        index: Which feature of it.
        mean: Over the example inputs.
        std: Likewise.
        scale: With its unit halved, so that its numbers are twice as large.
        shift: With its zero moved by one standard deviation; NaN where no bias takes that up.
        standard: Standardised, against as it is; NaN where it is constant or no bias takes the shift up.
    """

    input: str
    index: int
    mean: float
    std: float
    scale: float
    shift: float
    standard: float


@dataclass(frozen=True, repr=False)
class UnitsCard(Result):
    """The card of one optimizer: `card["input scale"].verdict`.

    Args:
        name: The optimizer.
        verdicts: One for each row, in the order of the card.
        lr_unit: The unit that the learning rate carries, read off the card.
        losses: Loss after every step in the reference's units.
        problem: What was trained, and for how long: the reference problem, or your own model.
        remarks: How the optimizer had to be fed, and what it did that a reader should know.
        features: Of your own model's inputs, one by one.

    Example:
        >>> import functools, torch
        >>> from assay import audit_units
        >>> card = audit_units(functools.partial(torch.optim.SGD, lr=0.01))
        >>> card["input rotation"].verdict, card["input scale"].verdict
        ('invariant', 'not invariant')
        >>> card["loss unit"].law
        'becomes invariant when lr is multiplied by ln 2'
    """

    name: str
    verdicts: Mapping[str, Verdict]
    lr_unit: str
    losses: tuple[float, ...]
    problem: Problem | OwnPlan
    remarks: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ()
    findings: tuple[Finding, ...] = field(default=(), kw_only=True)

    def __getitem__(self, row: str) -> Verdict:
        """The verdict of one row.

        Args:
            row: As in "input scale".

        Returns:
            The verdict.

        Raises:
            UsageError: If the card has no such row.
        """
        if row in self.verdicts:
            return self.verdicts[row]
        close = difflib.get_close_matches(str(row), self.verdicts, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Check the spelling."
        raise UsageError("row", row, f"one of {', '.join(self.verdicts)}", hint)

    def __iter__(self) -> Iterator[str]:
        return iter(self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    def view(self) -> View:
        """The card as a table of marks, and a trajectory in two units laid over the other."""
        from assay.update.card import view_of

        return view_of(self)
