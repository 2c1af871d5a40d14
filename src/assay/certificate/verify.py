"""Check a certificate by deriving every claim again; nothing in the file is believed or run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from assay.builder import as_builder
from assay.certificate import file, language, warn
from assay.certificate.bounds import Bounds, bound
from assay.certificate.certify import arguments_text, restore, size_values
from assay.certificate.claim import Claim, printable
from assay.certificate.evaluate import Count, count_errors, digest, error_rule
from assay.certificate.language import Code, Message
from assay.certificate.prior import Prior, slots
from assay.errors import UsageError
from assay.finding import Finding, Number, Result, plain
from assay.progress import Progress, silent
from assay.state import preserved_random_state
from assay.subject import Examples
from assay.view.blocks import View


@dataclass(frozen=True)
class Check:
    """One claim beside what was derived.

    Args:
        name: What is claimed.
        claimed: The file's value.
        derived: The value derived here, or "not derived" where an earlier one already failed.
        holds: Whether the claim is true; None for what is only shown.
    """

    name: str
    claimed: str
    derived: str
    holds: bool | None


@dataclass(frozen=True, repr=False, eq=False)
class Verification(Result):
    """What became of a certificate's claims.

    Args:
        path: The file.
        verdict: "holds" if every claim does, otherwise "false".
        checks: Every claim beside what was derived.
        bounds: Bounds derived here from the claimed errors and the counted bits; None when the code
            word could not be read with this builder.
        model: The decoded model, or None.
    """

    path: str
    verdict: Literal["holds", "false"]
    checks: tuple[Check, ...]
    bounds: Bounds | None
    model: nn.Module | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the model.

        Returns:
            One key for every other field.
        """
        names = ("path", "verdict", "checks", "bounds", "findings")
        return {name: plain(getattr(self, name)) for name in names}

    def view(self) -> View:
        """Each claim beside what was derived here."""
        from assay.certificate.show import verification_view

        return verification_view(self)


def verify(
    path: str | os.PathLike[str],
    build: Any,
    examples: Any = None,
    *,
    progress: Progress = silent,
) -> Verification:
    """Decide whether a certificate's claims are true of this builder and these examples. Theory L1–L3.

    The code word is decoded with the builder's own architecture, must be the one word that the
    language has for what it says, is loaded into a fresh model, and errors, bits and bounds are
    counted again. Errors may be fewer here than claimed, never more: examples won by a margin below
    1e-5 are claimed as errors, since another machine may round them the other way.

    Args:
        path: The certificate file.
        build: The builder that it names, at the same sizes.
        examples: The training examples that it is about; by default the subject's own.
        progress: Told how far it is.

    Returns:
        The verdict with every claim; a false one is an error among the findings.

    Raises:
        UsageError: If the file cannot be read or there are no examples.

    Example:
        >>> verify("none.assay", nn.Linear(2, 2))
        Traceback (most recent call last):
        ...
        assay.errors.UsageError: path = 'none.assay': expected a certificate to read ...
    """
    builder = as_builder(build)
    with preserved_random_state(0):
        places = slots(builder().model)
    content = file.read(path, _longest_code(sum(p.size for p in places), len(places)))
    claim, data = file.unpack(content)
    prior = Prior.of(builder, claim.seed)
    given = _examples(examples, prior)
    anchored = claim.anchored
    before = [
        _check("language", claim.language, language.VERSION),
        _check("sizes", _sizes(claim.sizes), _sizes(builder.sizes)),
        _check("arguments", claim.arguments, printable(arguments_text(builder))),
        _check("what the builder makes", claim.prior, prior.digest(anchored)),
        _check("examples", claim.examples, len(given)),
        _check("digest of the examples", claim.data, digest(given)),
        _check("error rule", claim.rule, printable(error_rule(given))),
        _check("weights taken for granted", claim.brought, prior.brought if anchored else ()),
    ]
    readable = all(check.holds for check in before[:4])
    after: list[Check] = []
    bounds = model = None
    if readable:
        message, code = language.decode(data, prior.slots, len(builder.sizes))
        fresh = prior.fresh()
        restore(fresh.model, message)
        count = count_errors(fresh, given, seed=claim.seed, progress=progress, task="verifying")
        after, bounds = _recount(claim, message, code, count)
        model = fresh.model
    shown = Check("builder", claim.builder, printable(builder.name), None)
    checks = (shown, *before, *after)
    false = [check for check in checks if check.holds is False]
    findings = [
        *_false(false, builder.where),
        *warn.brought(prior, anchored),
        *warn.tables(prior, anchored),
    ]
    return Verification(
        path=os.fspath(path),
        verdict="false" if false else "holds",
        checks=checks,
        bounds=bounds,
        model=model,
        findings=tuple(findings),
    )


def _longest_code(numbers: int, tensors: int) -> int:
    """Bytes that no code word for so many numbers exceeds.

    A number takes at most 126 decisions. In a context of n of them the adaptive code costs at most one
    bit each and ½ log₂ n + 1 bits together, so 32 bytes a number and 64 a tensor are plenty.

    Returns:
        The number of bytes.
    """
    return 32 * numbers + 64 * tensors + 2 * language.TEXT


def _recount(
    claim: Claim, message: Message, code: Code, count: Count
) -> tuple[list[Check], Bounds | None]:
    fewer = count.plain <= claim.errors <= claim.examples
    said = [
        _check("seed in the code word", claim.seed, message.seed),
        _check("sizes in the code word", tuple(size_values(claim.sizes)), message.sizes),
        _check("arguments in the code word", claim.arguments, printable(message.arguments)),
        _check("reference to built weights", claim.anchored, message.anchored),
        _check("bits", claim.bits, code.bits),
        Check(
            "errors",
            f"{claim.errors:,}",
            f"{count.errors:,}"
            if count.errors == count.plain
            else f"{count.plain:,} to {count.errors:,}",
            fewer,
        ),
    ]
    # no fewer than are claimed, where the claim holds; of a false claim nothing is used
    errors = min(claim.errors, count.examples) if fewer else count.plain
    try:
        bounds = bound(errors, count.examples, code.bits, claim.delta)
    except UsageError:  # delta not inside (0, 1)
        said.append(Check("bounds", f"at δ = {claim.delta:g}", "none", False))
        return said, None
    said += [
        _check(f"{name} bound at δ = {claim.delta:g}", getattr(claim, name), getattr(bounds, name))
        for name in ("binomial", "kl", "course")
    ]
    return said, bounds


def _examples(examples: Any, prior: Prior) -> Examples:
    given = prior.subject.examples if examples is None else examples
    if given is None:
        raise UsageError(
            "examples",
            None,
            "the training examples that the certificate is about",
            "Give examples=Examples(inputs, targets), or a Subject that has them.",
        )
    return Examples.of(given)


def _check(name: str, claimed: object, derived: object) -> Check:
    return Check(name, _text(claimed), _text(derived), claimed == derived)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value) or "none"


def _sizes(sizes: dict[str, int]) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in sorted(sizes.items()))


_REPAIRS = {
    "sizes": "Verify at the certificate's sizes: `--size name=value`, or `builder.with_(sizes)`.",
    "arguments": "Verify with the certificate's arguments: `-a name=value`.",
    "what the builder makes": (
        "Use the builder's code as it was when the certificate was made; where the code refers to "
        "built weights, torch has to draw the same numbers too."
    ),
    "digest of the examples": "Give exactly the examples, in the same order, that were certified.",
}


def _false(false: list[Check], where: Any) -> Iterator[Finding]:
    for rank, check in enumerate(false):
        yield Finding(
            "certificate.false-claim",
            f"{check.name}: the file claims {printable(check.claimed)}; here it is {check.derived}.",
            expected=Number(check.derived, "", "measured"),
            measured=Number(printable(check.claimed), "", "measured", "as claimed"),
            severity="error",
            repair=_REPAIRS.get(check.name, "Do not rely on this certificate; certify again."),
            where=where,
            theory="L2",
            weight=-float(rank),
        )
