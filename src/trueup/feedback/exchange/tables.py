"""CSV and Parquet: one row an answer, with everything that belongs to it; one row for an item without answers.

The same columns in both; CSV spells lists and objects as JSON. A table with the columns of a preference, a comparison,
a label, a ranking, a rating, or of Label Studio's or Argilla's own tables, is read as those.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeAlias

from trueup.data.csv_rows import csv_bytes
from trueup.data.formats import RESPONSE_COLUMNS
from trueup.errors import DataError, nearest
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.argilla import is_flat_record, record_row
from trueup.feedback.exchange.cases import Case, cases
from trueup.feedback.exchange.comparisons import (
    VERDICTS,
    comparison_row,
    is_comparison,
    numbers_in,
    sides_of,
)
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import Answered, Gathering, Incoming, csv_rows, moment, parquet_rows
from trueup.feedback.exchange.label_studio import flat_task_row, is_flat_task
from trueup.feedback.exchange.rankings import ranking_row
from trueup.feedback.exchange.shapes import advice_on
from trueup.feedback.exchange.training import (
    EXCHANGES,
    LABELS,
    is_labelled,
    label_row,
    preference_row,
)
from trueup.feedback.exchange.ultrafeedback import is_rated, ratings_row
from trueup.feedback.exchange.watching import Watched, peek, plain, watch
from trueup.feedback.exchange.writing import Lines, json_text
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.records import Judged, JudgmentRow
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
    columns: list[str] = []
    return _read(csv_rows(data, lambda names: _keep_columns(names, columns)), columns)


def read_parquet(data: bytes) -> Incoming:
    """Items and answers of a Parquet file; its rows are numbered from 1."""
    columns: list[str] = []
    return _read(parquet_rows(data, lambda names: _keep_columns(names, columns)), columns)


def _keep_columns(names: Collection[str], columns: list[str]) -> None:
    check_columns(names)
    columns[:] = _known_names(names).values()


def check_columns(names: Collection[str]) -> None:
    """Refuse a table whose rows can be nothing that is known here.

    Raises:
        DataError: Names the column that is missing or unknown.
    """
    header = dict.fromkeys(_known_names(names).values(), "")
    if {"chosen", "rejected"} & set(header):
        missing = [name for name in ("chosen", "rejected") if name not in header]
    elif _reader_of(header) is not None:
        missing = []
    elif {"completion", "label"} <= set(header):
        missing = ["prompt"]
    else:
        unknown = [name for name in header if name not in COLUMNS]
        if unknown:
            raise DataError(
                f"the column {unknown[0]!r} is none of this format"[:120],
                where="line 1",
                expected=nearest(unknown[0], COLUMNS),
                fix=advice_on(header) or "rename the column or take it out",
            )
        missing = [name for name in ("kind",) if name not in header]
        missing += [] if {"prompt", "turns"} & set(header) else ["prompt"]
    if missing:
        raise DataError(
            f"has the columns {', '.join(names)}"[:300],
            where=f"line 1, {missing[0]}",
            expected=f"a column {missing[0]!r}",
            fix="add it, or choose another format",
        )


Take: TypeAlias = Callable[[Gathering, int, Row, frozenset[float]], None]


def _reader_of(header: Row) -> Take | None:
    """What reads the rows of a table with these columns; None for our own tables and for what is unknown."""
    asked = any(name in header for name in fields.PROMPTS)
    if {"chosen", "rejected"} & set(header) or set(EXCHANGES) <= set(header):
        return lambda found, line, row, numbers: preference_row(found, line, _spelled(row), numbers)
    if is_flat_task(header):
        return lambda found, line, row, _: flat_task_row(found, line, _spelled(row))
    if is_flat_record(header):
        return lambda found, line, row, _: record_row(found, line, _spelled(row))
    if {"responses", "ranks"} <= set(header) and asked:
        return lambda found, line, row, _: ranking_row(found, line, _spelled(row))
    if asked and "kind" not in header and is_comparison(header):
        return lambda found, line, row, numbers: comparison_row(found, line, _spelled(row), numbers)
    if is_labelled(header) and (asked or "messages" in header):
        return lambda found, line, row, _: label_row(found, line, _spelled(row))
    if asked and is_rated(header):
        return lambda found, line, row, _: ratings_row(found, line, _spelled(row))
    return None


def _known_names(names: Collection[str]) -> dict[str, str]:
    """The names of a header -> ours, where they differ only in capitals."""
    lower = [name.lower() for name in names]
    known = {*COLUMNS, *fields.PROMPTS, *fields.ANNOTATORS, *RESPONSE_COLUMNS, *_OTHERS}
    return {
        name: low if low in known and lower.count(low) == 1 else name for name, low in zip(names, lower, strict=True)
    }


_OTHERS = ("chosen", "rejected", "label", "ranks", "system", "winner", "preference")


def _read(rows: Iterator[tuple[int, Any]], columns: list[str]) -> Incoming:
    """Every row; ``columns`` holds the table's once the first row was read."""
    gathering, numbered = Gathering(), [(line, _renamed(row)) for line, row in rows]
    filled = dict.fromkeys((name for _, row in numbered if isinstance(row, dict) for name in row), "")
    other = _reader_of(filled) or _reader_of(dict.fromkeys(columns, ""))
    asked = any(name in filled for name in fields.PROMPTS)  # else the prompt is within the responses
    said_empty: dict[int, dict[str, str]] = {}
    if other is not None:  # our own tables leave such cells empty
        said_empty = {line: _take_out_gaps(row) for line, row in numbered if isinstance(row, dict)}
    numbers = numbers_in(numbered)
    repeats: list[tuple[int, int, str]] = []

    def take(line: int, row: Row) -> None:
        if other is not None:
            try:
                if asked and fields.prompt_column(row) is None:
                    raise DataError("is missing", where="prompt", expected="text")
                other(gathering, line, row, numbers)
            except DataError as error:
                raise _of_cell(error, row, columns, said_empty.get(line, {})) from None
            return
        number = _take(gathering, line, row)
        if "repeat_of" in row:
            repeats.append((line, number, fields.name_of(row["repeat_of"], "repeat_of")))

    gathering.each(numbered, take)
    for line, number, original in repeats:
        link(gathering, line, number, original)
    return gathering.done()


GAPS = frozenset(("nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "#N/A", "N/A", "n/a", "NA", "NaT"))
"""What other programs write into a cell that holds nothing."""


def _take_out_gaps(row: dict[str, Any]) -> dict[str, str]:
    """Take the cells out that say in a word that they hold nothing; returns them."""
    gaps = {name: value for name, value in row.items() if isinstance(value, str) and value.strip() in GAPS}
    for name in gaps:
        del row[name]
    return gaps


def _of_cell(error: DataError, row: Row, columns: Collection[str], said_empty: Mapping[str, str]) -> DataError:
    """The error of a row, said of the empty cell where that is the reason."""
    sides = sides_of(dict.fromkeys(columns))
    needed: tuple[str, ...] = (error.where or "",)
    if error.where == "row" and sides is not None:
        needed = (sides.first, sides.second, *(name for name in columns if name in VERDICTS))
    elif error.where == "prompt":
        needed = fields.PROMPTS
    name = next((name for name in needed if name in columns and peek(row, name) is None), None)
    if name is None:
        return error
    what, fix = "the cell is empty", "fill it in, or leave the row out"
    if name in said_empty:
        what = f"the cell says {said_empty[name]!r}, as other programs write an empty one"
        fix += "; if the word itself is meant, write the rows as JSON lines"
    return DataError(what, where=name, expected="true or false" if name in LABELS else "text", fix=fix)


def _renamed(row: Any) -> Any:
    return {name: row[old] for old, name in _known_names(row).items()} if isinstance(row, dict) else row


def link(gathering: Gathering, line: int, number: int, original: str) -> None:
    """Note that a row repeats the item with the key ``original``; where there is none, say so of the line."""
    if original not in gathering.keys:
        why = f"repeat_of: there is no item {original!r}; the item was taken without it"
    elif _circular(gathering, number, gathering.keys[original]):
        why = f"repeat_of: {original!r} repeats this very item; the item was taken without it"
    else:
        gathering.repeats[number] = gathering.keys[original]
        return
    gathering.rejected.append((line, why))


def _circular(gathering: Gathering, number: int, original: int | None) -> bool:
    while original is not None:
        if original == number:
            return True
        original = gathering.repeats.get(original)
    return False


def _spelled(row: Row) -> Row:
    """The row, with cells that spell chat turns, responses or ranks as JSON read; what is read is remembered."""
    cells = row if isinstance(row, Watched) else Watched(row)
    for name, value in dict.items(cells):
        if isinstance(value, str) and value.startswith("[") and value.rstrip().endswith("]"):
            with contextlib.suppress(ValueError, RecursionError):  # a text that only looks like it stays text
                read = json.loads(value)
                if name in _LISTED or _are_turns(read):
                    dict.__setitem__(cells, name, watch(read))
    return cells


_LISTED = ("responses", "ranks")


def _are_turns(value: Any) -> bool:
    spoken = [isinstance(turn, dict) and bool({"role", "from"} & set(turn)) for turn in value or [None]]
    return all(spoken)


def _json(value: Any, name: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise DataError(f"is {value[:60]!r}", where=name, expected="JSON") from None


def _take(gathering: Gathering, line: int, row: Row) -> int:
    read = {name: plain(_json(row[name], name)) if name in SPELLED else row[name] for name in row if name in COLUMNS}
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
    key = fields.optional_name(read, "item")
    return gathering.add(line, fields.text(read["kind"], "kind"), item, _answered(read), key=key)


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
        fields.yes_or_no(row.get("surplus", False), "surplus"),
        fields.yes_or_no(row.get("simulated", False), "simulated"),
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
    cells: dict[str, Any] = {"item": item.id, "kind": item.kind, "stream": item.stream, "split": item.split}
    cells["prompt" if isinstance(prompt, str) else "turns"] = prompt
    cells["responses"] = case.texts
    cells["generators"] = [response.generator for response in item.responses]
    rest = {"context": dict(item.context), "gold": case.placed(item.gold), "repeat_of": item.repeat_of}
    return cells | {name: value for name, value in rest.items() if value}


def _told(case: Case, judgment: JudgmentRow) -> dict[str, Any]:
    rest = {
        "answer": case.placed(judgment.answer),
        "skip_reason": judgment.skip_reason,
        "rationale": judgment.rationale or None,
        "shown": case.shown(judgment),
        "active_ms": judgment.active_ms,
    }
    cells: dict[str, Any] = {"annotator": judgment.annotator, "made_at": judgment.created_at}
    cells |= {"simulated": judgment.simulated, "surplus": judgment.surplus}
    json_text(rest)
    return cells | {name: value for name, value in rest.items() if value is not None}
