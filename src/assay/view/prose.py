"""Text as every renderer needs it: printable, and with code told from prose."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence

# What XML 1.0 forbids, terminals obey and browsers drop: control characters, surrogates, non-characters.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_DOES = (ast.Assign, ast.AugAssign, ast.With, ast.For, ast.Import, ast.ImportFrom, ast.Call)
_CODE = re.compile(r"`([^`]+)`")


def clean(text: object) -> str:
    r"""Replace characters that no renderer can show, so that a name cannot break a page or a terminal.

    Args:
        text: Anything; its `str` is taken.

    Returns:
        The text, with U+FFFD in place of control characters and lone surrogates.

    Example:
        >>> clean("a\x1b[31mb")
        'a�[31mb'
    """
    return _FORBIDDEN.sub("\ufffd", str(text))


def counted(number: int, noun: str, several: str = "") -> str:
    """A number of things.

    Args:
        number: How many.
        noun: What one of them is called.
        several: What more of them are called, where an "s" at the end is not enough.

    Returns:
        Words.

    Example:
        >>> counted(1, "station"), counted(2, "skip path"), counted(0, "match", "matches")
        ('1 station', '2 skip paths', '0 matches')
    """
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words as a sentence lists them.

    Args:
        words: The words.
        last: What stands before the last of them.

    Returns:
        One text; "" where there are none.

    Example:
        >>> listed(["scale", "shift", "rotation"])
        'scale, shift and rotation'
    """
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def split_code(text: str) -> list[tuple[str, bool]]:
    """Tell code, which stands between backticks, from prose.

    Args:
        text: Prose with code in it.

    Returns:
        The pieces in order, each with whether it is code; a lone backtick is an ordinary character.

    Example:
        >>> split_code("set `bias=False` first")
        [('set ', False), ('bias=False', True), (' first', False)]
    """
    pieces = _CODE.split(clean(text))
    return [(piece, index % 2 == 1) for index, piece in enumerate(pieces) if piece]


def is_code(text: str) -> bool:
    """Whether a text is Python that can be run as it is: something that sets, loops, imports or calls.

    Args:
        text: Prose or code.

    Returns:
        False for prose, also of a single word.

    Example:
        >>> is_code("x = x + f(x)  # once"), is_code("retrain"), is_code("leave the skip alone")
        (True, False, False)
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes, in what is no code anyway
            found = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    done = [one.value if isinstance(one, ast.Expr) else one for one in found]
    return any(isinstance(one, _DOES) for one in done)
