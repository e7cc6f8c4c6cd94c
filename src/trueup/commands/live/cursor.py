"""How far somebody has read a run: a place in its files, so that it means the same to every server and after any end.

A run's streams only grow, but a resume cuts them back to its checkpoint. ``events.jsonl`` is never cut and counts the
resumes, so (resumes, bytes) only grows; bytes of another count mean nothing, and reading starts anew.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from trueup.ledger import iterate_lines, parse_line

STREAMS = ("metrics", "timing")
"""What a cursor counts."""
_FORM = re.compile(r"([0-9a-f]{8})\.([0-9]{1,9})\.([0-9]{1,15})\.([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the streams of a run."""

    origin: str
    """8 hex digits that name the run in the directory; another run there has others."""
    resumes: int
    offsets: tuple[int, int]
    """Bytes of each of ``STREAMS`` that were read."""

    def __str__(self) -> str:
        return ".".join([self.origin, str(self.resumes), *map(str, self.offsets)])

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Back from text; None for what is no cursor."""
        match = _FORM.fullmatch(text)
        if match is None:
            return None
        return cls(match[1], int(match[2]), (int(match[3]), int(match[4])))


class Generations:
    """Which run a directory holds and how often it was resumed, read on from where it was read before."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "events.jsonl"
        self._forget()

    def _forget(self) -> None:
        self._offset, self._resumes, self._origin = 0, 0, "0" * 8

    def read(self) -> tuple[str, int]:
        """(origin, resumes) by now."""
        size = self._file.stat().st_size if self._file.exists() else 0
        if size < self._offset or (size and self._first() != self._origin):
            self._forget()
        if size > self._offset:
            for _, line in iterate_lines(self._file, offset=self._offset):
                if self._offset == 0:
                    self._origin = _name(line)
                self._offset += len(line) + 1
                self._resumes += _is_rewind(line)
        return self._origin, self._resumes

    def _first(self) -> str:
        line = next((line for _, line in iterate_lines(self._file)), None)
        return "0" * 8 if line is None else _name(line)


def _name(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:8]


def _is_rewind(line: bytes) -> bool:
    try:
        return parse_line(line).get("event") == "rewind"
    except ValueError:
        return False
