"""Who judges what next. A seat is a lease on one slot of one item; the database makes doubles impossible.

Rules: the same annotator asking twice gets the same live seat; an expired seat is taken back only when somebody needs
its slot, and work that arrives after that is kept as surplus; nobody sees an item twice, except as a repeat with the
sides swapped; items one judgment short of done come first. What is due besides ordinary work, see ``routing``.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, insert, not_, select, update
from sqlalchemy.exc import IntegrityError

from trueup.config.seeds import derive
from trueup.errors import UsageError
from trueup.feedback.store import audit
from trueup.feedback.store.database import Store
from trueup.feedback.store.item_rows import response_ids
from trueup.feedback.store.projects import find
from trueup.feedback.store.schema import (
    acknowledgement,
    audit_event,
    guideline,
    item,
    judgment,
    new_id,
    person,
    project,
    seat,
    stamp,
    template,
)
from trueup.feedback.store.template_settings import StoredSettingsError, stored
from trueup.feedback.workflow.routing import SERVED_APART, NextTask, due

CARRY_OVER = 5
"""Judgments for which a prompt does not come back, if it need not: what was said of it last would colour the next."""

TAKE = "take_seat"
"""The event that says who was given which item."""

LEASE = timedelta(minutes=10)
"""How long a seat is held without a sign of life."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A live seat: what to show, in which order, until when."""

    id: str
    item: str
    kind: str
    token: str
    lease_until: str
    shown: tuple[str, ...]
    guideline: str | None


@dataclass(frozen=True, slots=True)
class Nothing:
    """Why there is no seat.

    One of ``paused``, ``guideline_not_acknowledged``, ``not_qualified``, ``unusable_settings``, ``all_leased`` and
    ``done``.
    """

    reason: str
    message: str


TAKEN_NOW = Nothing("all_leased", "others are taking the last items at this moment; ask again in a few seconds")


class _Full(Exception):
    """The item filled up between being chosen and being locked."""


def next_seat(store: Store, project_id: str, person_id: str, *, lease: timedelta = LEASE) -> Assignment | Nothing:
    """The annotator's live seat, or a new one, or the reason why there is none.

    Raises:
        UsageError: No such project or person, or the person may not judge.
    """
    for _ in range(5):
        try:
            with store.write() as connection:
                return _next(store, connection, project_id, person_id, lease)
        except (IntegrityError, _Full):  # another process took the slot in this very moment (PostgreSQL)
            continue
    return TAKEN_NOW


def _next(
    store: Store, connection: Connection, project_id: str, person_id: str, lease: timedelta
) -> Assignment | Nothing:
    of = find(connection, project, project_id)
    who = find(connection, person, person_id, lock=True)  # somebody who asks twice at once gets one seat
    if not who.active:
        raise UsageError("this account is not active", where="person")
    if of.state != "live":
        return Nothing("paused", f"the project is {of.state}; your lead opens it again")
    current = connection.execute(
        select(guideline.c.id).where(guideline.c.project == project_id).order_by(guideline.c.number.desc()).limit(1)
    ).scalar()
    if current is not None and not _acknowledged(connection, person_id, current):
        return Nothing("guideline_not_acknowledged", "read and accept the newest guideline first")
    now = store.now()
    live = connection.execute(
        select(seat, template.c.kind, template.c.config, template.c.name)
        .join(item, item.c.id == seat.c.item)
        .join(template, template.c.id == item.c.template)
        .where(
            seat.c.person == person_id,
            seat.c.state == "leased",
            seat.c.lease_until > now,
            template.c.project == project_id,
        )
    ).all()
    for row in live:
        with contextlib.suppress(StoredSettingsError):  # nobody is held at an item whose answers cannot be taken
            stored(row.kind, row.config, row.name)
            return _seat(row)
    what = due(connection, project_id, person_id, now, current)
    if what.item is not None:
        wanted = select(item, template.c.kind).join(template, template.c.id == item.c.template)
        chosen = connection.execute(wanted.where(item.c.id == what.item)).first()
    else:
        chosen = _choose(connection, what, person_id, now)
    if chosen is None:
        if what.failed and not what.templates:
            names = ", ".join(what.failed)
            return Nothing("not_qualified", f"you have not qualified for {names}; your lead can add practice items")
        if what.unusable and not what.templates:
            return Nothing("unusable_settings", " ".join(what.unusable[0].split()))
        return _why_empty(connection, project_id, what, person_id, now)
    return _take(store, connection, chosen, person_id, current, lease, who.pseudonym)


def _open_to(person_id: str, what: NextTask) -> tuple[ColumnElement[bool], ...]:
    """What holds of an item, joined to its template, that a person could still judge."""
    judged = select(judgment.c.id).where(judgment.c.item == item.c.id, judgment.c.person == person_id).exists()
    return (
        template.c.id.in_(what.templates),
        not_(and_(template.c.id.in_(what.apart), item.c.stream.in_(SERVED_APART))),
        item.c.state == "open",
        not_(judged),
    )


def _choose(connection: Connection, what: NextTask, person_id: str, now: str) -> Any:
    """The open item that needs this annotator most: nearly done first, then priority, then a draw of their own.

    An item on a prompt that the annotator has just seen waits, if there is another.
    """
    taken = (
        select(func.count())
        .select_from(seat)
        .where(seat.c.item == item.c.id, (seat.c.state == "submitted") | (seat.c.lease_until > now))
        .scalar_subquery()
    )
    query = (
        select(item, template.c.kind)
        .join(template, template.c.id == item.c.template)
        .where(*_open_to(person_id, what), taken < item.c.overlap)
        .order_by(item.c.priority.desc(), case((taken >= item.c.overlap - 1, 0), else_=1), item.c.created_at)
        .limit(16)
    )
    if connection.dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True, of=item)
    rows = connection.execute(query).all()
    if not rows:
        return None
    best = [row for row in rows if row.priority == rows[0].priority]
    recent = _recent_prompts(connection, person_id)
    best = [row for row in best if row.prompt not in recent] or best
    return random.Random(derive(0, "queue", person_id, now)).choice(best[:4])


def _recent_prompts(connection: Connection, person_id: str) -> set[str]:
    judged = (
        select(item.c.prompt)
        .join(judgment, judgment.c.item == item.c.id)
        .where(judgment.c.person == person_id)
        .order_by(judgment.c.created_at.desc())
        .limit(CARRY_OVER)
    )
    return {str(name) for name in connection.execute(judged).scalars()}


def _take(
    store: Store, connection: Connection, chosen: Any, person_id: str, current: str | None, lease: timedelta, name: str
) -> Assignment:
    now = store.now()
    seats = connection.execute(select(seat).where(seat.c.item == chosen.id)).all()
    for old in seats:
        if old.state == "leased" and old.lease_until <= now:
            connection.execute(delete(seat).where(seat.c.id == old.id))
            audit.record(connection, now, "system", "reclaim_seat", old.id, item=chosen.id, slot=old.slot)
    used = {old.slot for old in seats if old.state == "submitted" or old.lease_until > now}
    # Everybody gets the special items of a stream, so they have a slot for each.
    slots = count() if chosen.stream in ("gold", "calibration") else range(chosen.overlap)
    slot = next((n for n in slots if n not in used), None)
    if slot is None:
        raise _Full
    seat_id = new_id()
    shown = _order(connection, chosen, person_id)
    values = {
        "id": seat_id,
        "item": chosen.id,
        "slot": slot,
        "person": person_id,
        "state": "leased",
        "lease_until": stamp(store.clock() + lease),
        "token": secrets.token_urlsafe(24),
        "shown": list(shown),
        "guideline": current,
        "created_at": now,
    }
    connection.execute(insert(seat).values(**values))
    audit.record(connection, now, name, TAKE, seat_id, item=chosen.id, slot=slot)
    return Assignment(seat_id, chosen.id, chosen.kind, str(values["token"]), str(values["lease_until"]), shown, current)


def _order(connection: Connection, chosen: Any, person_id: str) -> tuple[str, ...]:
    """The order to show: a fair draw for each annotator and item; a repeat shows the opposite of the first time."""
    ids = response_ids(connection, chosen.id)
    if chosen.repeat_of is not None:
        first = connection.execute(
            select(judgment.c.shown).where(judgment.c.item == chosen.repeat_of, judgment.c.person == person_id)
        ).scalar()
        if first is not None:
            return tuple(reversed(first))
    random.Random(derive(0, "sides", chosen.id, person_id)).shuffle(ids)
    return tuple(ids)


def heartbeat(store: Store, seat_id: str, token: str, *, lease: timedelta = LEASE) -> str:
    """Extend a live seat; returns the new end of the lease.

    Raises:
        UsageError: The seat is gone (it expired and somebody else needed it) or the token is another one.
    """
    with store.write() as connection:
        _own(connection, seat_id, token)
        until = stamp(store.clock() + lease)
        connection.execute(update(seat).where(seat.c.id == seat_id).values(lease_until=until))
    return until


def release(store: Store, seat_id: str, token: str) -> None:
    """Give a seat back unanswered."""
    with store.write() as connection:
        row = _own(connection, seat_id, token)
        connection.execute(delete(seat).where(seat.c.id == seat_id))
        audit.record(connection, store.now(), "system", "release_seat", seat_id, item=row.item, slot=row.slot)


def fill(connection: Connection, seat_id: str) -> None:
    """The judgment that the seat was for is there."""
    connection.execute(update(seat).where(seat.c.id == seat_id).values(state="submitted"))


def save_draft(store: Store, seat_id: str, token: str, draft: Any) -> None:
    """Keep an unfinished answer, so that another browser can go on with it."""
    with store.write() as connection:
        _own(connection, seat_id, token)
        connection.execute(update(seat).where(seat.c.id == seat_id).values(draft=draft))


def acknowledge(store: Store, person_id: str, guideline_id: str) -> None:
    """Record that a person has read a guideline version; twice is once."""

    def attempt(connection: Connection) -> None:
        find(connection, guideline, guideline_id)
        if not _acknowledged(connection, person_id, guideline_id):
            values = {"id": new_id(), "person": person_id, "guideline": guideline_id, "created_at": store.now()}
            connection.execute(insert(acknowledgement).values(**values))

    store.write_twice(attempt)


def _why_empty(connection: Connection, project_id: str, what: NextTask, person_id: str, now: str) -> Nothing:
    left = connection.execute(
        select(func.count())
        .select_from(item)
        .join(template, template.c.id == item.c.template)
        .where(*_open_to(person_id, what))
    ).scalar_one()
    if left:
        soonest = connection.execute(
            select(func.min(seat.c.lease_until))
            .join(item, item.c.id == seat.c.item)
            .join(template, template.c.id == item.c.template)
            .where(and_(template.c.project == project_id, seat.c.state == "leased", seat.c.lease_until > now))
        ).scalar()
        if soonest is None:  # their rows are locked by others at this very moment (PostgreSQL)
            return TAKEN_NOW
        return Nothing("all_leased", f"{left} items are with others; the next lease ends at {soonest}")
    return Nothing("done", "there is nothing left for you to judge here: thank you")


def _acknowledged(connection: Connection, person_id: str, guideline_id: str) -> bool:
    query = select(acknowledgement.c.id).where(
        acknowledgement.c.person == person_id, acknowledgement.c.guideline == guideline_id
    )
    return connection.execute(query).first() is not None


def _seat(row: Any) -> Assignment:
    return Assignment(row.id, row.item, row.kind, row.token, row.lease_until, tuple(row.shown), row.guideline)


def _own(connection: Connection, seat_id: str, token: str) -> Any:
    row = connection.execute(select(seat).where(seat.c.id == seat_id, seat.c.state == "leased")).first()
    if row is None or not secrets.compare_digest(row.token, token):
        raise UsageError(
            "the seat is not yours any more: its lease ended and somebody else needed the item",
            where="seat",
            fix="submit all the same, nothing is lost; or ask for the next item",
        )
    return row


def had_seat(connection: Connection, item_id: str, pseudonym: str) -> bool:
    """Whether an item was ever given to somebody: seats that are gone are still in the audit log."""
    taken = connection.execute(
        select(audit_event.c.detail).where(
            audit_event.c.action == TAKE, audit_event.c.actor == pseudonym, audit_event.c.detail.contains(item_id)
        )
    ).scalars()
    return any(json.loads(detail).get("item") == item_id for detail in taken)
