"""The certificate file: magic, claim, code word, checksum.

    magic      8 bytes   0x89 "assay1" 0x0A
    length     4 bytes   of the claim, most significant first
    claim                canonical JSON (see `claim`)
    code word            filled up with zero bits to whole bytes
    checksum  32 bytes   SHA-256 of everything before it

The checksum finds damage. It does not find forgery, since anybody can compute it: only deriving every
claim again does.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from assay.certificate.claim import LONGEST, Claim
from assay.certificate.malformed import reject
from assay.errors import UsageError

MAGIC = b"\x89assay1\n"
_CHECKSUM = 32
_LEAST = len(MAGIC) + 4 + _CHECKSUM


def pack(claim: Claim, code: bytes) -> bytes:
    """Put a certificate together.

    Args:
        claim: What is claimed.
        code: The code word, filled up to whole bytes.

    Returns:
        The contents of the file.
    """
    text = claim.to_json()
    body = MAGIC + len(text).to_bytes(4, "big") + text + code
    return body + hashlib.sha256(body).digest()


def unpack(content: bytes) -> tuple[Claim, bytes]:
    """Take a certificate apart. The code word is not looked at yet.

    Args:
        content: The contents of the file.

    Returns:
        The claim and the code word.

    Raises:
        MalformedCertificate: If it is not laid out as `pack` does.
    """
    if not content.startswith(MAGIC) or len(content) < _LEAST:
        reject(
            "certificate", "its first bytes", "the bytes 0x89 'assay1' and a certificate after them"
        )
    body, checksum = content[:-_CHECKSUM], content[-_CHECKSUM:]
    if hashlib.sha256(body).digest() != checksum:
        reject("certificate", "its checksum", "the SHA-256 of what comes before it")
    start = len(MAGIC) + 4
    length = int.from_bytes(body[len(MAGIC) : start], "big")
    if length > min(LONGEST, len(body) - start):
        reject("certificate", f"a claim of {length} bytes", "a claim that fits into the file")
    return Claim.from_json(body[start : start + length]), body[start + length :]


def read(path: str | os.PathLike[str], longest_code: int) -> bytes:
    """Read a file that is at most as long as a certificate for this model can be.

    Args:
        path: The file.
        longest_code: Most bytes of a code word.

    Returns:
        Its contents.

    Raises:
        UsageError: If it cannot be read.
        MalformedCertificate: If it is too long.
    """
    limit = _LEAST + LONGEST + longest_code
    try:
        with open(_place(path), "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise UsageError(
            "path", os.fspath(path), f"a certificate to read ({error.strerror})", "Check the path."
        ) from error
    if len(content) > limit:
        reject("certificate", "its length", f"at most {limit:,} bytes for a model of this size")
    return content


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all.

    Args:
        path: Where to; a file of that name is replaced, of a link the file that it names. What is no regular
            file (a pipe, a device) is written to, and stays what it is.
        content: What to write.

    Raises:
        UsageError: If it cannot be written; nothing is left behind.
    """
    target = _place(path).resolve()
    if target.exists() and not target.is_file() and not target.is_dir():
        _write_to(target, content)
        return
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(draft, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except OSError as error:
        raise UsageError(*_refusal(target, content, error)) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _place(path: object) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise UsageError("path", path, "the name of a file", 'Give "model.assay", say.')
    return Path(path)


def _write_to(target: Path, content: bytes) -> None:
    try:
        target.write_bytes(content)
    except OSError as error:
        raise UsageError(*_refusal(target, content, error)) from error


def _refusal(target: Path, content: bytes, error: OSError) -> tuple[str, str, str, str]:
    return (
        "path",
        str(target),
        f"a place to write {len(content):,} bytes to ({error.strerror})",
        "Check that the folder exists, is yours, and has room.",
    )
