"""CSV and Parquet: one row an answer, with everything that belongs to it; one row for an item without answers.

The same columns in both; CSV spells lists and objects as JSON. A table with the columns of a preference or of a label
(``chosen`` and ``rejected``, ``completion`` and ``label``) is read as those.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from trueup.errors import DataError, nearest
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.cases import Case, cases
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import Answered, Gathering, Incoming, moment
from trueup.feedback.exchange.sources import csv_bytes, csv_rows, parquet_rows
from trueup.feedback.exchange.training import label_row, preference_row, yes_or_no
from trueup.feedback.exchange.writing import Lines, json_text
from trueup.feedback.projects import NewItem
from trueup.feedback.records import Judged, JudgmentRow
from trueup.types import prompt_json

COLUMNS = (
    *("item", "kind", "stream", "split", "prompt", "turns", "responses", "generators", "context", "gold", "repeat_of"),
    *("annotator", "simulated", "answer", "skip_reason", "rationale", "shown", "made_at", "active_ms", "surplus"),
)
SPELLED = ("turns", "responses", "generators", "context", "gold", "answer", "shown")
"""Columns whose cells are JSON; in Parquet the lists of texts and of numbers are lists."""

LISTS = ("responses", "generators", "shown")


def read_csv(data: bytes) -> Incoming:
    """Items and answers of a CSV file."""
    return _read(csv_rows(data, check_columns))


def read_parquet(data: bytes) -> Incoming:
    """Items and answers of a Parquet file; its rows are numbered from 1."""
    return _read(parquet_rows(data, check_columns))


def check_columns(names: Collection[str]) -> None:
    """Refuse a table whose rows can be nothing that is known here.

    Raises:
        DataError: Names the column that is missing or unknown.
    """
    if {"chosen", "rejected"} & set(names):
        missing = [name for name in ("chosen", "rejected") if name not in names]
    elif {"completion", "label"} & set(names):
        missing = [name for name in ("prompt", "completion", "label") if name not in names]
    else:
        unknown = [name for name in names if name not in COLUMNS]
        if unknown:
            raise DataError(
                f"there is no column {unknown[0]!r}",
                where="line 1",
                expected=nearest(unknown[0], COLUMNS),
                fix="rename the column or take it out",
            )
        missing = [name for name in ("kind",) if name not in names]
        missing += [] if {"prompt", "turns"} & set(names) else ["prompt"]
    if missing:
        raise DataError(
            f"has the columns {', '.join(names)}"[:300],
            where=f"line 1, {missing[0]}",
            expected=f"a column {missing[0]!r}",
            fix="add it, or choose another format",
        )


def _read(rows: Iterator[tuple[int, Any]]) -> Incoming:
    found = Gathering()
    repeats: list[tuple[int, int, str]] = []

    def take(line: int, row: Row) -> None:
        if "chosen" in row or "rejected" in row:
            preference_row(found, line, _chat(row, "prompt", "chosen", "rejected"))
        elif "completion" in row or "label" in row:
            label_row(found, line, _chat(row, "prompt", "completion"))
        else:
            number = _take(found, line, row)
            if "repeat_of" in row:
                repeats.append((line, number, fields.text(row["repeat_of"], "repeat_of")))

    found.each(rows, take)
    for line, number, original in repeats:
        link(found, line, number, original)
    return found.done()


def link(found: Gathering, line: int, number: int, original: str) -> None:
    """Note that a row repeats the item with the key ``original``; where there is none, say so of the line."""
    if original not in found.keys:
        why = f"repeat_of: there is no item {original!r}; the item was taken without it"
    elif _circular(found, number, found.keys[original]):
        why = f"repeat_of: {original!r} repeats this very item; the item was taken without it"
    else:
        found.repeats[number] = found.keys[original]
        return
    found.rejected.append((line, why))


def _circular(found: Gathering, number: int, original: int | None) -> bool:
    while original is not None:
        if original == number:
            return True
        original = found.repeats.get(original)
    return False


def _chat(row: Row, *names: str) -> dict[str, Any]:
    """The row, with cells that spell chat turns as JSON read."""
    read = dict(row)
    for name in names:
        value = read.get(name)
        if isinstance(value, str) and value.startswith('[{"'):
            read[name] = _json(value, name)
    return read


def _json(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise DataError(f"is {value[:60]!r}", where=name, expected="JSON") from None


def _take(found: Gathering, line: int, row: Row) -> int:
    read = {name: _json(value, name) if name in SPELLED else value for name, value in row.items()}
    fields.need(read, "kind")
    turns = read.get("turns")
    if turns is not None and not isinstance(turns, list):
        raise DataError(f"is {turns!r}"[:80], where="turns", expected="a list of chat turns")
    gold, context = read.get("gold"), read.get("context")
    for name, value in (("gold", gold), ("context", context)):
        if value is not None:
            fields.mapping(value, name)
    item = NewItem(
        prompt=fields.prompt(turns, "turns") if turns is not None else fields.prompt(read.get("prompt")),
        responses=fields.texts(read.get("responses", []), "responses"),
        generators=fields.texts(read.get("generators", []), "generators"),
        stream=fields.optional(read, "stream") or "main",
        split=fields.optional(read, "split"),
        gold=gold,
        context=context or {},
    )
    key = fields.optional(read, "item")
    return found.add(line, fields.text(read["kind"], "kind"), item, _answered(read), key=key)


def _answered(row: Row) -> Answered | None:
    answer, skipped = row.get("answer"), fields.optional(row, "skip_reason")
    if answer is None and skipped is None:
        for name in ("annotator", "shown", "made_at", "active_ms", "rationale"):
            if row.get(name) is not None:
                raise DataError("there is no answer", where="answer", expected=f"an answer, because there is {name!r}")
        return None
    if answer is not None:
        fields.mapping(answer, "answer")
    shown = row.get("shown")
    if shown is not None and not isinstance(shown, list):
        raise DataError(f"is {shown!r}"[:80], where="shown", expected="a list of places")
    took = row.get("active_ms")
    return Answered(
        0,
        fields.annotator(row),
        answer,
        None if shown is None else tuple(fields.whole(place, "shown") for place in shown),
        moment(row.get("made_at"), "made_at"),
        None if took is None else fields.whole(took, "active_ms"),
        fields.optional(row, "rationale") or "",
        skipped,
        yes_or_no(row.get("surplus", False), "surplus"),
        yes_or_no(row.get("simulated", False), "simulated"),
    )


def write_csv(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """All items and answers as CSV; cells are kept from being formulas."""
    rows = [{name: _cell(value) for name, value in row.items()} for row in _rows(judged)]
    return Lines([csv_bytes(list(COLUMNS), rows)], [], len(rows))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json_text(value)


def write_parquet(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """All items and answers as one Parquet row group after another."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, Any] = {name: pa.string() for name in COLUMNS}
    kinds |= {"responses": pa.list_(pa.string()), "generators": pa.list_(pa.string()), "shown": pa.list_(pa.int64())}
    kinds |= {"active_ms": pa.int64(), "simulated": pa.bool_(), "surplus": pa.bool_()}
    rows = [
        {name: json_text(value) if name in SPELLED and name not in LISTS else value for name, value in row.items()}
        for row in _rows(judged)
    ]
    schema = pa.schema([(name, kinds[name]) for name in COLUMNS])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    return Lines([sink.getvalue().to_pybytes()], [], len(rows))


def _rows(judged: Judged) -> Iterator[dict[str, Any]]:
    """Cells by column; what is absent or the default is not there."""
    for case in cases(judged):
        asked = _asked(case)
        json_text(asked)  # refuses half characters, which neither CSV nor Parquet can hold
        if not case.judgments:
            yield asked
        for judgment in case.judgments:
            yield asked | _told(case, judgment)


def _asked(case: Case) -> dict[str, Any]:
    item = case.item
    prompt = prompt_json(item.prompt)
    found: dict[str, Any] = {"item": item.id, "kind": item.kind, "stream": item.stream, "split": item.split}
    found["prompt" if isinstance(prompt, str) else "turns"] = prompt
    found["responses"] = case.texts
    found["generators"] = [one.generator for one in item.responses]
    rest = {"context": dict(item.context), "gold": case.placed(item.gold), "repeat_of": item.repeat_of}
    return found | {name: value for name, value in rest.items() if value}


def _told(case: Case, judgment: JudgmentRow) -> dict[str, Any]:
    rest = {
        "answer": case.placed(judgment.answer),
        "skip_reason": judgment.skip_reason,
        "rationale": judgment.rationale or None,
        "shown": case.shown(judgment),
        "active_ms": judgment.active_ms,
    }
    found: dict[str, Any] = {"annotator": judgment.annotator, "made_at": judgment.created_at}
    found |= {"simulated": judgment.simulated, "surplus": judgment.surplus}
    json_text(rest)
    return found | {name: value for name, value in rest.items() if value is not None}
