"""Why there is no formula, and which size is to blame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from assay.cost.culprit import culprit
from assay.cost.groups import Group, groups_of
from assay.cost.interpolate import Interpolant, Point
from assay.cost.known import LOAD, selects
from assay.cost.law import Laws
from assay.cost.piece import Range
from assay.cost.samples import Fails, Samples, off
from assay.cost.tally import Key
from assay.cost.why import why
from assay.view.prose import listed


class Unexplained(Exception):
    """A law does not explain what was counted at a point."""

    def __init__(self, point: Point) -> None:
        self.point = point


class Refused(Exception):
    """No formula.

    Args:
        reason: Why.
        size: Along which size, where one is to blame.
        groups: The counts that have none, as far as is known.
    """

    def __init__(self, reason: str, size: str = "", *, groups: Iterable[Group] = ()) -> None:
        super().__init__(reason)
        self.size, self.groups = size, frozenset(groups)


class NoneLeft(Refused):
    """A law of one size with as many coefficients as there are values.

    Args:
        name: The size.
        span: Its values.
    """

    def __init__(self, name: str, span: Range) -> None:
        super().__init__(
            f"from {name}={span.low} to {span.high} a law would have as many coefficients as there are "
            "values apart: none is left to hold it against",
            name,
        )


def no_law(
    point: Point,
    laws: Laws,
    samples: Samples,
    i: int | None = None,
    together: Sequence[int] = (),
) -> Refused:
    """The refusal of a box with counts at a point that no law explains.

    Args:
        point: The point.
        laws: What was tried.
        samples: The counts.
        i: The size that is to blame; None where none is alone.
        together: Sizes of which it takes all: with any one of them at its least the law holds.

    Returns:
        The refusal, to be raised.
    """
    reason = f"no polynomial, with floors or without, explains the counts at {samples.say(point)}"
    groups: frozenset[Group] = frozenset()
    try:
        found, counts = samples.interpolant(laws), samples.counts(point)
        reason += broken(point, found, laws, samples)
        if together:
            names = listed([samples.names[k] for k in together])
            reason += f"; it takes {names} together: with one of them at its least the law holds"
        groups = groups_of(off(found.at(point), counts))
    except Fails as failure:
        reason = not_running(failure, samples)
    # none alone is to blame: the one that most was tried along is as good as any
    of_all = samples.most_varied if samples.names else ""
    size = of_all if i is None else "".join(samples.names[i : i + 1])
    return Refused(reason + of_values(samples), size, groups=groups)


def broken(point: Point, found: Interpolant[Key], laws: Laws, samples: Samples) -> str:
    """What breaks a law at a point, to follow the name of the point.

    Args:
        point: Where it does not hold.
        found: The law.
        laws: What it is made of.
        samples: The counts.

    Returns:
        The operator, its line, and why, as in " (first: mm at net.py:12): the comparison at …".
    """
    wrong = off(found.at(point), samples.counts(point))
    where = culprit(wrong, samples.tally(point), samples.tally(laws.low))
    return f"{f' (first: {where})' if where else ''}: {why(point, found, laws, samples)}"


def not_running(failure: Fails, samples: Samples) -> str:
    """Where a model does not run, and what it raised.

    Args:
        failure: Of a run.
        samples: Where it runs.

    Returns:
        The reason.
    """
    return f"the model does not run at {samples.say(failure.point)}: {failure.said}"


def of_values(samples: Samples) -> str:
    """Where the model looked at values, as the end of a reason."""
    looks = samples.probe.looks_at_values
    if looks is None:
        return ""
    operator, where = looks
    at = f" at {where.short}" if where else ""
    remedy = (
        f"; if it is a mask that selects, a size of the builder named {LOAD} says how many entries"
    )
    return f"; its work depends on values: {operator}{at}{remedy if selects(operator) else ''}"
