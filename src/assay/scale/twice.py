"""What a loss takes of the outputs: the softmax of a softmax, logarithms along the wrong dimension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from assay.scale.operators import SOFTMAX, keeps_numbers, name_of
from assay.scale.squashed import Squash, Squashed, has_storage, is_one, storage
from assay.scale.targets import Targets
from assay.where import Location, here

_TAKES = {
    "binary_cross_entropy_with_logits": "sigmoid",
    "nll_loss_forward": "nothing",
    "nll_loss2d_forward": "nothing",
    "nll_loss_nd": "nothing",
    **dict.fromkeys(("_log_softmax", "log_softmax"), "log-softmax"),
    **dict.fromkeys(SOFTMAX, "softmax"),
}
_MAKES: dict[str, Squash] = {
    **dict.fromkeys(SOFTMAX, "softmax"),
    "sigmoid": "sigmoid",
    "relu": "ReLU",
}
# these choose among numbers and change none
_CHOOSES = {"index", "index_select", "masked_select"}


@dataclass(frozen=True)
class Twice:
    """What was squashed, and what the loss took of it.

    Args:
        squashed: What was squashed.
        takes: "softmax", "log-softmax", "sigmoid" or "nothing".
        logits: The tensor that it took it of.
        over: Along which dimension.
    """

    squashed: Squashed
    takes: str
    logits: Tensor
    over: int = -1

    @property
    def classes(self) -> int:
        """Between how many a softmax chooses."""
        return self.logits.shape[self.over] if self.logits.dim() else 1


@dataclass(frozen=True)
class Across:
    """Logarithms of probabilities that add up to 1 along another dimension than that of the classes.

    Args:
        shape: Their shape, the classes along dimension 1.
        over: Along which dimension they do.
        where: The line that takes their likelihood.
    """

    shape: tuple[int, ...]
    over: int
    where: Location | None


class SquashedAgain(TorchDispatchMode):
    """Notices what a loss takes of what was squashed, and of views and copies of it.

    The loss may be part of the model, or be given what the model returned.
    """

    def __init__(self) -> None:
        super().__init__()
        self._storages: dict[int, Squashed] = {}
        self._in_model = True
        self._caller: Location | None = None
        self.found: Twice | None = None
        self.across: Across | None = None
        self.targets = Targets()

    def returned(self, given: Sequence[Squashed]) -> None:
        """From here on a loss takes something of what the model returned.

        Args:
            given: What of that the model squashed.
        """
        self._storages = {storage(s.x): s for s in given}
        self._in_model = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name, first = name_of(func), args[0] if args else None
        if name in _TAKES:
            over = args[1] if "softmax" in name else 1
            self.note(first, _TAKES[name], over)
            if _TAKES[name] == "nothing":
                self._add_up(first)
        difference = self.targets.read(
            name, args, self._known, self._line, in_loss=not self._in_model
        )
        out = func(*args, **(kwargs or {}))
        self.targets.remember(out, difference)
        self._follow(func, name, first, out)
        return out

    def _follow(self, func: Any, name: str, x: Any, out: Any) -> None:
        """Note what comes of a tensor that the model has a gradient by."""
        if not (has_storage(out) and has_storage(x)) or not (self._storages or name in _MAKES):
            return
        if func._schema.is_mutable:
            self._storages.pop(storage(x), None)
        if name in _MAKES and x.requires_grad:
            self._storages[storage(out)] = Squashed(out, _MAKES[name], self._line(), own=False)
        elif name in _CHOOSES or keeps_numbers(func, name):
            known = self._storages.get(storage(x))
            if known is not None:
                self._storages.setdefault(storage(out), replace(known, x=out))

    def note(self, x: Any, takes: str, over: int = 1) -> None:
        """Note what is taken of a tensor, if it is one of those that were squashed."""
        known = self._known(x)
        if known is None or self.found is not None:
            return
        # a softmax alone may be weights; of a ReLU, and inside of a model, these are what they should be
        if takes != "softmax" or not (known.by == "ReLU" or self._in_model):
            self.found = Twice(known, takes, x, over)

    def _known(self, x: Any) -> Squashed | None:
        """What a tensor is, if it was squashed."""
        return self._storages.get(storage(x)) if has_storage(x) else None

    def _add_up(self, x: Any) -> None:
        """Look along which dimension logarithms of probabilities add up to 1.

        As many classes as examples may be pairs, of which either is to be found by the other.
        """
        if not has_storage(x) or x.dim() < 2 or x.shape[1] < 2:
            return
        p = x.detach().float().exp()
        others = [k for k in range(x.dim()) if k != 1 and x.shape[k] not in (1, x.shape[1])]
        for over in others:
            if is_one(p.sum(over)) and not is_one(p.sum(1)):
                self.across = Across(tuple(x.shape), over, self._line())

    def _line(self) -> Location | None:
        """The line of the loss that is running; None where it is made of torch alone."""
        found = here()
        return None if found == self._caller else found

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the model or the loss inside.

        Yields:
            Nothing.
        """
        self._caller = here()
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
