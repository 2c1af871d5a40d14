"""One realistic view of each kind of block, with the names and numbers that real models have."""

from __future__ import annotations

import math

from assay.finding import Finding, Number
from assay.view.blocks import (
    Angle,
    Arc,
    Arcs,
    Bars,
    Cell,
    Column,
    Formulas,
    Lines,
    Paragraph,
    Series,
    Table,
    View,
)
from assay.where import Location

HERE = Location(
    "/nowhere/net.py", 8, "forward"
)  # a file that is not there: no line of code to show


def gallery_view() -> View:
    layers = 24
    rows = tuple(
        (
            f"encoder.layers.{i}.self_attn.out_proj",
            "addmm",
            f"{1.07**i:.3f}",
            f"{0.93**i:.3f}",
            Cell("inside", "good")
            if i < 10
            else Cell("vanishes", "bad")
            if i < 20
            else Cell("unknown", "unknown"),
        )
        for i in range(layers)
    )
    xs = tuple(float(i) for i in range(layers))
    return View(
        title="Scale",
        question="Does every unit start with zero mean and unit variance, and every gradient?",
        answer="Variance grows 5.1-fold over 24 operators; the gradient shrinks by 1.8·10⁻²¹ on its way "
        "back to `embed.weight`, where 1 is expected.",
        blocks=(
            Lines(
                series=(
                    Series("measured, forward", xs, tuple(1.07**x for x in xs)),
                    Series("measured, gradient", xs, tuple(10.0 ** (-0.9 * (23 - x)) for x in xs)),
                    Series("expected", xs, tuple(1.0 for _ in xs), "dashed"),
                ),
                x_label="operator, in order of execution",
                y_label="variance",
                title="Variance at every operator that a parameter feeds",
                log_y=True,
                band=(0.1, 10.0),
                marks=((7.0, "encoder"), (15.0, "decoder.cross_attention")),
            ),
            Table(
                columns=(
                    Column("module", code=True),
                    Column("operator", code=True),
                    Column("variance", "1", "right"),
                    Column("gradient", "loss²", "right"),
                    Column("verdict"),
                ),
                rows=rows,
                caption="Mean and variance over the batch, `float64` sums; expected from Theory S2.",
                shown=6,
            ),
            Formulas(
                rows=(
                    ("forward", "2*b*n*m*d + 6*b*n*d**2 + 8*b*m*d**2 + 2*b*m*d*v"),
                    ("backward", "4*b*n*m*d + 12*b*n*d**2 + 16*b*m*d**2 + 4*b*m*d*v"),
                    ("parameters kept", "14*d**2 + 2*d*v + 9*d"),
                ),
                caption="Matrix products, one multiplication and one addition each.",
            ),
            Bars(
                rows=(
                    ("decoder.attention.query_projection", 1.42e9),
                    ("encoder.rnn", 8.1e8),
                    ("decoder.out", 2.4e8),
                    ("embed", 0.0),
                ),
                x_label="operations",
                title="Where the operations are",
                reference=(1.0e9, "mean of the rest"),
            ),
            Arcs(
                stations=("embed", *(f"blocks.{i}" for i in range(8)), "norm", "head"),
                arcs=(
                    *(Arc(float(i), float(i + 1), "untied, no gate", "good") for i in range(1, 5)),
                    Arc(5.0, 8.0, "tied, no gate: half-life 1.5 steps", "bad"),
                    Arc(0.0, 9.0, "embedding to the last norm", "plain"),
                ),
                title="Skip paths",
            ),
            Angle(
                (("SGD", 0.0), ("RMSProp", 47.3), ("AdamW", 52.0)), title="First step, equal norm"
            ),
            Paragraph(
                "The tied path adds the same branch at every step, so `h` grows like the length."
            ),
        ),
        notes=(
            "Variances are per unit over batch and positions, then averaged.",
            "Not understood: `aten::_weird_op` (2 calls); it counts as unknown, never as zero.",
        ),
    )


def gallery_findings() -> tuple[Finding, ...]:
    return (
        Finding(
            "scale.shift",
            "The mean after `relu` is not zero.",
            Number(0.0, "1", "formula"),
            Number(0.399, "1", "measured"),
            severity="note",
            repair="Subtract `1/√(π−1)` after the activation.",
            theory="S2",
        ),
        Finding(
            "highway.vanishing",
            "The gradient that reaches `embed.weight` is 1.8e-21 of the one that left the loss.",
            Number(1.0, "1", "formula", "ratio of RMS norms"),
            Number(1.8e-21, "1", "measured", "ratio of RMS norms"),
            severity="error",
            where=HERE,
            module="encoder.rnn",
            repair="Start the keep gate open: `nn.init.uniform_(rnn.bias_hh_l0[d:2*d], 1, 5)`.",
            theory="H2",
        ),
        Finding(
            "scale.variance",
            "The variance grows 5.1-fold.",
            Number(1.0, "1", "formula"),
            Number(5.1, "1", "measured"),
            where=HERE,
            repair="`assay.init.normalize_(model, *inputs)`",
            theory="S3",
        ),
    )


def hostile_view() -> View:
    attack = "<script>alert(1)</script>&\"'`x`\x00\x1b[31m"
    nan, inf = math.nan, math.inf
    return View(
        attack,
        attack,
        attack,
        (
            Table(
                (Column(attack, attack), Column(attack, code=True)),
                ((attack, Cell(attack, "bad")),),
                attack,
            ),
            Paragraph(attack),
            Formulas(((attack, attack),), attack),
            Lines(
                (Series(attack, (0.0, 1.0, 2.0), (nan, inf, 0.0)),),
                attack,
                attack,
                attack,
                log_y=True,
                marks=((1.0, attack),),
            ),
            Bars(((attack, nan), (attack, inf)), attack, attack, reference=(1.0, attack)),
            Arcs((attack, attack), (Arc(0.0, 1.0, attack, "bad"), Arc(nan, 1.0, attack)), attack),
            Angle(((attack, 0.0), (attack, nan)), attack),
        ),
        (attack,),
    )


VIEW, FINDINGS, HOSTILE = gallery_view(), gallery_findings(), hostile_view()
