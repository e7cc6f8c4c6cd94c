"""Judgments that were made elsewhere enter the store whole: items, responses and who answered what, in one transaction.

For files of judged data, and for simulated crowds of tens of thousands of judgments, where a transaction for each
would be mostly waiting for the disk. What is checked of one submitted answer is checked of these, and the audit log
holds one event with the hash of all bodies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from trueup.errors import DataError, nearest
from trueup.feedback.store import audit
from trueup.feedback.store.answers import SKIP_REASONS, parse_answer
from trueup.feedback.store.database import Store
from trueup.feedback.store.item_rows import ItemWriter, one_import_at_a_time
from trueup.feedback.store.items import NewItem, by_id, check_item
from trueup.feedback.store.judgments import NewJudgment, add_judgments
from trueup.feedback.store.projects import find
from trueup.feedback.store.schema import new_id, person, template
from trueup.feedback.store.template_settings import scales, stored
from trueup.feedback.store.texts import check_value, sha256_of


@dataclass(frozen=True, slots=True)
class ImportedVote:
    """One answer. Responses are named by place, because their ids are only made here (see ``projects.by_id``)."""

    item: int
    """Row of ``rows``."""
    person: str
    """Id of a person of the store."""
    answer: Mapping[str, Any] | None
    """None where the item was skipped."""
    shown: tuple[int, ...]
    """Places in the order shown, first is left or top; empty where it is not known."""
    made_at: str
    """UTC, ISO 8601."""
    active_ms: int | None = None
    rationale: str = ""
    skip_reason: str | None = None
    surplus: bool = False


def import_judged(
    store: Store,
    template_id: str,
    rows: Sequence[NewItem],
    votes: Sequence[ImportedVote],
    *,
    repeats: Mapping[int, str] | None = None,
    actor: str = "system",
) -> tuple[str, ...]:
    """Store items with the answers they were given; all of them or, on any error, nothing. Returns the items' ids.

    An item's overlap is the number of its answers, so it is settled unless it has none. ``repeats`` gives the id of
    the item that a row repeats.

    Raises:
        DataError: A row or a vote is wrong; names it.
        UsageError: No such template.
    """
    with store.write() as connection:
        asked = find(connection, template, template_id)
        one_import_at_a_time(connection, asked.project)
        _known_people(connection, votes)
        votes_of: dict[int, list[ImportedVote]] = {}
        for number, vote in enumerate(votes):
            if not 0 <= vote.item < len(rows):
                raise DataError(f"item {vote.item}", where=f"vote {number}", expected=f"0 to {len(rows) - 1}")
            votes_of.setdefault(vote.item, []).append(vote)
        axes = scales(stored(asked.kind, asked.config, asked.name))
        writer = ItemWriter(store, connection, asked, rows)
        items: list[str] = []
        judgments: list[NewJudgment] = []
        for number, row in enumerate(rows):
            cast = votes_of.get(number, [])
            try:
                check_item(asked.kind, row)
                repeat_of = (repeats or {}).get(number)
                state = "satisfied" if cast else "open"
                item_id, ids = writer.add(row, overlap=max(1, len(cast)), state=state, repeat_of=repeat_of)
                judgments += [_stored(vote, item_id, ids, _checked(vote, asked.kind, row, ids, axes)) for vote in cast]
            except DataError as error:
                raise DataError(str(error), where=f"row {number}") from error
            items.append(item_id)
        writer.flush()
        add_judgments(connection, judgments)
        bodies = sha256_of("".join(row.body_sha256 for row in judgments))
        detail = {"items": len(rows), "judgments": len(votes), "bodies": bodies}
        audit.record(connection, store.now(), actor, "import_judged", template_id, **detail)
    return tuple(items)


def _known_people(connection: Connection, votes: Sequence[ImportedVote]) -> None:
    known = set(connection.execute(select(person.c.id)).scalars())
    for number, vote in enumerate(votes):
        if vote.person not in known:
            raise DataError(f"nobody has the id {vote.person!r}", where=f"vote {number}", fix="add the person first")


def _stored(vote: ImportedVote, item_id: str, ids: Sequence[str], answer: Mapping[str, Any] | None) -> NewJudgment:
    body = json.dumps([item_id, vote.person, answer, vote.made_at], sort_keys=True, ensure_ascii=False)
    identity = new_id()
    return NewJudgment(
        id=identity,
        item=item_id,
        person=vote.person,
        idempotency_key=f"import-{identity}",
        body_sha256=sha256_of(body),
        answer=answer,
        skip_reason=vote.skip_reason,
        rationale=vote.rationale,
        shown=[ids[place] for place in vote.shown],
        active_ms=vote.active_ms,
        surplus=vote.surplus,
        created_at=vote.made_at,
    )


def _checked(
    vote: ImportedVote, kind: str, row: NewItem, ids: Sequence[str], axes: Mapping[str, tuple[int, int]] | None
) -> dict[str, Any] | None:
    """The answer as it is stored, None for a skip.

    Raises:
        DataError: It is no answer to the item, or a text of it cannot be stored.
    """
    check_value(vote.rationale, "rationale")
    check_value(vote.skip_reason, "skip_reason")
    if vote.answer is not None:
        texts = dict(zip(ids, row.responses, strict=True))
        parsed = parse_answer(by_id(vote.answer, ids), kind=kind, responses=ids, texts=texts, axes=axes)
        answer: dict[str, Any] = parsed.model_dump(mode="json")
        return answer
    if vote.skip_reason not in SKIP_REASONS:
        raise DataError(
            f"no answer, and the reason is {vote.skip_reason!r}",
            where="skip_reason",
            expected=nearest(str(vote.skip_reason), SKIP_REASONS),
        )
    return None
