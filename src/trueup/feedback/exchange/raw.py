"""Our own judgments as JSON lines, lossless: a project comes back row for row, ids and all.

{"record":"project","version":1,...}   then   {"record":"item",...}   then   {"record":"judgment",...}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trueup.data.content import load
from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.cases import placed
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import Answered, Gathering, Incoming, check, json_rows, moment
from trueup.feedback.exchange.tables import link
from trueup.feedback.exchange.writing import Lines, json_line
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.records import ItemRow, Judged, JudgmentRow, ResponseRow
from trueup.types import prompt_json

VERSION = 1


def write_judgments(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """Everything that ``read_judged`` gives back."""
    lines = [
        json_line({"record": "project", "version": VERSION, "project": judged.project, "simulated": judged.simulated})
    ]
    lines += [json_line({"record": "item"} | _item(row)) for row in judged.items.values()]
    lines += [json_line({"record": "judgment"} | _judgment(row)) for row in judged.judgments]
    return Lines(lines, [], len(lines) - 1)


def _item(row: ItemRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "stream": row.stream,
        "split": row.split,
        "prompt_id": row.prompt_id,
        "prompt": prompt_json(row.prompt),
        "responses": [
            {
                "id": response.id,
                "text": response.text,
                "generator": response.generator,
                "generator_kind": response.generator_kind,
            }
            for response in row.responses
        ],
        "repeat_of": row.repeat_of,
        "gold": row.gold,
        "context": row.context,
    }


def _judgment(row: JudgmentRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "item": row.item,
        "annotator": row.annotator,
        "answer": row.answer,
        "shown": row.shown,
        "created_at": row.created_at,
        "active_ms": row.active_ms,
        "revision": row.revision,
        "surplus": row.surplus,
        "simulated": row.simulated,
        "skip_reason": row.skip_reason,
        "rationale": row.rationale,
        "guideline": row.guideline,
    }


def read_judged(path: str | Path) -> Judged:
    """The project that was written, equal to it in every row.

    Raises:
        DataError: The file is not whole, or was changed by hand; names the line.
    """
    judged, rejected, _ = _records(load(path))
    if rejected:
        line, why = rejected[0]
        raise DataError(why, where=f"{path}, line {line}", fix="export the judgments again")
    return judged


def read_judgments(data: bytes) -> Incoming:
    """Items and answers to store. The store gives new ids; annotators are known by their pseudonyms."""
    judged, rejected, lines = _records(data)
    gathering = Gathering()
    gathering.rejected += rejected
    repeats: list[tuple[int, str, str]] = []
    for item in judged.items.values():
        gathering.each([(lines[item.id], item)], lambda line, row: _take_item(gathering, line, row))
        if item.repeat_of is not None and item.id in gathering.keys:
            repeats.append((lines[item.id], item.id, item.repeat_of))
    for line, name, original in repeats:
        link(gathering, line, gathering.keys[name], original)
    for judgment in judged.judgments:
        gathering.each([(lines[judgment.id], judgment)], lambda line, row: _take_answer(gathering, judged, row))
    return gathering.done()


def _take_item(gathering: Gathering, line: int, item: ItemRow) -> None:
    row = NewItem(
        item.prompt,
        tuple(response.text for response in item.responses),
        tuple(response.generator for response in item.responses),
        item.stream,
        item.split,
        placed(item.gold, [response.id for response in item.responses]),
        "",
        item.context,
    )
    gathering.add(line, item.kind, row, key=item.id)


def _take_answer(gathering: Gathering, judged: Judged, row: JudgmentRow) -> None:
    if row.item not in gathering.keys:
        raise DataError(f"item {row.item!r} was not read", where="item", fix="see the reason at its line")
    ids = [response.id for response in judged.items[row.item].responses]
    vote = Answered(
        0,
        row.annotator,
        placed(row.answer, ids),
        tuple(ids.index(name) for name in row.shown) or None,
        moment(row.created_at, "created_at"),
        row.active_ms,
        row.rationale,
        row.skip_reason,
        row.surplus,
        row.simulated,
    )
    gathering.answer(gathering.keys[row.item], vote)


def _records(data: bytes) -> tuple[Judged, list[tuple[int, str]], dict[str, int]]:
    """What was written, as far as it can be read, the lines that cannot, and the line of every id."""
    head: dict[str, Any] = {}
    items: dict[str, ItemRow] = {}
    judgments: list[JudgmentRow] = []
    lines: dict[str, int] = {}
    gathering = Gathering()

    def take(line: int, value: Any) -> None:
        row = fields.mapping(value)
        record = row.get("record")
        if not head:
            if record != "project" or row.get("version") != VERSION:
                raise DataError(f"the first record is {str(record)!r}", where="record", expected="'project', version 1")
            head.update(project=fields.text(row.get("project"), "project"), simulated=_flag(row, "simulated"))
            return
        name = fields.text(row.get("id"), "id")
        if name in lines:
            raise DataError(f"{name!r} stands in line {lines[name]} too", where="id", expected="every record once")
        if record == "item":
            items[name] = _read_item(row)
        elif record == "judgment":
            judgments.append(_read_judgment(row, items))
        else:
            raise DataError(f"is {record!r}"[:80], where="record", expected="'item' or 'judgment'")
        lines[name] = line

    for line, value in json_rows(data):
        gathering.each([(line, value)], take)
        if not head:
            raise DataError(
                "this is no file of judgments",
                where=f"line {line}",
                expected='{"record":"project","version":1,...} first',
                fix="export it with the format 'judgments'",
            )
    return (
        Judged(head.get("project", ""), items, tuple(judgments), head.get("simulated", False)),
        gathering.rejected,
        lines,
    )


def _flag(row: Row, name: str) -> bool:
    if not isinstance(row.get(name), bool):
        raise DataError(f"is {row.get(name)!r}"[:80], where=name, expected="true or false")
    return bool(row[name])


def _read_item(row: Row) -> ItemRow:
    responses = row.get("responses")
    if not isinstance(responses, list):
        raise DataError(f"is {responses!r}"[:80], where="responses", expected="a list")
    read = tuple(
        ResponseRow(*(fields.text(fields.mapping(response, "responses").get(name), name) for name in _RESPONSE))
        for response in responses
    )
    item = ItemRow(
        fields.text(row.get("id"), "id"),
        fields.text(row.get("kind"), "kind"),
        fields.text(row.get("stream"), "stream"),
        fields.text(row.get("split"), "split"),
        fields.text(row.get("prompt_id"), "prompt_id"),
        fields.prompt(row.get("prompt")),
        read,
        fields.optional(row, "repeat_of"),
        None if row.get("gold") is None else fields.mapping(row["gold"], "gold"),
        fields.mapping(row.get("context"), "context"),
    )
    ids = [response.id for response in read]
    if len(set(ids)) != len(ids):
        raise DataError("two responses have one id", where="responses")
    gold = _placed(item.gold, ids, "gold")
    check(item.kind, NewItem(item.prompt, tuple(r.text for r in read), (), item.stream, item.split, gold), None)
    return item


_RESPONSE = ("id", "text", "generator", "generator_kind")


def _placed(answer: Row | None, ids: list[str], where: str) -> dict[str, Any] | None:
    try:
        return placed(answer, ids)
    except (ValueError, TypeError):
        raise DataError("names a response that the item does not have", where=where, expected=str(ids)) from None


def _read_judgment(row: Row, items: Mapping[str, ItemRow]) -> JudgmentRow:
    name = fields.text(row.get("item"), "item")
    if name not in items:
        raise DataError(f"there is no item {name!r} before it", where="item", expected="the id of an item")
    item = items[name]
    ids = [response.id for response in item.responses]
    shown = fields.texts(row.get("shown"), "shown")
    answer = None if row.get("answer") is None else fields.mapping(row["answer"], "answer")
    read = JudgmentRow(
        fields.text(row.get("id"), "id"),
        name,
        fields.text(row.get("annotator"), "annotator"),
        answer,
        shown,
        fields.text(row.get("created_at"), "created_at"),
        None if row.get("active_ms") is None else fields.whole(row["active_ms"], "active_ms"),
        fields.whole(row.get("revision"), "revision"),
        _flag(row, "surplus"),
        _flag(row, "simulated"),
        fields.optional(row, "skip_reason"),
        fields.text(row.get("rationale"), "rationale"),
        fields.optional(row, "guideline"),
    )
    if shown and sorted(shown) != sorted(ids):
        raise DataError(f"is {list(shown)}"[:200], where="shown", expected=f"each of {ids} once, or nothing")
    vote = Answered(
        0,
        read.annotator,
        _placed(answer, ids, "answer"),
        made_at=moment(read.created_at, "created_at"),
        active_ms=read.active_ms,
        skip_reason=read.skip_reason,
    )
    texts = tuple(response.text for response in item.responses)
    check(item.kind, NewItem(item.prompt, texts, (), item.stream, item.split, _placed(item.gold, ids, "gold")), vote)
    return read
