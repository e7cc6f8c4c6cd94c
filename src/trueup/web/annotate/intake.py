"""Files of items to judge, read row by row: what cannot be a row is refused with its line, the others go in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trueup.errors import DataError, UsageError, nearest
from trueup.feedback.exchange import formats as exchange
from trueup.feedback.projects import NewItem
from trueup.types import Message, Prompt

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


def read_items(data: bytes, format: str) -> Read:
    """Items from a file's content.

    Args:
        data: UTF-8.
        format: One of ``FORMATS``, or of those of ``feedback.exchange``, whose answers are not kept here.

    Raises:
        UsageError: An unknown format.
        DataError: The file as a whole cannot be read.
    """
    if format not in FORMATS and format in exchange.FORMATS:
        return _judged_anew(data, format)
    if format not in FORMATS:
        known = {**FORMATS, **exchange.FORMATS}
        raise UsageError(f"format is {format!r}", where="format", expected=nearest(format, known))
    rows, make = FORMATS[format]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start} is not UTF-8", where="file", expected="UTF-8 text") from None
    items: list[NewItem] = []
    lines: list[int] = []
    rejected: list[tuple[int, str]] = []
    for line, row in rows(text):
        if len(items) + len(rejected) >= MOST_ROWS:
            raise DataError(f"more than {MOST_ROWS} rows", where=f"line {line}", fix="import it in parts")
        try:
            items.append(make(row))
            lines.append(line)
        except DataError as error:
            rejected.append((line, str(error)))
    return Read(tuple(items), tuple(lines), tuple(rejected))


def _judged_anew(data: bytes, format: str) -> Read:
    """Items of a file of judged data, without the answers: they are for people to judge again."""
    found = exchange.read_bytes(data, format)
    if len(found.rows) + len(found.rejected) > MOST_ROWS:
        raise DataError(f"more than {MOST_ROWS} rows", where="file", fix="import it in parts")
    return Read(tuple(found.rows), tuple(found.lines), tuple(found.rejected))


def _jsonl(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line, parse_constant=_no_number)
            except (ValueError, RecursionError) as error:
                yield number, DataError(f"not JSON: {error}")


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _csv(text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, _spelled(row)
    except csv.Error as error:
        raise DataError(str(error), where=f"line {reader.line_num}", expected="CSV with a header") from None


def _spelled(row: Mapping[Any, Any]) -> Any:
    if None in row or None in row.values():
        return DataError("the row has more or fewer cells than the header")
    found: dict[str, Any] = {name: cell for name, cell in row.items() if cell != "" or name == "prompt"}
    for name in LISTED:
        if name in found:
            try:
                found[name] = json.loads(found[name])
            except (ValueError, RecursionError):
                return DataError(f"{found[name][:60]!r}", where=name, expected="JSON, as in the jsonl format")
    if str(found.get("prompt", "")).startswith("[{"):
        try:
            found["prompt"] = json.loads(found["prompt"])
        except ValueError:
            return DataError("is neither text nor chat turns", where="prompt")
    return found


def _own(row: Any) -> NewItem:
    """A row of our own fields."""
    found = _mapping(row, FIELDS)
    generators = _texts(found.get("generators", []), "generators")
    gold, context = found.get("gold"), found.get("context", {})
    if gold is not None and not isinstance(gold, dict):
        raise DataError(f"is {gold!r}", where="gold", expected='an answer such as {"preferred": 0, "strength": 2}')
    if not isinstance(context, dict):
        raise DataError(f"is {context!r}", where="context", expected="an object")
    return NewItem(
        prompt=_prompt(found.get("prompt")),
        responses=_texts(found.get("responses", []), "responses"),
        generators=generators,
        stream=_text(found.get("stream", "main"), "stream"),
        split=None if found.get("split") is None else _text(found["split"], "split"),
        gold=gold,
        explanation=_text(found.get("explanation", ""), "explanation"),
        context=context,
    )


def _trl(row: Any) -> NewItem:
    """A row with ``prompt``, ``chosen`` and ``rejected``: judged anew, so which one was chosen is not kept."""
    found = _mapping(row, ("prompt", "chosen", "rejected", "split"))
    answers = [_reply(found.get(name), name) for name in ("chosen", "rejected")]
    return NewItem(
        prompt=_prompt(found.get("prompt")),
        responses=tuple(sorted(answers)),  # a canonical order that does not tell which was chosen
        split=None if found.get("split") is None else _text(found["split"], "split"),
    )


def _mapping(row: Any, known: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(row, DataError):
        raise row
    if not isinstance(row, dict):
        raise DataError(f"is {type(row).__name__}", where="row", expected="an object")
    for name in row:
        if name not in known:
            raise DataError(f"there is no field {name!r}", expected=nearest(str(name), known))
    return row


def _prompt(value: Any) -> Prompt:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value:
        return tuple(_message(turn) for turn in value)
    raise DataError("is empty or missing", where="prompt", expected='text, or [{"role": "user", "content": "..."}]')


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict) or not all(isinstance(turn.get(name), str) for name in ("role", "content")):
        raise DataError(f"a turn is {turn!r}"[:200], where="prompt", expected='{"role": ..., "content": ...}')
    if turn["role"] not in ("system", "user", "assistant"):
        raise DataError(f"role is {turn['role']!r}", where="prompt", expected="system, user or assistant")
    return Message(turn["role"], turn["content"])


def _reply(value: Any, name: str) -> str:
    if isinstance(value, list) and len(value) == 1:
        return _message(value[0]).content
    return _text(value, name)


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise DataError(f"is {value!r}"[:200], where=name, expected="a list of texts")
    return tuple(_text(one, name) for one in value)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"is {value!r}"[:200], where=name, expected="text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError("holds half of a character", where=name, expected="whole Unicode characters") from None
    if "\0" in value:
        raise DataError("holds a NUL character", where=name)
    return value


Rows = Callable[[str], Iterator[tuple[int, Any]]]
FORMATS: dict[str, tuple[Rows, Callable[[Any], NewItem]]] = {
    "jsonl": (_jsonl, _own),
    "csv": (_csv, _own),
    "trl": (_jsonl, _trl),
}
"""Name -> how rows are found, what becomes of one."""
