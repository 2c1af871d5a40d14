"""How the features of the user's own inputs read: a table, bars, and a note for those that matter most."""

from __future__ import annotations

import math

from assay.finding import Finding, Number
from assay.update.amount import by, number, share
from assay.update.units_card import Feature
from assay.view.blocks import Bars, Block, Column, Table

NOTED = 3  # features that get a note of their own
LITTLE = (
    1e-2  # of how far training moves the outputs: below, a feature is as good as standard already
)


def feature_blocks(features: tuple[Feature, ...]) -> tuple[Block, ...]:
    """A table of all features, and bars of what their units do.

    Args:
        features: As in the card.

    Returns:
        Nothing where there are no features.
    """
    if not features:
        return ()
    rows = tuple(
        (
            label(f, features),
            f"{f.mean:.4g}",
            f"{f.std:.4g}",
            number(f.standard),
            number(f.scale),
            number(f.shift),
        )
        for f in features
    )
    table = Table(
        (
            Column("feature"),
            Column("mean", align="right"),
            Column("std", align="right"),
            Column("standardised", align="right"),
            Column("unit halved", align="right"),
            Column("zero moved by one std", align="right"),
        ),
        rows,
        "One feature at a time in other units, as deviations of the trajectory: standardised, against the "
        "unit that it has (0: it makes no difference); with its numbers doubled; with its zero moved. – "
        "where no weights or biases take it up.",
        shown=24,
    )
    return table, *_bars(features)


def _bars(features: tuple[Feature, ...]) -> tuple[Bars, ...]:
    known = [(f, value) for f in features if math.isfinite(value := _most(f)) and value > 0]
    if not known:
        return ()
    ranked = sorted(known, key=lambda item: -item[1])[:12]
    title = "What each feature's unit does to training, against a standardised one"
    if all(math.isnan(f.standard) for f in features):
        title = "What halving each feature's unit does to training"
    bars = tuple((label(f, features), value) for f, value in ranked)
    return (Bars(bars, "deviation, as a share of how far training moved the outputs", title),)


def _most(f: Feature) -> float:
    return f.scale if math.isnan(f.standard) else f.standard


def label(feature: Feature, features: tuple[Feature, ...]) -> str:
    """What to call a feature: its number, with its input where there are several.

    Returns:
        As in "3", or "mask[3]".
    """
    if len({f.input for f in features}) == 1:
        return str(feature.index)
    return f"{feature.input}[{feature.index}]"


def worst(features: tuple[Feature, ...]) -> str:
    """The feature whose unit matters most, in a sentence; "" where none does."""
    known = [f for f in features if math.isfinite(f.standard) and f.standard > LITTLE]
    if not known:
        return ""
    most = max(known, key=lambda f: f.standard)
    return (
        f"Of single features, the unit of feature {label(most, features)} (mean {most.mean:.3g}, std "
        f"{most.std:.3g}) matters most: standardised, training would go elsewhere {_plainly(most.standard)}."
    )


def _plainly(deviation: float) -> str:
    return f"by {share(deviation)}" if math.isfinite(deviation) else share(deviation)


def _less(mean: float) -> str:
    return f"{'+' if mean < 0 else '-'} {abs(mean):.6g}"


def feature_findings(name: str, features: tuple[Feature, ...]) -> tuple[Finding, ...]:
    """A note for each of the features whose units matter most.

    Args:
        name: The optimizer.
        features: As in the card.

    Returns:
        At most `NOTED` notes.
    """
    known = [f for f in features if f.standard > LITTLE]
    found = []
    for f in sorted(known, key=lambda f: -f.standard)[:NOTED]:
        what = label(f, features)
        found.append(
            Finding(
                "units.feature",
                f"With {name}, what is learned depends on the unit of feature {what}: standardised, training "
                f"goes elsewhere {by(f.standard)} how far it moves the outputs.",
                Number(0.0, "1", "formula", "RMS difference of outputs over RMS movement"),
                Number(f.standard, "1", "measured", "this feature standardised alone"),
                "note",
                repair=f"Before the first layer: `x[..., {f.index}] = (x[..., {f.index}] {_less(f.mean)}) / "
                f"{f.std:.6g}`.",
                theory="U5",
                weight=min(f.standard, 1e6),
            )
        )
    return tuple(found)
