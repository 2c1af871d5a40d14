"""Counting wrong examples so that somebody else's machine counts no more of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from assay.certificate.prior import raw_bytes
from assay.errors import AssayError, UsageError, UserCodeError, verbatim
from assay.progress import Progress, silent
from assay.state import preserved, preserved_random_state
from assay.subject import IGNORED, Examples, Subject, first_floating, tensors

BATCH = 512  # examples a forward pass; fixed, so that evaluation is the same everywhere
MARGIN = 1e-5  # an argmax that wins by less, relative to max(1, |score|), counts as an error


@dataclass(frozen=True)
class Count:
    """Errors on a set of examples.

    Args:
        errors: Wrong examples, where an argmax won by less than `MARGIN` counts as wrong.
        plain: Wrong examples by the argmax alone: never more than `errors`.
        examples: How many examples.
    """

    errors: int
    plain: int
    examples: int

    @property
    def rate(self) -> float:
        """Errors as a fraction."""
        return self.errors / self.examples


def count_errors(
    subject: Subject,
    examples: Examples,
    *,
    seed: int = 0,
    progress: Progress = silent,
    task: str = "evaluating",
) -> Count:
    """Count the examples that a model gets wrong, in evaluation mode.

    Args:
        subject: Its model is run on the examples' inputs, with the subject's own keyword arguments
            where they hold no tensors.
        examples: What to evaluate on; every example counts once.
        seed: Random seed during evaluation, for models that draw numbers.
        progress: Told after every batch.
        task: What to call it there.

    Returns:
        The count.
    """
    errors = plain = done = 0
    for batch, (strict, bare) in _wrong_by_batch(subject, examples, seed, BATCH):
        errors, plain, done = errors + int(strict.sum()), plain + int(bare.sum()), done + len(batch)
        progress(task, done, len(examples), f"error {errors / done:.3f}")
    return Count(errors, plain, len(examples))


def depends_on_batch(subject: Subject, examples: Examples, seed: int = 0, rows: int = 24) -> int:
    """How many of the first examples are judged otherwise alone than among others.

    A bound is about a fixed rule, one example at a time. A model that looks at the other examples of
    its batch (a batch norm in training mode, a maximum over the batch) is not one.

    Args:
        subject: The model.
        examples: The first `rows` of them are used.
        seed: Random seed during evaluation.
        rows: How many to try.

    Returns:
        The number of examples that are certainly right one way and wrong the other way.
    """
    few = examples[:rows]
    together = [v for _, v in _wrong_by_batch(subject, few, seed, rows)]
    alone = [v for _, v in _wrong_by_batch(subject, few, seed, 1)]
    strict, bare = (torch.cat([v[i] for v in together]) for i in (0, 1))
    strict_alone, bare_alone = (torch.cat([v[i] for v in alone]) for i in (0, 1))
    return int((~strict & bare_alone).sum() + (~strict_alone & bare).sum())


def digest(examples: Examples) -> str:
    """SHA-256 of the examples: types, shapes and numbers of inputs and targets; not the held-out set.

    Args:
        examples: The examples.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256(b"assay examples 1\n")
    for tensor in (*examples.inputs, examples.targets):
        total.update(f"{list(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(raw_bytes(tensor))
    return total.hexdigest()


def fingerprints(examples: Examples) -> list[bytes]:
    """A hash of every example, inputs and targets together, to find copies.

    Args:
        examples: N examples.

    Returns:
        N hashes.
    """
    rows = [
        t.detach().cpu().contiguous().reshape(len(t), -1).view(torch.uint8).numpy()
        for t in (*examples.inputs, examples.targets)
    ]
    return [
        hashlib.blake2b(b"".join(row[i].tobytes() for row in rows), digest_size=16).digest()
        for i in range(len(examples))
    ]


def shared(examples: Examples, held: Examples) -> int:
    """How many held-out examples are training examples too.

    Returns:
        Their number; 0 where the two are of another kind, so that none can be the same.
    """
    seen = set(fingerprints(examples))
    try:
        return sum(mark in seen for mark in fingerprints(held))
    except (RuntimeError, ValueError):  # pragma: no cover (held-out tensors of another kind)
        return 0


def constant_errors(examples: Examples) -> int | None:
    """Errors of the best rule that says the same of every example.

    Returns:
        N less the number of examples with the most frequent target; None under a rule of the user's own.
    """
    if examples.errors is not None:
        return None
    return len(examples) - int(_frequencies(examples)[1].max())


def constant_errors_held_out(examples: Examples, held: Examples) -> int | None:
    """Held-out errors of the rule that always says the most frequent target of training.

    Args:
        examples: The training examples, of which the rule is read.
        held: Those that it is judged on, by the same convention.

    Returns:
        Their number; None under a rule of the user's own, or where the two are of another kind.
    """
    if (
        examples.errors is not None
        or held.errors is not None
        or held.targets.shape[1:] != examples.targets.shape[1:]
    ):
        return None
    seen, counts = _frequencies(examples)
    said = seen[counts.argmax()]
    differs = held.targets.reshape(len(held), -1).to(said.device) != said.reshape(1, -1)
    return int(differs.any(1).sum())


def _frequencies(examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    """The targets that occur, and how often each does."""
    rows = examples.targets.flatten(1) if examples.targets.dim() > 1 else examples.targets
    values, counts = rows.unique(dim=0, return_counts=True)
    return values, counts


def error_rule(examples: Examples) -> str:
    """What counts as an error, as text.

    Returns:
        The user's own rule by name, or the convention.
    """
    if examples.errors is not None:
        return f"user rule {getattr(examples.errors, '__qualname__', 'without a name')}"
    return f"argmax at every counted position, margin {MARGIN:g}"


def _wrong_by_batch(
    subject: Subject, examples: Examples, seed: int, size: int
) -> Any:  # an iterator of (batch, (strict, bare))
    model = subject.model
    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    options = {k: v for k, v in (subject.kwargs or {}).items() if not any(True for _ in tensors(v))}
    with preserved(model), preserved_random_state(seed), torch.no_grad():
        model.eval()
        for batch in examples.batches(size):
            yield batch, _judge(_forward(model, batch, device, options), batch, device)


def _forward(
    model: nn.Module, batch: Examples, device: torch.device, options: Mapping[str, Any]
) -> Any:
    try:
        return model(*(t.to(device) for t in batch.inputs), **options)
    except Exception as error:
        raise UserCodeError("forward", f"{type(model).__name__}(examples)", error) from error


def _judge(output: Any, batch: Examples, device: torch.device) -> tuple[Tensor, Tensor]:
    targets = batch.targets.to(device)
    if batch.errors is not None:
        name = getattr(batch.errors, "__qualname__", "errors")
        try:
            wrong = batch.errors(output, targets)
        except AssayError:
            raise
        except Exception as error:
            raise UserCodeError("examples.errors", name, error) from error
        if not isinstance(wrong, Tensor) or wrong.shape != (len(batch),):
            shown = list(wrong.shape) if isinstance(wrong, Tensor) else type(wrong).__name__
            raise UsageError(
                "examples.errors",
                verbatim(f"{name} returned {shown}"),
                f"one True or False for each of {len(batch)} examples",
                "Return a bool tensor [batch].",
            )
        return wrong.bool(), wrong.bool()
    scores = first_floating(output)
    if targets.is_floating_point() or scores.dim() < 2 or scores.shape[-1] < 2:
        raise UsageError(
            "examples.errors",
            None,
            "a rule that says which examples are wrong, because without scores of two or more "
            f"classes (here {list(scores.shape)}) and integer targets (here {targets.dtype}) there is none",
            "Give Examples(..., errors=lambda output, targets: a bool tensor [batch]).",
        )
    if scores.shape[:-1] != targets.shape:
        raise UsageError(
            "examples.targets",
            verbatim(f"shape {list(targets.shape)} for scores {list(scores.shape)}"),
            f"targets of shape {list(scores.shape[:-1])}: one class for every row of scores",
            "Reshape the targets, or give Examples(..., errors=your rule).",
        )
    top, index = scores.float().topk(2, dim=-1)
    sure = top[..., 0] - top[..., 1] >= MARGIN * top[..., 0].abs().clamp(min=1)  # False for NaN
    differs = (index[..., 0] != targets) | ~torch.isfinite(top[..., 0])
    counts = targets != IGNORED
    strict, bare = (differs | ~sure) & counts, differs & counts
    return strict.reshape(len(batch), -1).any(1), bare.reshape(len(batch), -1).any(1)
