"""Dropout that leaves next to nothing: what is kept is multiplied by 1/(1 - p), and so is the mean square."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from assay.finding import Finding, Number
from assay.where import Location, here

# all take (input, p, training); alpha dropout keeps mean and variance, and is another matter
_DROPS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout}
_USUAL = {"p": 0.5, "training": True, "train": True}
_MUCH = 0.9  # of the units: one in ten is left


class Dropped(NamedTuple):
    """A dropout that ran in training mode.

    Args:
        p: The share that it sets to 0.
        where: The line.
        module: Dotted path of the module that was running.
    """

    p: float
    where: Location | None
    module: str


class Dropouts(TorchFunctionMode):
    """Sees dropout as a whole: at dispatch it is a mask and a product.

    Args:
        path: Says which module is running.
    """

    def __init__(self, path: Callable[[], str]) -> None:
        super().__init__()
        self._path = path
        self.seen: dict[tuple[str, Location | None], Dropped] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DROPS:
            p, training = (*args[1:3], *_left(kwargs)[len(args[1:3]) :])
            if training:
                found = Dropped(float(p), here(), self._path())
                self.seen.setdefault((found.module, found.where), found)
        return func(*args, **kwargs)


def _left(kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """What keywords say of p and of the mode."""
    said = _USUAL | dict(kwargs)
    return said["p"], said["training"] and said["train"]


def dropout(seen: Sequence[Dropped]) -> Iterator[Finding]:
    """Dropout that sets most of what it reads to 0.

    With a mask of mean 1 - p, kept values are divided by 1 - p: the mean stays, and the mean square is
    multiplied by 1/(1 - p). At p = 0.5 that is 2; at 0.95 it is 20, noise beside the signal.

    Args:
        seen: The dropouts that ran in training mode.

    Yields:
        At most one warning.
    """
    off = [one for one in seen if one.p >= _MUCH]
    if not off:
        return
    worst = max(off, key=lambda one: one.p)
    first = off[0]
    more = f" ({len(off) - 1} more with a p of {_MUCH:g} or more)" if len(off) > 1 else ""
    if worst.p < 1:
        square = 1 / (1 - worst.p)
        told = f"what it keeps is multiplied by {square:.3g}, and the mean square by {square:.3g}"
    else:
        square, told = 0.0, "nothing is left"
    place = f" of {worst.module}" * bool(worst.module)
    yield Finding(
        rule="scale.dropout",
        message=f"The dropout{place} sets {worst.p:.3g} of what it reads to 0{more}: {told}. What is left is "
        "mostly noise.",
        expected=Number(2.0, "times", "formula", "the mean square behind a dropout of p = 0.5"),
        measured=Number(
            square, "times", "formula", f"the mean square behind a dropout of p = {worst.p:.3g}"
        ),
        severity="warning",
        repair="take a p of 0.5 or less",
        where=first.where if first.p == worst.p else worst.where,
        module=worst.module,
        theory="S1",
        weight=worst.p,
    )
