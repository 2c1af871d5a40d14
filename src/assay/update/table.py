"""The cards of many optimizers as one table; one that has none says why, and does not stop the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal

from assay.errors import AssayError, UsageError
from assay.finding import Finding, Result
from assay.place import import_place
from assay.progress import Progress, silent
from assay.update.audit import audit_units
from assay.update.card import MARKS, leak
from assay.update.change import ROWS
from assay.update.failure import Failure
from assay.update.optimizer import Make, is_optimizer_class, optimizer_factory
from assay.update.units_card import UnitsCard
from assay.update.verdict import Verdict
from assay.update.world import Problem
from assay.view.blocks import Block, Cell, Column, Formulas, Table, View

# heads of a table that has to fit a terminal; the list below it has them in full
SHORT = {
    "input scale": "x scale",
    "input shift": "x shift",
    "input rotation": "x turn",
    "input basis": "x basis",
    "hidden scale": "h scale",
    "hidden permutation": "h order",
    "output rotation": "y turn",
    "loss unit": "loss",
    "target unit": "y unit",
    "batch split": "split",
}
_UNITS = {
    "carries no unit": "1",
    "the unit 1 / loss": "1/loss",
    "the unit of the weights": "w",
    "the unit weight² / loss": "w²/loss",
    "the unit weight / loss": "w/loss",
    "the unit weight²": "w²",
}
FEW = 5  # optimizers that are listed by name in the answer
Kind = Literal["failed", "not asked"]


@dataclass(frozen=True)
class Missing:
    """An optimizer without a card.

    Args:
        name: The optimizer.
        kind: "failed" where it was tried, "not asked" where it needs more than parameters.
        why: The reason.
        traceback: Of its own code, where that raised.
    """

    name: str
    kind: Kind
    why: str
    traceback: str = ""


@dataclass(frozen=True, repr=False)
class UnitsTable(Result):
    """The cards of several optimizers.

    Args:
        cards: By name, in the order asked for.
        missing: Those without a card.
        problem: What was trained.
    """

    cards: Mapping[str, UnitsCard]
    missing: tuple[Missing, ...]
    problem: Problem
    findings: tuple[Finding, ...] = field(default=(), kw_only=True)

    @property
    def failed(self) -> tuple[Missing, ...]:
        """Those that were tried and raised, moved nothing, or diverged."""
        return tuple(one for one in self.missing if one.kind == "failed")

    def __getitem__(self, name: str) -> UnitsCard:
        """The card of one optimizer.

        Returns:
            The card.

        Raises:
            UsageError: If it has none.
        """
        if name in self.cards:
            return self.cards[name]
        why = next((one.why for one in self.missing if one.name == name), "")
        raise UsageError(
            "optimizer", name, f"one of {', '.join(self.cards)}", why or "Check the spelling."
        )

    def view(self) -> View:
        """One row an optimizer, one mark a change of units."""
        rows: list[tuple[str | Cell, ...]] = [
            (name, *(_cell(card.verdicts[row]) for row in ROWS), _short(card.lr_unit))
            for name, card in self.cards.items()
        ]
        columns = (
            Column("optimizer"),
            *(Column(SHORT[row]) for row in ROWS),
            Column("lr in"),
        )
        caption = (
            "✓ the same trajectory in function space; with ε up to an ε, or another constant, of that size. "
            "✗ another one, by this share of how far training moved the outputs (mildest change tried). "
            "? undetermined: round-off or chance alone goes as far. lr in: the unit that lr carries, w that "
            "of the weights; – where none makes the update consistent."
        )
        blocks: list[Block] = [Table(columns, tuple(rows), caption, shown=len(rows))]
        if self.missing:
            blocks.append(
                Table(
                    (Column("no card"), Column("why")),
                    tuple((one.name, one.why) for one in self.missing),
                    "Tried and failed, or not asked because more than parameters is needed.",
                )
            )
        blocks.append(
            Formulas(
                tuple((f"{SHORT[row]}: {row}", text) for row, text in ROWS.items()),
                "The changes of units",
            )
        )
        exact = str(self.problem.dtype).removeprefix("torch.")
        note = f"Every card: {self.problem.steps} steps of the reference problem, {exact}, default options."
        return View(
            "Units",
            "Which units does training with each of these depend on?",
            self._answer(),
            tuple(blocks),
            (note,),
        )

    def _answer(self) -> str:
        said = [f"{len(self.cards)} cards."]
        kept = {
            row: [n for n, c in self.cards.items() if c.verdicts[row].verdict == "invariant"]
            for row in ROWS
        }
        none = [row for row, names in kept.items() if not names]
        if self.cards and none:
            said.append(f"None of them is the same under {' or '.join(none)}.")
        for row, names in kept.items():
            if 0 < len(names) <= FEW < len(self.cards):
                said.append(f"Under {row} these are: {', '.join(names)}.")
        open_ = [
            n
            for n, c in self.cards.items()
            if any(v.verdict == "undetermined" for v in c.verdicts.values())
        ]
        if open_:
            said.append(f"Undetermined in part: {', '.join(open_)}.")
        if self.missing:
            said.append(f"Without a card: {', '.join(one.name for one in self.missing)}.")
        return " ".join(said)


def audit_many(
    optimizers: Mapping[str, Callable[[], Make]],
    problem: Problem | None = None,
    *,
    progress: Progress = silent,
) -> UnitsTable:
    """The card of each of several optimizers.

    Args:
        optimizers: Name to a function that finds its maker; what that raises is said in the table.
        problem: The reference problem, for all.
        progress: Told about every optimizer.

    Returns:
        The table. An error of one optimizer stands in its row.
    """
    problem = problem or Problem()
    cards: dict[str, UnitsCard] = {}
    missing: list[Missing] = []
    for done, (name, find) in enumerate(optimizers.items()):
        progress("optimizers", done, len(optimizers), name)
        try:
            make = find()
        except AssayError as error:
            why = f"{error.argument} = {error.value}: expected {error.expected}"
            missing.append(Missing(name, "not asked", why))
            continue
        try:
            cards[name] = audit_units(make, problem, name=name)
        except AssayError as error:
            failure = Failure.of(name, error)
            missing.append(Missing(name, "failed", failure.why, failure.traceback))
    progress("optimizers", len(optimizers), len(optimizers))
    return UnitsTable(cards, tuple(missing), problem)


def optimizers_of(place: str) -> dict[str, Callable[[], Make]]:
    """Every class of optimizers that a module offers.

    Args:
        place: A module, as in "torch.optim" or "pytorch_optimizer".

    Returns:
        Name to a function that finds its maker.

    Raises:
        UsageError: If there is no such module, or it has none.
    """
    module = import_place(place, place)
    names = [name for name in sorted(dir(module)) if _is_offered(module, name)]
    if not names:
        raise UsageError(
            "package",
            place,
            "a module with classes of optimizers",
            "Name the module that has them.",
        )
    return {name: _finder(place, name) for name in names}


def _is_offered(module: ModuleType, name: str) -> bool:
    return not name.startswith("_") and is_optimizer_class(getattr(module, name, None))


def _finder(place: str, name: str) -> Callable[[], Make]:
    return lambda: optimizer_factory(f"{place}:{name}")


def _cell(verdict: Verdict) -> Cell:
    mark = MARKS[verdict.verdict]
    if verdict.verdict == "not invariant":
        return Cell(_brief(verdict.deviation), mark)
    return Cell(f"ε{_brief(verdict.deviation)}" if leak(verdict) else "", mark)


def _brief(deviation: float) -> str:
    """A deviation in as few characters as say it: `.52`, `1.7`, `2e-8`, `∞`."""
    if not math.isfinite(deviation):
        return "∞"
    if 0.01 <= deviation < 1:
        return f"{deviation:.2f}".removeprefix("0")
    if 1 <= deviation < 100:
        return f"{deviation:.2g}"
    mantissa, exponent = f"{deviation:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _short(sentence: str) -> str:
    """The unit alone, out of the sentence on it."""
    for words, unit in _UNITS.items():
        if words in sentence.partition(":")[0]:
            return unit
    return "–"
