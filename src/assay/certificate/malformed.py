"""The one way to refuse a file that is not a certificate."""

from __future__ import annotations

from typing import NoReturn

from assay.errors import MalformedCertificate, verbatim


def reject(what: str, found: str, expected: str) -> NoReturn:
    """Refuse a file.

    Args:
        what: The part of it at fault: "code word", "claim", "certificate".
        found: What was found there.
        expected: What the format has there.

    Raises:
        MalformedCertificate: Always.
    """
    raise MalformedCertificate(
        what,
        verbatim(found),
        expected,
        "The file was damaged, not written by assay, or belongs to another builder.",
    )
