"""Files of items to judge, read row by row: what cannot be a row is refused with its line, the others go in."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trueup.errors import DataError, UsageError, nearest
from trueup.feedback.exchange import fields
from trueup.feedback.exchange import formats as exchange
from trueup.feedback.exchange.incoming import Gathering, csv_rows, json_rows
from trueup.feedback.exchange.tables import GAPS, check_columns
from trueup.feedback.exchange.training import preference_row
from trueup.feedback.exchange.watching import plain
from trueup.feedback.store.items import NewItem

FIELDS = ("prompt", "responses", "generators", "stream", "split", "gold", "explanation", "context")
LISTED = ("responses", "generators", "gold", "context")
"""Fields that a CSV cell spells as JSON."""

MOST_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class Read:
    """Rows that can be items, each with its line, and those that cannot."""

    items: tuple[NewItem, ...]
    lines: tuple[int, ...]
    rejected: tuple[tuple[int, str], ...]
    unused: Mapping[str, int] = field(default_factory=dict)
    """Columns that hold something and that nothing was made of -> how many rows have them."""
    notes: tuple[str, ...] = ()
    """What else has to be known of the file."""


def read_items(data: bytes, format: str, encoding: str | None = None) -> Read:
    """Items from a file's content.

    Args:
        data: The file.
        format: One of ``FORMATS``, or of those of ``feedback.exchange``, whose answers are not kept here.
        encoding: Of a text file that is not UTF-8 and does not say so itself.

    Raises:
        UsageError: An unknown format or encoding.
        DataError: The file as a whole cannot be read.
    """
    if format in exchange.FORMATS and (format not in FORMATS or _is_judged_table(data, encoding)):
        return _judged_anew(data, format, encoding)
    if format not in FORMATS:
        known = {**FORMATS, **exchange.FORMATS}
        raise UsageError(f"format is {format!r}", where="format", expected=nearest(format, known))
    rows, make = FORMATS[format]
    gathering = Gathering()
    items: list[NewItem] = []
    lines: list[int] = []

    def take(line: int, row: Any) -> None:
        if len(items) + len(gathering.rejected) >= MOST_ROWS:
            raise _TooMany(line)
        items.append(gathering.with_split(make(row)))
        lines.append(line)

    try:
        gathering.each(rows(data, encoding), take)
    except _TooMany as error:
        raise DataError(f"more than {MOST_ROWS} rows", where=f"line {error}", fix="import it in parts") from None
    except DataError as error:
        place = error.where if error.where and error.where.startswith(("file", "line")) else f"file, {error.where}"
        raise DataError(error.what, where=place, expected=error.expected, fix=error.fix) from None
    if not items and not gathering.rejected:
        raise DataError("holds no rows", where="file", expected=f"rows in the format {format}", fix="check the file")
    done = gathering.done()
    return Read(tuple(items), tuple(lines), tuple(gathering.rejected), done.unused, done.notes)


class _TooMany(Exception):
    """A file has more rows than one import takes."""


def _is_judged_table(data: bytes, encoding: str | None) -> bool:
    """Whether a CSV file has the columns of judged data, as ``feedback import`` reads it, and not those of items."""
    try:
        next(csv_rows(data, check_columns, encoding), None)
    except DataError:
        return False
    return True


def _judged_anew(data: bytes, format: str, encoding: str | None) -> Read:
    """Items of a file of judged data, without the answers: they are for people to judge again."""
    judged = exchange.read_bytes(data, format, encoding=encoding)
    if len(judged.rows) + len(judged.rejected) > MOST_ROWS:
        raise DataError(f"more than {MOST_ROWS} rows", where="file", fix="import it in parts")
    return Read(tuple(judged.rows), tuple(judged.lines), tuple(judged.rejected), judged.unused, judged.notes)


def _csv(data: bytes, encoding: str | None) -> Iterator[tuple[int, Any]]:
    for line, row in csv_rows(data, _check_columns, encoding):
        yield line, row if isinstance(row, DataError) else _spelled(row)


def _check_columns(names: Collection[str]) -> None:
    for name in names:
        if name not in FIELDS:
            raise DataError(
                f"there is no column {name!r}"[:120],
                where="line 1",
                expected=nearest(name, FIELDS),
                fix="rename the column or take it out",
            )
    if "prompt" not in names:
        raise DataError(
            f"has the columns {', '.join(names)}"[:200], where="line 1, prompt", expected="a column 'prompt'"
        )


def _spelled(row: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {"prompt": ""} | dict(row)
    for name in LISTED:
        if name in values:
            try:
                values[name] = json.loads(values[name])
            except (ValueError, RecursionError):
                return DataError(f"{values[name][:60]!r}", where=name, expected="JSON, as in the jsonl format")
    if values["prompt"].strip() in GAPS:
        what = f"the cell says {values['prompt']!r}, as other programs write an empty one"
        return DataError(what, where="prompt", expected="text", fix="fill it in, or leave the row out")
    if values["prompt"].startswith("[{"):
        try:
            values["prompt"] = json.loads(values["prompt"])
        except (ValueError, RecursionError):
            return DataError("is neither text nor chat turns", where="prompt")
    return values


def _own(row: Any) -> NewItem:
    """A row of our own fields."""
    values = _known(row, FIELDS)
    gold, context = values.get("gold"), values.get("context")
    if gold is not None and not isinstance(gold, dict):
        expected = 'an answer such as {"preferred": 0, "strength": 2}'
        raise DataError(f"is {gold!r}"[:200], where="gold", expected=expected)
    return NewItem(
        prompt=fields.prompt(values.get("prompt")),
        responses=fields.texts(values.get("responses") or [], "responses"),
        generators=fields.texts(values.get("generators") or [], "generators"),
        stream=fields.optional(values, "stream") or "main",
        split=fields.optional(values, "split"),
        gold=_storable(gold, "gold"),
        explanation=fields.optional(values, "explanation") or "",
        context=_storable(fields.mapping(values.get("context") if context is not None else {}, "context"), "context"),
    )


def _storable(value: Any, where: str) -> Any:
    """An object with every text in it checked, and without the watching."""
    stored = plain(value)
    waiting = [stored]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            fields.text(part, where)
        elif isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, list):
            waiting += part
    return stored


def _trl(row: Any) -> NewItem:
    """A row with ``prompt``, ``chosen`` and ``rejected``: judged anew, so which one was chosen is not kept."""
    gathering = Gathering()
    preference_row(gathering, 0, fields.mapping(row))
    return gathering.rows[0]


def _known(row: Any, known: tuple[str, ...]) -> fields.Row:
    """A row that has no other fields: what is misspelt would be lost."""
    for name in fields.mapping(row):
        if name not in known:
            raise DataError(f"there is no field {name!r}"[:120], where="row", expected=nearest(str(name), known))
    return fields.mapping(row)


Rows = Callable[[bytes, str | None], Iterator[tuple[int, Any]]]
FORMATS: dict[str, tuple[Rows, Callable[[Any], NewItem]]] = {
    "jsonl": (json_rows, _own),
    "csv": (_csv, _own),
    "trl": (json_rows, _trl),
}
"""Name -> how rows are found, what becomes of one."""
