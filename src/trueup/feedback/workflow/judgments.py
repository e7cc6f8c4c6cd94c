"""Taking judgments: idempotent, append-only, nothing thrown away.

Who was given an item may judge it, nobody else. A judgment that arrives after its seat was taken back is stored as
*surplus*: it is kept and shown, fills no seat, and is no vote unless ``curate`` is asked to count it.
A correction is a new revision that supersedes the one before; nothing is ever changed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select

from trueup.errors import DataError, NotAllowed, NotHere, UsageError, nearest
from trueup.feedback.store import audit, template_settings
from trueup.feedback.store.answers import SKIP_REASONS, parse_answer
from trueup.feedback.store.database import Store
from trueup.feedback.store.item_rows import change_item, locked_item, response_ids
from trueup.feedback.store.judgments import NewJudgment, add_judgments, is_right, superseded_among
from trueup.feedback.store.projects import pseudonym_of
from trueup.feedback.store.schema import flag, judgment, new_id, response, seat, stamp
from trueup.feedback.store.texts import check_value, sha256_of
from trueup.feedback.workflow.assignment import fill, had_seat
from trueup.feedback.workflow.routing import wants_another

UNDO = timedelta(minutes=10)
"""How long an annotator may correct a judgment."""


class ReusedKey(DataError):
    """One idempotency key was sent with two different bodies."""


class NotAssigned(NotAllowed):
    """Somebody judged an item that was never given to them."""


@dataclass(frozen=True, slots=True)
class CalibrationFeedback:
    """What somebody is told who answered a practice item."""

    correct: bool
    expected: Mapping[str, Any] | None
    explanation: str


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """What became of a submission. ``replayed`` says that it was there already."""

    judgment: str
    surplus: bool
    replayed: bool
    feedback: CalibrationFeedback | None = None
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
) -> SubmitResult:
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
        NotAssigned: The item was never given to this person.
        ReusedKey: The key came before with another body.
    """
    _storable(key, answer, skip_reason, rationale)
    check_value(shown, "shown")

    def attempt(connection: Connection) -> SubmitResult:
        return _submit(
            store, connection, item_id, person_id, key, answer, skip_reason, rationale, active_ms, focus_lost, shown
        )

    return store.write_twice(attempt)


def _submit(
    store: Store,
    connection: Connection,
    item_id: str,
    person_id: str,
    key: str,
    answer: Mapping[str, Any] | None,
    skip_reason: str | None,
    rationale: str,
    active_ms: int | None,
    focus_lost: int | None,
    shown: tuple[str, ...] | None,
) -> SubmitResult:
    body = _digest(item_id, answer, skip_reason, rationale)
    asked = locked_item(connection, item_id)
    before = _replayed(connection, person_id, key, body)  # after the lock: a retry waits for its own first try
    if before is not None:
        return SubmitResult(before.id, before.surplus, True, _feedback(asked, before.answer))
    if connection.execute(
        select(judgment.c.id).where(judgment.c.item == item_id, judgment.c.person == person_id)
    ).first():
        raise DataError("you have judged this item already", where="judgment", fix="correct the judgment instead")
    assignment = connection.execute(select(seat).where(seat.c.item == item_id, seat.c.person == person_id)).first()
    name = pseudonym_of(connection, person_id)
    if assignment is None and not had_seat(connection, item_id, name):
        raise NotAssigned("this item was not given to you", where="item", fix="ask for the next item and judge that")
    stored = _checked(connection, asked, answer, skip_reason, rationale)
    judged = NewJudgment(
        item=item_id,
        person=person_id,
        idempotency_key=key,
        body_sha256=body,
        answer=stored,
        skip_reason=skip_reason,
        rationale=rationale,
        shown=list(assignment.shown if assignment is not None else shown or ()),
        active_ms=active_ms,
        focus_lost=focus_lost,
        guideline=assignment.guideline if assignment is not None else None,
        surplus=assignment is None,
        created_at=store.now(),
    )
    add_judgments(connection, [judged])
    if assignment is not None:
        fill(connection, assignment.id)
        _settle(connection, asked)
    audit.record(connection, store.now(), name, "judge", judged.id, item=item_id, body=body, surplus=assignment is None)
    return SubmitResult(judged.id, assignment is None, False, _feedback(asked, stored))


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
) -> SubmitResult:
    """Correct one's own judgment: a new revision, within ``UNDO`` of the one before. Arguments as in ``submit``.

    Raises:
        UsageError: It is not the annotator's newest revision of that item, or too old.
    """
    _storable(key, answer, skip_reason, rationale)

    def attempt(connection: Connection) -> SubmitResult:
        return _supersede(
            store, connection, judgment_id, person_id, key, answer, skip_reason, rationale, active_ms, focus_lost
        )

    return store.write_twice(attempt)


def _supersede(
    store: Store,
    connection: Connection,
    judgment_id: str,
    person_id: str,
    key: str,
    answer: Mapping[str, Any] | None,
    skip_reason: str | None,
    rationale: str,
    active_ms: int | None,
    focus_lost: int | None,
) -> SubmitResult:
    old = connection.execute(select(judgment).where(judgment.c.id == judgment_id)).first()
    if old is None or old.person != person_id:
        raise NotHere("there is no such judgment of yours", where="judgment")
    asked = locked_item(connection, old.item)
    body = _digest(old.item, answer, skip_reason, rationale)
    again = _replayed(connection, person_id, key, body)
    if again is not None:
        return SubmitResult(again.id, again.surplus, True)
    if superseded_among(connection, [judgment_id]):
        raise UsageError("this judgment was corrected already", where="judgment", fix="correct the newest revision")
    if old.created_at < stamp(store.clock() - UNDO):
        raise UsageError("the time to correct it is over", where="judgment", fix="flag the item, a lead will look")
    corrected = NewJudgment(
        item=old.item,
        person=person_id,
        idempotency_key=key,
        body_sha256=body,
        answer=_checked(connection, asked, answer, skip_reason, rationale),
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
    add_judgments(connection, [corrected])
    name = pseudonym_of(connection, person_id)
    audit.record(connection, store.now(), name, "supersede", corrected.id, supersedes=old.id, body=body)
    return SubmitResult(corrected.id, old.surplus, False)


def flag_item(
    store: Store, item_id: str, person_id: str, reason: str, note: str = "", *, key: str | None = None
) -> tuple[str, bool]:
    """Tell the leads that something is wrong with an item; returns the flag and whether it was there already.

    Args:
        store: The store.
        item_id: The item.
        person_id: Who says so.
        reason: One word.
        note: More words.
        key: Of this report; the same key again stores nothing.

    Raises:
        ReusedKey: The key brought another report.
    """
    flag_id = new_id() if key is None else _flag_id(person_id, key)
    with store.write() as connection:
        locked_item(connection, item_id)
        before = connection.execute(select(flag).where(flag.c.id == flag_id)).first()
        if before is not None:
            if (before.item, before.reason, before.note) != (item_id, reason, note):
                raise ReusedKey("this key was used for another report", where="Idempotency-Key", fix="make a new key")
            return flag_id, True
        connection.execute(
            insert(flag).values(
                id=flag_id, item=item_id, person=person_id, reason=reason, note=note, created_at=store.now()
            )
        )
        audit.record(connection, store.now(), "system", "flag", flag_id, item=item_id, reason=reason)
    return flag_id, False


def _flag_id(person_id: str, key: str) -> str:
    """The id of the flag that this key brings: what is there under it is found again."""
    check_value(key, "Idempotency-Key")
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"flag of {person_id}: {key}"))


def _storable(key: str, answer: Mapping[str, Any] | None, skip_reason: str | None, rationale: str) -> None:
    """Refuse at the door what the database would: here the field is known by the name that the sender gave it."""
    fields = {"Idempotency-Key": key, "answer": answer, "skip_reason": skip_reason, "rationale": rationale}
    for name, value in fields.items():
        check_value(value, name)


def _replayed(connection: Connection, person_id: str, key: str, body: str) -> Any:
    """The judgment that this key brought before, or None.

    Raises:
        ReusedKey: It brought another body.
    """
    before = connection.execute(
        select(judgment).where(judgment.c.person == person_id, judgment.c.idempotency_key == key)
    ).first()
    if before is not None and before.body_sha256 != body:
        raise ReusedKey("this key was used for another answer", where="Idempotency-Key", fix="make a new key")
    return before


def _checked(
    connection: Connection, asked: Any, answer: Mapping[str, Any] | None, skip_reason: str | None, rationale: str
) -> dict[str, Any] | None:
    if (answer is None) == (skip_reason is None):
        raise DataError("an answer or a reason to skip, one of them", where="answer", expected="exactly one")
    if skip_reason is not None:
        if skip_reason not in SKIP_REASONS:
            raise DataError(f"{skip_reason!r}", where="skip_reason", expected=nearest(skip_reason, SKIP_REASONS))
        return None
    assert answer is not None
    ids = response_ids(connection, asked.id)
    responses = connection.execute(select(response.c.id, response.c.text).where(response.c.id.in_(ids)))
    texts = {row.id: row.text for row in responses}
    settings = template_settings.stored(asked.kind, asked.config, asked.template_name)
    axes = template_settings.scales(settings)
    parsed = parse_answer(answer, kind=asked.kind, responses=ids, texts=texts, axes=axes)
    template_settings.check_allowed(parsed, settings, rationale)
    checked: dict[str, Any] = parsed.model_dump(mode="json")
    return checked


def _settle(connection: Connection, asked: Any) -> None:
    done = connection.execute(
        select(func.count()).select_from(seat).where(seat.c.item == asked.id, seat.c.state == "submitted")
    ).scalar_one()
    if done >= asked.overlap and not wants_another(connection, asked, response_ids(connection, asked.id)):
        change_item(connection, asked.id, state="satisfied")


def _feedback(asked: Any, answer: Mapping[str, Any] | None) -> CalibrationFeedback | None:
    if asked.stream != "calibration" or answer is None:
        return None
    return CalibrationFeedback(is_right(answer, asked.gold), asked.gold, asked.explanation)


def _digest(*parts: Any) -> str:
    return sha256_of(json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":")))
