"""Targets that what the outputs went through cannot reach: several labels, numbers below 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.finding import Finding, Number
from assay.scale.squashed import Squashed, has_storage, is_one, storage
from assay.where import Location

_COMPARE = {"mse_loss", "smooth_l1_loss", "huber_loss"}
_SIZES = {"abs", "huber_loss", "linalg_vector_norm", "pow"}  # of a difference
_FAR = 0.5  # of a sum of labels from 1: half a label more or less
_FEW = 0.01  # of targets below 0: fewer may be rounding
_TINY = 1e-3  # of the size of targets


@dataclass(frozen=True)
class Unreachable:
    """Targets beside outputs that cannot be what they are.

    Args:
        squashed: What the outputs went through.
        share: Which part of the targets, or of their rows, is out of reach.
        largest: The largest sum of a row.
        where: The line of the loss.
    """

    squashed: Squashed
    share: float
    largest: float
    where: Location | None


class Targets:
    """Looks at the targets that a loss compares outputs with."""

    def __init__(self) -> None:
        self.several: Unreachable | None = None
        self.negative: Unreachable | None = None
        self._differences: dict[int, tuple[Tensor, Unreachable]] = {}

    def read(
        self,
        name: str,
        args: Sequence[Any],
        known: Callable[[Any], Squashed | None],
        line: Callable[[], Location | None],
        *,
        in_loss: bool,
    ) -> Unreachable | None:
        """Look at an operator that is about to run.

        Args:
            name: Its name.
            args: Its arguments.
            known: What squashed a tensor, if anything did.
            line: The line that is running.
            in_loss: The model has returned: there a difference may be a loss that is written out.

        Returns:
            Where it is such a difference, what to remember of it.
        """
        if name == "binary_cross_entropy" and self.several is None:
            found = known(args[0])
            if found is not None and found.by == "softmax":
                weighted = len(args) > 2 and args[2] is not None
                self.several = _several(found, args[0], args[1], weighted, line())
        elif name in _COMPARE and self.negative is None:
            self.negative = _below(args, known, line)
        elif name in ("sub", "rsub") and in_loss:
            return _below(args, known, line)
        elif name in _SIZES or (name == "mul" and args[0] is args[1]):
            kept = self._differences.get(storage(args[0])) if has_storage(args[0]) else None
            self.negative = self.negative or (kept[1] if kept else None)
        return None

    def remember(self, out: Any, found: Unreachable | None) -> None:
        """Note a difference, until its square or its size is taken.

        Args:
            out: The difference.
            found: What `read` said of it.
        """
        if found is not None and has_storage(out):
            self._differences[storage(out)] = (out, found)

    def findings(self) -> Iterator[Finding]:
        """What was found.

        Yields:
            A warning of each.
        """
        if self.several is not None:
            yield _exclusive(self.several)
        if self.negative is not None:
            yield _rectified(self.negative)


def _several(
    found: Squashed, p: Tensor, y: Any, weighted: bool, where: Location | None
) -> Unreachable | None:
    """Targets of which several, or none, hold at once, beside probabilities of one of them."""
    if not isinstance(y, Tensor) or y.shape != p.shape:
        return None
    with torch.no_grad():
        dims = [k for k in range(p.dim()) if p.shape[k] > 1 and is_one(p.float().sum(k))]
        for k in dims:
            sums = y.float().sum(k)
            # none at all may be what a weight of 0 leaves out
            off = (sums - 1 > _FAR) | ((1 - sums > _FAR) & (not weighted))
            if bool(off.any()):
                return Unreachable(found, float(off.float().mean()), float(sums.max()), where)
    return None


def _below(
    args: Sequence[Any],
    known: Callable[[Any], Squashed | None],
    line: Callable[[], Location | None],
) -> Unreachable | None:
    """Targets below 0 beside what a ReLU returned."""
    for x, y in (args[:2], args[1::-1]):
        found = known(x)
        if found is None or found.by != "ReLU" or not isinstance(y, Tensor) or y.requires_grad:
            continue
        if y.is_floating_point() and y.dim() and y.numel():
            size = float(y.detach().float().square().mean().sqrt())
            share = float((y < -_TINY * size).float().mean())
            if share >= _FEW:
                return Unreachable(found, share, 0.0, line())
    return None


def _exclusive(found: Unreachable) -> Finding:
    own = found.squashed.own
    return Finding(
        rule="scale.exclusive-labels",
        message="The loss compares the probabilities of a softmax, which add up to 1, with labels of which "
        f"several or none may hold: {found.share:.0%} of the rows of targets do not add up to 1 (the largest "
        f"sum is {found.largest:.3g}), and no output can be right about these.",
        expected=Number(0.0, "of the rows of targets", "formula", "that do not add up to 1"),
        measured=Number(found.share, "of the rows of targets", "measured"),
        severity="warning",
        repair=f"{'return' if own else 'give the loss'} a sigmoid in place of the softmax, or the logits to "
        "`F.binary_cross_entropy_with_logits`",
        where=found.squashed.where or found.where,
        theory="S4",
        weight=1.0 + found.share,
    )


def _rectified(found: Unreachable) -> Finding:
    zeros = float((found.squashed.x.detach() <= 0).float().mean())
    return Finding(
        rule="scale.rectified-outputs",
        message=f"The outputs are what a ReLU returned, and cannot be below 0, while {found.share:.0%} of "
        f"the targets are; {zeros:.0%} of the outputs are 0 now and have no gradient.",
        expected=Number(0.0, "of the targets", "formula", "below what the outputs can be"),
        measured=Number(found.share, "of the targets", "measured"),
        severity="warning",
        repair=f"leave out the {'last ReLU' if found.squashed.own else 'ReLU in front of the loss'}",
        where=found.squashed.where or found.where,
        theory="S4",
        weight=1.0 + found.share,
    )
