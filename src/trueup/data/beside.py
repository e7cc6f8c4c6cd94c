"""The rows behind items that were read: what a file says of an item beside what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from trueup.data.read import Loaded, read_rows
from trueup.data.sources import Given
from trueup.errors import DataError

T = TypeVar("T")
PlacedRow = tuple[str, Mapping[str, Any]]
"""Where a row stands, and the row as the file has it."""


def rows_beside(data: Given, loaded: Loaded[T], kept: Sequence[T], *, split: str | None = None) -> list[PlacedRow]:
    """The row of each item that is used.

    Args:
        data: As the items were read from it.
        loaded: All items that were read.
        kept: Those of them that are used, in order.
        split: Which split of a dataset.

    Raises:
        DataError: Rows were left out, and which are left cannot be told by their lines.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    for row in read_rows(data, split=split):
        if len(rows) == len(loaded) and rows[-1][0] == loaded.lines[-1]:
            break  # a limit: what follows is not read
        rows.append(row)
    if [line for line, _ in rows] != list(loaded.lines):
        by_line = dict(rows)
        if len(by_line) != len(rows):
            raise DataError(
                "rows were left out, and which are left cannot be told by their lines",
                where=loaded.report.source,
                fix="write one row a line (JSON lines)",
            )
        rows = [(line, by_line[line]) for line in loaded.lines]
    used: list[PlacedRow] = []
    place = 0
    for number, item in enumerate(loaded.items):
        if place < len(kept) and item is kept[place]:
            used.append((loaded.place(number), rows[number][1]))
            place += 1
    return used
