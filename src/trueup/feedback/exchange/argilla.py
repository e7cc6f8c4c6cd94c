"""Argilla's JSON records, of versions 1 and 2: fields, responses of people, suggestions of models.

Which question asks what follows from the values: the name of a response field is a preference, a list is a ranking, a
number is a rating, yes or no is a label. A text question called ``rationale`` goes with the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.cases import Case, open_cases, split_of
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import CLEAR, UNNAMED, Answered, Gathering, Incoming
from trueup.feedback.exchange.sources import json_rows
from trueup.feedback.exchange.training import tiers_of, yes_or_no
from trueup.feedback.exchange.writing import Lines, json_list
from trueup.feedback.projects import NewItem
from trueup.feedback.records import Judged, JudgmentRow
from trueup.types import prompt_json

KINDS = ("pairwise", "ranking", "binary", "rating")
PROMPTS = ("prompt", "instruction", "question", "input", "text", "chat")
RATIONALES = ("rationale", "reason", "comment", "comments")
SUGGESTED = "suggestion:"
"""Suggestions are answers of an annotator whose name begins so: they can be told from people, and left out."""

DISCARDED = ("discarded", "draft", "pending")


def read_argilla(data: bytes) -> Incoming:
    """An item of each record, with what people answered and models suggested."""
    found = Gathering()
    found.each(json_rows(data), lambda line, row: _take(found, line, fields.mapping(row)))
    return found.done()


def _take(found: Gathering, line: int, row: Row) -> None:
    asked = fields.mapping(row.get("fields"), "fields")
    name = next((known for known in PROMPTS if asked.get(known) is not None), None)
    if name is None:
        raise DataError(f"are {list(asked)}"[:200], where="fields", expected=f"one called {', '.join(PROMPTS)}")
    prompt = fields.prompt(asked[name], f"fields.{name}")
    names = [known for known, value in asked.items() if known != name and value is not None]
    texts = tuple(fields.text(asked[known], f"fields.{known}") for known in names)
    about = fields.mapping(row.get("metadata") or {}, "metadata")
    generators = fields.texts(about.get("generators", []), "metadata.generators")
    item = NewItem(prompt, texts, generators, split=fields.optional(about, "split"))
    answers = _people(row) | _suggestions(row)
    read: list[tuple[str, Answered]] = []
    for who, values in answers.items():
        try:
            read += _answers(who, values, names)
        except DataError as error:
            found.rejected.append((line, f"answer of {who!r}: {error}"))
    kinds = sorted({kind for kind, said in read if said.answer is not None})
    if not kinds:
        wanted = "pairwise" if len(texts) == 2 else "ranking" if len(texts) > 2 else "rating"
        kinds = [str(about.get("kind", wanted))]
    for kind in kinds:
        mine = [said for told, said in read if told == kind or said.answer is None]
        number = found.add(line, kind, item, mine[0] if mine else None)
        for said in mine[1:]:
            try:
                found.answer(number, said)
            except DataError as error:
                found.rejected.append((line, f"answer of {said.annotator!r}: {error}"))


def _people(row: Row) -> dict[str, dict[str, Any]]:
    """Annotator -> question -> value; of somebody who discarded the record, nothing."""
    given = row.get("responses") or {}
    found: dict[str, dict[str, Any]] = {}
    if isinstance(given, list):  # version 1
        for number, value in enumerate(given):
            one = fields.mapping(value, f"responses.{number}")
            who = fields.text(str(one.get("user_id") or UNNAMED), "user_id")
            values = fields.mapping(one.get("values") or {}, f"responses.{number}.values")
            discarded = one.get("status") in DISCARDED
            found[who] = {} if discarded else {q: _value(told) for q, told in values.items()}
        return found
    for question, told in fields.mapping(given, "responses").items():
        if not isinstance(told, list):
            raise DataError(f"is {told!r}"[:80], where=f"responses.{question}", expected="a list of responses")
        for value in told:
            one = fields.mapping(value, f"responses.{question}")
            who = fields.text(str(one.get("user_id") or UNNAMED), "user_id")
            values = found.setdefault(who, {})
            if one.get("status") not in DISCARDED:
                values[question] = one.get("value")
    return found


def _suggestions(row: Row) -> dict[str, dict[str, Any]]:
    given = row.get("suggestions") or {}
    found: dict[str, dict[str, Any]] = {}
    if isinstance(given, list):  # version 1
        named = [(fields.mapping(one, "suggestions").get("question_name"), one) for one in given]
    else:
        named = list(fields.mapping(given, "suggestions").items())
    for question, value in named:
        one = fields.mapping(value, f"suggestions.{question}")
        agent = fields.text(one.get("agent") or "model", f"suggestions.{question}.agent")
        found.setdefault(f"{SUGGESTED}{agent}", {})[fields.text(question, "question_name")] = one.get("value")
    return found


def _value(told: Any) -> Any:
    return told.get("value") if isinstance(told, dict) else told


def _answers(who: str, values: Mapping[str, Any], names: list[str]) -> list[tuple[str, Answered]]:
    """The answers of one annotator by kind; one without a kind where no question was answered.

    Raises:
        DataError: A question's value means nothing here, or two questions ask the same.
    """
    told: dict[str, dict[str, Any]] = {}
    rationale, strength = "", CLEAR
    for question, value in values.items():
        where = f"question {question}"
        if value is None:
            continue
        if question in RATIONALES:
            rationale = fields.text(value, where)
            continue
        if question == "strength" and len(names) == 2:
            strength = fields.whole(value, where)
            continue
        kind, answer = _said(value, names, where)
        if kind == "rating":
            told.setdefault(kind, {"response": 0, "scores": {}})["scores"][question] = answer["point"]
        elif kind in told:
            raise DataError("is the second question of its kind", where=where, fix="export each question by itself")
        else:
            told[kind] = answer
    if told.get("pairwise", {}).get("preferred") is not None:
        told["pairwise"]["strength"] = strength
    if not told:
        return [("", Answered(0, who, None, rationale=rationale, skip_reason="other"))]
    return [(kind, Answered(0, who, answer, rationale=rationale)) for kind, answer in told.items()]


def _said(value: Any, names: list[str], where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(value, list):
        return "ranking", {"tiers": _tiers(value, names, where)}
    if isinstance(value, str) and len(names) == 2:
        return "pairwise", _preferred(value, names, where)
    if isinstance(value, (bool, str)) and len(names) == 1:
        return "binary", {"response": 0, "acceptable": yes_or_no(value, where)}
    if len(names) == 1:
        return "rating", {"point": fields.whole(value, where)}
    raise DataError(f"is {value!r}"[:80], where=where, expected=f"a choice among {', '.join(names)}")


def _preferred(value: str, names: list[str], where: str) -> dict[str, Any]:
    if value in names:
        return {"preferred": names.index(value), "strength": CLEAR}
    if value in ("tie", "both_bad"):
        return {"preferred": None, "strength": 0, "both_bad": value == "both_bad"}
    raise DataError(f"is {value!r}"[:80], where=where, expected=f"{', '.join(names)}, tie or both_bad")


def _tiers(value: list[Any], names: list[str], where: str) -> list[list[int]]:
    ranks: dict[int, int | None] = {}
    for number, told in enumerate(value, start=1):
        name, rank = (told.get("value"), told.get("rank")) if isinstance(told, dict) else (told, number)
        if name not in names or names.index(name) in ranks:
            raise DataError(f"names {name!r}"[:80], where=where, expected=f"each of {', '.join(names)}, once")
        ranks[names.index(name)] = None if rank is None else fields.whole(rank, where)
    return tiers_of(ranks)


def write_argilla(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """Records of version 2, one an item, in one JSON array."""
    left_out: list[tuple[str, str]] = []
    rows = [_record(case, left_out) for case in open_cases(judged, KINDS, "argilla", left_out)]
    return Lines(json_list(rows), sorted(left_out), len(rows))


def _record(case: Case, left_out: list[tuple[str, str]]) -> dict[str, Any]:
    item = case.item
    names = [f"response_{number}" for number, _ in enumerate(case.texts, start=1)]
    responses: dict[str, list[dict[str, Any]]] = {}
    for judgment in case.judgments:
        if judgment.answer is not None and set(judgment.answer.get("scores", ())) & set(RATIONALES):
            left_out.append((item.id, "an axis has the name of the question for reasons"))
            continue
        for question, value in _questions(case, judgment, names).items():
            responses.setdefault(question, []).append({"value": value, "user_id": judgment.annotator})
    return {
        "id": item.id,
        "status": "completed",
        "fields": {"prompt": prompt_json(item.prompt)} | dict(zip(names, case.texts, strict=True)),
        "metadata": {
            "kind": item.kind,
            "split": split_of(item),
            "generators": [one.generator for one in item.responses],
        },
        "suggestions": {},
        "responses": responses,
        "vectors": {},
    }


def _questions(case: Case, judgment: JudgmentRow, names: list[str]) -> dict[str, Any]:
    answer = case.placed(judgment.answer)
    found: dict[str, Any] = {"rationale": judgment.rationale}
    if answer is None:
        return found  # skipped: no question was answered, and the empty reason says who did so
    if case.item.kind == "pairwise":
        place, tie = answer["preferred"], "both_bad" if answer["both_bad"] else "tie"
        found |= {"preference": tie if place is None else names[place]}
        found |= {} if place is None else {"strength": answer["strength"]}
    elif case.item.kind == "ranking":
        found["ranking"] = [
            {"value": names[place], "rank": rank} for rank, tier in enumerate(answer["tiers"], 1) for place in tier
        ]
    elif case.item.kind == "binary":
        found["acceptable"] = "yes" if answer["acceptable"] else "no"
    else:
        found |= answer["scores"]
    return found if judgment.rationale else {name: value for name, value in found.items() if name != "rationale"}
