"""Taking judgments: idempotent, append-only, nothing thrown away.

A judgment that arrives after its seat was taken back is stored as *surplus*: it counts for agreement, not for overlap.
A correction is a new revision that supersedes the one before; nothing is ever changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from trueup.errors import DataError, UsageError, nearest
from trueup.feedback import audit
from trueup.feedback.answers import SKIP_REASONS, named_responses, parse_answer
from trueup.feedback.assignment import shown_ids
from trueup.feedback.judged import is_right
from trueup.feedback.routing import wants_another
from trueup.feedback.schema import flag, item, judgment, new_id, person, response, seat, stamp, template
from trueup.feedback.store import Store

UNDO = timedelta(minutes=10)
"""How long an annotator may correct a judgment."""


class ReusedKey(DataError):
    """One idempotency key was sent with two different bodies."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a submission. ``replayed`` says that it was there already."""

    judgment: str
    surplus: bool
    replayed: bool
    feedback: Mapping[str, Any] | None = None
    """Right or wrong with the explanation, for calibration items only."""


def submit(
    store: Store,
    item_id: str,
    person_id: str,
    key: str,
    *,
    answer: Mapping[str, Any] | None = None,
    skip_reason: str | None = None,
    rationale: str = "",
    active_ms: int | None = None,
    focus_lost: int | None = None,
    shown: tuple[str, ...] | None = None,
) -> Taken:
    """Store one judgment.

    Args:
        store: The database.
        item_id: What was judged.
        person_id: Who judged.
        key: Idempotency key, made by the client before the first try; a retry sends the same one.
        answer: JSON form of an ``answers`` model; None when skipped.
        skip_reason: One of ``SKIP_REASONS``; None when answered.
        rationale: Why, in words.
        active_ms: Time with the page in focus.
        focus_lost: How often it lost focus.
        shown: The order shown, for late work whose seat is gone.

    Raises:
        DataError: The answer does not fit the item; nothing is stored.
        ReusedKey: The key came before with another body.
    """
    body = _digest(item_id, answer, skip_reason, rationale)
    for attempt in (1, 2):
        try:
            with store.write() as connection:
                return _submit(
                    store,
                    connection,
                    item_id,
                    person_id,
                    key,
                    body,
                    answer,
                    skip_reason,
                    rationale,
                    active_ms,
                    focus_lost,
                    shown,
                )
        except IntegrityError:
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def _submit(
    store: Store,
    connection: Connection,
    item_id: str,
    person_id: str,
    key: str,
    body: str,
    answer: Mapping[str, Any] | None,
    skip_reason: str | None,
    rationale: str,
    active_ms: int | None,
    focus_lost: int | None,
    shown: tuple[str, ...] | None,
) -> Taken:
    before = connection.execute(
        select(judgment).where(judgment.c.person == person_id, judgment.c.idempotency_key == key)
    ).first()
    asked = _asked(connection, item_id, lock=True)
    if before is not None:
        if before.body_sha256 != body:
            raise ReusedKey("this key was used for another answer", where="Idempotency-Key", fix="make a new key")
        return Taken(before.id, before.surplus, True, _feedback(asked, before.answer))
    if connection.execute(
        select(judgment.c.id).where(judgment.c.item == item_id, judgment.c.person == person_id)
    ).first():
        raise DataError("you have judged this item already", where="judgment", fix="correct the judgment instead")
    stored = _checked(connection, asked, answer, skip_reason)
    held = connection.execute(select(seat).where(seat.c.item == item_id, seat.c.person == person_id)).first()
    made = new_id()
    connection.execute(
        insert(judgment).values(
            id=made,
            item=item_id,
            person=person_id,
            idempotency_key=key,
            body_sha256=body,
            answer=stored,
            skip_reason=skip_reason,
            rationale=rationale,
            shown=list(held.shown if held is not None else shown or ()),
            active_ms=active_ms,
            focus_lost=focus_lost,
            guideline=held.guideline if held is not None else None,
            revision=1,
            surplus=held is None,
            created_at=store.now(),
        )
    )
    if held is not None:
        connection.execute(update(seat).where(seat.c.id == held.id).values(state="submitted"))
        _settle(connection, asked)
    name = connection.execute(select(person.c.pseudonym).where(person.c.id == person_id)).scalar_one()
    audit.record(connection, store.now(), name, "judge", made, item=item_id, body=body, surplus=held is None)
    return Taken(made, held is None, False, _feedback(asked, stored))


def supersede(
    store: Store,
    judgment_id: str,
    person_id: str,
    key: str,
    answer: Mapping[str, Any] | None,
    *,
    skip_reason: str | None = None,
    rationale: str = "",
    active_ms: int | None = None,
    focus_lost: int | None = None,
) -> Taken:
    """Correct one's own judgment: a new revision, within ``UNDO`` of the one before. Arguments as in ``submit``.

    Raises:
        UsageError: It is not the annotator's newest revision of that item, or too old.
    """
    with store.write() as connection:
        old = connection.execute(select(judgment).where(judgment.c.id == judgment_id)).first()
        if old is None or old.person != person_id:
            raise UsageError("there is no such judgment of yours", where="judgment")
        body = _digest(old.item, answer, skip_reason, rationale)
        again = connection.execute(
            select(judgment).where(judgment.c.person == person_id, judgment.c.idempotency_key == key)
        ).first()
        if again is not None:
            if again.body_sha256 != body:
                raise ReusedKey("this key was used for another answer", where="Idempotency-Key", fix="make a new key")
            return Taken(again.id, again.surplus, True)
        if connection.execute(select(judgment.c.id).where(judgment.c.supersedes == judgment_id)).first():
            raise UsageError("this judgment was corrected already", where="judgment", fix="correct the newest revision")
        if old.created_at < stamp(store.clock() - UNDO):
            raise UsageError("the time to correct it is over", where="judgment", fix="flag the item, a lead will look")
        asked = _asked(connection, old.item)
        stored, made = _checked(connection, asked, answer, skip_reason), new_id()
        connection.execute(
            insert(judgment).values(
                id=made,
                item=old.item,
                person=person_id,
                idempotency_key=key,
                body_sha256=body,
                answer=stored,
                skip_reason=skip_reason,
                rationale=rationale,
                shown=old.shown,
                active_ms=old.active_ms if active_ms is None else active_ms,
                focus_lost=old.focus_lost if focus_lost is None else focus_lost,
                guideline=old.guideline,
                revision=old.revision + 1,
                supersedes=old.id,
                surplus=old.surplus,
                created_at=store.now(),
            )
        )
        name = connection.execute(select(person.c.pseudonym).where(person.c.id == person_id)).scalar_one()
        audit.record(connection, store.now(), name, "supersede", made, supersedes=old.id, body=body)
    return Taken(made, old.surplus, False)


def flag_item(store: Store, item_id: str, person_id: str, reason: str, note: str = "") -> str:
    """Tell the leads that something is wrong with an item."""
    with store.write() as connection:
        _asked(connection, item_id)
        made = new_id()
        connection.execute(
            insert(flag).values(
                id=made, item=item_id, person=person_id, reason=reason, note=note, created_at=store.now()
            )
        )
        audit.record(connection, store.now(), "system", "flag", made, item=item_id, reason=reason)
    return made


def _asked(connection: Connection, item_id: str, *, lock: bool = False) -> Any:
    query = (
        select(item, template.c.kind, template.c.config)
        .join(template, template.c.id == item.c.template)
        .where(item.c.id == item_id)
    )
    if lock and connection.dialect.name == "postgresql":
        # Two last judgments at once would each see one too few, and the item would stay open for ever.
        query = query.with_for_update(of=item)
    found = connection.execute(query).first()
    if found is None:
        raise UsageError(f"there is no item {item_id!r}", where="item")
    return found


def _checked(
    connection: Connection, asked: Any, answer: Mapping[str, Any] | None, skip_reason: str | None
) -> dict[str, Any] | None:
    if (answer is None) == (skip_reason is None):
        raise DataError("an answer or a reason to skip, one of them", where="answer", expected="exactly one")
    if skip_reason is not None:
        if skip_reason not in SKIP_REASONS:
            raise DataError(f"{skip_reason!r}", where="skip_reason", expected=nearest(skip_reason, SKIP_REASONS))
        return None
    assert answer is not None
    ids = shown_ids(connection, asked.id)
    held = connection.execute(select(response.c.id, response.c.text).where(response.c.id.in_(ids)))
    texts = {row.id: row.text for row in held}
    axes = {a["name"]: (int(a["low"]), int(a["high"])) for a in asked.config.get("axes", [])}
    parsed = parse_answer(answer, kind=asked.kind, responses=ids, texts=texts, axes=axes or None)
    if asked.kind in ("pairwise", "review") and not named_responses(parsed) and not asked.config.get("allow_tie", True):
        raise DataError("ties are not allowed here", where="answer", expected="one of the two responses")
    found: dict[str, Any] = parsed.model_dump(mode="json")
    return found


def _settle(connection: Connection, asked: Any) -> None:
    done = connection.execute(
        select(func.count()).select_from(seat).where(seat.c.item == asked.id, seat.c.state == "submitted")
    ).scalar_one()
    if done >= asked.overlap and not wants_another(connection, asked, shown_ids(connection, asked.id)):
        connection.execute(update(item).where(item.c.id == asked.id).values(state="satisfied"))


def _feedback(asked: Any, answer: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if asked.stream != "calibration" or answer is None:
        return None
    return {"correct": is_right(answer, asked.gold), "expected": asked.gold, "explanation": asked.explanation}


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
