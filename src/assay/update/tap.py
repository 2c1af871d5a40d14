"""A tap on an optimizer's `step`: something before, something after, and off again without a trace."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch.optim import Optimizer

from assay.update.moves import Snapshot

Before = Callable[[], Snapshot | None]
After = Callable[[Snapshot], None]


class Tap:
    """Calls `before` and `after` around every step.

    Torch's own step hooks where the optimizer has them, so that schedulers, gradient scalers and others that
    wrap `step` find what they expect; else `step` is wrapped on this one object. A closure is passed on,
    and tells the snapshot when it has left gradients.

    Args:
        optimizer: Anything with a `step` method.
        before: Called before a step; what it returns is handed to `after`, unless that is None.
        after: Called after the step.
    """

    def __init__(self, optimizer: Any, before: Before, after: After) -> None:
        self.before, self.after = before, after
        self.snapshot: Snapshot | None = None
        self._outermost: FrameType | None = None  # of the calls of `step` that are running
        self._undo: list[Callable[[], None]] = []
        if _has_hooks(optimizer):
            self._undo = [
                optimizer.register_step_pre_hook(self._pre).remove,
                optimizer.register_step_post_hook(self._post).remove,
            ]
        else:
            self._wrap(optimizer)

    def close(self) -> None:
        """Let go of the optimizer."""
        for undo in self._undo:
            undo()
        self._undo, self.snapshot, self._outermost = [], None, None

    def _pre(
        self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        caller = sys._getframe(1)
        if self._outermost is not None and _is_running(self._outermost, caller):
            return None  # `step` calls its parent's `step`, which runs the hooks once more
        self._outermost = caller
        self.snapshot = self.before()
        if self.snapshot is None:
            return None
        # a hook sees `step(self, closure)`, so the closure is somewhere among the arguments
        watch = self.snapshot.watch_closure
        named = {key: watch(v) if key == "closure" and v else v for key, v in kwargs.items()}
        first = [watch(a) if callable(a) and a is not optimizer else a for a in args]
        return tuple(first), named

    def _post(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if sys._getframe(1) is not self._outermost:
            return
        snapshot, self.snapshot, self._outermost = self.snapshot, None, None
        if snapshot is not None:
            self.after(snapshot)

    def _wrap(self, optimizer: Any) -> None:
        own = vars(optimizer).get("step")
        step = optimizer.step

        @functools.wraps(step)
        def tapped(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = self._pre(optimizer, args, kwargs) or (args, kwargs)
            out = step(*args, **kwargs)
            self._post(optimizer, args, kwargs)
            return out

        def undo() -> None:
            if vars(optimizer).get("step") is not tapped:
                return  # somebody wrapped it again; without snapshots the tap only passes calls on
            if own is None:
                del optimizer.step
            else:
                optimizer.step = own

        optimizer.step = tapped
        self._undo = [undo, self._silence]

    def _silence(self) -> None:
        self.before = lambda: None


def _is_running(call: FrameType, now: FrameType | None) -> bool:
    """Whether `now` was called from within `call`. A flag would stay up when a step raises; this cannot."""
    while now is not None and now is not call:
        now = now.f_back
    return now is not None


def _has_hooks(optimizer: Any) -> bool:
    """Whether `step` runs torch's hooks: a wrapper that skipped `Optimizer.__init__` has none that run."""
    patched = getattr(type(optimizer).step, "hooked", False) is True
    return (
        isinstance(optimizer, Optimizer)
        and patched
        and hasattr(optimizer, "_optimizer_step_pre_hooks")
    )
