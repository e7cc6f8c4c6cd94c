"""Opening files and datasets: whatever the container, out come numbered raw rows, and nothing is lost silently.

A fault of one line (bad JSON, bad UTF-8) comes out with the line, so that the reader may skip and count it. A fault
of the whole file (torn gzip, unknown extension) is an error at once.

Training opens files by their names (``sources.open_source``) and reads them piece by piece. Import and the browser have
the content of one (``content.load``, or what was sent), of which ``as_utf8`` makes text and ``content_rows`` rows. A
person looks at what was read there, so files of spreadsheets and of other programs are taken as they are
(``Source.lenient``).
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import gzip
import io
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from trueup.data.content import LARGEST
from trueup.data.csv_rows import CheckColumns, records, spreadsheet_rows, strict_rows
from trueup.data.fields import Fault
from trueup.data.json_rows import Line, array_rows, parsed, row_of, whole_object
from trueup.errors import DataError

DOCUMENT_END = "<|endoftext|>"
"""A line that holds only this ends a document of a text file."""

_CHUNK = 1 << 16
"""Bytes that are read at once."""


@dataclass(slots=True)
class Source:
    """An opened file or dataset. The counts are complete once ``lines()`` is exhausted.

    Args:
        name: For messages; empty for content whose file the caller names.
        layout: ``jsonl``, ``json`` (an array, or objects line by line), ``csv``, ``text``, ``parquet``, ``dataset``.
        path: The file.
        data: Its content, instead.
        dataset: Of the library ``datasets``, or a list of rows, instead.
        lenient: Take NaN for null, rows in an object around them, and any dialect of CSV.
        check: Refuses columns that no row can have; with ``lenient`` it also decides what parts the cells of a CSV.
    """

    name: str
    layout: str
    path: Path | None = None
    data: bytes | None = None
    dataset: Any = None
    lenient: bool = False
    check: CheckColumns = lambda names: None
    bom: bool = False
    crlf_lines: int = 0
    blank_lines: int = 0

    def place(self, number: int) -> str:
        """``file:line`` for text files, ``file row n`` for the others; without the file's name where that is empty."""
        of_rows = self.layout in ("parquet", "dataset")
        if not self.name:
            return f"{'row' if of_rows else 'line'} {number}"
        return f"{self.name} row {number}" if of_rows else f"{self.name}:{number}"

    def lines(self) -> Iterator[Line]:
        """All rows, in order."""
        match self.layout:
            case "jsonl":
                return self._jsonl(self._decoded())
            case "json":
                return self._json()
            case "csv":
                return self._csv()
            case "text":
                return self._documents()
            case "parquet":
                return _numbered(self._parquet())
            case _:
                return _numbered(self._dataset())

    @contextlib.contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self.data is not None:
            yield io.BytesIO(self.data)
            return
        assert self.path is not None
        try:
            with open(self.path, "rb") as file:
                yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if self.path.suffix == ".gz" else file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"the gzip data is cut off or damaged: {error}",
                where=self.name,
                expected="a whole gzip file",
                fix="copy or download the file again; `gzip -t FILE` tells whether it is whole",
            ) from error
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}", where=self.name) from error

    def _raw(self) -> Iterator[tuple[int, bytes]]:
        """Lines as bytes, without their ends; the byte-order mark removed."""
        with self._opened() as handle:
            for number, raw in enumerate(handle, 1):
                line = raw.rstrip(b"\n")
                if number == 1:
                    line = self._without_mark(line)
                if raw.endswith(b"\r\n"):
                    self.crlf_lines += 1
                    line = line.removesuffix(b"\r")
                yield number, line

    def _without_mark(self, line: bytes) -> bytes:
        if line.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(
                "the file is UTF-16", where=self.name, expected="UTF-8", fix="iconv -f UTF-16 -t UTF-8 FILE > NEW"
            )
        self.bom = line.startswith(b"\xef\xbb\xbf")
        return line.removeprefix(b"\xef\xbb\xbf")

    def _decoded(self) -> Iterator[tuple[int, str | Fault]]:
        for number, raw in self._raw():
            if b"\0" in raw:
                yield number, _nul(raw)
                continue
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                yield number, _not_utf8(raw, error)

    def _jsonl(self, decoded: Iterable[tuple[int, str | Fault]]) -> Iterator[Line]:
        for number, content in decoded:
            if isinstance(content, Fault):
                yield Line(number, fault=content)
            elif not content.strip():
                self.blank_lines += 1
            else:
                yield parsed(number, content, nan_is_null=self.lenient)

    def _json(self) -> Iterator[Line]:
        """A JSON array of objects. A ``.json`` file that begins with an object is read as JSONL, as many are."""
        with self._opened() as handle:
            start = handle.read(_CHUNK).removeprefix(b"\xef\xbb\xbf").lstrip()
            while not start and (more := handle.read(_CHUNK)):
                start = more.lstrip()
        if start.startswith(b"["):
            yield from array_rows(self._pieces(), self.place, nan_is_null=self.lenient)
            return
        wrapped = whole_object(self.data, self.place) if self.lenient and self.data is not None else None
        yield from self._jsonl(self._decoded()) if wrapped is None else wrapped

    def _pieces(self) -> Iterator[str]:
        """The text of the file in pieces."""
        decode = codecs.getincrementaldecoder("utf-8")().decode
        with self._opened() as handle:
            first, last = True, b""
            while piece := handle.read(_CHUNK):
                data = self._without_mark(piece) if first else piece
                self.crlf_lines += (last + piece).count(b"\r\n")
                first, last = False, piece[-1:] if piece.endswith(b"\r") else b""
                try:
                    content = decode(data)
                except UnicodeDecodeError:
                    raise self._first_fault() from None
                if "\0" in content:
                    raise self._first_fault()
                yield content
            try:
                decode(b"", True)
            except UnicodeDecodeError:
                raise self._first_fault() from None

    def _first_fault(self) -> DataError:
        """The error for the first line that is not text."""
        again = dataclasses.replace(self)
        return next(c.error(self.place(number)) for number, c in again._decoded() if isinstance(c, Fault))

    def _csv(self) -> Iterator[Line]:
        if self.lenient:
            assert self.data is not None
            yield from spreadsheet_rows(self.data.decode(), self.check, self.place)
            return
        assert self.path is not None
        rows = records(self._sound_lines(), "\t" if ".tsv" in self.path.suffixes else ",", self.place)
        for line in strict_rows(rows, self.place):
            if line is None:
                self.blank_lines += 1
            else:
                yield line

    def _sound_lines(self) -> Iterator[str]:
        for number, content in self._decoded():
            if isinstance(content, Fault):
                raise content.error(self.place(number))  # a record may span lines, so no line can be left out
            yield content + "\n"

    def _documents(self) -> Iterator[Line]:
        """Documents of a text file, split at lines that hold only ``DOCUMENT_END``; without one, a single document."""
        start, buffer = 1, io.StringIO()
        for number, content in self._decoded():
            if isinstance(content, Fault):
                raise content.error(self.place(number))
            if content.strip() == DOCUMENT_END:
                yield from self._document(start, buffer.getvalue())
                start, buffer = number + 1, io.StringIO()
            else:
                buffer.write(content + "\n")
        yield from self._document(start, buffer.getvalue())

    def _document(self, start: int, content: str) -> Iterator[Line]:
        if content.strip():
            skipped = len(content) - len(content.lstrip())
            yield Line(start + content.count("\n", 0, skipped), {"text": content.strip()})
        elif content:
            self.blank_lines += content.count("\n")

    def _parquet(self) -> Iterator[Mapping[str, Any]]:
        import pyarrow
        from pyarrow.parquet import ParquetFile

        content = self.path if self.data is None else pyarrow.BufferReader(self.data)
        try:
            with ParquetFile(content, buffer_size=_CHUNK, pre_buffer=False) as opened:
                self.check(opened.schema_arrow.names)
                unpacked = 0
                for batch in opened.iter_batches(batch_size=32):
                    unpacked += batch.nbytes if self.lenient else 0
                    if unpacked > LARGEST:
                        raise DataError(f"unpacks to more than {LARGEST} bytes", where="file", fix="import it in parts")
                    yield from map(_without_gaps, batch.to_pylist()) if self.lenient else batch.to_pylist()
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two: text, dates
            raise DataError(
                f"not a whole Parquet file: {next(iter(str(error).splitlines()), type(error).__name__)}",
                where=self.name or "file",
                expected="a whole Parquet file",
            ) from error

    def _dataset(self) -> Iterator[Any]:
        number = 0
        try:
            for row in self.dataset:
                number += 1
                yield row
        except Exception as error:  # decoding a column may need any library, and fail as it likes
            raise DataError(
                f"cannot be read: {next(iter(str(error).splitlines()), type(error).__name__)}",
                where=self.place(number + 1),
                fix="remove columns that hold no text (dataset.remove_columns) and save it again",
            ) from error


def _numbered(rows: Iterable[Any]) -> Iterator[Line]:
    for number, row in enumerate(rows, 1):
        yield row_of(number, row)


def _without_gaps(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row without its nulls and without NaN, as pandas writes a gap in a column of numbers."""
    return {name: _gapless(value) for name, value in row.items() if not _is_gap(value)}


def _is_gap(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _gapless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _gapless(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_gapless(entry) for entry in value]
    return None if _is_gap(value) else value


def _nul(raw: bytes) -> Fault:
    return Fault(
        "NUL bytes",
        f"{raw.count(0)} NUL bytes, the first at byte {raw.index(0) + 1} of the line",
        expected="UTF-8 text",
        fix="the file was torn while it was written, or is not a text file: write it again",
    )


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> Fault:
    return Fault(
        "not UTF-8",
        f"not valid UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line",
        expected="UTF-8 text",
        fix="if the file is Latin-1 or Windows-1252: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW",
    )


def content_rows(data: bytes, layout: str = "json", check: CheckColumns = lambda names: None) -> Iterator[Line]:
    """Rows of a file's content, of text that ``as_utf8`` gave; places are ``line n``.

    Args:
        data: The content.
        layout: ``json`` (an array, objects line by line, or one object around the rows), ``csv`` or ``parquet``.
        check: Refuses columns that no row can have.
    """
    return Source("", layout, data=data, lenient=True, check=check).lines()
