"""Opening files and datasets: whatever the container, out come numbered raw rows, and nothing is lost silently.

A fault of one line (bad JSON, bad UTF-8) comes out with the line, so that the reader may skip and count it. A fault
of the whole file (torn gzip, unknown extension) is an error at once.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.data.fields import Fault, short, spelled_list
from trueup.data.hub import from_folder, from_hub
from trueup.errors import DataError, UsageError

DOCUMENT_END = "<|endoftext|>"
"""A line that holds only this ends a document of a text file."""

_LAYOUTS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
}
_LONGEST_CELL = 1 << 27


@dataclass(frozen=True, slots=True)
class Line:
    """One raw row and where it starts (line or row number, from 1), or what is wrong with it."""

    number: int
    row: Mapping[str, Any] | None = None
    fault: Fault | None = None


@dataclass(slots=True)
class Source:
    """An opened file or dataset. The counts are complete once ``lines()`` is exhausted."""

    name: str
    layout: str
    path: Path | None = None
    dataset: Any = None
    bom: bool = False
    crlf_lines: int = 0
    blank_lines: int = 0

    def place(self, number: int) -> str:
        """``file:line`` for text files, ``file row n`` for the others."""
        return f"{self.name} row {number}" if self.layout in ("parquet", "dataset") else f"{self.name}:{number}"

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
                return _numbered(self.dataset)

    def _raw(self) -> Iterator[tuple[int, bytes]]:
        """Lines as bytes, without their ends; the byte-order mark removed."""
        assert self.path is not None
        zipped = self.path.suffix == ".gz"
        try:
            with gzip.open(self.path, "rb") if zipped else open(self.path, "rb") as handle:
                for number, raw in enumerate(handle, 1):
                    line = raw.rstrip(b"\n")
                    if number == 1:
                        line = self._without_mark(line)
                    if raw.endswith(b"\r\n"):
                        self.crlf_lines += 1
                        line = line.removesuffix(b"\r")
                    yield number, line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"the gzip data is cut off or damaged: {error}",
                where=self.name,
                expected="a whole gzip file",
                fix="copy or download the file again; `gzip -t FILE` tells whether it is whole",
            ) from error
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}", where=self.name) from error

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
                yield _parsed(number, content)

    def _json(self) -> Iterator[Line]:
        """A JSON array of objects. A ``.json`` file that begins with an object is read as JSONL, as many are."""
        decoded = list(self._decoded())
        first = next((c for _, c in decoded if isinstance(c, Fault) or c.strip()), "")
        if isinstance(first, Fault) or not first.lstrip().startswith("["):
            yield from self._jsonl(decoded)
            return
        for number, content in decoded:
            if isinstance(content, Fault):
                raise content.error(self.place(number))
        yield from self._array("\n".join(str(content) for _, content in decoded))

    def _array(self, whole: str) -> Iterator[Line]:
        decoder = json.JSONDecoder(object_pairs_hook=_object)
        at = _skip_blank(whole, whole.index("[") + 1)
        line, counted = 1, 0
        while not whole.startswith("]", at):
            line, counted = line + whole.count("\n", counted, at), at
            try:
                value, at = decoder.raw_decode(whole, at)
            except Fault as fault:
                raise fault.error(self.place(line)) from None
            except (ValueError, RecursionError) as error:
                where = line + whole.count("\n", at, getattr(error, "pos", at))
                raise _bad_json(error).error(self.place(where)) from error
            yield _row(line, value)
            at = _skip_blank(whole, at)
            if whole.startswith(",", at):
                at = _skip_blank(whole, at + 1)
            elif not whole.startswith("]", at):
                cut = "the array is not closed" if at >= len(whole) else f"found {short(whole[at : at + 20])}"
                where = 1 + whole.count("\n", 0, at)
                raise DataError(cut, where=self.place(where), expected="',' or ']' after an entry of the array")
        if whole[at + 1 :].strip():
            raise DataError("there is text behind the array", where=self.name, expected="one JSON array")

    def _csv(self) -> Iterator[Line]:
        assert self.path is not None
        numbers: list[int] = []

        def feed() -> Iterator[str]:
            for number, content in self._decoded():
                if isinstance(content, Fault):
                    raise content.error(self.place(number))  # a record may span lines, so no line can be left out
                numbers.append(number)
                yield content + "\n"

        tab = ".tsv" in self.path.suffixes
        before = csv.field_size_limit(_LONGEST_CELL)
        try:
            reader = csv.reader(feed(), delimiter="\t" if tab else ",", strict=True)
            header = next(reader, None) or []
            if len(set(header)) < len(header):
                raise DataError(f"columns repeat: {', '.join(header)}", where=self.place(1), expected="distinct names")
            start = reader.line_num + 1
            for record in reader:
                if record:
                    yield _record(start, header, record)
                else:
                    self.blank_lines += 1
                start = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"not valid CSV: {error}", where=self.place(len(numbers)), expected='text with quotes as "..."'
            ) from error
        finally:
            csv.field_size_limit(before)

    def _documents(self) -> Iterator[Line]:
        """Documents of a text file, split at lines that hold only ``DOCUMENT_END``; without one, a single document."""
        start, held = 1, io.StringIO()
        for number, content in self._decoded():
            if isinstance(content, Fault):
                raise content.error(self.place(number))
            if content.strip() == DOCUMENT_END:
                yield from self._document(start, held.getvalue())
                start, held = number + 1, io.StringIO()
            else:
                held.write(content + "\n")
        yield from self._document(start, held.getvalue())

    def _document(self, start: int, content: str) -> Iterator[Line]:
        if content.strip():
            skipped = len(content) - len(content.lstrip())
            yield Line(start + content.count("\n", 0, skipped), {"text": content.strip()})
        elif content:
            self.blank_lines += content.count("\n")

    def _parquet(self) -> Iterator[Mapping[str, Any]]:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(self.path) as opened:
                for batch in opened.iter_batches():
                    yield from batch.to_pylist()
        except (ArrowException, OSError) as error:
            raise DataError(
                f"not a whole Parquet file: {str(error).splitlines()[0]}", where=self.name, expected="Parquet"
            ) from error


def open_source(source: str | Path, split: str | None = None) -> Source:
    """A file, a directory written by ``Dataset.save_to_disk``, or ``hf:owner/name`` from the Hugging Face hub.

    Raises:
        DataError: Nothing there, an unknown extension, a split that does not exist, or no way to reach the hub.
        UsageError: ``split`` for a plain file.
    """
    name = str(source)
    if name.startswith("hf:"):
        return Source(f"{name} ({split})" if split else name, "dataset", dataset=from_hub(name, split))
    path = Path(source)
    if path.is_dir():
        return Source(name, "dataset", dataset=from_folder(path, split))
    if not path.exists():
        raise _not_there(path)
    extensions = [s.lower() for s in path.suffixes]
    zipped = extensions[-1:] == [".gz"]
    extension = (extensions[:-1] if zipped else extensions)[-1:]
    layout = _LAYOUTS.get(extension[0]) if extension else None
    if layout is None or (zipped and layout == "parquet"):
        raise DataError(
            f"the extension {''.join(extensions[-2:]) or '(none)'!r} is not known",
            where=name,
            expected=", ".join(_LAYOUTS) + ", each but .parquet also with .gz; a saved dataset; or hf:owner/name",
            fix="rename the file after what it holds; a file with one JSON object a line is .jsonl",
        )
    if split is not None:
        raise UsageError(
            f"split is {split!r}", where=name, expected="no split: a file is one split", fix="leave it out"
        )
    return Source(name, layout, path)


def _not_there(path: Path) -> DataError:
    folder = path.parent
    close = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=1) if folder.is_dir() else []
    hint = f"did you mean {folder / close[0]}?" if close else None
    if str(path).count("/") == 1 and not path.suffix:
        hint = f"for a dataset of the Hugging Face hub write hf:{path}"
    return DataError(
        "there is no such file" if folder.is_dir() else f"there is no folder {folder}",
        where=str(path),
        expected="a file, a saved dataset, or hf:owner/name",
        fix=hint,
    )


def _numbered(rows: Iterable[Any]) -> Iterator[Line]:
    for number, row in enumerate(rows, 1):
        yield _row(number, row)


def _parsed(number: int, content: str) -> Line:
    try:
        return _row(number, json.loads(content, object_pairs_hook=_object))
    except Fault as fault:
        return Line(number, fault=fault)
    except (ValueError, RecursionError) as error:
        return Line(number, fault=_bad_json(error))


def _row(number: int, value: Any) -> Line:
    if isinstance(value, Mapping):
        return Line(number, value)
    fix = "a file that is one JSON array is named .json" if isinstance(value, list) else None
    fault = Fault("not a JSON object", f"found {short(value)}", expected='an object such as {"prompt": "..."}', fix=fix)
    return Line(number, fault=fault)


def _record(number: int, header: list[str], record: list[str]) -> Line:
    if len(record) == len(header):
        return Line(number, {name: _turns_or_text(cell) for name, cell in zip(header, record, strict=True)})
    fault = Fault(
        "the number of cells is not that of the header",
        f"the record has {len(record)} cells and the header {len(header)}",
        expected=f"one cell each for {', '.join(header)}",
        fix='put text that holds commas or line ends in quotes, "..."',
    )
    return Line(number, fault=fault)


def _turns_or_text(cell: str) -> Any:
    """Chat turns that a CSV cell spells as a list of role/content objects; any other cell is text as it stands."""
    if not cell.lstrip().startswith("[{"):
        return cell
    found = spelled_list(cell)
    turns = isinstance(found, list) and all(isinstance(t, Mapping) and {"role", "content"} <= t.keys() for t in found)
    return found if turns else cell


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Fault("a field is there twice", "is there twice in one object", field=twice, expected="each field once")
    return found


def _bad_json(error: Exception) -> Fault:
    said = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
    return Fault(
        "not valid JSON",
        f"not valid JSON: {said}",
        expected='one JSON object on one line, such as {"prompt": "...", "chosen": "...", "rejected": "..."}',
        fix="the line may be cut off, or the object may span lines; write rows with json.dumps",
    )


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


def _skip_blank(whole: str, at: int) -> int:
    while at < len(whole) and whole[at] in " \t\r\n":
        at += 1
    return at
