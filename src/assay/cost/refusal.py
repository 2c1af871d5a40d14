"""Why there is no formula, and which size is to blame."""

from __future__ import annotations

from assay.cost.culprit import culprit
from assay.cost.interpolate import Point
from assay.cost.known import LOAD, selects
from assay.cost.law import Laws
from assay.cost.piece import Range
from assay.cost.samples import Fails, Samples, differing
from assay.cost.tally import BYTES, SAVED
from assay.cost.why import why


class Unexplained(Exception):
    """A law does not explain what was counted at a point."""

    def __init__(self, point: Point) -> None:
        self.point = point


class Refused(Exception):
    """No formula.

    Args:
        reason: Why.
        size: Along which size, where one is to blame.
        of_bytes: Whether it may be only bytes that have none.
    """

    def __init__(self, reason: str, size: str = "", *, of_bytes: bool = True) -> None:
        super().__init__(reason)
        self.size, self.of_bytes = size, of_bytes


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
            of_bytes=False,
        )


def no_law(point: Point, laws: Laws, samples: Samples, i: int | None = None) -> Refused:
    """The refusal of a box with counts at a point that no law explains.

    Args:
        point: The point.
        laws: What was tried.
        samples: The counts.
        i: The size that is to blame; None where none is alone.

    Returns:
        The refusal, to be raised.
    """
    reason = f"no polynomial, with floors or without, explains the counts at {samples.say(point)}"
    quantities = {BYTES}
    try:
        found, tally = samples.interpolant(laws), samples.tally(point)
        law = found.at(point)
        where = culprit(law, tally, samples.tally(laws.low))
        reason += f" (first: {where})" if where else ""
        reason += f": {why(point, found, laws, samples)}"
        quantities = differing(law, samples.counts(point))
    except Fails as failure:
        reason = f"the model does not run at {samples.say(failure.point)}: {failure.said}"
    # none alone is to blame: the one that most was tried along is as good as any
    of_all = samples.most_varied if samples.names else ""
    size = of_all if i is None else "".join(samples.names[i : i + 1])
    return Refused(reason + of_values(samples), size, of_bytes=quantities <= {BYTES, SAVED})


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
