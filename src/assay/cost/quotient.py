"""Names of quotients of sizes, `d/h`: laws and ranges go under them as under the name of a size."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

_OVER = "/"


def split(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The sizes of a quotient.

    Returns:
        What is divided, and what by, one after the other; None where a name is that of a size.

    Example:
        >>> split("d/h"), split("d/h/g"), split("d")
        (('d', ('h',)), ('d', ('h', 'g')), None)
    """
    whole, *parts = name.split(_OVER)
    return (whole, tuple(parts)) if parts else None


def over(name: str, part: str) -> str:
    """The name of a size, or of a quotient, divided by one more size."""
    return f"{name}{_OVER}{part}"


def whole_of(name: str) -> str:
    """The size in whose place a quotient stands; of a size the size itself."""
    return sizes_in(name)[0]


def sizes_in(name: str) -> tuple[str, ...]:
    """The sizes that a name is made of, first what is divided."""
    return tuple(name.split(_OVER))


def number(name: str, sizes: Mapping[str, int]) -> int:
    """The value of a size, or of a quotient whose sizes are known.

    Args:
        name: The name.
        sizes: Values of sizes; of quotients too, where one searches for laws in them.

    Returns:
        The value.

    Example:
        >>> number("d", {"d": 64, "h": 4}), number("d/h", {"d": 64, "h": 4}), number("d/h", {"d/h": 8})
        (64, 16, 8)
    """
    both = None if name in sizes else split(name)
    if both is None:
        return sizes[name]
    whole, parts = both
    return sizes[whole] // prod(sizes[part] for part in parts)


def wholes(sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes with each whole in place of its quotient.

    Args:
        sizes: Values of sizes and quotients.

    Returns:
        Values of sizes, in the same order.

    Example:
        >>> wholes({"b": 2, "d/h": 16, "h/g": 2, "g": 2})
        {'b': 2, 'd': 64, 'h': 4, 'g': 2}
    """
    named = {whole_of(name): name for name in sizes}

    def value(size: str) -> int:
        name = named[size]
        return sizes[name] * prod(value(part) for part in sizes_in(name)[1:])

    return {size: value(size) for size in named}
