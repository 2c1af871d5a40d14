"""A softmax of a softmax: the loss wants logits, and the model returns probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from assay.finding import Finding, Number
from assay.scale.operators import SOFTMAX, name_of
from assay.where import Location

_LOGARITHMS = {"_log_softmax", "log_softmax", *SOFTMAX}


class SoftmaxOf(TorchDispatchMode):
    """Notices a softmax of one of some tensors, or of a view of one.

    Args:
        given: The tensors.
    """

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()
        self._storages = {x.untyped_storage().data_ptr(): x for x in given}
        self.taken: Tensor | None = None

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if name_of(func) in _LOGARITHMS and isinstance(args[0], Tensor):
            found = self._storages.get(args[0].untyped_storage().data_ptr())
            self.taken = found if found is not None else self.taken
        return func(*args, **(kwargs or {}))


def double_softmax(taken: Tensor | None, where: Location | None) -> Iterator[Finding]:
    """What a loss can reach at best whose logits are probabilities.

    Logits between 0 and 1 are at most 1 apart: with K classes the cross-entropy stays above
    log(1 + (K - 1)/e), however well the model classifies.

    Args:
        taken: The probabilities that the loss took a softmax of; None where it did not.
        where: Where the model's softmax was.

    Yields:
        A warning, if it did.
    """
    if taken is None or taken.dim() < 2:
        return
    classes = taken.shape[1]
    least = math.log1p((classes - 1) / math.e)
    yield Finding(
        rule="scale.double-softmax",
        message=f"The loss takes the softmax of what is a softmax already: with {classes} classes it cannot "
        f"fall below {least:.3g}, however well the model classifies, and its gradient nearly vanishes.",
        expected=Number(0.0, "nats", "formula", "least cross-entropy of logits"),
        measured=Number(
            least, "nats", "formula", "least cross-entropy of probabilities taken for logits"
        ),
        severity="warning",
        repair="return the logits: leave out the model's own softmax, or take `F.nll_loss` of its logarithm",
        where=where,
        theory="S4",
        weight=least,
    )
