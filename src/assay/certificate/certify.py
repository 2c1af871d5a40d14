"""From a builder and examples to a certificate: train, quantise, code, decode, count, bound."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from assay.builder import Builder, as_builder
from assay.certificate import file, language, warn
from assay.certificate.bounds import Bounds, bound
from assay.certificate.claim import Claim, printable
from assay.certificate.evaluate import count_errors, digest, error_rule, shared
from assay.certificate.language import Code, Coded, Message
from assay.certificate.prior import Prior, slots
from assay.certificate.quantise import Search, load
from assay.errors import AssayError, UsageError, UserCodeError, verbatim
from assay.finding import Result, plain
from assay.progress import Progress, silent
from assay.state import preserved_random_state
from assay.subject import Examples, Subject
from assay.view.blocks import View

Origin = Literal["fit", "model", "built"]


@dataclass(frozen=True)
class Part:
    """What one tensor took of the code word.

    Args:
        name: Its name.
        numbers: Real numbers in it.
        said: "as built", "on a grid" or "change on a grid".
        step: The grid's step, 0 where there is none.
        bits: Its share of the code word.
    """

    name: str
    numbers: int
    said: str
    step: float
    bits: float


@dataclass(frozen=True)
class Holdout:
    """The decoded model on examples that training never saw.

    Args:
        examples: How many.
        errors: How many of them are wrong.
        certified: Upper bound on the true error from them alone, at the same δ, rounded up.
        shared: How many of them are training examples too: then training has seen what it is held against.
    """

    examples: int
    errors: int
    certified: float
    shared: int = 0

    @property
    def rate(self) -> float:
        """Held-out error, a fraction."""
        return self.errors / self.examples


@dataclass(frozen=True, repr=False, eq=False)
class Certificate(Result):
    """A trained model as a code word, and what that supports. Theory L1–L3.

    Args:
        claim: What the file says.
        code: The code word, filled up with zero bits to whole bytes.
        bounds: Upper bounds on the true error of `model`.
        origin: Where the weights came from: the subject's `fit`, a `model` that was given, or "built".
        float_errors: Training examples that the weights before quantisation get wrong.
        holdout: The decoded model on held-out examples, or None without any.
        parts: What each tensor took.
        model: The decoded model. The claim is about it and no other: ship this one.
    """

    claim: Claim
    code: bytes
    bounds: Bounds
    origin: Origin
    float_errors: int
    holdout: Holdout | None
    parts: tuple[Part, ...]
    model: nn.Module = field(compare=False)

    @property
    def bits(self) -> int:
        """Length of the code word."""
        return self.claim.bits

    @property
    def errors(self) -> int:
        """Training examples that the decoded model gets wrong."""
        return self.claim.errors

    @property
    def examples(self) -> int:
        """Number N of training examples."""
        return self.claim.examples

    @property
    def delta(self) -> float:
        """Probability that the bounds fail."""
        return self.claim.delta

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the certificate file, whole or not at all.

        Args:
            path: Where to, by convention `name.assay`.
        """
        file.write(path, file.pack(self.claim, self.code))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the model and the code word themselves.

        Returns:
            One key for every other field.
        """
        names = ("claim", "bounds", "origin", "float_errors", "holdout", "parts", "findings")
        return {name: plain(getattr(self, name)) for name in names}

    def view(self) -> View:
        """The bound beside what a test set would have given, and where the bits went."""
        from assay.certificate.show import certificate_view

        return certificate_view(self)


def certify(
    build: Any,
    examples: Any = None,
    *,
    delta: float = 0.05,
    model: nn.Module | None = None,
    seed: int = 0,
    trust: bool = False,
    slack: float = 0.02,
    trials: int = 40,
    progress: Progress = silent,
) -> Certificate:
    """Code a trained model and bound its true error by its training error and length. Theory L1–L3.

    The weights are those of `model`; without it, of a fresh model trained by the subject's `fit`;
    without that, as built. They are quantised, coded, decoded into a fresh model and counted again:
    the claim is about that decoded model.

    Args:
        build: A builder or anything that `assay.Builder` takes; fixed before the examples were seen.
        examples: `Examples`, an `(inputs, targets)` pair, or a function returning either; by default
            the subject's own. Independent draws, none twice. A `holdout` in them is only compared.
        delta: Probability, over the draw of the examples, that the bounds may fail.
        model: A trained model with the tensors that `build` makes; it is left as it is.
        seed: Seed for building, training and evaluating; part of the code word.
        trust: Say True if weights that `build` brings along (a checkpoint) were made without these
            examples. They then cost nothing; otherwise all weights are coded in full.
        slack: Share of training examples that quantisation may lose for the sake of fewer bits.
        trials: How many quantisations to try, each on up to 2048 examples.
        progress: Told how far it is.

    Returns:
        The certificate; `.model` is the decoded model.

    Raises:
        UsageError: If an argument is out of range, there are no examples, or `model` does not fit.
        UserCodeError: If the user's `fit`, forward or error rule raises.
        AssayError: If the subject's `fit` raises one itself; it is passed on.

    Example:
        >>> x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> def fit(model, examples, progress):
        ...     rule = torch.optim.Adam(model.parameters(), lr=0.1)
        ...     for _ in range(30):
        ...         loss = nn.functional.cross_entropy(model(*examples.inputs), examples.targets)
        ...         rule.zero_grad(); loss.backward(); rule.step()
        >>> def build():
        ...     return Subject(nn.Linear(5, 2), x[:2], fit=fit)
        >>> certificate = certify(build, Examples(x, y))
        >>> certificate.bounds.best < 0.5
        True
    """
    _check(delta, slack, trials)
    prior = Prior.of(as_builder(build), seed)
    given = _examples(examples, prior.subject)
    origin: Origin = "model" if model is not None else "fit" if prior.subject.fit else "built"
    trained = _train(prior, given, model, progress)
    values = _matching(prior, trained.model)
    float_errors = count_errors(
        trained, given, seed=seed, progress=progress, task="counting errors of the trained model"
    ).errors
    anchored = prior.anchored(trust)
    work = prior.fresh()
    coded = Search(
        work,
        values,
        prior.values if anchored else None,
        given,
        delta=delta,
        slack=slack,
        trials=trials,
        seed=seed,
        progress=progress,
    ).run()
    code = _encode(prior, coded, anchored)
    decoded, coded = _decode(prior, code)
    count = count_errors(
        decoded, given, seed=seed, progress=progress, task="counting errors of the decoded model"
    )
    bounds = bound(count.errors, len(given), code.bits, delta)
    holdout = _hold_out(decoded, given, seed, delta, progress)
    claim = _claim(prior, given, bounds, anchored)
    parts = _parts(prior, coded, code)
    findings = warn.findings(
        prior, given, decoded, bounds, origin, float_errors, holdout, anchored, slack
    )
    return Certificate(
        claim=claim,
        code=code.data,
        bounds=bounds,
        origin=origin,
        float_errors=float_errors,
        holdout=holdout,
        parts=parts,
        model=decoded.model,
        findings=findings,
    )


def arguments_text(builder: Builder) -> str:
    """The builder's arguments other than sizes, as they stand in the code word.

    Args:
        builder: The builder.

    Returns:
        JSON with sorted keys, or "" without arguments.
    """
    return json.dumps(builder.arguments, sort_keys=True, default=repr) if builder.arguments else ""


def size_values(sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Sizes as they stand in the code word: in the order of their names.

    Args:
        sizes: Names and values.

    Returns:
        The values.
    """
    return tuple(sizes[name] for name in sorted(sizes))


def _check(delta: float, slack: float, trials: int) -> None:
    bound(0, 1, 0, delta)  # says what is wrong with delta
    if not 0 <= slack <= 1:
        raise UsageError("slack", slack, "a share of examples from 0 to 1", "0.02 is usual.")
    if not isinstance(trials, int) or trials < 1:
        raise UsageError("trials", trials, "an integer of at least 1", "40 is usual.")


def _examples(examples: Any, subject: Subject) -> Examples:
    given = subject.examples if examples is None else examples
    if given is None:
        raise UsageError(
            "examples",
            None,
            "independent examples to certify on",
            "Give examples=Examples(inputs, targets), or a Subject that has them.",
        )
    return Examples.of(given)


def _train(prior: Prior, given: Examples, model: nn.Module | None, progress: Progress) -> Subject:
    subject = prior.subject
    if model is not None:
        return replace(subject, model=model)
    if subject.fit is not None:
        with preserved_random_state(prior.seed):
            try:
                subject.fit(subject.model, given, progress)
            except AssayError:
                raise
            except Exception as error:
                name = getattr(subject.fit, "__qualname__", "fit")
                raise UserCodeError("fit", name, error) from error
    return subject


def _matching(prior: Prior, model: nn.Module) -> list[Tensor]:
    """Trained values in the order of the slots that the builder makes."""
    found = {slot.name: slot.tensor for slot in slots(model)}
    if set(found) != set(prior.names):
        odd = sorted(set(found) ^ set(prior.names))
        raise UsageError(
            "model",
            verbatim(f"a model that differs in {', '.join(odd[:3])}"),
            "the tensors that the builder makes, tied where it ties them",
            "Give the model that this builder builds, at these sizes.",
        )
    for name, built in zip(prior.names, prior.values, strict=True):
        if found[name].shape != built.shape or found[name].dtype != built.dtype:
            raise UsageError(
                f"model, {name}",
                verbatim(f"{list(found[name].shape)} {found[name].dtype}"),
                f"{list(built.shape)} {built.dtype}, as the builder makes it",
                "Give the builder the sizes that the model was trained with.",
            )
    return [found[name].detach() for name in prior.names]


def _encode(prior: Prior, coded: Sequence[Coded], anchored: bool) -> Code:
    builder = prior.builder
    message = Message(
        prior.seed,
        size_values(builder.sizes),
        arguments_text(builder),
        anchored,
        tuple(coded),
    )
    return language.encode(message, prior.slots)


def _decode(prior: Prior, code: Code) -> tuple[Subject, tuple[Coded, ...]]:
    """A fresh model with what the code word says, and nothing else."""
    fresh = prior.fresh()
    message, _ = language.decode(code.data, prior.slots, len(prior.builder.sizes))
    restore(fresh.model, message)
    return fresh, message.tensors


def restore(model: nn.Module, message: Message) -> None:
    """Write what a code word says into a freshly built model.

    Args:
        model: What the builder made under the message's seed; changed in place.
        message: What the code word says.
    """
    places = slots(model)
    load(places, [c.values(p.tensor) for c, p in zip(message.tensors, places, strict=True)])


def _hold_out(
    decoded: Subject, given: Examples, seed: int, delta: float, progress: Progress
) -> Holdout | None:
    if given.holdout is None:
        return None
    held = given.holdout
    if held.errors is None and given.errors is not None:
        held = replace(held, errors=given.errors)
    count = count_errors(decoded, held, seed=seed, progress=progress, task="held-out errors")
    certified = bound(count.errors, len(held), 0, delta).binomial
    return Holdout(len(held), count.errors, certified, shared(given, held))


def _claim(prior: Prior, given: Examples, bounds: Bounds, anchored: bool) -> Claim:
    return Claim(
        language=language.VERSION,
        builder=printable(prior.builder.name),
        sizes=dict(prior.builder.sizes),
        arguments=printable(arguments_text(prior.builder)),
        seed=prior.seed,
        anchored=anchored,
        brought=prior.brought if anchored else (),
        prior=prior.digest(anchored),
        rule=printable(error_rule(given)),
        examples=bounds.examples,
        data=digest(given),
        errors=bounds.errors,
        bits=bounds.bits,
        delta=bounds.delta,
        course=bounds.course,
        kl=bounds.kl,
        binomial=bounds.binomial,
        torch=torch.__version__,
    )


def _parts(prior: Prior, coded: Sequence[Coded], code: Code) -> tuple[Part, ...]:
    said = ("as built", "on a grid", "change on a grid")
    return tuple(
        Part(
            slot.name,
            slot.size,
            said[tensor.mode] if slot.continuous or tensor.mode == 0 else "exactly",
            language.step_size(tensor.step) if tensor.mode and slot.continuous else 0.0,
            share,
        )
        for slot, tensor, share in zip(prior.slots, coded, code.shares, strict=True)
    )
