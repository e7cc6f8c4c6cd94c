"""The audit log, for admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from trueup.feedback.store.integrity import inspect_all
from trueup.feedback.workflow import dashboard
from trueup.feedback.workflow.summaries import AuditEvent
from trueup.web.shell.access import Admin, Database, Reply

router = APIRouter()

SEQUENCE_DIGITS = 12
"""Longer runs of digits than this are no event number."""


class Broken(Reply):
    """The first thing that is not what was written."""

    seq: int | None
    why: str


class Verification(Reply):
    """What became of a look at chain, rows and schema."""

    ok: bool
    events: int
    rows: int
    head: str
    broken: Broken | None
    faults: int
    notes: list[str]


@router.get("/audit")
def list_events(
    store: Database,
    who: Admin,
    since: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> list[AuditEvent]:
    """Events in order: from a time on, or after an event's number; without ``since`` the newest."""
    number = since is not None and since.isdecimal() and len(since) <= SEQUENCE_DIGITS
    return dashboard.audit_events(store, since=int(since) if number and since is not None else since, most=limit)


@router.get("/audit/verify")
def verify_all(store: Database, who: Admin) -> Verification:
    """Look at chain, rows and schema; ``broken`` is the first thing that is not what was written."""
    with store.read() as connection:
        done = inspect_all(connection, keys=() if store.key is None else (store.key,))
    return Verification(
        ok=not done.faults,
        events=done.events,
        rows=done.rows,
        head=done.head,
        broken=Broken(seq=done.faults[0].seq, why=done.faults[0].why) if done.faults else None,
        faults=len(done.faults),
        notes=list(done.notes),
    )
