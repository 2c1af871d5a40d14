"""What in a certificate deserves attention: mostly notes, since a loose bound is no defect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from assay.certificate.bounds import VACUOUS, Bounds, below_truth, bound
from assay.certificate.evaluate import (
    constant_errors,
    constant_errors_held_out,
    depends_on_batch,
    fingerprints,
)
from assay.certificate.prior import Prior
from assay.finding import Finding, Number, ranked
from assay.subject import Examples, Subject

if TYPE_CHECKING:
    from assay.certificate.certify import Holdout

# a held-out error this unlikely, under the bound or the training error, is no accident
UNLIKELY = 1e-3
# and one this unlikely for a rule that knows the most frequent target only is better than that
BETTER = 0.05


def findings(
    prior: Prior,
    given: Examples,
    decoded: Subject,
    bounds: Bounds,
    origin: str,
    float_errors: int,
    holdout: Holdout | None,
    anchored: bool,
    slack: float,
) -> tuple[Finding, ...]:
    """Everything to say about a certificate.

    Args:
        prior: What was known before the data.
        given: The training examples.
        decoded: The decoded model.
        bounds: Its bounds.
        origin: Where the weights came from.
        float_errors: Training errors before quantisation.
        holdout: The held-out errors, or None.
        anchored: Whether the code refers to built values.
        slack: Share of examples that quantisation was allowed to lose.

    Returns:
        The findings, most serious first.
    """
    found = [
        *_not_a_rule(prior, decoded, given),
        *_unfitted(prior, given, origin, float_errors),
        *_copies(given),
        *_overlap(given, holdout),
        *_shift(bounds, holdout),
        *_gap(given, bounds, holdout),
        *_one_target(given),
        *_vacuous(prior, bounds),
        *_untrained(prior, origin),
        *brought(prior, anchored),
        *tables(prior, anchored),
        *_quantised(bounds, float_errors, slack),
    ]
    return ranked(tuple(found))


def brought(prior: Prior, anchored: bool) -> Iterator[Finding]:
    """Weights that the builder brings along: vouched for, or coded in full.

    Args:
        prior: What was known before the data.
        anchored: Whether the code refers to built values.

    Yields:
        At most one note.
    """
    if not prior.brought and prior.repeatable:
        return
    names = ", ".join(f"`{name}`" for name in prior.brought[:3]) + ", …" * (len(prior.brought) > 3)
    if anchored:
        message = (
            f"The bound rests on a promise: {names} come with the builder, not from its seed, and "
            "cost no bits. If they were trained on these examples, the bound is false."
        )
        repair = "Leave out `trust=True` to have all weights coded in full."
    elif prior.brought:
        message = (
            f"{names} are the same under every seed, so they may have been trained on these "
            "examples: all weights are coded in full."
        )
        repair = (
            "Do not seed or load weights inside the builder; or, if they were made without these "
            "examples, say `certify(..., trust=True)`."
        )
    else:
        message = "Building twice under one seed gives different weights: all are coded in full."
        repair = "Draw initial weights from torch's, numpy's or Python's global generator only."
    yield Finding(
        "certificate.brought-weights",
        message,
        expected=Number(0, "parameters that the seed does not explain", "measured"),
        measured=Number(len(prior.brought), "parameters", "measured"),
        severity="note",
        repair=repair,
        where=prior.builder.where,
        theory="L1",
    )


def tables(prior: Prior, anchored: bool) -> Iterator[Finding]:
    """Buffers that the builder fills in the same way under every seed, and that cost nothing.

    Args:
        prior: What was known before the data.
        anchored: Whether the code refers to built values.

    Yields:
        At most one note.
    """
    if not anchored or not prior.tables:
        return
    names = ", ".join(f"`{name}`" for name in prior.tables[:3]) + ", …" * (len(prior.tables) > 3)
    yield Finding(
        "certificate.built-in-buffers",
        f"The bound rests on a promise: the builder fills {names} in the same way under every seed, and "
        "they cost no bits. Tables of positions are fine; if these were computed from the examples, the "
        "bound is false.",
        expected=Number(0, "buffers that the seed does not explain", "measured"),
        measured=Number(len(prior.tables), "buffers", "measured"),
        severity="note",
        repair="Let `fit` fill buffers that depend on the examples (feature means, scales): then they are "
        "coded.",
        where=prior.builder.where,
        theory="L1",
    )


def _vacuous(prior: Prior, bounds: Bounds) -> Iterator[Finding]:
    if not bounds.vacuous:
        return
    room = bounds.affordable(VACUOUS)
    yield Finding(
        "certificate.vacuous",
        f"The bound is {bounds.best:.4f}: it says nothing, as is usual for a network whose every "
        "weight is coded.",
        expected=Number(room or 0, "bits", "formula", f"at most, for a bound of {VACUOUS}"),
        measured=Number(bounds.bits, "bits", "measured", "length of the code word"),
        severity="note",
        repair=(
            "Train fewer numbers: `p.requires_grad_(False)` for all but the last layers (frozen ones "
            "cost one bit a tensor), share weights, or train in a random subspace."
        ),
        where=prior.builder.where,
        theory="L2",
    )


def _quantised(bounds: Bounds, float_errors: int, slack: float) -> Iterator[Finding]:
    if bounds.errors - float_errors <= 2 * slack * bounds.examples:  # the search sees a sample
        return
    yield Finding(
        "certificate.quantised-error-grows",
        f"The decoded model gets {bounds.errors - float_errors:,} more training examples wrong than "
        "the weights before quantisation.",
        expected=Number(float_errors, "errors", "measured", "weights as trained"),
        measured=Number(bounds.errors, "errors", "measured", "decoded weights"),
        severity="note",
        repair="Allow more trials, `certify(..., trials=100)`, or less slack, `slack=0.005`.",
        theory="L2",
    )


def _untrained(prior: Prior, origin: str) -> Iterator[Finding]:
    if origin != "built":
        return
    yield Finding(
        "certificate.untrained",
        "The weights are as the builder made them: there was nothing to train them with.",
        expected=Number("fit or model", "", "measured"),
        measured=Number("neither", "", "measured"),
        severity="note",
        repair="Return Subject(..., fit=train) from the builder, or say `certify(..., model=trained)`.",
        where=prior.builder.where,
        theory="L1",
    )


def _not_a_rule(prior: Prior, decoded: Subject, given: Examples) -> Iterator[Finding]:
    differing = depends_on_batch(decoded, given, prior.seed)
    if differing:
        yield Finding(
            "certificate.batch-dependent",
            f"{differing} of the first examples are judged otherwise alone than among others: the "
            "model is not one rule for all examples, and the bound is not about it.",
            expected=Number(0, "examples", "formula"),
            measured=Number(differing, "examples", "measured"),
            severity="warning",
            repair="Make evaluation independent of the batch, for example `model.eval()` statistics.",
            where=prior.builder.where,
            theory="L1",
        )


def _copies(given: Examples) -> Iterator[Finding]:
    marks = fingerprints(given)
    distinct = set(marks)
    if len(distinct) < len(marks):
        yield Finding(
            "certificate.copies",
            f"{len(marks) - len(distinct):,} of {len(marks):,} training examples are exact copies of "
            "others: right if the world repeats itself, false if they were duplicated or padded.",
            expected=Number(len(marks), "distinct examples", "formula"),
            measured=Number(len(distinct), "distinct examples", "measured"),
            severity="note",
            repair="Certify on the examples as they were drawn, without augmentation.",
            theory="L1",
        )


def _overlap(given: Examples, holdout: Holdout | None) -> Iterator[Finding]:
    """A warning where held-out examples repeat training examples more often than these repeat each other."""
    if holdout is None or not holdout.shared:
        return
    among = Counter(fingerprints(given))
    repeated = sum(number for number in among.values() if number > 1)
    usual = bound(repeated, len(given), 0, UNLIKELY).binomial
    leaked = below_truth(holdout.shared, holdout.examples, UNLIKELY) > usual
    yield Finding(
        "certificate.holdout-overlap",
        f"{holdout.shared:,} of {holdout.examples:,} held-out examples are also training examples"
        + (
            f"; of the training examples themselves, {repeated:,} of {len(given):,} have a copy."
            if leaked
            else "."
        ),
        expected=Number(0, "examples", "formula"),
        measured=Number(holdout.shared, "examples", "measured"),
        severity="warning" if leaked else "note",
        repair="Split before anything else, by the unit that repeats (word, patient, user).",
        theory="L1",
    )


def _unfitted(prior: Prior, given: Examples, origin: str, float_errors: int) -> Iterator[Finding]:
    """Training that ends no better than a constant has failed, whatever the bound is."""
    least = constant_errors(given)
    if origin == "built" or least is None or least == 0 or float_errors < least:
        return
    yield Finding(
        "certificate.unfitted",
        f"The model does not fit its training examples: it gets {float_errors:,} of {len(given):,} wrong, "
        f"and always saying the most frequent target {least:,}.",
        expected=Number(least, "errors", "formula", "of the most frequent target, always said"),
        measured=Number(float_errors, "errors", "measured", "weights as trained"),
        severity="warning",
        repair="Look at the training: a rate that is too high, gradients that do not arrive, targets in "
        "another order than inputs.",
        where=prior.builder.where,
        theory="L1",
    )


def _shift(bounds: Bounds, holdout: Holdout | None) -> Iterator[Finding]:
    if holdout is None:
        return
    least = below_truth(holdout.errors, holdout.examples, UNLIKELY)
    if least > bounds.best:
        yield Finding(
            "certificate.shift",
            f"The held-out error is {holdout.rate:.3f}, certainly above the bound of "
            f"{bounds.best:.3f}: the held-out examples follow another distribution than the "
            "training examples, or the training examples are not independent.",
            expected=Number(bounds.best, "1", "bound", f"fails with probability {bounds.delta:g}"),
            measured=Number(least, "1", "bound", f"lower limit at {UNLIKELY:g}"),
            severity="warning",
            repair="Shuffle before splitting; count one example for each independent draw.",
            theory="L1",
        )


def _gap(given: Examples, bounds: Bounds, holdout: Holdout | None) -> Iterator[Finding]:
    """A warning where what was learned is about the training examples only; a note where a part of it is."""
    if holdout is None or given.holdout is None or holdout.errors == 0:
        return
    least = below_truth(holdout.errors, holdout.examples, UNLIKELY)
    most = bound(bounds.errors, bounds.examples, 0, UNLIKELY).binomial
    constant = constant_errors_held_out(given, given.holdout)
    if constant is not None and _memorised(bounds, holdout, constant, least):
        yield _nothing_learned(bounds, holdout, constant)
    elif most < least <= bounds.best:  # above the bound it is a shift, and told as that
        yield Finding(
            "certificate.gap",
            f"The training error is {bounds.rate:.3f} and the held-out error {holdout.rate:.3f}: by more "
            "than chance the model is better on what it was trained on. Trust the held-out error.",
            expected=Number(
                most,
                "1",
                "bound",
                f"training error, as if of a test set: upper limit at {UNLIKELY:g}",
            ),
            measured=Number(least, "1", "bound", f"held-out error, lower limit at {UNLIKELY:g}"),
            severity="note",
            repair="More examples, or fewer numbers that training may choose, make the gap smaller; a "
            "held-out error that suffices needs no repair.",
            theory="L1",
        )


def _memorised(bounds: Bounds, holdout: Holdout, constant: int, least: float) -> bool:
    """Whether training gained much over the constant rule, and the held-out examples show nothing of it.

    Returns:
        True, with probability `UNLIKELY` at most, of a model that keeps half of what it gained.
    """
    blind = constant / holdout.examples
    gained = bound(bounds.errors, bounds.examples, 0, UNLIKELY).binomial < blind
    better = bound(holdout.errors, holdout.examples, 0, BETTER).binomial < blind
    return gained and not better and least > (bounds.rate + blind) / 2


def _nothing_learned(bounds: Bounds, holdout: Holdout, constant: int) -> Finding:
    blind = constant / holdout.examples
    return Finding(
        "certificate.memorised",
        f"The model knows its training examples (error {bounds.rate:.3f}), and no others: it gets "
        f"{holdout.rate:.3f} of {holdout.examples:,} held-out examples wrong, and always saying the most "
        f"frequent target {blind:.3f}.",
        expected=Number(
            blind, "1", "measured", "of the most frequent training target, always said"
        ),
        measured=Number(holdout.rate, "1", "measured", "held-out error"),
        severity="warning",
        repair="Check that inputs and targets belong together (a shuffle of one of them), that the targets "
        "can be told from the inputs, and that held-out inputs are prepared as training's are; then more "
        "examples or fewer numbers.",
        theory="L1",
    )


def _one_target(given: Examples) -> Iterator[Finding]:
    if len(given) > 1 and constant_errors(given) == 0:
        yield Finding(
            "certificate.one-target",
            f"All {len(given):,} training examples have the same target: a rule that always says it makes no "
            "error, and nothing else is certified.",
            expected=Number("two or more", "targets", "formula"),
            measured=Number(1, "targets", "measured"),
            severity="note",
            repair="Look at how the targets are read: a filter, a wrong column, or a default value.",
            theory="L1",
        )
