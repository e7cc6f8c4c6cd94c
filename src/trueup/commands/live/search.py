"""Which answers of a run hold a text, in the prompt or in the answer, whatever the case.

The file is read in blocks, and of each line only the two texts are looked at, where the index says that they stand: the
line is parsed only where it was written in another way than a run writes it.

N  answers
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from trueup.commands.live.sample_index import Records, parse_sample, text_of

_BLOCK = 4 << 20
"""Bytes that are read at once, about."""
_FIELDS = {"asked": "prompt", "answered": "completion"}


def holding(file: Path, records_N: Records, text: str) -> npt.NDArray[np.bool_]:
    """Which of the answers in a file hold ``text``. Each prompt is read once."""
    holds_N = np.zeros(len(records_N), dtype=bool)
    if not len(records_N):
        return holds_N
    wanted = _Wanted(text)
    with open(file, "rb") as handle:
        prompts, first = np.unique(records_N["prompt"], return_index=True)
        first = np.sort(first)
        matching = [records_N["prompt"][n] for n in _matches(handle, records_N, first, "asked", wanted)]
        holds_N |= np.isin(records_N["prompt"], np.array(matching, dtype=prompts.dtype))
        rest = np.flatnonzero(~holds_N)
        holds_N[list(_matches(handle, records_N, rest, "answered", wanted))] = True
    return holds_N


class _Wanted:
    """A text that is looked for."""

    def __init__(self, text: str) -> None:
        self.text = text.casefold()
        self.ascii = self.text.encode("ascii") if self.text.isascii() else None

    def is_in(self, raw: bytes) -> bool:
        """Whether a JSON text, without its quotes, holds it."""
        if b"\\" not in raw and raw.isascii():
            return self.ascii is not None and self.ascii in raw.lower()
        text = raw.decode("utf-8", "surrogatepass")
        return self.text in (json.loads(f'"{text}"', strict=False) if "\\" in text else text).casefold()


def _matches(
    handle: BinaryIO, records_N: Records, places_N: npt.NDArray[np.intp], field: str, wanted: _Wanted
) -> Iterator[int]:
    """Of some answers, in the order of the file, those of whom one text holds what is wanted."""
    name = _FIELDS[field]
    for places in _blocks(records_N, places_N):
        block = records_N[places]
        begin = int(block["offset"][0])
        handle.seek(begin)
        data = handle.read(int(block["offset"][-1]) + int(block["size"][-1]) - begin)
        lines = ((block["offset"] - np.uint64(begin)).tolist(), block["size"].tolist(), block[field].tolist())
        for place, offset, size, (start, length) in zip(places.tolist(), *lines, strict=True):
            if start:
                if wanted.is_in(data[offset + start : offset + start + length]):
                    yield place
                continue
            row = parse_sample(data[offset : offset + size])
            if row is not None and wanted.text in text_of(row, name).casefold():
                yield place


def _blocks(records_N: Records, places_N: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp]]:
    """Some answers in groups that are read at once: neighbours in the file, about ``_BLOCK`` bytes of it."""
    if not len(places_N):
        return
    offsets = records_N["offset"][places_N].astype(np.int64)
    ends = offsets + records_N["size"][places_N]
    start = 0
    while start < len(places_N):
        stop = int(np.searchsorted(ends, offsets[start] + _BLOCK, side="right"))
        stop = max(stop, start + 1)
        yield places_N[start:stop]
        start = stop
