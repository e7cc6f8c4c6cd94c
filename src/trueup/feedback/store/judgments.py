"""The judgments of the store: the only writer of their table, which of them are in force, and whether one is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select

from trueup.feedback.store.answers import parse_answer
from trueup.feedback.store.schema import judgment, new_id

ROWS_AN_INSERT = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJudgment:
    """One row of the table before it is there; the fields are its columns."""

    item: str
    person: str
    idempotency_key: str
    body_sha256: str
    answer: Mapping[str, Any] | None
    skip_reason: str | None
    rationale: str
    shown: list[str]
    created_at: str
    active_ms: int | None = None
    focus_lost: int | None = None
    guideline: str | None = None
    revision: int = 1
    supersedes: str | None = None
    surplus: bool = False
    id: str = field(default_factory=new_id)


_COLUMNS = tuple(column.name for column in fields(NewJudgment))


def add_judgments(connection: Connection, rows: Sequence[NewJudgment]) -> None:
    """Store judgments. Nothing changes or deletes one afterwards: a correction is another row."""
    for begin in range(0, len(rows), ROWS_AN_INSERT):
        part = rows[begin : begin + ROWS_AN_INSERT]
        connection.execute(insert(judgment), [{name: getattr(row, name) for name in _COLUMNS} for row in part])


def is_newest(item_id: str | None = None) -> ColumnElement[bool]:
    """The condition that a judgment is in force: no other one supersedes it.

    Args:
        item_id: The item, where the query is about one: others are not looked through then.
    """
    superseded = select(judgment.c.supersedes).where(judgment.c.supersedes.is_not(None))
    if item_id is not None:
        superseded = superseded.where(judgment.c.item == item_id)
    return judgment.c.id.not_in(superseded)


def superseded_among(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of the judgments that another one supersedes."""
    query = select(judgment.c.supersedes).where(judgment.c.supersedes.in_(list(ids)))
    return {str(identity) for identity in connection.execute(query).scalars()}


def is_right(answer: Mapping[str, Any], gold: Mapping[str, Any]) -> bool:
    """Whether an answer agrees with the gold one in direction; strength and notes may differ."""
    for field_ in ("preferred", "tiers", "acceptable", "scores"):
        if field_ in gold:
            return bool(answer.get(field_) == gold[field_])
    return False


def current_answers(connection: Connection, item_id: str, kind: str, responses: Sequence[str]) -> list[Any]:
    """The newest answer of each annotator to an item; skips and surplus, which are no votes, left out."""
    rows = connection.execute(
        select(judgment.c.answer).where(judgment.c.item == item_id, is_newest(item_id), judgment.c.surplus.is_(False))
    ).scalars()
    return [parse_answer(answer, kind=kind, responses=responses) for answer in rows if answer is not None]
