"""How rows become a file: canonical JSON lines, one rename, and an account of what the format could not carry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trueup.errors import DataError, UsageError
from trueup.ledger import write_atomic


@dataclass(frozen=True, slots=True)
class Lines:
    """The rows of a file to be, and (item, reason) for what is not among them."""

    lines: list[bytes]
    left_out: list[tuple[str, str]]
    rows: int | None = None
    """Rows, where they are not the lines."""
    notes: tuple[str, ...] = ()
    """What a reader must know of the rows, in sentences."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file and what is not in it."""

    path: Path
    rows: int
    left_out: tuple[tuple[str, str], ...] = field(default=())
    """(item, reason), sorted."""
    notes: tuple[str, ...] = ()
    """What a reader must know of the rows, in sentences."""


def json_text(value: Any) -> str:
    """JSON on one line, the same for the same value; Unicode's own line separators are escaped.

    Raises:
        DataError: It holds half a character, or a number that JSON has no spelling for.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
    except ValueError as error:  # a UnicodeEncodeError is one
        raise DataError(f"cannot be written as JSON: {error}") from None
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", "\\u0085")


def json_line(value: Mapping[str, Any]) -> bytes:
    """One line of a JSON lines file."""
    return json_text(value).encode() + b"\n"


def json_list(values: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """A JSON array with one element a line."""
    inner = [json_text(value).encode() for value in values]
    return [
        b"[\n",
        *(element + (b",\n" if n < len(inner) else b"\n") for n, element in enumerate(inner, start=1)),
        b"]\n",
    ]


def put(path: Path, lines: Lines) -> Written:
    """Write the file whole or not at all; a file that is there already is replaced.

    Raises:
        UsageError: ``path`` is a directory, or stands in none.
        DataError: There is nothing to write.
    """
    rows = len(lines.lines) if lines.rows is None else lines.rows
    if not rows:
        reasons = sorted({reason for _, reason in lines.left_out})
        raise DataError(
            "nothing is left to write",
            where=str(path),
            expected="at least one judgment that the format can carry",
            fix="; ".join(reasons[:5]) or "collect judgments first",
        )
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            "is a directory or stands in none", where=str(path), expected="a file in a directory that is there"
        )
    write_atomic(path, b"".join(lines.lines))
    return Written(path, rows, tuple(lines.left_out), lines.notes)
