"""Taking values out of a raw row, each with its type checked. What does not fit is a ``Fault``."""

from __future__ import annotations

import ast
import contextlib
import json
import math
import reprlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from trueup.errors import DataError

Row: TypeAlias = Mapping[str, Any]

SKIPPING = "leave such rows out and count them: on_bad='skip', or --set read.skip_bad_rows=true"
"""The other way out, told with every fault."""


class Fault(Exception):
    """One thing wrong with one row. The reader adds file and line, or counts it under ``reason`` and goes on.

    Args:
        reason: Short and without values, so that equal faults count together.
        what: The sentence for the error, with the value that was found.
        field: Column, if one is to blame.
        expected: What would have been right.
        fix: What the reader of the message can do.
    """

    def __init__(
        self, reason: str, what: str, *, field: str = "", expected: str | None = None, fix: str | None = None
    ) -> None:
        super().__init__(what)
        self.reason = reason
        self.what = what
        self.field = field
        self.expected = expected
        self.fix = fix

    def error(self, where: str, columns: Mapping[str, str] | None = None) -> DataError:
        """The same as an error for people, at ``where`` (file and line); ``columns`` gives the file's own names."""
        theirs = (columns or {}).get(self.field)
        named = f"field {self.field!r}" + (f" (column {theirs!r} of the file)" if theirs else "")
        place = f"{where}: {named}" if self.field else where
        return DataError(self.what, where=place, expected=self.expected, fix=self.fix)


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxlong, _BRIEF.maxother = 4, 120, 60, 60


def short(value: Any) -> str:
    """``repr`` cut to one readable line, however large or deep the value is."""
    shown = _BRIEF.repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def present(row: Row, name: str) -> Any:
    """The value of a column that must be there."""
    if name not in row:
        raise Fault(
            f"{name} is missing",
            f"there is no such field; the row has {', '.join(map(repr, row)) or 'no fields'}",
            field=name,
            expected="the same fields in every row",
            fix=f"complete or remove the row, or {SKIPPING}",
        )
    if row[name] is None:
        raise Fault(f"{name} is null", "is null", field=name, expected="a value")
    return row[name]


def checked_text(value: Any, name: str, *, empty: bool = False) -> str:
    """``value`` as text that can be encoded; blank text only if ``empty``."""
    if not isinstance(value, str):
        raise Fault(
            f"{name} is not text",
            f"is {short(value)}, {_kind(value)}",
            field=name,
            expected="text",
            fix="a number that is meant as text needs quotes" if isinstance(value, (int, float)) else None,
        )
    if not empty and not value.strip():
        raise Fault(
            f"{name} is empty",
            f"is empty ({short(value)})",
            field=name,
            expected="some text",
            fix=f"remove the row, or {SKIPPING}",
        )
    at = half_character(value)
    if at is not None:
        raise Fault(
            f"{name} holds half a character",
            f"holds half a character (a lone surrogate, {short(value[at])}) at position {at}",
            field=name,
            expected="valid Unicode",
            fix="the text was cut inside an emoji or decoded wrongly: repair it where it was made",
        )
    return value


def half_character(text: str) -> int | None:
    """Where ``text`` holds a lone surrogate, which no file and no terminal can take; None if nowhere."""
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def identifier(value: Any, name: str) -> str:
    """What the data calls something: text, or a whole number taken as text; empty where there is no value or no text.

    Anything else (3.0, true, a list) is refused rather than spelled, because two tools would spell it in two ways.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Fault(
            f"{name} is neither text nor a whole number",
            f"is {short(value)}, {_kind(value)}",
            field=name,
            expected="text or a whole number; null or empty where there is none",
            fix="write it as text, in quotes",
        )
    return checked_text(value, name)


def text(row: Row, name: str, *, empty: bool = False) -> str:
    """The text in column ``name``."""
    return checked_text(present(row, name), name, empty=empty)


def number(row: Row, name: str) -> float:
    """The finite number in column ``name``; text that spells one is accepted, because CSV has nothing else."""
    return checked_number(present(row, name), name)


def checked_number(value: Any, name: str) -> float:
    """``value`` as a finite number."""
    number = math.nan
    if isinstance(value, (int, float, Decimal, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):  # words; whole numbers past 1e308
            number = float(value)
    if not math.isfinite(number):
        raise Fault(f"{name} is not a number", f"is {short(value)}", field=name, expected="a finite number")
    return number


_YES_NO = {
    **dict.fromkeys(("true", "yes", "1", "1.0", "acceptable", "good", "accept", "thumbs_up"), True),
    **dict.fromkeys(("false", "no", "0", "0.0", "unacceptable", "bad", "reject", "thumbs_down"), False),
}


def yes_no(row: Row, name: str) -> bool:
    """The yes/no label in column ``name``."""
    return checked_yes_no(present(row, name), name)


def checked_yes_no(value: Any, name: str) -> bool:
    """``value`` as yes or no: true/false, 1/0, or one of these or of the usual words as text."""
    if isinstance(value, bool):
        return value
    spelled = str(int(value)) if isinstance(value, (int, float)) and value in (0, 1) else value
    if not isinstance(spelled, str) or spelled.strip().lower() not in _YES_NO:
        raise Fault(
            f"{name} is not yes or no",
            f"is {short(value)}",
            field=name,
            expected="true or false, 1 or 0, yes or no",
            fix='name the column that holds the label: columns={"label": "..."}',
        )
    return _YES_NO[spelled.strip().lower()]


def items(row: Row, name: str, *, at_least: int = 1) -> list[Any]:
    """The list in column ``name``; a CSV cell may spell it as JSON or as Python does."""
    value = present(row, name)
    if isinstance(value, str):
        value = spelled_list(value)
    if not isinstance(value, (list, tuple)):
        raise Fault(f"{name} is not a list", f"is {short(value)}, {_kind(value)}", field=name, expected="a list")
    if len(value) < at_least:
        raise Fault(
            f"{name} is too short", f"has {len(value)} entries", field=name, expected=f"at least {at_least} entries"
        )
    return list(value)


def spelled_list(cell: str) -> Any:
    """The list that a cell spells, as JSON (``["a", "b"]``) or as a Python literal (``['a', 'b']``); else the cell."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return cell
    for parse in (json.loads, ast.literal_eval):
        try:
            literal = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return literal if isinstance(literal, list) else cell
    return cell


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"
