"""A file's content as a whole: read within limits, unpacked, and made UTF-8, whose encoding is never guessed."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from pathlib import Path

from trueup.errors import DataError, UsageError, near_file, nearest

LARGEST = 2 * 2**30
"""Bytes of a file that is read as a whole, and of what it unpacks to."""


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
        raise DataError(f"cannot be read: {why}", where=str(path), expected="a file", fix=near_file(path)) from None
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


def as_utf8(data: bytes, encoding: str | None = None) -> bytes:
    """A text file's content as UTF-8 without a byte order mark.

    Without ``encoding`` it is UTF-8, or UTF-16 or UTF-32 where the file's first bytes say so; nothing is guessed.

    Raises:
        UsageError: There is no such encoding.
        DataError: The file is in another one; names the line and the byte in it. Or it is no text.
    """
    for magic, name, fix in _BINARY:
        if data.startswith(magic):
            raise DataError(f"is {name}", where="file", expected="a text file", fix=fix)
    if encoding is None:
        marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
        if marked is None and data[:200].count(b"\0") > len(data[:200]) // 4:
            raise DataError(
                "every other byte is 0: this looks like UTF-16 without a byte order mark",
                where="line 1",
                expected="UTF-8 text",
                fix="say the encoding: --encoding utf-16-le (or utf-16-be)",
            )
        encoding = marked or "utf-8"
    try:
        text = data.decode(encoding)
    except LookupError:
        known = ("utf-8", "utf-16", "cp1252", "latin-1", "cp1250", "cp1251", "shift_jis", "gb18030", "mac-roman")
        raise UsageError(f"is {encoding!r}", where="encoding", expected=nearest(encoding, known)) from None
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        end = b"\n" if b"\n" in data else b"\r"
        line, byte = data.count(end, 0, start) + 1, start - data.rfind(end, 0, start)
        raise DataError(
            f"byte {byte} of the line is 0x{data[start : start + 1].hex()}, which is no {encoding.upper()}",
            where=f"line {line}",
            expected=f"{encoding.upper()} text",
            fix="say the encoding, such as --encoding cp1252 for files of Excel on Windows, or save the file as UTF-8",
        ) from None
    return text.removeprefix("\ufeff").encode()


_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and what they say; UTF-32 first, because its mark begins with that of UTF-16."""

_BINARY = (
    (b"PK\x03\x04", "an Excel workbook or another ZIP file", "save the sheet as CSV (UTF-8) and import that"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV (UTF-8) and import that"),
    (b"PAR1", "a Parquet file", "import it with --format parquet"),
    (b"SQLite format 3\0", "a database", "export its rows as JSON lines and import those"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it first: zstd -d FILE"),
    (b"\xfd7zXZ", "packed with xz", "unpack it first: xz -d FILE"),
    (b"BZh", "packed with bzip2", "unpack it first: bzip2 -d FILE"),
    (b"%PDF", "a PDF file", "import the data itself"),
)
