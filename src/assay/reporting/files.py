"""Files that are either whole or not there: checked before long work, written in one step."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

from assay.errors import UsageError

SUFFIXES = {".html": "html", ".htm": "html", ".json": "json", ".sarif": "sarif", ".txt": "text"}
FORMATS = ("text", "json", "html", "sarif")


def format_of(path: str | os.PathLike[str], form: str | None = None) -> str:
    """The format in which `path` is to be written.

    Args:
        path: Where to write; its suffix decides when `form` does not.
        form: "text", "json", "html" or "sarif", or None.

    Returns:
        One of the four.

    Raises:
        UsageError: If `form` is none of them, or is None and the suffix says nothing.

    Example:
        >>> format_of("out/report.html"), format_of("report", "json")
        ('html', 'json')
    """
    if form is None:
        suffix = Path(path).suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(
                "output",
                str(path),
                f"a suffix of {', '.join(SUFFIXES)}",
                "Rename it, or name the format.",
            )
        return SUFFIXES[suffix]
    if form not in FORMATS:
        raise UsageError("format", form, f"one of {', '.join(FORMATS)}", "Choose one of these.")
    return form


def check_writable(path: str | os.PathLike[str], form: str | None = None) -> None:
    """Refuse an output path that cannot be written, before any long work is done.

    Args:
        path: Where a file is to be written later; nothing is left there.
        form: Its format; None when the suffix has to name one of the formats of a report.

    Raises:
        UsageError: If the suffix names no format, or the file could not be created or replaced.
    """
    if form is None:
        format_of(path)
    target = Path(path)
    if target.is_dir():
        raise UsageError("output", str(path), "a file, but it is a folder", "Add a file name.")
    if _is_special(target):
        return
    target = target.resolve()
    if target.exists() and not os.access(target, os.W_OK):
        raise UsageError(*_refusal(path, PermissionError(errno.EACCES, "it is read-only")))
    if not target.parent.is_dir():
        raise UsageError(
            "output",
            str(path),
            f"a folder that exists, but {str(target.parent)!r} does not",
            "Create it, or choose another path.",
        )
    trial = _beside(target)
    try:
        trial.touch(exist_ok=False)  # the only test that also knows full disks and read-only mounts
    except OSError as error:
        raise UsageError(*_refusal(path, error)) from error
    finally:
        with suppress(OSError):
            trial.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` so that a reader sees all of it or what was there before.

    The text goes to a new file in the same folder, which then takes the place of `path` in one step; if
    anything interrupts, Ctrl-C included, the new file is removed and `path` is as it was.

    Args:
        path: Where to write. What is not a regular file (`/dev/stdout`, a pipe) is written to directly.
        text: The content, stored as UTF-8.

    Raises:
        UsageError: If the file cannot be written.
        BrokenPipeError: If it is a pipe whose reader has gone.
    """
    data = text.encode(
        "utf-8", "replace"
    )  # a lone surrogate in a user's name must not lose the page
    if _is_special(Path(path)):
        try:
            Path(path).write_bytes(data)
        except BrokenPipeError:  # its reader has seen enough
            raise
        except OSError as error:
            raise UsageError(*_refusal(path, error)) from error
        return
    target = Path(path).resolve()  # of a link, the file that it names is replaced
    temporary = _beside(target)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise UsageError(*_refusal(path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _refusal(path: str | os.PathLike[str], error: OSError) -> tuple[str, str, str, str]:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "Free some space, or choose another path; nothing was left half-written."
    return (
        "output",
        str(path),
        f"a path that can be written, but: {error.strerror or type(error).__name__}",
        remedy if full else "Choose another path, or change its permissions.",
    )
