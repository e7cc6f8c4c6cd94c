"""Rows from JSON: one object a line, the entries of an array one after the other, or those in an object around them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trueup.data.fields import Fault, half_character, short
from trueup.errors import DataError


@dataclass(frozen=True, slots=True)
class Line:
    """One raw row and where it starts (line or row number, from 1), or what is wrong with it."""

    number: int
    row: Mapping[str, Any] | None = None
    fault: Fault | None = None


class FileLine(int):
    """A line of one of several files: a number for all of them, by which they are in order, and ``file:line`` in words.

    Args:
        index: Of the file, from 0.
        line: Line or row in it, from 1.
        file: Its name.
        of_rows: Whether the file has rows rather than lines.
    """

    BITS = 40
    """Of the line, below those of the file."""
    line: int
    file: str
    of_rows: bool

    def __new__(cls, index: int, line: int, file: str, *, of_rows: bool = False) -> FileLine:
        own = super().__new__(cls, (index << cls.BITS) + line)
        own.line, own.file, own.of_rows = line, file, of_rows
        return own

    def __str__(self) -> str:
        return f"{self.file} row {self.line}" if self.of_rows else f"{self.file}:{self.line}"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return _file_line, (int(self) >> self.BITS, self.line, self.file, self.of_rows)


def _file_line(index: int, line: int, file: str, of_rows: bool) -> FileLine:
    return FileLine(index, line, file, of_rows=of_rows)


DEEPEST = 64
"""Objects and lists in each other that are sure to be read; trees of messages are rarely more than 30 deep."""


def parsed(number: int, content: str, *, nan_is_null: bool = False) -> Line:
    """The row that a line spells, or its fault."""
    try:
        return row_of(number, _decoder(nan_is_null).decode(content))
    except Fault as fault:
        return Line(number, fault=fault)
    except (ValueError, RecursionError) as error:
        return Line(number, fault=_bad_json(error))


def row_of(number: int, value: Any) -> Line:
    """An object as a row; anything else is a fault."""
    if isinstance(value, Mapping):
        return Line(number, value)
    fix = "a file that is one JSON array is named .json" if isinstance(value, list) else None
    fault = Fault("not a JSON object", f"found {short(value)}", expected='an object such as {"prompt": "..."}', fix=fix)
    return Line(number, fault=fault)


def _decoder(nan_is_null: bool) -> json.JSONDecoder:
    return _NAN_IS_NULL if nan_is_null else _AS_PYTHON


def array_rows(
    pieces: Iterator[str], place: Callable[[int], str], *, nan_is_null: bool = False, whole: bool = True
) -> Iterator[Line]:
    """The entries of an array, of which memory holds one at a time.

    Args:
        pieces: The text, which begins with the array.
        place: What to call a line in an error.
        nan_is_null: Take NaN, as pandas writes a gap, for null, and refuse what is infinite.
        whole: Refuse text behind the array.
    """
    decoder = _decoder(nan_is_null)
    text = _Window(pieces)
    text.skip_blank()
    text.at += 1  # the bracket
    text.skip_blank()
    while not text.starts("]"):
        line = text.line
        value = _entry(decoder, text, place)
        yield row_of(line, value)
        text.skip_blank()
        if text.starts(","):
            text.at += 1
            text.skip_blank()
        elif not text.starts("]"):
            rest = text.held[text.at : text.at + 20]
            raise DataError(
                f"found {short(rest)}" if rest else "the array is not closed",
                where=place(text.line),
                expected="',' or ']' after an entry of the array",
                fix=_EXPORT_AGAIN,
            )
    text.at += 1
    text.skip_blank()
    if whole and text.at < len(text.held):
        raise DataError(
            "there is text behind the array", where=place(text.line), expected="one JSON array", fix=_EXPORT_AGAIN
        )


_EXPORT_AGAIN = "export or copy the file again"


def _entry(decoder: json.JSONDecoder, text: _Window, place: Callable[[int], str]) -> Any:
    while True:
        try:
            value, end = decoder.raw_decode(text.held, text.at)
        except Fault as fault:
            raise fault.error(place(text.line)) from None
        except (ValueError, RecursionError) as error:
            at = getattr(error, "pos", text.at)
            # What is held may end inside the entry: then the error is at its end, or in a text that is not closed.
            cut = at >= len(text.held) - 32 or str(error).startswith("Unterminated string")
            if cut and text.more():
                continue
            near = text.held[max(text.at, at - 20) : at + 20]
            raise _bad_json(error, near).error(place(text.line_of(at))) from error
        if end + 2 >= len(text.held) and text.more():
            continue  # a number may go on, past a '.' or an 'e+' that do not belong to it yet
        text.at = end
        return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    for name in fields:
        if half_character(name) is not None:
            raise Fault(
                "the name of a field holds half a character",
                f"the field {short(name)} holds half a character in its name",
                expected="valid Unicode",
            )
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        what = f"the field {twice!r} is there twice in one object"
        raise Fault("a field is there twice", what, field=twice, expected="each field once")
    return fields


def _no_number(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is no JSON number")


_AS_PYTHON = json.JSONDecoder(object_pairs_hook=_object)
_NAN_IS_NULL = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)


def _bad_json(error: Exception, near: str = "") -> Fault:
    reason = str(error)
    if isinstance(error, RecursionError):
        reason = f"nested too deep; at most {DEEPEST} objects and lists within each other are sure to be read"
    elif isinstance(error, json.JSONDecodeError):
        reason = f"{error.msg} near {short(near)}" if near else f"{error.msg} at column {error.colno}"
    elif "integer string conversion" in reason:
        reason = f"a number has more than {sys.get_int_max_str_digits()} digits"
    return Fault(
        "not valid JSON",
        f"not valid JSON: {reason}",
        expected='one JSON object on one line, such as {"prompt": "...", "chosen": "...", "rejected": "..."}',
        fix="the line may be cut off, or the object may span lines; write rows with json.dumps",
    )


class _Window:
    """The part of a long text around where it is being read: what is behind is let go, what is ahead is fetched."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._lines = self._counted = 0
        self.held = ""
        self.at = 0

    @property
    def line(self) -> int:
        """The line of the place, from 1."""
        self._lines += self.held.count("\n", self._counted, self.at)
        self._counted = self.at
        return 1 + self._lines

    def line_of(self, at: int) -> int:
        """The line of a later place in what is held."""
        return self.line + self.held.count("\n", self.at, at)

    def more(self) -> bool:
        """Hold at least twice as much from here on; at the end False, and nothing has moved."""
        wanted = len(self.held) - self.at + 1
        ahead: list[str] = []
        while sum(map(len, ahead)) < wanted and (piece := next(self._pieces, None)) is not None:
            ahead.append(piece)
        if ahead:
            self._lines, self._counted = self.line - 1, 0
            self.held, self.at = "".join([self.held[self.at :], *ahead]), 0
        return bool(ahead)

    def skip_blank(self) -> None:
        """Go on to the next character that is not white space."""
        while True:
            while self.at < len(self.held) and self.held[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.held) or not self.more():
                return

    def starts(self, mark: str) -> bool:
        """Whether ``mark`` is what comes next."""
        return self.held.startswith(mark, self.at)


# One object around the rows -------------------------------------------------------------------------------------------


def whole_object(data: bytes, place: Callable[[int], str]) -> Iterator[Line] | None:
    """The rows of a file that is one object: those under one of ``_WRAPPERS``, else the object; None for any other.

    Raises:
        DataError: It is a table that is written column by column.
    """
    content = data.decode()
    whole = _one_object(content)
    if whole is None:
        return None
    _refuse_columns(whole, place)
    name = next((name for name in _WRAPPERS if _is_list_of_objects(whole.get(name))), None)
    return iter((Line(1, whole),)) if name is None else _rows_under(content, name, whole[name], place)


def _rows_under(content: str, name: str, rows: list[Any], place: Callable[[int], str]) -> Iterator[Line]:
    """The rows under a key, each with its line: they begin where the key has just these; it may stand in others too."""
    for key in re.finditer(rf'"{name}"\s*:\s*(?=\[)', content):
        pieces = iter((content[key.end() :],))
        before = content.count("\n", 0, key.end())
        lines = list(array_rows(pieces, place, nan_is_null=True, whole=False))
        if [line.row for line in lines] == rows:
            return (Line(line.number + before, line.row) for line in lines)
    return (Line(1, row) for row in rows)


def _one_object(content: str) -> dict[str, Any] | None:
    """The object that a file is as a whole, or None for lines of objects."""
    first, _, rest = content.strip().partition("\n")
    if first[:1] != "{" or not (rest or first).rstrip().endswith("}"):
        return None
    if first.strip() != "{" and rest and first.rstrip().endswith("}"):  # a first line that may be a row
        return None
    try:
        document = _NAN_IS_NULL.decode(content)
    except (Fault, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


_WRAPPERS = ("data", "rows", "examples", "instances", "records", "items")
"""Keys under which a file that is one object holds its rows."""


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _refuse_columns(whole: Mapping[str, Any], place: Callable[[int], str]) -> None:
    """Refuse a table that is written column by column: it would be one row of objects.

    Raises:
        DataError: It is one.
    """
    values = list(whole.values())
    indexes = [list(value) if isinstance(value, dict) else None for value in values]
    by_index = len(values) > 1 and indexes[0] is not None and all(index == indexes[0] for index in indexes)
    plain = [isinstance(column, list) and not any(isinstance(x, (dict, list)) for x in column) for column in values]
    by_list = len(values) > 1 and all(plain) and len({len(column) for column in values}) == 1 and bool(values[0])
    if (by_index and indexes[0] and all(str(name).isdecimal() for name in indexes[0])) or by_list:
        raise DataError(
            f"is a table written by columns ({', '.join(map(str, whole))}), as pandas' to_json writes it"[:200],
            where=place(1),
            expected="one JSON object a row",
            fix="write it with to_json(..., orient='records', lines=True)",
        )
