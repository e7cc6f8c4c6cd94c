"""Files of JSON lines that only grow: a line is there whole or not at all, and its bytes can be checked later."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import RunError
from trueup.ledger.files import storage_problem

_BLOCK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class StreamError(RunError):
    """A stream does not hold what a checkpoint knew of it."""


@dataclass(frozen=True, slots=True)
class Position:
    """A stream up to some line: how many bytes, and their SHA-256."""

    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """For ``state.json``."""
        return {"bytes": self.bytes, "sha256": self.sha256}

    @classmethod
    def of(cls, value: Any) -> Position:
        """Back from JSON.

        Raises:
            ValueError: It is not one.
        """
        if isinstance(value, dict) and set(value) == {"bytes", "sha256"}:
            size, digest = value["bytes"], value["sha256"]
            if isinstance(size, int) and size >= 0 and isinstance(digest, str) and _DIGEST.fullmatch(digest):
                return cls(size, digest)
        raise ValueError(f"not a position in a stream: {value!r}")


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that cannot be read."""

    file: Path
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}"


class Stream:
    """One growing file of lines, written by the holder of the run's lock.

    Rows that the disk refuses wait in memory and are written first as soon as there is room. What a failed write left
    of a line is cut off before anything else is appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size: int | None = None
        self._digest = hashlib.sha256()
        self._waiting = b""
        self._refused = False
        self._synced = True

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line, now or as soon as the disk takes it. Never raises because of the disk."""
        self._waiting += (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
        try:
            self._write()
        except OSError as error:
            if not self._refused:
                problem, _ = storage_problem(error)
                _say(f"warning: {self.path.name} cannot be written ({problem}); rows are kept in memory")
            self._refused = True
            return
        if self._refused:
            self._refused = False
            _say(f"{self.path.name} is written again; no row was lost")

    @property
    def waiting(self) -> int:
        """Rows that the disk has not taken."""
        return self._waiting.count(b"\n")

    def sync(self) -> Position:
        """Write what waits, make it durable, and say how far the file goes.

        Raises:
            OSError: The disk refuses.
        """
        self._write()
        if not self._synced:
            handle = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            self._synced = True
        return Position(self._known(), self._digest.hexdigest())

    def verify(self, position: Position) -> None:
        """Check that the file begins with exactly what ``position`` describes.

        Raises:
            StreamError: It is shorter, or other bytes; the first damaged line is named where one can be told.
        """
        size, digest = _hash(self.path, position.bytes)
        if size < position.bytes:
            raise StreamError(f"only {size} of {position.bytes} bytes are left", where=str(self.path))
        if digest.hexdigest() != position.sha256:
            raise StreamError(
                _describe_change(self.path, position.bytes), where=str(self.path), expected="the bytes that were saved"
            )

    def cut(self, position: Position | None) -> None:
        """Go back to ``position``, or to an empty file; what came later is forgotten, and so is half a line."""
        self._waiting = b""
        if self.path.exists():
            os.truncate(self.path, min(position.bytes if position else 0, self.path.stat().st_size))
            os.truncate(self.path, _whole(self.path))
            self._synced = False
        self._size = None

    def _known(self) -> int:
        """Bytes of whole lines that are safe in the file, read from it the first time."""
        if self._size is None:
            self._size, self._digest = _hash(self.path, _whole(self.path))
        return self._size

    def _write(self) -> None:
        if not self._waiting:
            return
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size, known = os.fstat(handle).st_size, self._known()
            if size < known:  # somebody cut or removed the file: what is gone is gone, what comes is kept apart from it
                _say(f"warning: {self.path} lost {known - size} bytes to another program")
                self._size = None
                known = self._known()
            if size > known:
                os.ftruncate(handle, known)
            self._synced = False
            try:
                sent = 0
                while sent < len(self._waiting):
                    sent += os.write(handle, self._waiting[sent : sent + _BLOCK])
            finally:
                self._accept(handle, known, sent)
        finally:
            os.close(handle)

    def _accept(self, handle: int, known: int, sent: int) -> None:
        """Count the whole lines among ``sent`` bytes as written, and take half a line off the file again."""
        whole = self._waiting.rfind(b"\n", 0, sent) + 1
        self._digest.update(self._waiting[:whole])
        self._waiting, self._size = self._waiting[whole:], known + whole
        if sent > whole:
            os.ftruncate(handle, self._size)


def iterate_lines(path: Path, *, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(number from 1, bytes without the line feed) of each whole line from ``offset`` on; a torn last line is left."""
    if not path.exists():
        return
    with open(path, "rb") as handle:
        handle.seek(offset)
        for number, line in enumerate(handle, 1):
            if not line.endswith(b"\n"):
                return
            yield number, line[:-1]


def parse_line(line: bytes) -> dict[str, Any]:
    """The object in one line of a stream.

    Raises:
        ValueError: It is no JSON object, or its ``step`` is no step; the message says what it is.
    """
    try:
        row = json.loads(line.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("not JSON that one of our streams holds: nested too deep") from error
    if not isinstance(row, dict):
        raise ValueError(f"not an object but {type(row).__name__}")
    step = row.get("step", 0)
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise ValueError(f"step is {step!r}")
    return row


def read_lines(path: Path, offset: int = 0, *, damaged: list[Damage] | None = None) -> tuple[list[dict[str, Any]], int]:
    """Whole lines from ``offset`` on, and the offset to go on from. A torn last line is left for later.

    Args:
        path: A stream; one that does not exist has no lines.
        offset: Bytes to skip, as an earlier call returned them.
        damaged: Where lines that cannot be read are noted, to go on without them.

    Raises:
        RunError: A line cannot be read, and ``damaged`` was not given.
    """
    rows: list[dict[str, Any]] = []
    for number, line in iterate_lines(path, offset=offset):
        start, offset = offset, offset + len(line) + 1
        if not line.strip():
            continue
        try:
            rows.append(parse_line(line))
        except ValueError as error:
            if damaged is None:
                place = f"{path}:{number}" if start == 0 or number > 1 else f"{path} at byte {start}"
                raise RunError(f"the line is damaged: {error}", where=place, expected="a JSON object") from error
            damaged.append(Damage(path, number, str(error)))
    return rows, offset


def positions_of(value: Any, names: Sequence[str]) -> dict[str, Position]:
    """The positions that a checkpoint stored, for exactly the streams ``names``.

    Raises:
        ValueError: They are not there.
    """
    if not isinstance(value, dict) or set(value) != set(names):
        raise ValueError(f"positions of {', '.join(names)} expected")
    return {name: Position.of(value[name]) for name in names}


def _hash(path: Path, size: int) -> tuple[int, Any]:
    """How many of the first ``size`` bytes are there, and their running SHA-256."""
    digest, seen = hashlib.sha256(), 0
    if path.exists():
        with open(path, "rb") as handle:
            while seen < size and (block := handle.read(min(_BLOCK, size - seen))):
                digest.update(block)
                seen += len(block)
    return seen, digest


def _whole(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    if not path.exists():
        return 0
    with open(path, "rb") as handle:
        end = handle.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            handle.seek(start)
            last = handle.read(end - start).rfind(b"\n")
            if last >= 0:
                return start + last + 1
            end = start
    return 0


def _describe_change(path: Path, size: int) -> str:
    seen = 0
    for number, line in iterate_lines(path):
        if seen >= size:
            break
        seen += len(line) + 1
        try:
            parse_line(line)
        except ValueError as error:
            return f"line {number} is damaged: {error}"
    return "bytes were changed since the checkpoint was written, though every line can still be read"


def _say(line: str) -> None:
    print(line, file=sys.stderr)
