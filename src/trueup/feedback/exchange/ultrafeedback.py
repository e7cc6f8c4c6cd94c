"""Ratings: UltraFeedback rows (an instruction, its completions, a rating of each on every axis) and HelpSteer rows.

A HelpSteer row is one response with a column for each axis. A number in any other column is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trueup.data.formats import RESPONSE_COLUMNS
from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.cases import open_cases, split_of
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import Answered, Gathering, Incoming, check, json_rows
from trueup.feedback.exchange.writing import Lines, json_line
from trueup.feedback.store.items import NewItem
from trueup.feedback.store.records import Judged
from trueup.types import prompt_json

ABSENT = ("N/A", "", None)
"""How a rating that was not given is spelled."""

AXES = frozenset(
    "helpfulness helpful harmlessness harmless honesty honest truthfulness correctness coherence complexity verbosity "
    "instruction_following safety quality overall overall_rating rating score accuracy coverage fluency relevance "
    "clarity conciseness groundedness toxicity".split()
)
"""Columns that are axes; others are given as an object ``scores``: ``{"scores": {"wit": 4}}``."""


def read_ultrafeedback(data: bytes) -> Incoming:
    """A rating item of each completion. Axes that were not rated are left out of the answer."""
    gathering = Gathering()
    gathering.each(json_rows(data), lambda line, row: ratings_row(gathering, line, fields.mapping(row)))
    return gathering.done()


def is_rated(row: Row) -> bool:
    """Whether a row is one response with a column for each axis, or an object of them."""
    return any(name in row for name in RESPONSE_COLUMNS) and (
        bool(AXES & set(row)) or isinstance(row.get("scores"), dict)
    )


def _rated(gathering: Gathering, line: int, row: Row) -> None:
    column = next(name for name in RESPONSE_COLUMNS if name in row)
    text = fields.text(row[column], column)
    spelled = fields.mapping(row.get("scores") or {}, "scores")
    points = {name: row[name] for name in row if name in AXES} | {name: spelled[name] for name in spelled}
    scores = {axis: fields.whole(point, axis) for axis, point in points.items() if point not in ABSENT}
    model = fields.optional_name(row, "model") or ""
    item = NewItem(fields.prompt_of(row), (text,), (model,), split=fields.optional(row, "split"))
    gathering.add(
        line, "rating", item, Answered(0, fields.annotator(row), {"response": 0, "scores": scores}) if scores else None
    )


def ratings_row(gathering: Gathering, line: int, row: Row) -> None:
    """Collect the ratings of one row.

    Raises:
        DataError: It cannot be one.
    """
    if "completions" not in row and is_rated(row):
        _rated(gathering, line, row)
        return
    fields.need(row, "instruction" if "prompt" not in row else "prompt")
    prompt = fields.prompt_of(row)
    completions = _generations(row) if are_generations(row) else row.get("completions")
    if not isinstance(completions, list) or not completions:
        problem = "is missing" if completions is None else f"is {completions!r}"[:80]
        raise DataError(problem, where="completions", expected="a list of completions")
    ready = []
    for number, value in enumerate(completions):
        where = f"completions.{number}"
        completion = fields.mapping(value, where)
        text = fields.text(completion.get("response"), f"{where}.response")
        model = fields.name_of(completion.get("model") or "", f"{where}.model")
        scores, reasons = _ratings(completion.get("annotations"), where)
        critique = fields.text(completion.get("critique") or "", f"{where}.critique")
        item = NewItem(prompt, (text,), (model,), split=fields.optional(row, "split"))
        vote = Answered(0, fields.annotator(row), {"response": 0, "scores": scores}) if scores else None
        if vote is not None:
            vote = replace(vote, rationale="\n".join(part for part in (critique, *reasons) if part))
        try:
            check("rating", item, vote)
        except DataError as error:
            raise DataError(error.what, where=f"{where}.{error.where}", expected=error.expected) from None
        ready.append((item, vote))
    for item, vote in ready:
        gathering.add(line, "rating", item, vote)


def are_generations(row: Row) -> bool:
    """Whether a row has lists of generations and of their ratings, as distilabel writes them."""
    return "completions" not in row and all(isinstance(row.get(name), list) for name in ("generations", "ratings"))


def _generations(row: Row) -> list[dict[str, Any]]:
    """Completions from distilabel's lists."""
    lists: dict[str, list[Any]] = {}
    for name in ("generations", "ratings", "rationales", "generation_models", "model_names"):
        entries = row.get(name)
        if entries is None:
            continue
        if not isinstance(entries, list) or len(entries) != len(row["generations"]):
            expected = f"a list of {len(row['generations'])}, one for each generation"
            raise DataError(f"is {entries!r}"[:80], where=name, expected=expected)
        lists[name] = entries
    models = lists.get("generation_models") or lists.get("model_names") or [""] * len(lists["generations"])
    reasons = lists.get("rationales") or [""] * len(lists["generations"])
    rows = zip(lists["generations"], lists["ratings"], models, reasons, strict=True)
    return [
        {"response": generation, "model": model, "critique": reason, "annotations": {"overall": rating}}
        for generation, rating, model, reason in rows
    ]


def _ratings(value: Any, where: str) -> tuple[dict[str, int], list[str]]:
    scores, reasons = {}, []
    annotations = fields.mapping(value or {}, f"{where}.annotations")
    for axis in annotations:
        annotation = annotations[axis]
        place = f"{where}.annotations.{axis}"
        rating = fields.mapping(
            {"Rating": annotation} if annotation is None or isinstance(annotation, (int, float, str)) else annotation,
            place,
        )
        if rating.get("Rating") not in ABSENT:
            scores[fields.text(axis, place)] = fields.whole(rating["Rating"], f"{place}.Rating")
        if rating.get("Rationale"):
            reasons.append(f"{axis}: {fields.text(rating['Rationale'], f'{place}.Rationale')}")
    return scores, reasons


def write_ultrafeedback(judged: Judged, adjudicated: Mapping[str, Mapping[str, Any]]) -> Lines:
    """A row for each prompt and annotator, with the completions that this annotator rated."""
    left_out: list[tuple[str, str]] = []
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    seen: set[tuple[str, str, str, str]] = set()
    for case in open_cases(judged, ("rating",), "ultrafeedback", left_out):
        item = case.item
        response = item.responses[0]
        for judgment in case.judgments:
            mark = (item.prompt_id, judgment.annotator, response.text, response.generator)
            if judgment.answer is None:
                left_out.append((item.id, "skipped"))
            elif mark in seen:
                left_out.append((item.id, "the same person rated the same text before"))
            else:
                seen.add(mark)
                row = rows.setdefault(
                    (f"{item.prompt_id} {split_of(item)}", judgment.annotator),
                    {
                        "instruction": prompt_json(item.prompt),
                        "annotator": judgment.annotator,
                        "split": split_of(item),
                        "completions": [],
                    },
                )
                row["completions"].append(
                    {
                        "model": response.generator,
                        "response": response.text,
                        "annotations": {
                            axis: {"Rating": str(point), "Rationale": ""}
                            for axis, point in sorted(judgment.answer["scores"].items())
                        },
                        "critique": judgment.rationale,
                    }
                )
    return Lines([json_line(row) for row in rows.values()], sorted(left_out))
