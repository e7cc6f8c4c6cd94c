"""A file's rows with their lines: JSON lines, JSON arrays, CSV, Parquet. Any of the text files may be gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

from trueup.errors import DataError

LARGEST = 2 * 2**30
"""Bytes of a file, and of what it unpacks to."""

LARGEST_CELL = 2**27

_RISKY = re.compile(r"'*[=+\-@\t\r\n]")
"""The beginning of a cell that a spreadsheet might run, after any number of apostrophes."""


def load(path: str | Path) -> bytes:
    """A file's content, unpacked.

    Raises:
        DataError: There is no such file, or it cannot be read or unpacked.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise DataError(
                f"has {size} bytes", where=str(path), expected=f"at most {LARGEST}", fix="import it in parts"
            )
        data = path.read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(f"cannot be read: {why}", where=str(path), expected="a file", fix="check the path") from None
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            data = packed.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"cannot be unpacked: {error}", where=str(path), expected="a whole gzip file", fix="copy it again"
        ) from None
    if len(data) > LARGEST:
        raise DataError(f"unpacks to more than {LARGEST} bytes", where=str(path), fix="import it in parts")
    return data


def decoded(data: bytes) -> str:
    """UTF-8 text, with or without a byte order mark.

    Raises:
        DataError: Names the line and the byte that is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"byte {error.start} is 0x{data[error.start]:02x}",
            where=f"line {line}",
            expected="UTF-8 text",
            fix="save the file as UTF-8",
        ) from None


def json_rows(data: bytes) -> Iterator[tuple[int, Any]]:
    """JSON lines, or the elements of one JSON array, each with the line it begins in.

    A line that is no JSON is handed on as the ``DataError`` that says so.

    Raises:
        DataError: An array breaks off or is malformed, so that the rows after it cannot be found.
    """
    content = decoded(data)
    if content.lstrip().startswith("["):
        yield from _array(content)
        return
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line, parse_constant=_no_number)
            except (ValueError, RecursionError) as error:
                yield number, DataError(f"not JSON: {error}", expected="one JSON object a line")


def _array(content: str) -> Iterator[tuple[int, Any]]:
    decoder = json.JSONDecoder(parse_constant=_no_number)
    blank = re.compile(r"\s*")
    at, line, seen = blank.match(content).end() + 1, 1, 0  # type: ignore[union-attr]
    first = True
    while True:
        at = blank.match(content, at).end()  # type: ignore[union-attr]
        line += content.count("\n", seen, at)
        seen = at
        if content[at : at + 1] == "]":
            if content[at + 1 :].strip():
                line += content.count("\n", at, blank.match(content, at + 1).end())  # type: ignore[union-attr]
                raise DataError(
                    "there is more after the array",
                    where=f"line {line}",
                    expected="one JSON array",
                    fix="export it again",
                )
            return
        if not first:
            if content[at : at + 1] != ",":
                raise _broken(line, f"found {content[at : at + 20]!r}", "',' or ']'")
            at = blank.match(content, at + 1).end()  # type: ignore[union-attr]
            line += content.count("\n", seen, at)
            seen = at
        try:
            value, at = decoder.raw_decode(content, at)
        except json.JSONDecodeError as error:
            raise _broken(error.lineno, error.msg, "JSON") from None
        except (ValueError, RecursionError) as error:
            raise _broken(line, str(error), "JSON") from None
        yield line, value
        first = False


def _broken(line: int, what: str, expected: str) -> DataError:
    return DataError(f"not JSON: {what}", where=f"line {line}", expected=expected, fix="export the file again")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def csv_rows(data: bytes, columns: Callable[[Collection[str]], None]) -> Iterator[tuple[int, Any]]:
    """Rows of a CSV file as objects of text, with the line each begins in; empty cells are left out.

    ``columns`` refuses a header that the rows cannot have.

    Raises:
        DataError: The header or the quoting is broken, so that rows cannot be told apart.
    """
    csv.field_size_limit(LARGEST_CELL)  # of the whole process; its default of 128 KiB is less than a long dialogue
    reader = csv.reader(io.StringIO(decoded(data), newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            begin, line = line, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = [_undone(cell).strip() for cell in cells]
                if len(set(header)) != len(header):
                    twice = next(name for name in header if header.count(name) > 1)
                    raise DataError(
                        f"column {twice!r} stands there twice",
                        where=f"line {begin}",
                        expected="names of their own",
                        fix="rename one",
                    )
                columns(header)
            elif len(cells) != len(header):
                yield begin, DataError(f"{len(cells)} cells", expected=f"{len(header)}, as in the header")
            else:
                yield begin, {name: _undone(cell) for name, cell in zip(header, cells, strict=True) if cell != ""}
    except csv.Error as error:
        raise DataError(
            f"not CSV: {error}", where=f"line {reader.line_num}", expected="CSV with a header", fix="check the quotes"
        ) from None


def csv_bytes(columns: list[str], rows: list[dict[str, str]]) -> bytes:
    """CSV whose cells no spreadsheet takes for a formula; ``csv_rows`` gives back what went in."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_neutral(row.get(name, "")) for name in columns] for row in rows)
    return out.getvalue().encode()


def _neutral(cell: str) -> str:
    return f"'{cell}" if _RISKY.match(cell) else cell


def _undone(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _RISKY.match(cell) else cell


def parquet_rows(data: bytes, columns: Callable[[Collection[str]], None]) -> Iterator[tuple[int, Any]]:
    """Rows of a Parquet file, numbered from 1; nulls are left out.

    Raises:
        DataError: It is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(data))
        columns(table.schema_arrow.names)
        number = unpacked = 0
        for batch in table.iter_batches(batch_size=200):
            unpacked += batch.nbytes
            if unpacked > LARGEST:
                raise DataError(
                    f"unpacks to more than {LARGEST} bytes", where=f"row {number + 1}", fix="import it in parts"
                )
            for row in batch.to_pylist():
                number += 1
                yield number, {name: value for name, value in row.items() if value is not None}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"not Parquet: {str(error).splitlines()[0]}", where="file", expected="a whole Parquet file"
        ) from None
