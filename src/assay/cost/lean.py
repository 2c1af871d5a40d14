"""Dispatch modes without the wrapper that torch puts around every call, where it would do nothing.

torch turns its compiler off for as long as a mode handles an operator. Where no compiler is at work there is
nothing to turn off, and the wrapper takes longer than many an operator on tensors without data.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_Mode = TypeVar("_Mode", bound=type[TorchDispatchMode])
_frames: Any = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
_NEEDED = (
    "get_eval_frame_callback",
    "set_code_exec_strategy",
    "_FrameExecStrategy",
    "_FrameAction",
)


def lean(mode: _Mode) -> _Mode:
    """Have a dispatch mode called directly unless code is being compiled in this thread.

    Args:
        mode: The class of the mode.

    Returns:
        The same class; as it was where this torch has no such wrapper, or does not tell.
    """
    wrapped: Any = vars(mode).get("__torch_dispatch__")
    plain: Any = getattr(wrapped, "__wrapped__", None)
    if plain is None or not all(hasattr(_frames, name) for name in _NEEDED):
        return mode
    compiling = _frames.get_eval_frame_callback

    def __torch_dispatch__(  # noqa: N807
        self: Any, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if compiling() is None:
            return plain(self, func, types, args, kwargs)
        return wrapped(self, func, types, args, kwargs)

    # as the compiler skips torch's own wrapper, and goes on with what that calls
    action = _frames._FrameAction
    skipped = _frames._FrameExecStrategy(action.SKIP, action.DEFAULT)
    _frames.set_code_exec_strategy(__torch_dispatch__.__code__, skipped)
    mode.__torch_dispatch__ = __torch_dispatch__  # type: ignore[method-assign]
    return mode
