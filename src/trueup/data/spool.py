"""Numbers and texts that are collected on disk, so that a check of a large file does not hold the file in memory.

They live in unnamed temporary files, which vanish with the process.
"""

from __future__ import annotations

import hashlib
import tempfile
import weakref
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HELD = 1 << 15
"""Numbers in memory before they are written."""


def hash64(*texts: str) -> int:
    """64 bits of BLAKE2b of the texts, which are told apart; two of a million meet by chance once in 37 million."""
    digest = hashlib.blake2b(digest_size=8)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return int.from_bytes(digest.digest(), "little")


def _temporary(owner: object) -> Any:
    """A file that lives as long as its owner."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    weakref.finalize(owner, file.close)
    return file


class Column:
    """Numbers of one type, as ``array`` names it (``Q`` 64 bits, ``I`` 32, ``B`` 8); all are read back at once."""

    def __init__(self, code: str) -> None:
        self._held = array(code)
        self._file: Any = None
        self._written = 0

    def __len__(self) -> int:
        return self._written + len(self._held)

    def append(self, value: int) -> None:
        """Add a number."""
        self._held.append(value)
        if len(self._held) >= _HELD:
            self._file = self._file or _temporary(self)
            self._file.write(self._held.tobytes())
            self._written += len(self._held)
            del self._held[:]

    def values(self) -> NDArray[Any]:
        """All numbers, in order."""
        kind = np.dtype(self._held.typecode)
        in_memory = np.frombuffer(self._held.tobytes(), kind)
        if self._file is None:
            return in_memory
        self._file.seek(0)
        written = np.fromfile(self._file, kind, self._written)
        self._file.seek(0, 2)
        return np.concatenate([written, in_memory])


class Texts:
    """Texts, read back by number or in order."""

    def __init__(self) -> None:
        self._file = _temporary(self)
        self._ends = Column("Q")
        self._end = 0
        self._places: NDArray[Any] | None = None

    def append(self, text: str) -> None:
        """Add a text."""
        data = text.encode("utf-8", "surrogatepass")
        self._file.write(data)
        self._end += len(data)
        self._ends.append(self._end)
        self._places = None

    def __getitem__(self, number: int) -> str:
        if self._places is None:
            self._file.flush()
            self._places = self._ends.values()
        start = int(self._places[number - 1]) if number else 0
        self._file.seek(start)
        data: bytes = self._file.read(int(self._places[number]) - start)
        return data.decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self._ends)))


def repeated(hashes: NDArray[Any]) -> NDArray[np.bool_]:
    """For each number whether an earlier one is equal."""
    later = np.ones(len(hashes), dtype=np.bool_)
    later[np.unique(hashes, return_index=True)[1]] = False
    return later
