"""Names of quotients of two sizes, `d/h`: laws and ranges go under them as under the name of a size."""

from __future__ import annotations

from collections.abc import Mapping

_OVER = "/"


def split(name: str) -> tuple[str, str] | None:
    """The two sizes of a quotient.

    Returns:
        What is divided, and what by; None where a name is that of a size.

    Example:
        >>> split("d/h"), split("d")
        (('d', 'h'), None)
    """
    whole, over, part = name.partition(_OVER)
    return (whole, part) if over else None


def whole_of(name: str) -> str:
    """The size in whose place a quotient stands; of a size the size itself."""
    return name.partition(_OVER)[0]


def sizes_in(name: str) -> tuple[str, ...]:
    """The sizes that a name is made of."""
    return split(name) or (name,)


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
    if name in sizes or (both := split(name)) is None:
        return sizes[name]
    whole, part = both
    return sizes[whole] // sizes[part]


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

    def value(name: str) -> int:
        both = split(name)
        if both is None:
            return sizes[name]
        part = next(n for n in sizes if whole_of(n) == both[1])
        return sizes[name] * value(part)

    return {whole_of(name): value(name) for name in sizes}
