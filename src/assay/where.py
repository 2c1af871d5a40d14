"""The line of the user's code that is running now."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

_HERE = str(Path(__file__).parent) + os.sep
_CALLER = _HERE + "subject.py"  # what calls the user's model: further out is who called assay
_STDLIB = sysconfig.get_paths()["stdlib"] + os.sep
_DISPATCH = tuple(
    os.path.join(*parts)
    for parts in (
        ("torch", "_compile.py"),
        ("torch", "_dynamo", "eval_frame.py"),
        ("torch", "_ops.py"),
        ("torch", "utils", "_device.py"),
    )
)
_SITE = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))


def is_ours(filename: str) -> bool:
    """Whether `filename` is part of assay.

    Returns:
        True for a file of this package.
    """
    return filename.startswith(_HERE)


def is_watching(filename: str) -> bool:
    """Whether a frame of `filename` is there because operators are being watched, and for nothing else.

    Returns:
        True for the files of torch through which a dispatch mode calls on.
    """
    return filename.startswith(_torch()) and filename.endswith(_DISPATCH)


def is_installed(filename: str) -> bool:
    """Whether `filename` is part of an installed package.

    Returns:
        True for a file under site-packages.
    """
    return any(site in filename for site in _SITE)


@lru_cache(maxsize=1)
def _torch() -> str:
    spec = find_spec("torch")
    return str(Path(spec.origin).parent) + os.sep if spec and spec.origin else "\0"


@lru_cache(maxsize=4096)
def is_plumbing(filename: str) -> bool:
    """Whether a frame of `filename` is machinery that no user wants to be sent to.

    Returns:
        True for assay, torch, the standard library, and code without a file.
    """
    if filename.startswith("<") or is_ours(filename) or filename.startswith(_torch()):
        return True
    return filename.startswith(_STDLIB) and not is_installed(filename)


@dataclass(frozen=True, order=True)
class Location:
    """A line of code: file, line number and the function it stands in.

    Example:
        >>> Location("net.py", 12, "forward").short
        'net.py:12'
    """

    file: str
    line: int
    function: str = ""

    @property
    def short(self) -> str:
        """The shortest of file, file from here and, if installed, from its package: `net.py:12`."""
        names = [os.path.relpath(self.file), self.file]
        names += [self.file.rpartition(site)[2] for site in _SITE if site in self.file]
        return f"{min(names, key=len)}:{self.line}"

    @property
    def code(self) -> str:
        """The text of the line, or "" where the source is not to be had."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return self.short


def here(skip: int = 1) -> Location | None:
    """The innermost frame that is neither torch, nor assay, nor the standard library.

    During a forward pass that is the line of the model that issued the running operator; for a model
    of an installed library (transformers, timm) it is the line in that library.

    Args:
        skip: Frames to leave out from the start; 1 is the caller's own.

    Returns:
        The location, or None where every frame is machinery (as in a backward pass started by assay).
    """
    frame = _user_frame(skip + 1)
    code = frame.f_code if frame else None
    return Location(code.co_filename, frame.f_lineno, code.co_name) if frame and code else None


def _user_frame(skip: int) -> FrameType | None:
    """The innermost frame of the user's, as far out as where assay called their model."""
    frame: FrameType | None = sys._getframe(skip)
    while frame is not None and frame.f_code.co_filename != _CALLER:
        if not is_plumbing(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return None


def line_here(skip: int = 1) -> str:
    """File and line as `here` finds them, as bare text: it is asked for once for every operator.

    Args:
        skip: As for `here`.

    Returns:
        "file:line", or "" where every frame is machinery.
    """
    frame = _user_frame(skip + 1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


def location(line: str) -> Location | None:
    """A location from the text that `line_here` gives; None where that is empty."""
    file, _, number = line.rpartition(":")
    return Location(file, int(number)) if file else None


def raised_at(error: BaseException, *, torch: bool = False) -> Location | None:
    """The innermost line of an exception's traceback that is no machinery.

    Args:
        error: An exception that was raised.
        torch: Whether a line of torch will do, or of the standard library.

    Returns:
        The location, or None where every frame is machinery.
    """
    found = None
    tb = error.__traceback__
    while tb is not None:
        code = tb.tb_frame.f_code
        file = code.co_filename
        if not (is_ours(file) or is_watching(file) if torch else is_plumbing(file)):
            found = Location(code.co_filename, tb.tb_lineno, code.co_name)
        tb = tb.tb_next
    return found
