"""What a user asked of a cost beside its formulas: numbers at sizes, the largest that fits, another model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.cost.formula import Formula
from assay.cost.quotient import split
from assay.cost.tally import ADAM
from assay.errors import AssayError, CannotMeasure, UserCodeError, say
from assay.errors import said as raised
from assay.view.blocks import Column, Formulas, Paragraph, Table

if TYPE_CHECKING:
    from assay.cost.cost import Cost
    from assay.cost.counted import Counter
    from assay.cost.piece import Range
    from assay.cost.tables import End


@dataclass(frozen=True)
class Numbers:
    """A cost at given sizes.

    Args:
        at: The sizes.
        values: By the name of the formula; None where there is neither a formula nor a count.
        counted: Those of them that were counted in one pass there, as no formula holds.
        missing: Why nothing could be counted; None where it could, or need not.
    """

    at: Mapping[str, int]
    values: Mapping[str, int | None]
    counted: tuple[str, ...] = ()
    missing: AssayError | None = None

    def blocks(self) -> tuple[Table | Paragraph, ...]:
        """As a table.

        Returns:
            The table, and what is to be said of numbers without a formula.
        """
        if self.missing and not any(value is not None for value in self.values.values()):
            why = _without_traceback(self.missing)
            text = f"At {say(self.at)} there is no formula, and nothing could be counted: {why}"
            return (Paragraph(text),)
        columns = Column("quantity"), Column("number", align="right")
        rows = tuple(
            (name, "no formula here" if value is None else f"{value:,}{self._mark(name)}")
            for name, value in self.values.items()
        )
        table = Table(columns, rows, f"At {say(self.at)}:", shown=len(rows))
        said = []
        if self.counted:
            said.append(Paragraph("*: counted in one pass there, as no formula holds."))
        if self.missing:
            why = _without_traceback(self.missing)
            said.append(Paragraph(f"Nothing could be counted there: {why}"))
        return (table, *said)

    def _mark(self, name: str) -> str:
        if not self.counted:
            return ""
        return "*" if name in self.counted else " "  # digits stay below each other


@dataclass(frozen=True)
class Largest:
    """The largest value of a size within a budget.

    Args:
        size: The size.
        value: Its largest value; None where none was found.
        budget: Bytes or flops.
        of: What the budget is of.
        at: The other sizes.
        end: Where a table of embeddings ends before the budget does.
        unlimited: Why the budget is not what ends there; "" where it is.
        counted: Whether passes were counted to find it, as no formula holds.
        missing: Why none was found; "" where one was.
        among: The values that it is the largest of, where others may fit: "the multiples of 64".
    """

    size: str
    value: int | None
    budget: int
    of: str
    at: Mapping[str, int]
    end: End | None = None
    unlimited: str = ""
    counted: bool = False
    missing: str = ""
    among: str = ""

    def blocks(self) -> tuple[Paragraph, ...]:
        """As a sentence.

        Returns:
            The sentence.
        """
        at = f", at {say(self.at)}" if self.at else ""
        found = " (found by counting passes, as no formula holds)" if self.counted else ""
        among = f" among {self.among}" if self.among else ""
        within = f"The largest {self.size}{among} within {self.budget:,} {self.of}{at}: "
        if self.value is None:
            return (Paragraph(f"{within}not found. {self.missing}"),)
        within += f"{self.value:,}{found}"
        if self.unlimited:
            return (Paragraph(f"{within}. {self.unlimited}"),)
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
        held: What was said of sizes that have no law of their own, and are not free in the difference.
    """

    one: str
    other: str
    differences: Mapping[str, Formula]
    overtakes: tuple[tuple[str, int, str, str], ...]
    held: tuple[str, ...] = ()

    def blocks(self) -> tuple[Formulas | Paragraph, ...]:
        """As formulas and sentences.

        Returns:
            The blocks.
        """
        rows = tuple((name, str(difference)) for name, difference in self.differences.items())
        said = tuple(
            Paragraph(
                f"From {size} = {value:,} on, other sizes as in use, {more} costs more than {less}."
            )
            for size, value, more, less in self.overtakes
        )
        said += tuple(map(Paragraph, self.held))
        return (Formulas(rows, f"{self.one} less {self.other}:"), *said)


Asked = Numbers | Largest | Compared

_OF = {
    "memory": "bytes (the peak of a training step, and the state of Adam)",
    "flops": "flops of a training step",
}


def numbers(cost: Cost, at: Mapping[str, int], counter: Counter) -> Numbers:
    """Every formula at sizes; where it does not hold, what one pass there counts.

    Args:
        cost: The formulas.
        at: The sizes.
        counter: Counts where no formula holds.

    Returns:
        The numbers.
    """
    free = _free(cost, at, counter)
    values = {
        name: f(**free) if free is not None and f.holds(**free) else None
        for name, f in cost.formulas().items()
    }
    without = tuple(name for name, value in values.items() if value is None)
    if not without:
        return Numbers(at, values)
    try:
        counts = counter.numbers({**counter.base, **at})
    except AssayError as error:
        return Numbers(at, values, (), error)
    return Numbers(at, {**values, **{name: counts[name] for name in without}}, without)


def _without_traceback(error: AssayError) -> str:
    """What went wrong, in the midst of an answer: a traceback goes to whoever catches the error."""
    if isinstance(error, UserCodeError):
        return f"the model does not run there: {raised(error.error).rstrip('.')}."
    return str(error)


def _free(cost: Cost, at: Mapping[str, int], counter: Counter) -> dict[str, int] | None:
    """The sizes in which there are formulas; None where another is not at the value that they hold for."""
    if any(counter.base[name] != value for name, value in at.items() if name not in cost.base):
        return None
    return {name: value for name, value in at.items() if name in cost.base}


def largest(
    cost: Cost, size: str, kind: str, budget: int, at: Mapping[str, int], counter: Counter
) -> Largest:
    """The largest value of a size at which a training step fits a budget.

    Args:
        cost: The formulas.
        size: The size.
        kind: "memory" or "flops".
        budget: Bytes or flops.
        at: All sizes; for the one to solve for a value at which the model runs.
        counter: Counts where no formula holds.

    Returns:
        The value.

    Raises:
        CannotMeasure: If nothing fits, or everything does.
    """
    from assay.cost.budget import NothingFits, ranges, solve

    of, shown = _OF[kind], _others(size, at, counter)
    others = {name: value for name, value in at.items() if name != size}
    formula = cost.flops.total
    if kind == "memory":
        formula = cost.peak_bytes + cost.optimizer_bytes[ADAM]
    free = _free(cost, others, counter)
    amount = counter.memory if kind == "memory" else counter.flops
    every = {**counter.base, **at}
    spans = ranges(formula, size, free) if free is not None and size in cost.base else []
    if free is None or not spans:
        value, unlimited = counter.largest(size, every, budget, amount)
        return Largest(size, value, budget, of, shown, None, unlimited, counted=True)
    nothing: NothingFits | None = None
    try:
        value, after = solve(formula, size, budget, free)
    except NothingFits as error:  # where the formula begins above 1, less may fit
        nothing, value, after = error, 0, min(span.low for span in spans)
    found, unlimited, among = value, "", ""
    if after is None:
        whole = _divided(formula, size)
        why = f"for a larger {size} nothing was derived"
        if whole:
            why = f"no larger {size} for which it holds divides {whole} = {free[whole]:,}"
        unlimited = f"There the formula ends, not the budget: {why}."
    elif after > value + 1:  # between, values without a formula may fit
        among = _grid(spans, value)
        with suppress(AssayError):
            found, unlimited = counter.between(size, every, budget, amount, value, after)
            among = among if unlimited and found == value else ""
        unlimited = "" if among else unlimited
    if nothing is not None and not found:
        raise nothing
    end = cost.ends.get(size)
    end = end if end and end.value < found else None
    return Largest(size, found, budget, of, shown, end, unlimited, found > value, "", among)


def _divided(formula: Formula, size: str) -> str:
    """A size that another has to divide where a formula holds; "" where it need divide none."""
    quotients = (split(name) for piece in formula.pieces for name, _ in piece.where)
    return next((both[0] for both in quotients if both and size in both[1]), "")


def not_found(
    size: str,
    kind: str,
    budget: int,
    at: Mapping[str, int],
    counter: Counter,
    error: CannotMeasure,
) -> Largest:
    """The answer where `largest` found none.

    Args:
        size: As for `largest`.
        kind: As for `largest`.
        budget: As for `largest`.
        at: As for `largest`.
        counter: As for `largest`.
        error: What it raised.

    Returns:
        An answer without a value that says why.
    """
    missing = f"Expected {error.expected}. {error.remedy}"
    if isinstance(error, UserCodeError):
        missing = str(error)
    return Largest(size, None, budget, _OF[kind], _others(size, at, counter), missing=missing)


def _grid(spans: Iterable[Range], value: int) -> str:
    """The values among which one is the largest, where those between were not counted or do not run."""
    step = next((span.step for span in spans if value in span), 1)
    if step == 1 or value % step:
        return "the values with a formula"
    return f"the multiples of {step}"


def _others(size: str, at: Mapping[str, int], counter: Counter) -> dict[str, int]:
    """The values of all other sizes, those that are held at one among them."""
    every = {**counter.base, **at, **counter.held}
    return {name: value for name, value in every.items() if name != size}


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
    known = {*mine[0].sizes, *theirs[0].sizes}
    sizes = {name: value for name, value in {**other.base, **at}.items() if name in known}
    found = []
    for size in (size for size in one.base if size in other.base):
        for more, less in ((mine, theirs), (theirs, mine)):
            with suppress(CannotMeasure):  # of a model without a formula the difference says why
                value = crossover(more[0], less[0], size, sizes)
                if value is not None:
                    found.append((size, value, more[1], less[1]))
    held = [
        f"Of {cost.name} the formulas do not hold for every {name}, but {text}."
        for cost in (one, other)
        for name, text in cost.narrowed.items()
    ]
    return Compared(one.name, other.name, differences, tuple(found), tuple(held))
