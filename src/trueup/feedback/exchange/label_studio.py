"""Label Studio's JSON export: tasks with annotations, whose results are pairwise, choices, rating and text areas.

In a pairwise result ``left`` and ``right`` are the first and second name of ``to_name``, so the order shown is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.cases import Case, open_cases, split_of
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import CLEAR, UNNAMED, Answered, Gathering, Incoming, moment
from trueup.feedback.exchange.sources import json_rows
from trueup.feedback.exchange.training import yes_or_no
from trueup.feedback.exchange.writing import Lines, json_list
from trueup.feedback.projects import NewItem
from trueup.feedback.records import Judged, JudgmentRow
from trueup.types import prompt_json

KINDS = ("pairwise", "binary", "rating")
PROMPTS = ("prompt", "instruction", "question", "input", "text", "dialogue")
SIDES = ("left", "right")
NO_WINNER = ("tie", "both_bad")


def read_label_studio(data: bytes) -> Incoming:
    """An item of each task, with the answers of its annotations; cancelled ones are skips."""
    found = Gathering()
    found.each(json_rows(data), lambda line, row: _take(found, line, fields.mapping(row)))
    return found.done()


def _take(found: Gathering, line: int, row: Row) -> None:
    data = fields.mapping(row.get("data"), "data")
    about = fields.mapping(row.get("meta") or {}, "meta")
    name = next((known for known in PROMPTS if data.get(known) is not None), None)
    if name is None:
        raise DataError(f"has {list(data)}"[:200], where="data", expected=f"one of {', '.join(PROMPTS)}")
    prompt = fields.prompt(data[name], f"data.{name}")
    texts = {known: value for known, value in data.items() if known != name and isinstance(value, str)}
    told = row.get("annotations", [])
    if not isinstance(told, list):
        raise DataError(f"is {told!r}"[:80], where="annotations", expected="a list; choose the export called JSON")
    names = _named(told, texts) or list(texts)
    item = NewItem(
        prompt,
        tuple(fields.text(texts[known], f"data.{known}") for known in names),
        fields.texts(about.get("generators", []), "meta.generators"),
        split=fields.optional(about, "split"),
    )
    read: list[tuple[str, Answered]] = []
    for number, value in enumerate(told):
        try:
            read += _annotation(fields.mapping(value), names)
        except DataError as error:
            found.rejected.append((line, f"annotations.{number}: {error}"))
    kinds = sorted({kind for kind, _ in read if kind}) or [
        str(about.get("kind", "pairwise" if len(names) == 2 else "rating"))
    ]
    for kind in kinds:
        mine = [said for one, said in read if one in (kind, "")]
        number = found.add(line, kind, item, mine[0] if mine else None)
        for said in mine[1:]:
            try:
                found.answer(number, said)
            except DataError as error:
                found.rejected.append((line, f"annotation of {said.annotator!r}: {error}"))


def _named(annotations: list[Any], texts: Mapping[str, Any]) -> list[str]:
    """The data fields that results are about, in the order of the data: the responses."""
    about = {
        name
        for one in annotations
        if isinstance(one, dict) and isinstance(one.get("result"), list)
        for result in one["result"]
        if isinstance(result, dict) and result.get("type") != "textarea"
        for name in (*str(result.get("to_name", "")).split(","), *_chosen(result))
    }
    return [name for name in texts if name in about]


def _chosen(result: Row) -> list[str]:
    """Choices that name a response do so although the result is about another field."""
    value = result.get("value")
    choices = value.get("choices") if isinstance(value, dict) else None
    return [str(one) for one in choices] if isinstance(choices, list) else []


def _annotation(row: Row, names: list[str]) -> list[tuple[str, Answered]]:
    """Answers of one annotation by kind; one without a kind where it was cancelled.

    Raises:
        DataError: A result means nothing here.
    """
    who = row.get("completed_by")
    who = who.get("email") or who.get("id") if isinstance(who, dict) else who
    took = row.get("lead_time")
    if took is not None and (
        isinstance(took, bool) or not isinstance(took, (int, float)) or not 0 <= took < 2**31 / 1000
    ):
        raise DataError(f"is {took!r}"[:80], where="lead_time", expected="seconds")
    base = Answered(
        0,
        fields.text(UNNAMED if who is None else str(who), "completed_by"),
        None,
        made_at=moment(row.get("created_at"), "created_at"),
        active_ms=None if took is None else round(took * 1000),
        skip_reason="other",
    )
    results = row.get("result") or []
    if not isinstance(results, list):
        raise DataError(f"is {results!r}"[:80], where="result", expected="a list")
    if row.get("was_cancelled") is True or not results:
        areas = [row for row in (fields.mapping(one, "result") for one in results) if row.get("type") == "textarea"]
        said = [told for one in areas for told in _lines(fields.mapping(one.get("value"), "value"), "result")]
        return [("", replace(base, rationale="\n".join(said)))]
    return _results([fields.mapping(one, "result") for one in results], names, base)


def _results(results: list[Row], names: list[str], base: Answered) -> list[tuple[str, Answered]]:
    told: dict[str, dict[str, Any]] = {}
    rationale: list[str] = []
    strength, shown = CLEAR, None
    for number, result in enumerate(results):
        where = f"result.{number}"
        value, question = fields.mapping(result.get("value"), f"{where}.value"), str(result.get("from_name", ""))
        match result.get("type"):
            case "textarea":
                rationale += _lines(value, where)
            case "pairwise":
                order = [name for name in str(result.get("to_name", "")).split(",") if name in names]
                if len(order) != 2 or len(names) != 2:
                    raise DataError(
                        f"is {result.get('to_name')!r}", where=f"{where}.to_name", expected="two data fields"
                    )
                shown = tuple(names.index(name) for name in order)
                _once(told, "pairwise", _preferred(value.get("selected"), shown, where), where)
            case "choices":
                choice = value.get("choices")
                if not isinstance(choice, list) or len(choice) != 1:
                    raise DataError(f"is {choice!r}"[:80], where=f"{where}.choices", expected="one choice")
                _once(told, *_choice(choice[0], names, where), where)
            case "rating" if question == "strength" and len(names) == 2:
                strength = fields.whole(value.get("rating"), f"{where}.rating")
            case "rating" if len(names) == 1:
                scores = told.setdefault("rating", {"response": 0, "scores": {}})["scores"]
                scores[question or "overall"] = fields.whole(value.get("rating"), f"{where}.rating")
            case other:
                raise DataError(
                    f"is {other!r} on {len(names)} responses"[:120],
                    where=f"{where}.type",
                    expected="pairwise, choices, rating or textarea that fits the task",
                )
    if not told:
        return [("", replace(base, rationale="\n".join(rationale)))]
    if told.get("pairwise", {}).get("preferred") is not None:
        told["pairwise"]["strength"] = strength
    said = replace(base, skip_reason=None, rationale="\n".join(rationale), shown=shown)
    return [(kind, replace(said, answer=answer)) for kind, answer in told.items()]


def _lines(value: Row, where: str) -> tuple[str, ...]:
    said = value.get("text")
    return fields.texts([said] if isinstance(said, str) else said, f"{where}.text")


def _once(told: dict[str, dict[str, Any]], kind: str, answer: dict[str, Any], where: str) -> None:
    if kind in told:
        raise DataError(f"is the second {kind} answer", where=where, fix="export each question by itself")
    told[kind] = answer


def _preferred(selected: Any, shown: tuple[int, ...], where: str) -> dict[str, Any]:
    if selected in SIDES:
        return {"preferred": shown[SIDES.index(selected)], "strength": CLEAR}
    if selected in (None, "none", *NO_WINNER):
        return {"preferred": None, "strength": 0, "both_bad": selected == "both_bad"}
    raise DataError(f"is {selected!r}"[:80], where=f"{where}.selected", expected="left, right, tie or both_bad")


def _choice(choice: Any, names: list[str], where: str) -> tuple[str, dict[str, Any]]:
    if len(names) == 1:
        return "binary", {"response": 0, "acceptable": yes_or_no(choice, f"{where}.choices")}
    if len(names) == 2 and choice in names:
        return "pairwise", {"preferred": names.index(choice), "strength": CLEAR}
    if len(names) == 2 and str(choice).lower() in (*SIDES, *NO_WINNER):
        return "pairwise", _preferred(str(choice).lower(), (0, 1), where)
    raise DataError(f"is {choice!r}"[:80], where=f"{where}.choices", expected=f"{', '.join(names)}, tie or both_bad")


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
            "generators": [one.generator for one in item.responses],
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
    found: list[dict[str, Any]] = []
    if answer is not None and case.item.kind == "pairwise":
        order = case.shown(judgment)
        place = answer["preferred"]
        if order is None:  # a choice by name says nothing of sides
            tie = "both_bad" if answer["both_bad"] else "tie"
            found.append(_result("preference", ",".join(names), "choices", [tie if place is None else names[place]]))
        else:
            sided = ("both_bad" if answer["both_bad"] else "tie") if place is None else SIDES[order.index(place)]
            about = ",".join(names[one] for one in order)
            found.append(_result("preference", about, "pairwise", sided, "selected"))
        if place is not None:
            found.append(_result("strength", names[0], "rating", answer["strength"]))
    elif answer is not None and case.item.kind == "binary":
        found.append(_result("acceptable", names[0], "choices", ["yes" if answer["acceptable"] else "no"]))
    elif answer is not None:
        found += [_result(axis, names[0], "rating", point) for axis, point in sorted(answer["scores"].items())]
    if judgment.rationale:
        found.append(_result("rationale", names[0], "textarea", [judgment.rationale], "text"))
    return found


def _result(question: str, about: str, type: str, value: Any, key: str = "") -> dict[str, Any]:
    return {"from_name": question, "to_name": about, "type": type, "value": {key or type: value}}
