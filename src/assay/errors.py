"""What can go wrong, in the user's own terms.

Every error that assay raises on purpose names four things: the argument, the value it had, what was
expected, and what to do. The command line prints that paragraph and exits with `exit_code`.
"""

from __future__ import annotations

import reprlib
import traceback
from collections.abc import Mapping

# What the user's own code may raise that is an answer. `sys.exit()` in a script is one: its code must not
# become assay's own. Ctrl-C is none.
RAISED = (Exception, SystemExit)

LONGEST = 600  # characters of another's message that are repeated in ours

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120


class AssayError(Exception):
    """Something that the user has to know, said in one paragraph.

    Args:
        argument: The name of the argument, file, size or section at fault.
        value: The value that it had; None where it is missing.
        expected: What was expected in its place; completes "expected …".
        remedy: What to do, as a sentence.
    """

    exit_code = 3

    def __init__(self, argument: str, value: object, expected: str, remedy: str) -> None:
        self.argument, self.value, self.expected, self.remedy = argument, value, expected, remedy
        shown = f"= {value if isinstance(value, _Verbatim) else _short.repr(value)}"
        if value is None:
            shown = "is missing"
        super().__init__(f"{argument} {shown}: expected {expected}. {remedy}")

    def __str__(self) -> str:
        return str(self.args[0])


class _Verbatim(str):
    """A value that is shown as it is, without quotation marks."""


def verbatim(text: str) -> str:
    """Mark `text` to be shown without quotes in an error message.

    Returns:
        The same text, of a type that `AssayError` does not quote.
    """
    return _Verbatim(text)


def say(sizes: Mapping[str, object]) -> str:
    """Sizes in words.

    Args:
        sizes: Their values, by name.

    Returns:
        As in "b=2, n=128".
    """
    return ", ".join(f"{name}={value}" for name, value in sizes.items())


def said(error: BaseException) -> str:
    """An exception in one line: its type, and what it says where it says something.

    Args:
        error: Any exception.

    Returns:
        As in "KeyError: 'corpus'"; of a long message the beginning and the end.

    Example:
        >>> said(ZeroDivisionError("division by zero")), said(SystemExit())
        ('ZeroDivisionError: division by zero', 'SystemExit')
    """
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception as broken:  # a `__str__` of the user's own
        text = f"(its text raised {type(broken).__name__})"
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    return f"{name}: {text}" if text else name


def require_seed(seed: object, name: str = "seed") -> None:
    """Refuse what is no seed for every generator: torch's take 64 bits, and steps count on from it.

    Args:
        seed: What was given.
        name: What the user calls it.

    Raises:
        UsageError: If it is no integer from 0 to 2^62 − 1.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**62:
        raise UsageError(name, seed, "an integer from 0 to 2^62 − 1", "seed=0 is usual.")


class UsageError(AssayError, ValueError):
    """The call itself is wrong: a bad target, size, option or path. Exit code 2."""

    exit_code = 2


class CannotMeasure(AssayError):
    """The call is right, but this cannot be measured on this model. Exit code 3."""


class MalformedCertificate(AssayError):
    """A certificate that is not a code word of its language. Exit code 4."""

    exit_code = 4


class UserCodeError(CannotMeasure):
    """The user's own code raised. Their exception is `__cause__`, their frames are kept.

    Raise it as ``raise UserCodeError("builder", "g2p.py:attention", error) from error``.

    Args:
        what: What of the user's was being run: "builder", "forward", "loss", "fit"…
        name: Its name, for the message.
        error: The exception that it raised.
        remedy: What to do, where running it alone would not raise the same.
    """

    def __init__(
        self,
        what: str,
        name: str,
        error: BaseException,
        remedy: str = "The traceback above is from your code; run it alone to see the same error.",
    ) -> None:
        super().__init__(
            what,
            verbatim(name),
            f"it to run, but your code raised {said(error).rstrip('.')}",
            remedy,
        )
        self.error = error

    def user_traceback(self) -> str:
        """Their traceback, from their first line on and without assay's own.

        Returns:
            The formatted traceback, chained exceptions included.
        """
        shown = traceback.TracebackException.from_exception(self.error)
        _leave_out_ours(shown, self.error)
        return "".join(shown.format())


def _leave_out_ours(shown: traceback.TracebackException, error: BaseException) -> None:
    """Of an exception and those behind it: no frames of assay's, none of others' before the user's first."""
    from assay.where import is_ours, is_plumbing, is_watching

    for link in ("__cause__", "__context__"):
        behind, its = getattr(shown, link), getattr(error, link)
        if isinstance(its, AssayError):  # an earlier section's, which this one was tried after
            setattr(shown, link, None)
        elif behind is not None and its is not None:
            _leave_out_ours(behind, its)
    frames = [f for f in shown.stack if not is_ours(f.filename) and not is_watching(f.filename)]
    theirs = (i for i, frame in enumerate(frames) if not is_plumbing(frame.filename))
    shown.stack[:] = frames[next(theirs, 0) :]
