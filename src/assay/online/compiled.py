"""Loops compiled by numba where it is installed; the same lines run as plain Python where it is not.

The plain lines are also the slow twin of the compiled ones: `function.py_func` in the tests.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

config: Any
njit: Any
try:
    from numba import config, njit
except ImportError:
    njit = None


def forget_stale(folder: Path) -> None:
    """Remove compiled loops that are older than a source file of `folder`.

    numba looks at the file of the outermost function alone, and would miss a change in one that it calls.
    """
    kept = list((folder / "__pycache__").glob("*.nb[ic]"))
    if kept:
        newest = max(path.stat().st_mtime for path in folder.glob("*.py"))
        for path in kept:
            if path.stat().st_mtime < newest:
                path.unlink(missing_ok=True)


if njit is not None:
    with suppress(
        OSError
    ):  # installed where this user may not write: nothing was kept there either
        forget_stale(Path(__file__).parent)


def compiled(function: F, reorder: bool = True) -> F:
    """Compile a function of arrays and numbers, once per machine.

    Sums may be reordered, but missing values stay NaN; reordering keeps invariance under powers of two bit by
    bit.

    Args:
        function: Lines that numba understands.
        reorder: False keeps the order of sums.

    Returns:
        The compiled function, or the same one without numba.
    """
    if njit is None:
        return function
    options: Any = {
        "cache": True,
        "error_model": "numpy",
        "fastmath": {"reassoc", "contract", "nsz"} if reorder else {"contract", "nsz"},
    }
    fast = njit(**options)(function)
    compile_ = fast.compile

    def compile_with_lanes(signature: Any) -> Any:
        # numba leaves LLVM's search for equal operations on neighbours off, and `lanes` needs it
        before, config.SLP_VECTORIZE = config.SLP_VECTORIZE, 1
        try:
            return compile_(signature)
        finally:
            config.SLP_VECTORIZE = before

    fast.compile = compile_with_lanes
    done: F = fast
    return done


in_order = partial(compiled, reorder=False)


@cache
def warn_if_slow() -> None:
    """Say once that numba is missing."""
    if njit is None:
        warnings.warn(
            "assay.online runs as plain Python, some hundred times slower than compiled. "
            "Install numba: pip install 'assay[online]'",
            RuntimeWarning,
            stacklevel=3,
        )
