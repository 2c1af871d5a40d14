"""A loss that takes logits, or logarithms, and is given probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from assay.finding import Finding, Number
from assay.scale.operators import SOFTMAX, name_of
from assay.where import Location

_TAKES = {
    "binary_cross_entropy_with_logits": "sigmoid",
    "nll_loss_forward": "nothing",
    "nll_loss2d_forward": "nothing",
    "nll_loss_nd": "nothing",
    **dict.fromkeys(("_log_softmax", "log_softmax", *SOFTMAX), "softmax"),
}


@dataclass(frozen=True)
class Squashed:
    """What the model returned.

    Args:
        x: The tensor.
        by: What made it.
        where: The line.
    """

    x: Tensor
    by: Literal["softmax", "sigmoid"]
    where: Location | None


@dataclass(frozen=True)
class Twice:
    """What the model squashed, and what the loss took of it: "softmax", "sigmoid" or "nothing"."""

    squashed: Squashed
    takes: str


class SquashedAgain(TorchDispatchMode):
    """Notices what a loss takes of some tensors, or of views of them.

    Args:
        given: The tensors.
    """

    def __init__(self, given: Sequence[Squashed]) -> None:
        super().__init__()
        self._storages = {s.x.untyped_storage().data_ptr(): s for s in given}
        self.found: Twice | None = None

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        takes = _TAKES.get(name_of(func))
        if takes:
            self.note(args[0], takes)
        return func(*args, **(kwargs or {}))

    def note(self, x: Any, takes: str) -> None:
        """Note what is taken of a tensor, if it is one of those that were given."""
        if isinstance(x, Tensor) and x.layout == torch.strided:
            squashed = self._storages.get(x.untyped_storage().data_ptr())
            self.found = Twice(squashed, takes) if squashed is not None else self.found

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the loss inside.

        Yields:
            Nothing.
        """
        with self, _Divergences(self):
            yield


class _Divergences(TorchFunctionMode):
    """Sees the Kullback-Leibler divergence as a whole: at dispatch it is a few products.

    Args:
        watch: Told what its first argument is.
    """

    def __init__(self, watch: SquashedAgain) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.kl_div:
            self._watch.note(args[0] if args else kwargs.get("input"), "nothing")
        return func(*args, **kwargs)


def squashed_twice(found: Twice | None) -> Iterator[Finding]:
    """What a loss can reach at best that takes probabilities for logits.

    Logits between 0 and 1 are at most 1 apart: with K classes the cross-entropy stays above
    log(1 + (K - 1)/e), however well the model classifies; the binary one above log(1 + 1/e) and log 2.

    Args:
        found: What was squashed twice, if anything.

    Yields:
        A warning, if it was.
    """
    if found is None:
        return
    by, x = found.squashed.by, found.squashed.x
    if found.takes == "nothing":
        yield _without_logarithm(found.squashed)
        return
    classes = x.shape[1] if x.dim() > 1 else 1
    if found.takes == "softmax":
        if classes < 2:
            return
        least = math.log1p((classes - 1) / math.e)
        bound = f"with {classes} classes it cannot fall below {least:.3g}"
        instead = "`F.nll_loss` of its logarithm" if by == "softmax" else ""
    else:
        least = math.log1p(1 / math.e)
        bound = f"it cannot fall below {least:.3g} where the target is 1, and 0.693 where it is 0"
        instead = "`F.binary_cross_entropy`"
    a = "the softmax" if found.takes == "softmax" else "the sigmoid"
    already = "a softmax already" if by == "softmax" else "a sigmoid already"
    yield Finding(
        rule=f"scale.double-{found.takes}",
        message=f"The loss takes {a} of what is {already}: {bound}, however well the model classifies, and "
        "its gradient nearly vanishes.",
        expected=Number(0.0, "nats", "formula", "least cross-entropy of logits"),
        measured=Number(
            least, "nats", "formula", "least cross-entropy of probabilities taken for logits"
        ),
        severity="warning",
        repair=f"return the logits: leave out the model's own {by}"
        + (f", or take {instead}" * bool(instead)),
        where=found.squashed.where,
        theory="S4",
        weight=least,
    )


def _without_logarithm(squashed: Squashed) -> Finding:
    return Finding(
        rule="scale.no-logarithm",
        message=f"The loss wants logarithms of probabilities and is given what a {squashed.by} returned: it "
        "is linear in these, and where the model is most wrong its gradient vanishes.",
        expected=Number("logarithms", "", "formula"),
        measured=Number("probabilities", "", "measured"),
        severity="warning",
        repair=f"return `log_softmax` in place of the {squashed.by}, or logits with `F.cross_entropy`",
        where=squashed.where,
        theory="S4",
        weight=1.0,
    )
