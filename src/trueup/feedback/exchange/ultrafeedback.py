"""UltraFeedback: an instruction, its completions, and of each completion a rating on every axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trueup.errors import DataError
from trueup.feedback.exchange import fields
from trueup.feedback.exchange.cases import open_cases, split_of
from trueup.feedback.exchange.fields import Row
from trueup.feedback.exchange.incoming import Answered, Gathering, Incoming, check
from trueup.feedback.exchange.sources import json_rows
from trueup.feedback.exchange.writing import Lines, json_line
from trueup.feedback.projects import NewItem
from trueup.feedback.records import Judged
from trueup.types import prompt_json

ABSENT = ("N/A", "", None)
"""How a rating that was not given is spelled."""


def read_ultrafeedback(data: bytes) -> Incoming:
    """A rating item of each completion. Axes that were not rated are left out of the answer."""
    found = Gathering()
    found.each(json_rows(data), lambda line, row: _take(found, line, fields.mapping(row)))
    return found.done()


def _take(found: Gathering, line: int, row: Row) -> None:
    fields.need(row, "instruction", "completions")
    prompt = fields.prompt(row["instruction"], "instruction")
    if not isinstance(row["completions"], list) or not row["completions"]:
        raise DataError(f"is {row['completions']!r}"[:80], where="completions", expected="a list of completions")
    ready = []
    for number, value in enumerate(row["completions"]):
        where = f"completions.{number}"
        one = fields.mapping(value, where)
        text = fields.text(one.get("response"), f"{where}.response")
        model = fields.text(one.get("model") or "", f"{where}.model")
        scores, reasons = _ratings(one.get("annotations"), where)
        critique = fields.text(one.get("critique") or "", f"{where}.critique")
        item = NewItem(prompt, (text,), (model,), split=fields.optional(row, "split"))
        said = Answered(0, fields.annotator(row), {"response": 0, "scores": scores}) if scores else None
        if said is not None:
            said = replace(said, rationale="\n".join(part for part in (critique, *reasons) if part))
        try:
            check("rating", item, said)
        except DataError as error:
            raise DataError(error.what, where=f"{where}.{error.where}", expected=error.expected) from None
        ready.append((item, said))
    for item, said in ready:
        found.add(line, "rating", item, said)


def _ratings(value: Any, where: str) -> tuple[dict[str, int], list[str]]:
    scores, reasons = {}, []
    for axis, told in fields.mapping(value or {}, f"{where}.annotations").items():
        place = f"{where}.annotations.{axis}"
        rating = fields.mapping(told, place)
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
