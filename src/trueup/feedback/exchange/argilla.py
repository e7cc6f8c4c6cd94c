"""Argilla's JSON records, of versions 1 and 2: fields, responses of people, suggestions of models.

Which question asks what follows from the values: the name of a response field is a preference, a list is a ranking, a
number is a rating, yes or no is a label. A text question called ``rationale`` goes with the others.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from trueup.data.verdict_words import place_named
from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.cases import Case, open_cases, split_of
from trueup.feedback.exchange.choices import response_fields, verdict
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import UNNAMED, Answered, Gathering, Incoming, json_rows
from trueup.feedback.exchange.rankings import tiers_of
from trueup.feedback.exchange.watching import peek, plain
from trueup.feedback.exchange.writing import Lines, json_list
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.records import Judged, JudgmentRow
from trueup.types import prompt_json

KINDS = ("pairwise", "ranking", "binary", "rating")
PROMPTS = ("prompt", "instruction", "question", "input", "text", "chat")
RATIONALES = ("rationale", "reason", "comment", "comments")
SUGGESTED = "suggestion:"
"""Suggestions are answers of an annotator whose name begins so: they can be told from people, and left out."""

DISCARDED = "discarded"
UNFINISHED = ("draft", "pending")


def read_argilla(data: bytes) -> Incoming:
    """An item of each record, with what people answered and models suggested."""
    gathering, rows = Gathering(), list(json_rows(data))
    named = {name for _, row in rows if isinstance(row, dict) for name in _named(row)}
    gathering.each(rows, lambda line, row: record_row(gathering, line, fields.mapping(row), named))
    return gathering.done()


def record_row(gathering: Gathering, line: int, row: Row, named: Collection[str] = ()) -> None:
    """Collect one record; ``named`` are the values of the file's answers, some of which are names of fields.

    Raises:
        DataError: It cannot be one.
    """
    if is_flat_record(row):
        row = _nested(row)
    asked = fields.mapping(row.get("fields"), "fields")
    name = fields.prompt_column(asked, PROMPTS)
    if name is None:
        raise DataError(f"are {list(asked)}"[:200], where="fields", expected=f"one called {', '.join(PROMPTS)}")
    prompt = fields.with_system(asked, fields.prompt(asked[name], f"fields.{name}"))
    rest = {known: peek(asked, known) for known in asked if known != name}
    names = response_fields(rest, named)
    texts = tuple(fields.text(asked[known], f"fields.{known}") for known in names)
    about = fields.mapping(row.get("metadata") or {}, "metadata")
    generators = fields.texts(about.get("generators", []), "metadata.generators")
    item = NewItem(prompt, texts, generators, split=fields.optional(about, "split"))
    answers = _people(row, gathering) | _suggestions(row)
    read: list[tuple[str, Answered]] = []
    refused = []
    for who, values in answers.items():
        try:
            read += _answers(who, values, names)
        except DataError as error:
            refused.append((line, f"answer of {who!r}: {error}"))
    gathering.rejected += refused
    if refused and not read:
        return  # nothing is left of it that anybody said
    kinds = sorted({kind for kind, vote in read if vote.answer is not None})
    if not kinds:
        wanted = "pairwise" if len(texts) == 2 else "ranking" if len(texts) > 2 else "rating"
        kinds = [str(about.get("kind", wanted))]
    for kind in kinds:
        votes = [vote for vote_kind, vote in read if vote_kind == kind or vote.answer is None]
        number = gathering.add(line, kind, item, votes[0] if votes else None)
        for vote in votes[1:]:
            try:
                gathering.answer(number, vote)
            except DataError as error:
                gathering.rejected.append((line, f"answer of {vote.annotator!r}: {error}"))


def is_flat_record(row: Row) -> bool:
    """Whether a row is a record as Argilla hands it to datasets: a column for each field and part of a question."""
    return "fields" not in row and any(str(name).endswith(_PARTS) for name in row)


_PARTS = (".responses", ".suggestion")
_ABOUT = ("id", "status", "_server_id", "inserted_at", "updated_at", "external_id")
"""Columns of a flat record that are neither fields nor questions."""


def _nested(row: Row) -> Row:
    """A flat record as the JSON export has it."""
    questions = {str(name).rpartition(".")[0]: None for name in row if str(name).endswith(_PARTS)}
    question_columns = {name for name in row if any(str(name).startswith(f"{question}.") for question in questions)}
    responses: dict[str, Any] = {}
    suggestions: dict[str, Any] = {}
    for question in questions:
        values = _listed(row.get(f"{question}.responses"))
        people, states = (_listed(row.get(f"{question}.responses.{part}")) for part in ("users", "status"))
        responses[question] = [
            {
                "value": _listed(value, only_lists=True),
                "user_id": people[n] if n < len(people) else None,
                "status": states[n] if n < len(states) else None,
            }
            for n, value in enumerate(values)
        ]
        if row.get(f"{question}.suggestion") not in (None, ""):
            agent = row.get(f"{question}.suggestion.agent")
            suggestions[question] = {"value": row[f"{question}.suggestion"], "agent": agent}
    columns = [name for name in row if name not in question_columns and name not in _ABOUT]
    texts = _Aside(row, columns)
    about = {"split": row["split"]} if isinstance(row.get("split"), str) else {}
    return {"fields": texts, "responses": responses, "suggestions": suggestions, "metadata": about}


class _Aside(dict[str, Any]):
    """Some columns of a row; what is read of them is read of the row."""

    def __init__(self, row: Row, columns: Collection[str]) -> None:
        super().__init__((name, peek(row, name)) for name in columns)
        self.row = row

    def __getitem__(self, name: str) -> Any:
        return self.row[name]

    def get(self, name: str, default: Any = None) -> Any:
        """As ``dict.get``."""
        return self.row.get(name, default) if name in self else default


def _listed(value: Any, *, only_lists: bool = False) -> Any:
    """A list, which a cell may spell as JSON; anything else is a list of it, or itself where lists alone are meant."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, list) or only_lists:
        return value
    return [] if value in (None, "") else [value]


def _named(row: Row) -> Iterator[str]:
    """Values of a record's answers that could be names of fields."""
    if is_flat_record(row):
        row = _nested(row)
    try:
        answers = _people(row, None) | _suggestions(row)
    except DataError:
        return  # said when the row is read
    for values in answers.values():
        for value in values.values():
            for entry in value if isinstance(value, list) else [value]:
                choice = entry.get("value") if isinstance(entry, dict) else entry
                if isinstance(choice, str):
                    yield choice


def _people(row: Row, gathering: Gathering | None) -> dict[str, dict[str, Any]]:
    """Annotator -> question -> value; of somebody who discarded the record, nothing."""
    responses = row.get("responses") or {}
    people: dict[str, dict[str, Any]] = {}
    if isinstance(responses, list):  # version 1
        for number, value in enumerate(responses):
            response = fields.mapping(value, f"responses.{number}")
            who = fields.optional_name(response, "user_id") or UNNAMED
            values = fields.mapping(response.get("values") or {}, f"responses.{number}.values")
            if _unfinished(response, gathering):
                continue
            discarded = response.get("status") == DISCARDED
            people[who] = {} if discarded else {question: _value(values[question]) for question in values}
        return people
    by_question = fields.mapping(responses, "responses")
    for question in by_question:
        question_responses = by_question[question]
        if not isinstance(question_responses, list):
            raise DataError(
                f"is {question_responses!r}"[:80], where=f"responses.{question}", expected="a list of responses"
            )
        for value in question_responses:
            response = fields.mapping(value, f"responses.{question}")
            who = fields.optional_name(response, "user_id") or UNNAMED
            if _unfinished(response, gathering):
                continue
            values = people.setdefault(who, {})
            if response.get("status") != DISCARDED:
                values[question] = plain(response.get("value"))
    return people


def _unfinished(response: Row, gathering: Gathering | None) -> bool:
    """Whether somebody has not answered yet: nothing of a draft goes in."""
    if response.get("status") not in UNFINISHED:
        return False
    if gathering is not None:
        gathering.note("a response that is a draft or pending was left out")
    return True


def _suggestions(row: Row) -> dict[str, dict[str, Any]]:
    suggestions = row.get("suggestions") or {}
    by_agent: dict[str, dict[str, Any]] = {}
    if isinstance(suggestions, list):  # version 1
        named = [
            (fields.mapping(suggestion, "suggestions").get("question_name"), suggestion) for suggestion in suggestions
        ]
    else:
        named = [(question, suggestions[question]) for question in fields.mapping(suggestions, "suggestions")]
    for question, value in named:
        suggestion = fields.mapping(value, f"suggestions.{question}")
        agent = fields.text(suggestion.get("agent") or "model", f"suggestions.{question}.agent")
        by_agent.setdefault(f"{SUGGESTED}{agent}", {})[fields.text(question, "question_name")] = plain(
            suggestion.get("value")
        )
    return by_agent


def _value(entry: Any) -> Any:
    return plain(entry.get("value") if isinstance(entry, dict) else entry)


def _answers(who: str, values: Mapping[str, Any], names: list[str]) -> list[tuple[str, Answered]]:
    """The answers of one annotator by kind; one without a kind where no question was answered.

    Raises:
        DataError: A question's value means nothing here, or two questions ask the same.
    """
    by_kind: dict[str, dict[str, Any]] = {}
    remarks: list[str] = []
    words: list[tuple[str, DataError]] = []
    strength: int | None = None
    for question, value in values.items():
        where = f"question {question}"
        if value is None:
            continue
        if question in RATIONALES:
            remarks.append(fields.text(value, where))
            continue
        if question == "strength" and len(names) == 2:
            strength = fields.whole(value, where)
            continue
        labels = _labels(value, names)
        if labels is not None:  # labels of a text have no place of their own here
            remarks.append(f"{question}: {', '.join(labels)}")
            continue
        try:
            kind, answer = _said(value, names, where)
        except DataError as error:
            if not isinstance(value, str):
                raise
            words.append((f"{question}: {value}", error))
            continue
        if kind == "rating":
            by_kind.setdefault(kind, {"response": 0, "scores": {}})["scores"][question] = answer["point"]
        elif kind in by_kind:
            raise DataError("is the second question of its kind", where=where, fix="export each question by itself")
        else:
            by_kind[kind] = answer
    if strength is not None and by_kind.get("pairwise", {}).get("preferred") is not None:
        by_kind["pairwise"]["strength"] = strength
    if words and not by_kind:
        raise words[0][1]
    # Beside an answer, what somebody wrote to a question of another kind is why they gave it.
    rationale = "\n".join([*remarks, *(fields.text(line, "rationale") for line, _ in words)])
    if not by_kind:
        return [("", Answered(0, who, None, rationale=rationale, skip_reason="other"))]
    return [(kind, Answered(0, who, answer, rationale=rationale)) for kind, answer in by_kind.items()]


def _labels(value: Any, names: list[str]) -> list[str] | None:
    """Labels of the responses, or None where the value ranks them: a list of words none of which names one."""
    if not isinstance(value, list) or not value or not all(isinstance(label, str) for label in value):
        return None
    return None if any(place_named(label, names) is not None for label in value) else [str(label) for label in value]


def _said(value: Any, names: list[str], where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(value, list):
        return "ranking", {"tiers": _tiers(value, names, where)}
    if isinstance(value, (str, int)) and not isinstance(value, bool) and len(names) == 2:
        return "pairwise", verdict(value, names, where)
    if isinstance(value, (bool, str)) and len(names) == 1:
        return "binary", {"response": 0, "acceptable": fields.yes_or_no(value, where)}
    if len(names) == 1:
        return "rating", {"point": fields.whole(value, where)}
    raise DataError(f"is {value!r}"[:80], where=where, expected=f"a choice among {', '.join(names)}")


def _tiers(value: list[Any], names: list[str], where: str) -> list[list[int]]:
    ranks: dict[int, int | None] = {}
    for number, entry in enumerate(value, start=1):
        name, rank = (entry.get("value"), entry.get("rank")) if isinstance(entry, dict) else (entry, number)
        place = place_named(name, names)
        if place is None or place in ranks:
            raise DataError(f"names {name!r}"[:80], where=where, expected=f"each of {', '.join(names)}, once")
        ranks[place] = None if rank is None else fields.whole(rank, where)
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
            "generators": [response.generator for response in item.responses],
        },
        "suggestions": {},
        "responses": responses,
        "vectors": {},
    }


def _questions(case: Case, judgment: JudgmentRow, names: list[str]) -> dict[str, Any]:
    answer = case.placed(judgment.answer)
    values: dict[str, Any] = {"rationale": judgment.rationale}
    if answer is None:
        return values  # skipped: no question was answered, and the empty reason says who did so
    if case.item.kind == "pairwise":
        place, tie = answer["preferred"], "both_bad" if answer["both_bad"] else "tie"
        values |= {"preference": tie if place is None else names[place]}
        values |= {} if place is None else {"strength": answer["strength"]}
    elif case.item.kind == "ranking":
        values["ranking"] = [
            {"value": names[place], "rank": rank} for rank, tier in enumerate(answer["tiers"], 1) for place in tier
        ]
    elif case.item.kind == "binary":
        values["acceptable"] = "yes" if answer["acceptable"] else "no"
    else:
        values |= answer["scores"]
    return values if judgment.rationale else {name: value for name, value in values.items() if name != "rationale"}
