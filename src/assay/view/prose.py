"""Text as every renderer needs it: printable, and with code told from prose."""

from __future__ import annotations

import re

# What XML 1.0 forbids, terminals obey and browsers drop: control characters, surrogates, non-characters.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
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
