"""The audit log, for admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from trueup.feedback import audit, desk
from trueup.web.annotate.access import Admin, Database

router = APIRouter()

SEQUENCE_DIGITS = 12
"""Longer runs of digits than this are no event number."""


@router.get("/audit")
def list_events(
    store: Database,
    who: Admin,
    since: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> list[dict[str, Any]]:
    """Events in order: from a time on, or after an event's number; without ``since`` the newest."""
    number = since is not None and since.isdecimal() and len(since) <= SEQUENCE_DIGITS
    return desk.events(store, since=int(since) if number and since is not None else since, most=limit)


@router.get("/audit/verify")
def verify_chain(store: Database, who: Admin) -> dict[str, Any]:
    """Follow the whole chain; ``broken`` is the first event that is not what was written."""
    with store.read() as connection:
        broken = audit.verify(connection)
        count, head = audit.head(connection)
    found = None if broken is None else {"seq": broken.seq, "why": broken.why}
    return {"ok": broken is None, "events": count, "head": head, "broken": found}
