"""The optional key of the audit log, kept outside the database: who can write the database cannot forge its marks.

An event's mark is the HMAC-SHA256 of its number and hash. A key file holds 64 hexadecimal digits on one line.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trueup.errors import DataError, UsageError

KEY_VARIABLE, FILE_VARIABLE = "TRUEUP_AUDIT_KEY", "TRUEUP_AUDIT_KEY_FILE"
DIGITS = 64


@dataclass(frozen=True, slots=True)
class AuditKey:
    """A key; ``id`` may be told to anybody."""

    id: str
    secret: bytes = field(repr=False)

    def mark(self, seq: int, digest: str) -> str:
        """The mark of event number ``seq`` with the hash ``digest``."""
        return hmac.new(self.secret, f"{seq}:{digest}".encode(), hashlib.sha256).hexdigest()

    def marks(self, seq: int, digest: str, mac: str) -> bool:
        """Whether ``mac`` is this key's mark of the event."""
        return hmac.compare_digest(self.mark(seq, digest).encode(), mac.encode("utf-8", "surrogatepass"))


def parse_key(text: str, where: str) -> AuditKey:
    """A key from its text.

    Raises:
        DataError: It is no key; the text is not repeated.
    """
    text = text.strip().lower()
    if not re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", text):
        raise DataError(
            "is no audit key",
            where=where,
            expected=f"{DIGITS} hexadecimal digits (0-9, a-f)",
            fix="make one with `trueup feedback key new FILE`",
        )
    secret = bytes.fromhex(text)
    return AuditKey(hashlib.sha256(b"trueup audit key\0" + secret).hexdigest()[:16], secret)


def read_key(path: Path) -> AuditKey:
    """The key in a file.

    Raises:
        DataError: It cannot be read or is no key.
    """
    try:
        text = path.read_bytes()[: 4 * DIGITS].decode("ascii", "replace")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), expected="a key file") from error
    return parse_key(text, str(path))


def key_of_environment(environment: Mapping[str, str] = os.environ) -> AuditKey | None:
    """The key that ``TRUEUP_AUDIT_KEY_FILE`` or ``TRUEUP_AUDIT_KEY`` gives; None if neither is set.

    Raises:
        DataError: It is no key.
        UsageError: Both are set.
    """
    text, path = environment.get(KEY_VARIABLE), environment.get(FILE_VARIABLE)
    if text and path:
        raise UsageError(f"{KEY_VARIABLE} and {FILE_VARIABLE} are both set", where="environment", expected="one")
    if path:
        return read_key(Path(path))
    return parse_key(text, KEY_VARIABLE) if text else None


def new_key(path: Path) -> AuditKey:
    """Write a new key to a new file that only its owner can read.

    Raises:
        UsageError: The file exists or cannot be made.
    """
    text = secrets.token_hex(DIGITS // 2)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"cannot be made: {error.strerror}", where=str(path), expected="a new file") from error
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    return parse_key(text, str(path))
