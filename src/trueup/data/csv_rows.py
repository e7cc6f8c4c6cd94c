"""Tables as text: records with the line each begins in, and the dialects in which spreadsheets write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from trueup.data.fields import Fault, spelled_list
from trueup.data.json_rows import Line
from trueup.errors import DataError

LONGEST_CELL = 1 << 27
"""The module's own limit of 128 KiB is less than a long dialogue."""
DELIMITERS = (",", ";", "\t", "|")

CheckColumns: TypeAlias = Callable[[Collection[str]], None]
"""Refuses, by a ``DataError``, the names of columns that no row of this file can have."""

_RISKY = re.compile(r"'*[=+\-@\t\r\n]")
"""The beginning of a cell that a spreadsheet might run, after any number of apostrophes."""
_SEPARATOR = re.compile(r'"?sep=(.)"?(?:\r\n|\r|\n)', re.IGNORECASE)
"""The line with which Excel is told, and tells, how cells are parted."""
UNNAMED = re.compile(r"column \d+, which has no name")
_WITHIN = "\ufdd0"
"""Stands for a line feed within a line that ends otherwise; it is no character of any text."""


def records(
    lines: Iterable[str], mark: str, place: Callable[[int], str], *, first: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """Records of a table with the line each begins in; a blank line is a record without cells.

    Args:
        lines: The lines with their ends.
        mark: What parts the cells.
        place: What to call a line in an error.
        first: Number of the first line.

    Raises:
        DataError: The quoting is broken, so that records cannot be told apart.
    """
    before = csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(lines, delimiter=mark, strict=True)
    start = first
    try:
        for record in reader:
            yield start, record
            start = reader.line_num + first
    except csv.Error as error:
        raise DataError(
            f"not valid CSV: {error}",
            where=place(reader.line_num + first - 1),
            expected='CSV with a header, and text with quotes as "..."',
            fix="check the quotes",
        ) from error
    finally:
        csv.field_size_limit(before)


def strict_rows(numbered: Iterable[tuple[int, list[str]]], place: Callable[[int], str]) -> Iterator[Line | None]:
    """Rows of a table whose header is its first record; None for a blank line."""
    header: list[str] | None = None
    for line, record in numbered:
        if header is None:
            header = record
            _need_distinct(header, place(line))
        elif not record:
            yield None
        elif len(record) == len(header):
            yield Line(line, {name: _turns_or_text(cell) for name, cell in zip(header, record, strict=True)})
        else:
            yield Line(line, fault=_cells(header, record))


def spreadsheet_rows(content: str, check: CheckColumns, place: Callable[[int], str]) -> Iterator[Line]:
    """Rows of a table as spreadsheets write it; empty cells are left out.

    Cells are parted by the mark that a first line ``sep=;`` names, else by the one of ``DELIMITERS`` with which the
    header has columns that are known. Lines end as the header's does. A column without a name goes by its place.
    """
    mark, first = None, 1
    separator = _SEPARATOR.match(content)
    if separator is not None:
        content, mark, first = content[separator.end() :], separator[1], 2
    lines, within = _lines(content)
    header: list[str] | None = None
    for line, record in records(lines, mark or _delimiter(content, check), place, first=first):
        cells = [cell.replace(within, "\n") for cell in record] if within else record
        if not any(cells):
            continue
        if header is None:
            header = [_undone(c).strip() or f"column {n}, which has no name" for n, c in enumerate(cells, start=1)]
            _need_distinct(header, place(line))
            check([name for name in header if not UNNAMED.fullmatch(name)])
        elif len(cells) != len(header):
            yield Line(line, fault=_cells(header, cells))
        else:
            yield Line(line, {name: _undone(cell) for name, cell in zip(header, cells, strict=True) if cell != ""})


def _need_distinct(header: list[str], where: str) -> None:
    if len(set(header)) < len(header):
        raise DataError(
            f"columns repeat: {', '.join(header)}", where=where, expected="distinct names", fix="rename one of them"
        )


def _cells(header: list[str], record: list[str]) -> Fault:
    return Fault(
        "the number of cells is not that of the header",
        f"the record has {len(record)} cells and the header {len(header)}",
        expected=f"one cell each for {', '.join(header)}",
        fix='put text that holds commas or line ends in quotes, "..."',
    )


def _turns_or_text(cell: str) -> Any:
    """Chat turns that a CSV cell spells as a list of role/content objects; any other cell is text as it stands."""
    if not cell.lstrip().startswith("[{"):
        return cell
    value = spelled_list(cell)
    turns = isinstance(value, list) and all(isinstance(t, Mapping) and {"role", "content"} <= t.keys() for t in value)
    return value if turns else cell


def _lines(content: str) -> tuple[Iterator[str], str]:
    """Lines for the CSV reader, and what stands in them for a line feed that ends none (old Macs end lines with CR)."""
    end = re.search(r"\r\n|\r|\n", re.sub(r'"[^"]*"', '""', content[: 1 << 20]))
    if end is None or end[0] != "\r":
        return iter(io.StringIO(content, newline="")), ""
    if _WITHIN in content:
        raise DataError("holds U+FDD0, which is no character", where="file", expected="text", fix="remove it")
    return (f"{line}\n" for line in content.replace("\n", _WITHIN).split("\r")), _WITHIN


def _delimiter(content: str, check: CheckColumns) -> str:
    """The mark that parts the cells: the first under which the header is known, else that which parts it most."""
    most = (0, DELIMITERS[0])
    for mark in DELIMITERS:
        try:
            cells = next((cells for cells in csv.reader(_lines(content)[0], delimiter=mark) if any(cells)), [])
        except csv.Error:
            continue
        names = [_undone(cell).strip() for cell in cells if cell.strip()]
        try:
            check(names)
        except DataError:
            if len(names) > most[0]:
                most = (len(names), mark)
        else:
            return mark
    return most[1]


def csv_bytes(columns: list[str], rows: list[dict[str, str]]) -> bytes:
    """CSV whose cells no spreadsheet takes for a formula; ``spreadsheet_rows`` gives back what went in."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_neutral(row.get(name, "")) for name in columns] for row in rows)
    return out.getvalue().encode()


def _neutral(cell: str) -> str:
    return f"'{cell}" if _RISKY.match(cell) else cell


def _undone(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _RISKY.match(cell) else cell
