"""Answers that settle an item for good: they override the votes.

An adjudicator answers an item of the stream ``adjudication`` that repeats the item in question; its own judgments never
leave, only what they settle does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from trueup.errors import UsageError
from trueup.feedback.quality.comparisons import answer_of
from trueup.feedback.store.records import ItemRow, Judged, JudgmentRow

Settled: TypeAlias = tuple[tuple[str, ...], Any]
"""The judgments that settle an item, and the answer."""


def adjudications(judged: Judged) -> dict[str, Settled]:
    """Item -> (judgments that settle it, the answer), from items of the stream ``adjudication``; the newest wins."""
    settled: dict[str, Settled] = {}
    for row in judged.judgments:
        item = judged.items.get(row.item)
        if item is None or item.stream != "adjudication" or row.answer is None:
            continue
        original = judged.items.get(item.repeat_of or "")
        if original is None:
            continue
        renamed = _renamed(row.answer, item, original)
        if renamed is not None:
            settled[original.id] = (row.id,), _parsed(original, renamed)
    return settled


def adjudications_by_item(judged: Judged, answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Settled]:
    """The same for answers that were handed in by item.

    Raises:
        UsageError: There is no such item.
        DataError: An answer does not fit its item.
    """
    settled: dict[str, Settled] = {}
    for name, answer in answers.items():
        if name not in judged.items:
            raise UsageError(f"there is no item {name!r}", where="adjudicated")
        settled[name] = (f"adjudication:{name}",), _parsed(judged.items[name], answer)
    return settled


def _parsed(item: ItemRow, answer: Mapping[str, Any]) -> Any:
    return answer_of(item, JudgmentRow("", item.id, "", answer, (), ""))


def _renamed(answer: Mapping[str, Any], item: ItemRow, original: ItemRow) -> dict[str, Any] | None:
    """The answer with the original item's response ids, matched by text; None where the texts differ."""
    by_text = {r.text: r.id for r in original.responses}
    there = {r.id: by_text.get(r.text) for r in item.responses}
    if None in there.values():
        return None

    def rename(value: Any) -> Any:
        if isinstance(value, str):
            return there.get(value, value)
        return [rename(inner) for inner in value] if isinstance(value, list) else value

    return {k: rename(v) if k in ("preferred", "tiers", "response") else v for k, v in answer.items()}
