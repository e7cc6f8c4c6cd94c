"""Keeps the places of a run's answers up to date: from the index beside the file, and from what came after that.

A look costs two calls of the system while nothing is new. What is new is read on; what was changed is told by size,
time, the newest line and the hashes of the index, and only what follows the first changed part is read anew.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from trueup.commands.live.cursor import Generations
from trueup.commands.live.places import Places
from trueup.commands.live.sample_index import EMPTY, PART, Growing, Index, joined, load, stamp_of, store, unchanged

NAMES = {"probes": "samples", "training": "rollouts"}
"""What a run writes answers of: its fixed prompts, or what it learned from; and the file of each."""
PATIENCE = 0.3
"""Seconds that a look waits for what is read in the background."""
_EVERY = 32
"""Parts after which a long reading is stored and shown, so that an end in its middle loses little."""


class SampleReader:
    """The answers of one run, as far as they were read. Several threads may ask.

    ``places`` and ``left_out``, the damaged lines, are as of the newest reading.
    """

    def __init__(self, folder: Path, of: str = "probes") -> None:
        self.file = folder / f"{NAMES[of]}.jsonl"
        self.places = Places(EMPTY.records_N)
        self.left_out = 0
        self._place = folder / "cache" / f"{NAMES[of]}.index"
        self._generations = Generations(folder)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._seen: tuple[tuple[str, int], tuple[int, ...]] | None = None
        """Generation and stamp of the newest reading."""
        self._index, self._growing = EMPTY, Growing(EMPTY.end)
        self._stored: int | None = 0
        """Parts in the index on the disk; None where it cannot be written."""

    @property
    def offset(self) -> int:
        """Bytes of the file that were read."""
        return self._growing.offset

    def refresh(self) -> None:
        """Read what is new, all of it."""
        with self._lock:
            generation, stamp = self._generations.read(), stamp_of(self.file)
            if self._seen == (generation, stamp):
                return
            restamp = self._check(generation, stamp)
            done = 0
            while True:
                before = self._growing.offset
                self._growing.read(self.file)
                if self._growing.whole:
                    self._close()
                    done += 1
                    if done % _EVERY == 0:
                        self._publish()
                        self._store(stamp)
                elif self._growing.offset == before:
                    break
            self._publish()
            if restamp or len(self._index.parts) != self._stored:
                self._store(stamp)
            self._seen = (generation, stamp)

    def look(self) -> bool:
        """Read what is new if that takes no time, else begin to; whether all of it was read."""
        with self._starting:
            thread = self._thread
            if thread is None and abs(stamp_of(self.file)[0] - self.offset) <= PART:
                self.refresh()
                return True
            if thread is None:
                name = f"index {self.file}"
                thread = self._thread = threading.Thread(target=self._refresh_behind, name=name, daemon=True)
                thread.start()
        thread.join(PATIENCE)
        if thread.is_alive():
            return False
        with self._starting:
            if self._thread is thread:
                self._thread = None
        return True

    def _refresh_behind(self) -> None:
        with suppress(OSError):  # whoever asks for the answers is told why they cannot be read
            self.refresh()

    def _check(self, generation: tuple[str, int], stamp: tuple[int, ...]) -> bool:
        """Let go of what the file no longer holds; whether the stored index has another time of writing."""
        if self._seen is None:
            self._begin(load(self._place, self.file))
            self._stored = len(self._index.parts)
            return bool(self._index.parts) and self._index.stamp != stamp
        before, (old_size, _, old_number) = self._seen
        grew = before == generation and stamp[2] == old_number and stamp[0] > old_size
        if not grew or (self.offset and not self._growing.ends_in(self.file)):
            self._begin(unchanged(self.file, self._index))
        return False

    def _begin(self, index: Index) -> None:
        self._index, self._growing = index, Growing(index.end)

    def _close(self) -> None:
        """The part is whole: it goes into the index."""
        part = self._growing
        self._begin(Index((*self._index.parts, part.part), joined([self._index.records_N, *part.records])))
        self._growing.last = part.last

    def _publish(self) -> None:
        self.places = Places(joined([self._index.records_N, *self._growing.records]))
        self.left_out = self._growing.left_out

    def _store(self, stamp: tuple[int, ...]) -> None:
        if self._stored is not None:
            self._stored = len(self._index.parts) if store(self._place, self._index, stamp) else None
