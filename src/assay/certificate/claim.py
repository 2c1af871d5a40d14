"""What a certificate claims, as canonical JSON: one claim, one text."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from assay.certificate.malformed import reject

LONGEST = 1 << 16  # bytes of a claim

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Claim:
    """Everything a certificate says about its code word. Nothing of it is believed by `verify`.

    Args:
        language: Version of the language.
        builder: Name of the builder; for the reader, since a name proves nothing.
        sizes: The builder's sizes.
        arguments: Its other arguments, as text.
        seed: The seed that it runs under.
        anchored: Whether the code refers to built values.
        brought: Parameters that the builder brings and that are taken for granted.
        prior: SHA-256 of what the builder makes.
        rule: What counts as an error.
        examples: Number of training examples.
        data: SHA-256 of the training examples.
        errors: Training examples that the decoded model gets wrong.
        bits: Length of the code word.
        delta: Probability of failure.
        course: Bound, see `Bounds`.
        kl: Bound, see `Bounds`.
        binomial: Bound, see `Bounds`.
        torch: Version of torch that counted the errors; for the reader.
    """

    language: int
    builder: str
    sizes: dict[str, int]
    arguments: str
    seed: int
    anchored: bool
    brought: tuple[str, ...]
    prior: str
    rule: str
    examples: int
    data: str
    errors: int
    bits: int
    delta: float
    course: float
    kl: float
    binomial: float
    torch: str

    def to_json(self) -> bytes:
        """The claim as text: sorted keys, no spaces, ASCII, floats as their shortest decimal."""
        return json.dumps(
            asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Claim:
        """Read a claim, and insist that it is the text that `to_json` writes.

        Args:
            text: The bytes.

        Returns:
            The claim.

        Raises:
            MalformedCertificate: If a key is missing, doubled or unknown, a value is of another type or
                out of range, or the text is not canonical.
        """
        try:
            values: Any = json.loads(text.decode("ascii"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            reject("claim", f"{len(text)} bytes", f"canonical JSON ({error})")
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            reject("claim", "other keys", f"exactly {', '.join(sorted(names))}")
        for name, value in values.items():
            if not _fits(name, value):
                reject("claim", name, f"a valid value for `{name}`")
        claim = cls(**{**values, "brought": tuple(values["brought"])})
        if claim.to_json() != text:  # doubled keys, spaces, 1e-2 for 0.01
            reject("claim", f"{len(text)} bytes", "canonical JSON, each claim once")
        return claim


def printable(text: str) -> str:
    """Text without control characters, which a terminal might obey.

    Returns:
        The text with `?` in their place, at most 500 characters of it.
    """
    return "".join(c if c.isprintable() else "?" for c in text)[:500]


_NATURAL = {"language", "seed", "examples", "errors", "bits"}
_FLOAT = {"delta", "course", "kl", "binomial"}
_DIGESTS = {"prior", "data"}


def _fits(name: str, value: Any) -> bool:
    if name in _NATURAL:
        return _is_natural(value)
    if name in _FLOAT:
        return isinstance(value, float) and 0 <= value <= 1
    if name in _DIGESTS:
        return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
    if name == "anchored":
        return isinstance(value, bool)
    if name == "sizes":
        return isinstance(value, dict) and all(
            _is_text(key) and _is_natural(size) for key, size in value.items()
        )
    if name == "brought":
        return isinstance(value, list) and all(_is_text(item) for item in value)
    return _is_text(value)


def _is_natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()  # lone surrogates are not printable


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")
