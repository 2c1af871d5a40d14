"""A loss that takes logits, or logarithms, and is given something else."""

from __future__ import annotations

import math
from collections.abc import Iterator

from assay.finding import Finding, Number
from assay.scale.squashed import Squashed
from assay.scale.twice import Across, Twice


def not_logits(found: Twice | None, across: Across | None) -> Iterator[Finding]:
    """What a loss is given in place of logits, or of their logarithms.

    Args:
        found: What was squashed before the loss squashed it, if anything.
        across: What adds up along another dimension than that of the classes, if anything.

    Yields:
        A warning of each.
    """
    if across is not None:
        yield _wrong_dimension(across)
    if found is None or (found.takes.endswith("softmax") and found.classes < 2):
        return
    if found.takes == "nothing":
        yield _without_logarithm(found.squashed)
    elif found.squashed.by == "ReLU":
        yield _rectified(found)
    else:
        yield _squashed_twice(found)


def _squashed_twice(found: Twice) -> Finding:
    """What a loss can reach at best that takes probabilities for logits.

    Logits between 0 and 1 are at most 1 apart: with K classes the cross-entropy stays above
    log(1 + (K - 1)/e), however well the model classifies; the binary one above log(1 + 1/e) and log 2.

    Returns:
        A warning.
    """
    by, takes = found.squashed.by, found.takes.removeprefix("log-")
    if takes == "softmax":
        least = math.log1p((found.classes - 1) / math.e)
        bound = f"with {found.classes} classes it cannot fall below {least:.3g}"
        instead = "`F.nll_loss` of its logarithm" if by == "softmax" else ""
    else:
        least = math.log1p(1 / math.e)
        bound = f"it cannot fall below {least:.3g} where the target is 1, and 0.693 where it is 0"
        instead = "`F.binary_cross_entropy`"
    return Finding(
        rule=f"scale.double-{takes}",
        message=f"The loss takes the {takes} of what is a {by} already: {bound}, however well the model "
        "classifies, and its gradient nearly vanishes.",
        expected=Number(0.0, "nats", "formula", "least cross-entropy of logits"),
        measured=Number(
            least, "nats", "formula", "least cross-entropy of probabilities taken for logits"
        ),
        severity="warning",
        repair=_leave_out(found.squashed) + (f", or take {instead}" * bool(instead)),
        where=found.squashed.where,
        theory="S4",
        weight=least,
    )


def _rectified(found: Twice) -> Finding:
    """Logits that a ReLU returned: below 0 they have no gradient, and none is below 1/2 for a sigmoid."""
    zeros = float((found.logits.detach() <= 0).float().mean())
    bound = "what a class is not cannot be said by a logit below 0"
    if found.takes == "sigmoid":
        bound = "no probability is below 1/2, and the loss not below 0.693 where the target is 0"
    return Finding(
        rule="scale.rectified-logits",
        message=f"The loss takes the {found.takes.removeprefix('log-')} of what a ReLU returned: {bound}, "
        f"and {zeros:.0%} of the logits are 0 and have no gradient, also where they should be the largest.",
        expected=Number(0.0, "of the logits without gradient", "formula"),
        measured=Number(zeros, "of the logits", "measured"),
        severity="warning",
        repair=_leave_out(found.squashed),
        where=found.squashed.where,
        theory="S4",
        weight=1.0,
    )


def _leave_out(squashed: Squashed) -> str:
    if squashed.own:
        return f"return the logits: leave out the model's own {squashed.by}"
    return f"give the loss the logits: leave out the {squashed.by} in front of it"


def _without_logarithm(squashed: Squashed) -> Finding:
    return Finding(
        rule="scale.no-logarithm",
        message=f"The loss wants logarithms of probabilities and is given what a {squashed.by} returned: it "
        "is linear in these, and where the model is most wrong its gradient vanishes.",
        expected=Number("logarithms", "", "formula"),
        measured=Number("probabilities", "", "measured"),
        severity="warning",
        repair=f"{'return' if squashed.own else 'take'} `log_softmax` in place of the {squashed.by}, or "
        "logits with `F.cross_entropy`",
        where=squashed.where,
        theory="S4",
        weight=1.0,
    )


def _wrong_dimension(found: Across) -> Finding:
    return Finding(
        rule="scale.wrong-dimension",
        message=f"The probabilities that the loss is given, of shape {list(found.shape)}, add up to "
        f"1 along dimension {found.over} and not along dimension 1, where the classes stand: "
        f"{'examples' if found.over == 0 else 'positions'} compete, and classes do not.",
        expected=Number(1, "", "formula", "dimension along which probabilities add up to 1"),
        measured=Number(found.over, "", "measured"),
        severity="warning",
        repair=f"take the softmax along the classes, not `dim={found.over}`; `F.cross_entropy` of the logits "
        "does it",
        where=found.where,
        theory="S4",
        weight=1.0,
    )
