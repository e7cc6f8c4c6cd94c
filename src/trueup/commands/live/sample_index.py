"""Where each answer of ``samples.jsonl`` stands, kept beside it so that a server that starts need not read it all.

``cache/samples.index`` of the run holds one fixed record for each line, and for each part of the file of about
``PART`` bytes where it ends and its SHA-256. It is written whole or not at all, and only the parts that still hold the
same bytes are taken from it: so it follows a file that grew, and what a resume cut off, a copy replaced or an editor
changed is read anew. The lines after the last whole part are always read.

N  answers
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trueup.ledger import iterate_lines, parse_line, storage_problem, write_atomic
from trueup.ledger.columns import LARGEST_STEP, number_of

PART = 4 << 20
"""Bytes of a part, at least: what is read and hashed at once."""
FORMAT = 2
"""Rises when a record means something else."""
RECORD = np.dtype(
    [
        ("offset", "<u8"),
        ("step", "<u8"),
        ("prompt", "<u8"),
        ("score", "<f8"),
        ("log_ratio", "<f8"),
        ("size", "<u4"),
        ("words", "<u4"),
        ("asked", "<u4", 2),
        ("answered", "<u4", 2),
        ("known", "u1"),
    ]
)
"""One answer: bytes of its line, step, the first 48 bits of the prompt's hash, score and log-ratio where ``known`` says
that there are any, words of the answer, and where in the line the JSON texts of prompt and answer stand."""
SCORED, COMPARED, LABELLED = 1, 2, 4
"""What ``known`` says: there is a score; there is a log-ratio; the answer is one of the data."""
_SETTLED = 2_000_000_000
"""Nanoseconds since a file was written from which on its time of writing tells whether it was written again."""
_ABANDONED = 3600.0
"""Seconds after which what a killed writer left is removed."""
_said = threading.Event()

Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the file, up to a line's end."""

    end: int
    """Bytes up to here."""
    rows: int
    """Answers up to here."""
    left_out: int
    """Damaged lines up to here."""
    sha256: str
    """Of the part's own bytes."""


@dataclass(frozen=True, slots=True)
class Index:
    """The answers of a file up to the end of its last part."""

    parts: tuple[Part, ...]
    records_N: Records
    stamp: tuple[int, ...] | None = None
    """What the system said of the file when all of it was as the parts say; None where that cannot be relied on."""

    @property
    def end(self) -> Part:
        """The last part, or an empty one."""
        return self.parts[-1] if self.parts else Part(0, 0, 0, "")

    def first(self, count: int) -> Index:
        """Only so many parts."""
        kept = Index(self.parts[:count], self.records_N)
        return Index(kept.parts, self.records_N[: kept.end.rows])


EMPTY = Index((), np.zeros(0, RECORD))


def stamp_of(file: Path) -> tuple[int, ...]:
    """Size, time of the last writing in nanoseconds, and number of a file; zeros where there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (status.st_size, status.st_mtime_ns, status.st_ino)


class Growing:
    """The part of a file that follows an index, as far as it was read.

    Args:
        start: The part before it.
    """

    def __init__(self, start: Part) -> None:
        self.start, self.offset, self.left_out = start, start.end, start.left_out
        self.records: list[Records] = []
        self.last: bytes | None = None
        """The newest line that was read."""
        self._digest = hashlib.sha256()
        self._rows = start.rows

    def read(self, file: Path) -> None:
        """The lines that came, until there are enough for a whole part; a torn last line is waited for."""
        rows: list[tuple[Any, ...]] = []
        for _, line in iterate_lines(file, offset=self.offset):
            record = _record(line, self.offset)
            if record is not None:
                rows.append(record)
            else:
                self.left_out += bool(line.strip())
            self._digest.update(line + b"\n")
            self.offset, self.last = self.offset + len(line) + 1, line
            if self.whole:
                break
        self._rows += len(rows)
        if rows:
            self.records.append(np.array(rows, dtype=RECORD))

    @property
    def whole(self) -> bool:
        """Whether nothing is to be added to this part."""
        return self.offset - self.start.end >= PART

    @property
    def part(self) -> Part:
        """What was read by now."""
        return Part(self.offset, self._rows, self.left_out, self._digest.hexdigest())

    def ends_in(self, file: Path) -> bool:
        """Whether the newest line still stands where it was read; False where none was."""
        if self.last is None:
            return False
        with suppress(FileNotFoundError), open(file, "rb") as handle:
            handle.seek(self.offset - len(self.last) - 1)
            return handle.read(len(self.last) + 1) == self.last + b"\n"
        return False


def unchanged(file: Path, index: Index) -> Index:
    """Of an index the parts, from the first one on, whose bytes are those of the file."""
    count, start = 0, 0
    with suppress(FileNotFoundError), open(file, "rb") as handle:
        for part in index.parts:
            data = handle.read(part.end - start)
            if len(data) != part.end - start or hashlib.sha256(data).hexdigest() != part.sha256:
                break
            count, start = count + 1, part.end
    return index if count == len(index.parts) else index.first(count)


def load(place: Path, file: Path) -> Index:
    """What was stored of a file at ``place`` and still holds; nothing where that cannot be read, which is no error."""
    try:
        head, _, body = place.read_bytes().partition(b"\n")
        told = json.loads(head)
        if told["format"] != FORMAT or told["sha256"] != _checksum(told["stamp"], told["parts"], body):
            return EMPTY
        parts = tuple(Part(*values) for values in told["parts"])
        index = Index(parts, np.frombuffer(body, RECORD), tuple(told["stamp"]) if told["stamp"] else None)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ):  # none, or one that another version or a damaged disk wrote
        return EMPTY
    if len(index.records_N) != index.end.rows:
        return EMPTY
    return index if index.stamp == stamp_of(file) else unchanged(file, index)


def store(place: Path, index: Index, stamp: tuple[int, ...]) -> bool:
    """Write an index whole; see ``keep`` for a disk that refuses.

    Args:
        place: The index's file; its folder is made.
        index: What holds by now.
        stamp: What the system said of the indexed file before it was read.

    Returns:
        Whether the disk took it.
    """
    body = index.records_N.tobytes()
    relied = list(stamp) if settled(stamp) else None
    parts = [[part.end, part.rows, part.left_out, part.sha256] for part in index.parts]
    head = {"format": FORMAT, "stamp": relied, "parts": parts, "sha256": _checksum(relied, parts, body)}
    return keep(place, json.dumps(head).encode() + b"\n" + body)


def settled(stamp: tuple[int, ...]) -> bool:
    """Whether a file that is as ``stamp`` says would have another stamp had it been written again."""
    return time.time_ns() - stamp[1] > _SETTLED  # two writings within one tick of the clock have the same time


def keep(place: Path, data: bytes) -> bool:
    """Write a file into a run's ``cache/`` whole, and remove what killed writers of it left.

    Returns:
        Whether the disk took it. That it did not is said once by this process, whatever the run.
    """
    try:
        place.parent.mkdir(exist_ok=True)
        for left in place.parent.glob(f".{place.name}.*.tmp"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED:
                    left.unlink()
        write_atomic(place, data)
    except OSError as error:
        if not _said.is_set():
            _said.set()
            print(
                f"{place}: the index cannot be written ({storage_problem(error)[0]}); such indexes are kept in memory "
                "and made anew by the next start",
                file=sys.stderr,
            )
        return False
    return True


def _checksum(stamp: Any, parts: Any, body: bytes) -> str:
    """SHA-256 of all that an index holds."""
    digest = hashlib.sha256(json.dumps([stamp, parts]).encode())
    digest.update(body)
    return digest.hexdigest()


def joined(records: Sequence[Records]) -> Records:
    """Records one after the other."""
    return records[0] if len(records) == 1 else np.concatenate(records)


def parse_sample(line: bytes) -> dict[str, Any] | None:
    """A line of ``samples.jsonl``; None where it is damaged."""
    try:
        row = parse_line(line)
    except ValueError:
        return None
    step = row.get("step")
    return row if isinstance(step, int) and step <= LARGEST_STEP and isinstance(row.get("completion"), str) else None


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A field as text; empty where it is missing."""
    value = row.get(name, "")
    return value if isinstance(value, str) else str(value)


def prompt_key(row: Mapping[str, Any]) -> str:
    """12 hex digits that name a prompt: of its text, so that they are the same in every run."""
    return hashlib.sha256(text_of(row, "prompt").encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _record(line: bytes, offset: int) -> tuple[Any, ...] | None:
    row = parse_sample(line)
    if row is None:
        return None
    score, ratio = number_of(row.get("score", row.get("reward"))), number_of(row.get("log_ratio"))
    known = SCORED * (score is not None) + COMPARED * (ratio is not None) + LABELLED * ("label" in row)
    return (
        offset,
        row["step"],
        int(prompt_key(row), 16),
        0.0 if score is None else score,
        0.0 if ratio is None else ratio,
        len(line),
        len(row["completion"].split()),
        _span(line, "prompt", row),
        _span(line, "completion", row),
        known,
    )


def _span(line: bytes, name: str, row: Mapping[str, Any]) -> tuple[int, int]:
    """Where in a line the text of a field stands, without its quotes; (0, 0) where the line is to be parsed for it."""
    text = json.dumps(row.get(name), ensure_ascii=False).encode("utf-8", "surrogatepass")
    head = f'"{name}": '.encode()
    start = line.find(head + text)
    if not isinstance(row.get(name), str) or start < 0:
        return (0, 0)
    return (start + len(head) + 1, len(text) - 2)
