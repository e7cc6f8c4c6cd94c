"""The audit log: every change of consequence, each event hashed together with the one before it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from trueup.feedback.schema import audit_event

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Broken:
    """The first event of the chain that is not what was written."""

    seq: int
    why: str


def record(connection: Connection, at: str, actor: str, action: str, target: str, **detail: Any) -> None:
    """Append one event, in the same transaction as the change that it tells of.

    Args:
        connection: A write transaction.
        at: Time, as ``Store.now`` gives it.
        actor: Pseudonym or ``system``.
        action: A verb such as ``judge``.
        target: Id of what was changed.
        detail: JSON-able facts; no free text of annotators, so that the log can be kept for ever.
    """
    if connection.dialect.name == "postgresql":  # one writer at a time, or two events would follow the same one
        connection.exec_driver_sql("LOCK TABLE audit_event IN EXCLUSIVE MODE")
    last = connection.execute(select(audit_event.c.seq, audit_event.c.hash).order_by(audit_event.c.seq.desc()).limit(1))
    row = last.first()
    seq, previous = (row.seq + 1, row.hash) if row else (1, GENESIS)
    text = json.dumps(detail, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    values = {"seq": seq, "at": at, "actor": actor, "action": action, "object": target, "detail": text}
    digest = _hash(previous, values)
    connection.execute(insert(audit_event).values(**values, previous=previous, hash=digest))


def verify(connection: Connection) -> Broken | None:
    """Follow the chain; None if every event is as it was written and none is missing."""
    previous, expected = GENESIS, 1
    for row in connection.execute(select(audit_event).order_by(audit_event.c.seq)):
        if row.seq != expected:
            return Broken(expected, f"event {expected} is missing")
        values = {name: getattr(row, name) for name in ("seq", "at", "actor", "action", "object", "detail")}
        if row.previous != previous:
            return Broken(row.seq, "it does not follow the event before it")
        if row.hash != _hash(previous, values):
            return Broken(row.seq, "its content was changed")
        previous, expected = row.hash, expected + 1
    return None


def head(connection: Connection) -> tuple[int, str]:
    """Number of events and the hash of the last one: note it elsewhere, and a cut-off tail is seen as well."""
    count = connection.execute(select(func.count()).select_from(audit_event)).scalar_one()
    last = connection.execute(select(audit_event.c.hash).order_by(audit_event.c.seq.desc()).limit(1)).scalar()
    return int(count), str(last or GENESIS)


def _hash(previous: str, values: dict[str, Any]) -> str:
    text = json.dumps([previous, values], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
