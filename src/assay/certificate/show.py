"""What a reader sees of a certificate and of its verification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.certificate.bounds import NOTES, VACUOUS, formulas, upward
from assay.view.blocks import Bars, Cell, Column, Table, View

if TYPE_CHECKING:
    from assay.certificate.certify import Certificate
    from assay.certificate.verify import Verification

_WHO = {"fit": "The trained model", "model": "The given model", "built": "The model as built"}


def certificate_view(result: Certificate) -> View:
    """The bound beside what a test set would have given, and where the bits went.

    Args:
        result: The certificate.

    Returns:
        Answer, picture and tables.
    """
    bounds = result.bounds
    return View(
        title="Certificate",
        question="How far can the training error be trusted?",
        answer=_answer(result),
        blocks=(_bars(result), _budget(result), _parts(result), formulas()),
        notes=(
            *NOTES,
            f"Errors count {result.claim.rule}; evaluation mode; the decoded model on every training "
            "example, as a measurement; the bounds follow by formula.",
            "Sizes, seed, steps and every number that training changed are inside the code word. "
            "Preprocessing done outside the model (feature means, vocabularies) is not: if it looked "
            "at the examples, make it part of the model.",
            f"The claim is about the decoded model, `.model`, at δ = {bounds.delta:g}; its bits are "
            "the exact length of a code word that decodes, not an entropy.",
        ),
    )


def _answer(result: Certificate) -> str:
    bounds, held = result.bounds, result.holdout
    numbers = sum(part.numbers for part in result.parts)
    text = (
        f"{_WHO[result.origin]} has a code word of {bounds.bits:,} bits "
        f"({bounds.bits / max(numbers, 1):.2f} a number). It gets {bounds.errors:,} of "
        f"N = {bounds.examples:,} training examples wrong ({bounds.rate:.3f}); with probability "
        f"{1 - bounds.delta:g} its true error is at most {upward(bounds.best)}"
    )
    room = bounds.affordable(VACUOUS)
    if bounds.vacuous:
        text += ": the bound is vacuous, it says nothing."
        if room is not None:
            text += f" With at most {_bits(room)} it would say something."
    else:
        text += "."
    if held is not None:
        text += (
            f" The {held.examples:,} held-out examples measured {held.rate:.3f} and certify "
            f"{upward(held.certified)}"
        )
        text += "." if not held.shared else _too_low(held.shared)
        beat = bounds.affordable(held.certified) if 0 < held.certified < 1 else None
        if bounds.best <= held.certified:
            text += " The bound from training examples is the smaller one."
        elif beat is not None:
            text += f" With at most {_bits(beat)} the bound would match that."
    text += (
        f" A held-out set as large as the training set would certify {upward(bounds.holdout())} at "
        "the training error."
    )
    return text


def _too_low(shared: int) -> str:
    are = "is a training example" if shared == 1 else "are training examples"
    return f"; {shared:,} of them {are} too, so that both numbers may be too low."


def _bits(count: int) -> str:
    return f"{count:,} bit{'s' * (count != 1)}"


def _bars(result: Certificate) -> Bars:
    bounds, held = result.bounds, result.holdout
    rows = [
        ("training error, weights before coding", result.float_errors / result.examples),
        ("training error, decoded model", bounds.rate),
    ]
    if held is not None:
        rows += [
            (f"held-out error, {held.examples:,} examples", held.rate),
            ("certified by the held-out examples", held.certified),
        ]
    rows += [
        (f"certified by {bounds.examples:,} held out at the training error", bounds.holdout()),
        ("certified by training: exact binomial", bounds.binomial),
        ("certified by training: kl", bounds.kl),
        ("certified by training: course form", bounds.course),
    ]
    return Bars(
        rows=tuple(rows),
        x_label="error",
        title="Errors measured, and upper bounds on the true error",
        limits=(0.0, 1.0),
        reference=(1.0, "says nothing"),
    )


def _budget(result: Certificate) -> Table:
    bounds = result.bounds
    targets = [(f"{VACUOUS:g} (not vacuous)", VACUOUS), ("0.5", 0.5), ("0.1", 0.1)]
    if result.holdout is not None and 0 < result.holdout.certified < 1:
        held = result.holdout.certified
        targets.append((f"{upward(held)} (as the held-out examples)", held))
    rows = []
    for name, target in targets:
        room = bounds.affordable(target)
        enough = room is not None and room >= bounds.bits
        rows.append(
            (
                name,
                Cell("none: the error alone is too high" if room is None else f"{room:,}"),
                Cell(f"{bounds.bits:,}", "good" if enough else ""),
            )
        )
    return Table(
        columns=(
            Column("for a bound of"),
            Column("the code word may have", "bits", "right"),
            Column("it has", "bits", "right"),
        ),
        rows=tuple(rows),
        caption="Bits that one could afford at this training error, by the exact binomial bound.",
    )


def _parts(result: Certificate) -> Table:
    parts = sorted(result.parts, key=lambda part: -part.bits)
    rows = [
        (
            part.name,
            f"{part.numbers:,}",
            part.said,
            f"{part.step:.3g}" if part.step else "",
            f"{part.bits:,.1f}",
            f"{part.bits / part.numbers:.2f}",
        )
        for part in parts
    ]
    header = result.bits - sum(part.bits for part in parts)
    rows.append(("seed, sizes, arguments, end", "", "", "", f"{header:,.1f}", ""))
    return Table(
        columns=(
            Column("tensor", code=True),
            Column("numbers", align="right"),
            Column("said"),
            Column("step", align="right"),
            Column("share", "bits", "right"),
            Column("each", "bits", "right"),
        ),
        rows=tuple(rows),
        caption="Where the code word's bits go; shares add up to its length.",
        shown=8,
    )


def verification_view(result: Verification) -> View:
    """Each claim beside what was derived here.

    Args:
        result: The verification.

    Returns:
        Answer and table.
    """
    false = [check.name for check in result.checks if check.holds is False]
    if not false and result.bounds is not None:
        answer = (
            f"Every claim holds: a model of {result.bounds.bits:,} bits with at most "
            f"{result.bounds.errors:,} errors on {result.bounds.examples:,} examples, so with "
            f"probability {1 - result.bounds.delta:g} its true error is at most "
            f"{upward(result.bounds.best)}."
        )
    else:
        answer = f"The certificate is false here: {', '.join(false)}."
    rows = tuple(
        (
            check.name,
            _short(check.claimed),
            Cell(
                _short(check.derived),
                "" if check.holds is None else "good" if check.holds else "bad",
            ),
        )
        for check in result.checks
    )
    return View(
        title="Verification",
        question="Is what this certificate claims true?",
        answer=answer,
        blocks=(
            Table(
                columns=(Column("claim"), Column("in the file"), Column("derived here")),
                rows=rows,
                caption="Nothing in the file was believed: every value on the right was derived anew.",
                shown=24,
            ),
            formulas(),
        ),
        notes=(
            *NOTES,
            "Errors here may be fewer than claimed, never more: an argmax won by a margin under 1e-5 is "
            "claimed as an error.",
            "That the builder and the examples' order of events are honest (the builder was fixed before "
            "the examples were seen) is for the reader to judge.",
        ),
    )


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:24]}…"
