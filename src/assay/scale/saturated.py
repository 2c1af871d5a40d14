"""Attention whose scores are so large that a softmax of them chooses one key (Theory S1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assay.finding import Finding, Number
from assay.scale.rows import Row
from assay.scale.widths import expression
from assay.view.prose import counted
from assay.where import Location

_FEWEST = 4  # keys to choose from
_FROZEN = 8.0  # times the logarithm of the number of keys: then one key has half of the weight


@dataclass(frozen=True)
class Scores:
    """Products of queries and keys, before a mask.

    Args:
        variance: Their variance over the keys, in the mean over queries, heads and examples.
        keys: How many keys there are.
        width: Over how many numbers each product sums.
        squares: The mean square of the queries times that of the keys, as they are multiplied.
        rows: Bits: the records that queries and keys are of.
        factor: The constant that the products are multiplied with since.
    """

    variance: float
    keys: int
    width: int
    squares: float
    rows: int
    factor: float = 1.0


@dataclass(frozen=True)
class Attention:
    """Scores that a softmax reads, and where.

    Args:
        scores: The scores.
        module: Dotted path of the module that was running.
        where: Line of code.
    """

    scores: Scores
    module: str
    where: Location | None

    @property
    def variance(self) -> float:
        """The variance of what the softmax reads, over the keys."""
        return self.scores.variance * self.scores.factor**2

    @property
    def saturated(self) -> bool:
        """Whether one key has more than half of the weight.

        With n independent normal scores of variance σ² the sum of the squared weights is
        1 - √(2 log n)/σ in the mean, as in the random energy model: 1/2 at σ² = 8 log n (of few keys more).

        Returns:
            Whether.
        """
        enough = self.scores.keys >= _FEWEST and math.isfinite(self.variance)
        return enough and self.variance > _FROZEN * math.log(self.scores.keys)


def saturated(found: Sequence[Attention], rows: Sequence[Row]) -> Iterator[Finding]:
    """Softmaxes that choose one key from the start: hardly any gradient gets to queries and keys.

    Args:
        found: The attentions.
        rows: What was measured.

    Yields:
        At most one warning.
    """
    by = {row.index: row for row in rows}
    trained = [(a, of) for a in found if (of := _sources(a, by)) and not all(r.frozen for r in of)]
    off = [(a, of) for a, of in trained if a.saturated]
    if not off:
        return
    worst, sources = max(off, key=lambda pair: pair[0].variance)
    keys = worst.scores.keys
    yield Finding(
        rule="scale.saturated",
        message=f"The scores of attention in {worst.module or 'the model itself'} have variance "
        f"{worst.variance:.3g} over {keys} keys: their softmax gives most of the weight to one key (it "
        f"freezes above 2 log {keys} = {2 * math.log(keys):.2g}), and its slope there is near 0; so in "
        f"{len(off)} of {counted(len(trained), 'attention')}.",
        expected=Number(1.0, "1", "formula", "variance of the scores over keys"),
        measured=Number(worst.variance, "1", "measured", "variance of the scores over keys"),
        severity="warning",
        repair=_repair(worst, sources),
        where=worst.where,
        module=worst.module,
        theory="S1",
        weight=math.log10(worst.variance),
    )


def _sources(attention: Attention, by: dict[int, Row]) -> list[Row]:
    """The products that make queries and keys, past what is added to them: one where they are packed."""
    found = [row for i, row in by.items() if attention.scores.rows >> i & 1]
    products = [by[row.reads[0]] if row.kind == "shift" and row.reads else row for row in found]
    return list({row.index: row for row in products}.values())


def _repair(attention: Attention, sources: Sequence[Row]) -> str:
    """Divide by √d where nothing does; else narrow what is too wide."""
    scores, told = attention.scores, []
    own = math.prod(row.second_moment for row in sources) ** (2 / len(sources))
    divided = scores.squares * scores.factor**2 / own if own > 0 else 1.0
    left = attention.variance
    if divided * math.sqrt(scores.width) > 1:  # nearer to 1 than to 1/d
        told.append(
            f"divide the scores by `math.sqrt({scores.width})`, the root of the heads' width"
        )
        left /= scores.width
    if left > _FROZEN * math.log(scores.keys) or not told:
        by, names = (
            f"{left**0.25:.3g}",
            [expression(r.parameters[0]) for r in sources if r.parameters],
        )
        if len(names) == 1:
            told.append(f"divide the rows of `{names[0]}` that make queries and keys by {by}")
        else:
            told.append(" and ".join(f"`{name}.data /= {by}`" for name in names))
    return ", then ".join(told)
