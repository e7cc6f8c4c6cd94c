"""Label Studio's JSON export: tasks with annotations, whose results are pairwise, choices, rating and text areas.

In a pairwise result ``left`` and ``right`` are the first and second name of ``to_name``, so the order shown is known.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from trueup.data.content import as_utf8
from trueup.data.verdict_words import CLEAR, place_named
from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.cases import Case, open_cases, split_of
from trueup.feedback.exchange.choices import response_fields, verdict
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import UNNAMED, Answered, Gathering, Incoming, csv_rows, json_rows, moment
from trueup.feedback.exchange.watching import peek, plain
from trueup.feedback.exchange.writing import Lines, json_list
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.records import Judged, JudgmentRow
from trueup.types import Prompt, prompt_json

KINDS = ("pairwise", "binary", "rating")
PROMPTS = ("prompt", "instruction", "question", "input", "text", "dialogue")
SIDES = ("left", "right")
NO_WINNER = ("tie", "both_bad")


def read_label_studio(data: bytes) -> Incoming:
    """An item of each task, with the answers of its annotations; cancelled ones are skips.

    The exports JSON, JSON-MIN and CSV are read; the last two hold one annotation a row.
    """
    gathering = Gathering()
    content = as_utf8(data)
    is_table = content.lstrip()[:1] not in (b"{", b"[") and b"annotation_id" in content[:4096]
    rows = list(csv_rows(content, _check_columns) if is_table else json_rows(content))
    named = {name for _, row in rows if isinstance(row, dict) for name in _named(row.get("annotations"))}
    gathering.each(rows, lambda line, row: task_row(gathering, line, fields.mapping(row), named))
    return gathering.done()


def _check_columns(names: Collection[str]) -> None:
    if not is_flat_task(dict.fromkeys(names, "")):
        raise DataError(
            f"has the columns {', '.join(names)}"[:300],
            where="line 1",
            expected="annotation_id, annotator, lead_time, ... as Label Studio writes CSV",
            fix="choose the export called JSON, or another format",
        )


def task_row(gathering: Gathering, line: int, row: Row, named: Collection[str] = ()) -> None:
    """Collect one task; ``named`` are the data fields that annotations of the file are about.

    Raises:
        DataError: It cannot be one.
    """
    if is_flat_task(row):
        flat_task_row(gathering, line, row)
        return
    data = fields.mapping(row.get("data"), "data")
    about = fields.mapping(row.get("meta") or {}, "meta")
    annotations = row.get("annotations", [])
    if not isinstance(annotations, list):
        raise DataError(
            f"is {annotations!r}"[:80], where="annotations", expected="a list; choose the export called JSON"
        )
    prompt, names = _asked(data, named)
    texts = tuple(fields.text(data[known], f"data.{known}") for known in names)
    generators = fields.texts(about.get("generators", []), "meta.generators")
    item = NewItem(prompt, texts, generators, split=fields.optional(about, "split"))
    read: list[tuple[str, Answered]] = []
    gold: dict[str, Answered] = {}
    refused = []
    for number, value in enumerate(annotations):
        try:
            annotation = fields.mapping(value)
            answers = _annotation(annotation, names, gathering)
        except DataError as error:
            refused.append((line, f"annotations.{number}: {error}"))
            continue
        if annotation.get("ground_truth") is True and answers[0][1].answer is not None:
            gold |= dict(answers)
        else:
            read += answers
    gathering.rejected += refused
    if refused and not read and not gold:
        return  # nothing is left of it that anybody said
    default = "pairwise" if len(names) == 2 else "ranking" if len(names) > 2 else "rating"
    kinds = sorted({*gold, *(kind for kind, _ in read if kind)}) or [str(about.get("kind", default))]
    for kind in kinds:
        kind_item = item
        if kind in gold:
            kind_item = replace(item, stream="gold", gold=gold[kind].answer)
            gathering.note("a task with a ground truth became a hidden gold item: it checks people and trains nothing")
        votes = [vote for vote_kind, vote in read if vote_kind in (kind, "")]
        place = gathering.add(line, kind, kind_item, votes[0] if votes else None)
        for vote in votes[1:]:
            try:
                gathering.answer(place, vote)
            except DataError as error:
                gathering.rejected.append((line, f"annotation of {vote.annotator!r}: {error}"))


def _asked(data: Row, named: Collection[str]) -> tuple[Prompt, list[str]]:
    """The prompt of a task's data and the names of the fields that are responses."""
    name = fields.prompt_column(data, PROMPTS)
    if name is None:
        raise DataError(f"has {list(data)}"[:200], where="data", expected=f"one of {', '.join(PROMPTS)}")
    prompt = fields.with_system(data, fields.prompt(data[name], f"data.{name}"))
    rest = {known: peek(data, known) for known in data if known != name}
    return prompt, response_fields(rest, named)


def is_flat_task(row: Row) -> bool:
    """Whether a row is one annotation of the exports JSON-MIN and CSV."""
    return "annotation_id" in row and ("annotator" in row or "lead_time" in row)


def flat_task_row(gathering: Gathering, line: int, row: Row) -> None:
    """Collect one annotation of the exports JSON-MIN and CSV, whose columns are data and answers side by side.

    Raises:
        DataError: It cannot be one.
    """
    _, names = _asked({name: peek(row, name) for name in row if name not in _FLAT}, ())
    prompt, _ = _asked(row, ())
    results = [result for name in row if name not in (*_FLAT, *names) for result in _flat_result(name, row, names)]
    if any(result["type"] == "pairwise" for result in results):
        gathering.note("this export does not say which response was shown left: the first one is taken to be")
    took = row.get("lead_time")
    annotation = {
        "completed_by": row.get("annotator"),
        "lead_time": None if took in (None, "") else fields.number(took, "lead_time"),
        "created_at": row.get("created_at"),
        "result": results,
    }
    if not results:
        raise DataError("no column holds an answer", where="row", expected="a choice, a rating or a side")
    item = NewItem(prompt, tuple(fields.text(row[name], name) for name in names))
    for kind, vote in _annotation(annotation, names, gathering):
        gathering.add(line, kind or "pairwise", item, replace(vote, shown=None))


_FLAT = ("id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time", "agreement")
"""Columns of the flat exports that are neither data nor answers."""


def _flat_result(name: str, row: Row, names: list[str]) -> list[dict[str, Any]]:
    """The result in a column, or nothing: then nothing was read of it."""
    value: Any = plain(peek(row, name))
    if isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    result: dict[str, Any] | None = None
    if isinstance(value, dict):
        kinds = {"selected": "pairwise", "choices": "choices", "rating": "rating", "text": "textarea"}
        kind = next((kinds[key] for key in kinds if key in value), None)
        result = None if kind is None else {"type": kind, "value": value}
    elif isinstance(value, str) and name.lower() in ("rationale", "reason", "comment", "comments"):
        result = {"type": "textarea", "value": {"text": [value]}}
    elif isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
        with contextlib.suppress(DataError):
            _choice(value, names, name)
            result = {"type": "choices", "value": {"choices": [value]}}
    elif len(names) == 1 and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        result = {"type": "rating", "value": {"rating": value}}
    if result is None:
        return []
    row[name]  # now it is read
    return [result | {"from_name": name, "to_name": ",".join(names)}]


def _named(annotations: Any) -> set[str]:
    """The data fields that results are about."""
    return {
        name
        for annotation in (annotations if isinstance(annotations, list) else [])
        if isinstance(annotation, dict) and isinstance(annotation.get("result"), list)
        for result in annotation["result"]
        if isinstance(result, dict) and result.get("type") != "textarea"
        for name in (*str(result.get("to_name", "")).split(","), *_chosen(result))
    }


def _chosen(result: Row) -> list[str]:
    """Choices that name a response do so although the result is about another field."""
    value = result.get("value")
    choices = value.get("choices") if isinstance(value, dict) else None
    return [str(choice) for choice in choices] if isinstance(choices, list) else []


def _annotation(row: Row, names: list[str], gathering: Gathering) -> list[tuple[str, Answered]]:
    """Answers of one annotation by kind; one without a kind where it was cancelled.

    Raises:
        DataError: A result means nothing here.
    """
    who = row.get("completed_by")
    who = who.get("email") or who.get("id") if isinstance(who, dict) else who
    unnamed = who in (None, "")
    took = row.get("lead_time")
    if took is not None and (
        isinstance(took, bool) or not isinstance(took, (int, float)) or not 0 <= took < 2**31 / 1000
    ):
        raise DataError(f"is {took!r}"[:80], where="lead_time", expected="seconds")
    base = Answered(
        0,
        UNNAMED if unnamed else fields.name_of(who, "completed_by"),
        None,
        made_at=moment(row.get("created_at"), "created_at"),
        active_ms=None if took is None else round(took * 1000),
        skip_reason="other",
    )
    results = row.get("result") or []
    if not isinstance(results, list):
        raise DataError(f"is {results!r}"[:80], where="result", expected="a list")
    if row.get("was_cancelled") is True or not results:
        areas = [
            row for row in (fields.mapping(result, "result") for result in results) if row.get("type") == "textarea"
        ]
        remarks = [line for result in areas for line in _lines(fields.mapping(result.get("value"), "value"), "result")]
        return [("", replace(base, rationale="\n".join(remarks)))]
    return _results([fields.mapping(result, "result") for result in results], names, base, gathering)


def _results(results: list[Row], names: list[str], base: Answered, gathering: Gathering) -> list[tuple[str, Answered]]:
    by_kind: dict[str, dict[str, Any]] = {}
    others: list[tuple[str, Any, DataError]] = []  # what is no answer here: a label beside one, or a fault
    rationale: list[str] = []
    strength: int | None = None
    shown: tuple[int, int] | None = None
    for number, result in enumerate(results):
        where = f"result.{number}"
        value, question = fields.mapping(result.get("value"), f"{where}.value"), str(result.get("from_name", ""))
        match result.get("type"):
            case "textarea":
                rationale += _lines(value, where)
            case "pairwise":
                shown = _order(result.get("to_name"), names, f"{where}.to_name", gathering)
                _once(by_kind, "pairwise", _preferred(value.get("selected"), shown, where), where)
            case "choices":
                choice = value.get("choices")
                try:
                    if not isinstance(choice, list) or len(choice) != 1:
                        raise DataError(f"is {choice!r}"[:80], where=f"{where}.choices", expected="one choice")
                    kind, answer = _choice(choice[0], names, where)
                except DataError as error:
                    others.append((question or "choices", choice, error))
                    continue
                _once(by_kind, kind, answer, where)
            case "rating" if question == "strength" and len(names) == 2:
                strength = fields.whole(value.get("rating"), f"{where}.rating")
            case "rating" if len(names) == 1:
                scores = by_kind.setdefault("rating", {"response": 0, "scores": {}})["scores"]
                scores[question or "overall"] = fields.whole(value.get("rating"), f"{where}.rating")
            case other:
                wrong = DataError(
                    f"is {other!r} on {len(names)} responses"[:120],
                    where=f"{where}.type",
                    expected="pairwise, choices, rating or textarea that fits the task",
                )
                others.append((str(other), None, wrong))
    if others and not by_kind:
        raise others[0][2]
    for name, choice, _ in others:  # labels are kept with the reason
        if isinstance(choice, list) and all(isinstance(label, str) for label in choice):
            rationale.append(f"{name}: {', '.join(fields.texts(choice, name))}")
        else:
            gathering.note(f"results of the kind {name[:40]!r} are not used: they are no answer to these tasks")
    if not by_kind:
        return [("", replace(base, rationale="\n".join(rationale)))]
    if strength is not None and by_kind.get("pairwise", {}).get("preferred") is not None:
        by_kind["pairwise"]["strength"] = strength
    vote = replace(base, skip_reason=None, rationale="\n".join(rationale), shown=shown)
    return [(kind, replace(vote, answer=answer)) for kind, answer in by_kind.items()]


def _order(about: Any, names: list[str], where: str, gathering: Gathering) -> tuple[int, int]:
    """Places of the responses that were shown left and right.

    ``to_name`` gives tags of the labelling page, which mostly are called after the data; where they are not, the first
    is taken to be the first response, and that is said.
    """
    tags = [tag.strip() for tag in str(about or "").split(",")]
    if len(tags) != 2 or len(names) != 2:
        responses = ", ".join(names) or "none"
        raise DataError(
            f"is {about!r}"[:80], where=where, expected=f"two tags for two responses; those are {responses}"
        )
    first, second = (place_named(tag, names) for tag in tags)
    if first is None and second is None:
        gathering.note(
            f"the tags {tags[0]!r} and {tags[1]!r} are taken to be {names[0]!r} and {names[1]!r}, in this order"
        )
        return 0, 1
    if first is None or second is None or first == second:
        raise DataError(f"is {about!r}"[:80], where=where, expected=f"tags called like {', '.join(names)}")
    return first, second


def _lines(value: Row, where: str) -> tuple[str, ...]:
    text = value.get("text")
    return fields.texts([text] if isinstance(text, str) else text, f"{where}.text")


def _once(by_kind: dict[str, dict[str, Any]], kind: str, answer: dict[str, Any], where: str) -> None:
    if kind in by_kind:
        raise DataError(f"is the second {kind} answer", where=where, fix="export each question by itself")
    by_kind[kind] = answer


def _preferred(selected: Any, shown: tuple[int, ...], where: str) -> dict[str, Any]:
    if selected in SIDES:
        return {"preferred": shown[SIDES.index(selected)], "strength": CLEAR}
    if selected in (None, "none", *NO_WINNER):
        return {"preferred": None, "strength": 0, "both_bad": selected == "both_bad"}
    raise DataError(f"is {selected!r}"[:80], where=f"{where}.selected", expected="left, right, tie or both_bad")


def _choice(choice: Any, names: list[str], where: str) -> tuple[str, dict[str, Any]]:
    if len(names) == 1:
        return "binary", {"response": 0, "acceptable": fields.yes_or_no(choice, f"{where}.choices")}
    if len(names) == 2:
        return "pairwise", verdict(choice, names, f"{where}.choices")
    raise DataError(
        f"is {choice!r} of {len(names)} responses"[:80], where=f"{where}.choices", expected="one or two responses"
    )


def write_label_studio(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """Tasks with annotations, in one JSON array."""
    left_out: list[tuple[str, str]] = []
    rows = [
        _task(number, case) for number, case in enumerate(open_cases(judged, KINDS, "label-studio", left_out), start=1)
    ]
    return Lines(json_list(rows), sorted(left_out), len(rows))


def _task(number: int, case: Case) -> dict[str, Any]:
    item = case.item
    names = [f"response_{place}" for place, _ in enumerate(case.texts, start=1)]
    return {
        "id": number,
        "data": {"prompt": prompt_json(item.prompt)} | dict(zip(names, case.texts, strict=True)),
        "meta": {
            "item": item.id,
            "kind": item.kind,
            "split": split_of(item),
            "generators": [response.generator for response in item.responses],
        },
        "annotations": [
            {
                "id": number * 1000 + place,
                "completed_by": {"email": judgment.annotator},
                "was_cancelled": judgment.answer is None,
                "created_at": judgment.created_at,
                "lead_time": None if judgment.active_ms is None else judgment.active_ms / 1000,
                "result": _told(case, judgment, names),
            }
            for place, judgment in enumerate(case.judgments)
        ],
        "predictions": [],
    }


def _told(case: Case, judgment: JudgmentRow, names: list[str]) -> list[dict[str, Any]]:
    answer = case.placed(judgment.answer)
    results: list[dict[str, Any]] = []
    if answer is not None and case.item.kind == "pairwise":
        order = case.shown(judgment)
        place = answer["preferred"]
        if order is None:  # a choice by name says nothing of sides
            tie = "both_bad" if answer["both_bad"] else "tie"
            results.append(_result("preference", ",".join(names), "choices", [tie if place is None else names[place]]))
        else:
            sided = ("both_bad" if answer["both_bad"] else "tie") if place is None else SIDES[order.index(place)]
            about = ",".join(names[shown_place] for shown_place in order)
            results.append(_result("preference", about, "pairwise", sided, "selected"))
        if place is not None:
            results.append(_result("strength", names[0], "rating", answer["strength"]))
    elif answer is not None and case.item.kind == "binary":
        results.append(_result("acceptable", names[0], "choices", ["yes" if answer["acceptable"] else "no"]))
    elif answer is not None:
        results += [_result(axis, names[0], "rating", point) for axis, point in sorted(answer["scores"].items())]
    if judgment.rationale:
        results.append(_result("rationale", names[0], "textarea", [judgment.rationale], "text"))
    return results


def _result(question: str, about: str, type: str, value: Any, key: str = "") -> dict[str, Any]:
    return {"from_name": question, "to_name": about, "type": type, "value": {key or type: value}}
