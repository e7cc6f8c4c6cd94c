"""One run that may still be written, on this machine or copied from another: its numbers so far, and what is new."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.commands.live.cursor import STREAMS, Cursor, Generations
from trueup.commands.live.number_index import LEAST, Numbers, load, store
from trueup.commands.live.sample_index import stamp_of
from trueup.ledger import iterate_lines, parse_line
from trueup.ledger.columns import Columns, as_json, number_of

PER_SECOND = "_per_second"
"""Ends the names of the rates that are made of ``timing.jsonl``."""
MOST_ROWS = 500
"""Rows that are handed out at once."""


@dataclass(frozen=True, slots=True)
class News:
    """Rows that came after a cursor."""

    rows: tuple[dict[str, Any], ...]
    cursor: Cursor
    reset: bool
    """What was read before is no longer what the run holds: read all of it again."""


class Followed:
    """The numbers of one run. Several threads may ask; the files are read on, not read again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._generations = Generations(folder)
        self._files = [folder / f"{stream}.jsonl" for stream in STREAMS]
        self._parsed = 0
        """Bytes that were parsed since the index was read or written."""
        self._writer: threading.Thread | None = None
        self._start(("0" * 8, 0))

    def _start(self, generation: tuple[str, int]) -> None:
        self.metrics, self.timing = Columns(), Columns()
        self.left_out = 0
        self._generation, self._offsets = generation, (0, 0)

    def refresh(self) -> Cursor:
        """Read what is new; the cursor says up to where the columns go."""
        with self._lock:
            generation = self._generations.read()
            if generation != self._generation or any(not self._fits(n, at) for n, at in enumerate(self._offsets)):
                self._start(generation)
            if self._offsets == (0, 0):
                self._take(generation)
            stamps = (stamp_of(self._files[0]), stamp_of(self._files[1]))
            offsets = []
            for number, columns in enumerate((self.metrics, self.timing)):
                at = self._offsets[number]
                for row, size in self._rows(number, at):
                    at += size
                    if row is None or not columns.append(row):
                        self.left_out += 1
                offsets.append(at)
            self._parsed += sum(offsets) - sum(self._offsets)
            self._offsets = (offsets[0], offsets[1])
            self._keep(stamps)
            return Cursor(*self._generation, self._offsets)

    def _take(self, generation: tuple[str, int]) -> None:
        """Begin with what the index holds, if there is one that holds."""
        stored = load(self.folder, self._files, generation)
        if stored is None:
            return
        with suppress(ValueError, KeyError, TypeError):  # another version packed them
            self.metrics, self.timing = [Columns.unpack(*packed) for packed in stored.columns]
            self.left_out, self._offsets = stored.left_out, stored.offsets

    def _keep(self, stamps: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        """Write the index where much was parsed since the last time; whoever looks at the run does not wait for it."""
        if self._parsed < LEAST or (self._writer is not None and self._writer.is_alive()):
            return
        self._parsed = 0
        columns = (self.metrics.pack(), self.timing.pack())
        numbers = Numbers(self._generation, columns, self._offsets, stamps, self.left_out)
        self._writer = threading.Thread(target=store, args=(self.folder, self._files, numbers), daemon=True)
        self._writer.start()

    def news(self, cursor: Cursor | None) -> News:
        """Rows after a cursor, at most ``MOST_ROWS`` of each stream, straight from the files.

        A cursor of another run or resume, or past the end of a file, gets a reset and no rows.
        """
        with self._lock:
            generation = self._generations.read()
        if cursor is None or (cursor.origin, cursor.resumes) != generation or not self._reaches(cursor):
            return News((), Cursor(*generation, (0, 0)), reset=True)
        rows: list[dict[str, Any]] = []
        offsets = []
        for number, at in enumerate(cursor.offsets):
            for count, (row, size) in enumerate(self._rows(number, at)):
                if count == MOST_ROWS:
                    break
                at += size
                if row is not None:
                    rows.append(_plain(row))
            offsets.append(at)
        return News(tuple(rows), Cursor(*generation, (offsets[0], offsets[1])), reset=False)

    def _reaches(self, cursor: Cursor) -> bool:
        return all(self._fits(number, at) for number, at in enumerate(cursor.offsets))

    def _fits(self, number: int, offset: int) -> bool:
        """Whether a line of the stream ends at ``offset``."""
        if offset == 0:
            return True
        try:
            with open(self._files[number], "rb") as handle:
                handle.seek(offset - 1)
                return handle.read(1) == b"\n"
        except OSError:
            return False

    def _rows(self, number: int, offset: int) -> Iterator[tuple[dict[str, Any] | None, int]]:
        """(row or None for a damaged line, its bytes) from ``offset`` on; a torn last line is waited for."""
        for _, line in iterate_lines(self._files[number], offset=offset):
            try:
                row = parse_line(line) if line.strip() else None
            except ValueError:
                row = None
            yield row if row is None or number == 0 else _rates(row), len(line) + 1


def _rates(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``timing.jsonl``: seconds, and how much was done in one of them."""
    seconds = number_of(row.get("seconds"))
    rates = {"step": row.get("step"), "seconds": seconds}
    for key, raw in row.items():
        count = None if key in ("step", "seconds") else number_of(raw)
        if count is not None and seconds is not None and seconds > 0:
            rates[f"{key}{PER_SECOND}"] = count / seconds
    return rates


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Step and numbers of a row; ids and intervals stay in the file."""
    plain: dict[str, Any] = {"step": row.get("step", 0)}
    for key, raw in row.items():
        value = None if key == "step" else number_of(raw)
        if value is not None:
            plain[key] = as_json(value)
    return plain
