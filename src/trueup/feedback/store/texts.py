"""One check of everything that is to be stored, the same on SQLite and PostgreSQL.

Every statement of the store passes ``check_parameters`` before it reaches a driver, so no door can be forgotten; doors
that know a line or a field call ``check_value`` themselves and say so. Refused is what one of the databases cannot
hold or what nothing can read again: NUL, halves of characters (lone surrogates), numbers that are none, text that is
too long. Other control characters and the noncharacters of Unicode are text: models write them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, event

from trueup.errors import DataError

LONGEST_TEXT = 2_000_000
"""Characters of one text; a million words would hang a browser long before."""
DEEPEST = 50
"""Levels of lists and objects in a JSON value."""
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**31), 2**31 - 1
"""What an integer column holds on both databases."""
UNLIMITED = "unlimited"
"""Key in a column's ``info``: the store writes its text itself, and of any length."""


def sha256_of(text: str) -> str:
    """The hash under which the store knows a text; halves of characters, which older versions let in, count as well."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def check_text(text: str, where: str, *, longest: int | None = LONGEST_TEXT) -> None:
    """Refuse a text that cannot be stored.

    Raises:
        DataError: Names ``where``, what was found and at which character.
    """
    if text.isascii() and "\0" not in text and (longest is None or len(text) <= longest):
        return
    if longest is not None and len(text) > longest:
        raise DataError(f"holds {len(text):,} characters", where=where, expected=f"at most {longest:,}")
    if "\0" in text:
        raise DataError(
            f"holds a NUL character at place {text.index(chr(0)) + 1}", where=where, expected="text without NUL"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"holds half a character, U+{ord(text[error.start]):04X}, at place {error.start + 1}",
            where=where,
            expected="whole Unicode characters",
            fix="both halves of a surrogate pair, or neither: the text was cut or decoded wrongly before",
        ) from None


def check_value(value: Any, where: str) -> None:
    """Refuse a JSON value that cannot be stored; names the field inside it.

    Raises:
        DataError: A text of it fails ``check_text``, a number is not finite, or it is nested too deeply.
    """
    waiting: list[tuple[Any, str, int]] = [(value, where, 0)]
    while waiting:
        current, place, depth = waiting.pop()
        if isinstance(current, str):
            check_text(current, place)
        elif isinstance(current, float) and not math.isfinite(current):
            raise DataError(f"is {current}", where=place, expected="a finite number")
        elif isinstance(current, (Mapping, list, tuple)):
            if depth == DEEPEST:
                raise DataError(f"is nested more than {DEEPEST} levels deep", where=where)
            if isinstance(current, Mapping):
                for name in current:
                    if isinstance(name, str):
                        check_text(name, f"{place}, name of a field")
                waiting += [(inner, f"{place}.{name}", depth + 1) for name, inner in current.items()]
            else:
                waiting += [(inner, f"{place}.{number}", depth + 1) for number, inner in enumerate(current)]


def dump_json(value: Any) -> str:
    """JSON for a column of that type, made before ``check_parameters`` sees the value and may refuse it."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:  # far deeper than DEEPEST
        return ""


def load_json(text: str | bytes) -> Any:
    """The value of such a column. Halves of characters, which older versions let in, are read as U+FFFD."""
    value = json.loads(text)
    escaped = b"\\ud" in text.lower() if isinstance(text, bytes) else "\\ud" in text.lower()
    return _whole(value) if escaped else value


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(inner) for name, inner in value.items()}
    return value


def guard(engine: Engine) -> None:
    """Pass every statement of an engine through ``check_parameters``."""
    event.listen(engine, "before_cursor_execute", check_parameters)


def check_parameters(_conn: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
    """Listener: refuse what a statement would store or look for, if it cannot be stored.

    Raises:
        DataError: Names table and column.
    """
    if context.compiled is None or context.isddl:  # our own words, without values
        return
    columns: Any = {}
    if context.isinsert or context.isupdate:
        columns = context.compiled.statement.table.c
    for name in context.compiled_parameters[0] if context.compiled_parameters else ():
        column = columns.get(name)
        if column is None:
            where, limit = re.sub(r"_\d+$", "", name), None  # handle_1 is the first handle
        else:
            where = f"{column.table.name}.{name}"
            limit = None if column.info.get(UNLIMITED) else getattr(column.type, "length", None) or LONGEST_TEXT
        for values in context.compiled_parameters:
            value = values[name]
            if isinstance(value, str):
                check_text(value, where, longest=limit)
            elif isinstance(value, int):
                _check_integer(value, where)
            elif value is not None:
                check_value(value, where)


def _check_integer(value: int, where: str) -> None:
    if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        raise DataError(
            "is a number of more digits than can be stored",
            where=where,
            expected=f"{SMALLEST_INTEGER:,} to {LARGEST_INTEGER:,}",
        )
