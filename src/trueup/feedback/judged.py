"""Reading answers that are stored: the current ones of an item, and whether one is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from trueup.feedback.answers import parse_answer
from trueup.feedback.schema import judgment


def is_right(answer: Mapping[str, Any], gold: Mapping[str, Any]) -> bool:
    """Whether an answer agrees with the gold one in direction; strength and notes may differ."""
    for field in ("preferred", "tiers", "acceptable", "scores"):
        if field in gold:
            return bool(answer.get(field) == gold[field])
    return False


def current_answers(connection: Connection, item_id: str, kind: str, responses: Sequence[str]) -> list[Any]:
    """The newest answer of each annotator to an item, skips left out."""
    replaced = select(judgment.c.supersedes).where(judgment.c.item == item_id, judgment.c.supersedes.is_not(None))
    rows = connection.execute(
        select(judgment.c.answer).where(judgment.c.item == item_id, judgment.c.id.not_in(replaced))
    ).scalars()
    return [parse_answer(answer, kind=kind, responses=responses) for answer in rows if answer is not None]
