"""The numbers of a long run, kept beside it so that a server that starts need not parse all of its lines again.

``cache/numbers.index`` of the run holds the columns of its streams up to some line of each, with the SHA-256 of the
bytes that they were read from. It is written whole or not at all, and holds only for a stream that still begins with
those bytes; what came after them is parsed. A resume, another run in the directory or another version voids it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from trueup.commands.live.sample_index import keep, settled, stamp_of

NAME = Path("cache", "numbers.index")
"""Where in a run it lies."""
LEAST = 4 << 20
"""Bytes that have to be parsed anew before it is written: what takes a fraction of a second is not worth a file."""
FORMAT = 1
"""Rises when it holds something else."""
_BLOCK = 1 << 20


Packed: TypeAlias = tuple[dict[str, Any], bytes]
"""What ``Columns.pack`` gives."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The columns of both streams, and what they were read from."""

    generation: tuple[str, int]
    """Which run the directory held, and how often it had been resumed."""
    columns: tuple[Packed, Packed]
    offsets: tuple[int, int]
    """Bytes of each stream that were read."""
    stamps: tuple[tuple[int, ...], tuple[int, ...]]
    """What the system said of each file before it was read."""
    left_out: int
    """Rows that could not be used."""


def load(folder: Path, files: Sequence[Path], generation: tuple[str, int]) -> Numbers | None:
    """What was stored of a run and still holds; None where nothing does, which is no error.

    Args:
        folder: The run.
        files: Its streams.
        generation: Which run the directory holds by now, and how often it was resumed.
    """
    try:
        first, _, body = (folder / NAME).read_bytes().partition(b"\n")
        head = json.loads(first)
        told = head["numbers"]
        if head["format"] != FORMAT or head["sha256"] != _checksum(told, body):
            return None
        numbers = Numbers(
            generation=(told["generation"][0], told["generation"][1]),
            columns=((told["heads"][0], body[: told["parted"]]), (told["heads"][1], body[told["parted"] :])),
            offsets=(told["offsets"][0], told["offsets"][1]),
            stamps=(tuple(told["stamps"][0]), tuple(told["stamps"][1])),
            left_out=told["left_out"],
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none, or another version's, or a damaged one
        return None
    if numbers.generation != generation:
        return None
    rows = zip(files, numbers.stamps, numbers.offsets, told["digests"], strict=True)
    holds = all(stamp == stamp_of(file) or digest_of(file, size) == digest for file, stamp, size, digest in rows)
    return numbers if holds else None


def store(folder: Path, files: Sequence[Path], numbers: Numbers) -> None:
    """Write them whole; see ``keep`` for a disk that refuses."""
    digests = [digest_of(file, size) for file, size in zip(files, numbers.offsets, strict=True)]
    told = {
        "generation": numbers.generation,
        "heads": [head for head, _ in numbers.columns],
        "parted": len(numbers.columns[0][1]),
        "offsets": numbers.offsets,
        "digests": digests,
        # One that is too new to be relied on equals none: then the bytes themselves are looked at.
        "stamps": [stamp if settled(stamp) else () for stamp in numbers.stamps],
        "left_out": numbers.left_out,
    }
    body = b"".join(packed for _, packed in numbers.columns)
    head = {"format": FORMAT, "sha256": _checksum(told, body), "numbers": told}
    keep(folder / NAME, json.dumps(head).encode() + b"\n" + body)


def digest_of(file: Path, size: int) -> str:
    """SHA-256 of the first bytes of a file; empty where it is shorter."""
    digest = hashlib.sha256()
    with suppress(FileNotFoundError), open(file, "rb") as handle:
        while size and (block := handle.read(min(size, _BLOCK))):
            digest.update(block)
            size -= len(block)
    return "" if size else digest.hexdigest()


def _checksum(told: Any, body: bytes) -> str:
    digest = hashlib.sha256(json.dumps(told).encode())
    digest.update(body)
    return digest.hexdigest()


def _begins(file: Path, size: int, digest: str) -> bool:
    """Whether a file begins with so many bytes of this SHA-256."""
    if size == 0:
        return True
    try:
        with open(file, "rb") as handle:
            data = handle.read(size)
    except OSError:
        return False
    return len(data) == size and hashlib.sha256(data).hexdigest() == digest
