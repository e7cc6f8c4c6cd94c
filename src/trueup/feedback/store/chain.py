"""The chain of audit events: each is hashed together with the one before it and with the rows that it changed.

What a transaction records waits in its ``Pending`` and is written at its end, so that the lock that keeps events in
one order is held for a moment. Beside an event stand the hashes of the rows it changed, and the mark of the key where
there is one (``audit_proof``); the event's own text holds their hash.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, func, insert, inspect, null, select

from trueup.errors import UsageError
from trueup.feedback.store.audit_key import AuditKey
from trueup.feedback.store.changes import ABSENT, COVERED, PENDING, Pending, hashes
from trueup.feedback.store.schema import audit_event, audit_proof, stamp
from trueup.feedback.store.texts import sha256_of

GENESIS = "0" * 64
FIELDS = ("seq", "at", "actor", "action", "object", "detail")
"""What an event's hash is over, with the hash before it."""
ROWS_AT_ONCE = 5_000
"""Changed rows of one event; more are spread over several."""
CHANGE_KEY, START_KEY, BASELINE, ROWS = "change_key", "start_key", "baseline", "rows"
"""Actions that the store records by itself."""


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Where the chain ends, and the id of the key that marks the next event."""

    seq: int
    hash: str
    key: str | None


def record(connection: Connection, at: str, actor: str, action: str, target: str, **detail: Any) -> None:
    """Have one event appended at the end of the transaction that makes the change which it tells of.

    Args:
        connection: A write transaction of ``Store.write``.
        at: Time, as ``Store.now`` gives it.
        actor: Pseudonym or ``system``.
        action: A verb such as ``judge``.
        target: Id of what was changed.
        detail: JSON-able facts; no free text of annotators, so that the log can be kept for ever.
    """
    pending: Pending = connection.info[PENDING]
    pending.events.append({"at": at, "actor": actor, "action": action, "object": target, "detail": detail})


def append_pending(connection: Connection, now: Callable[[], str], key: AuditKey | None) -> None:
    """Write what the transaction recorded, with the rows that it changed; rows without an event get one.

    Raises:
        UsageError: The log is marked with a key, and ``key`` is another one or none.
    """
    pending: Pending = connection.info[PENDING]
    groups = list(_batched(pending.lines(connection))) or [()]
    if not pending.events and groups == [()]:
        return
    *others, last = pending.events or [_own(now(), ROWS, "rows")]
    spread = [_own(last["at"], ROWS, last["object"]) for _ in groups[1:]]
    _lock(connection)
    end = chain_end(connection)
    if key is not None and end.key is None:
        end = _append(connection, end, _own(last["at"], CHANGE_KEY, "log", key=key.id), (), key)
    must_be(end.key, key)
    for event, lines in zip([*others, *spread, last], [*(() for _ in others), *groups], strict=True):
        end = _append(connection, end, event, lines, key)


def change_key(connection: Connection, at: str, old: AuditKey | None, new: AuditKey | None) -> None:
    """Mark what follows with another key, or none.

    The event that says so carries the old one's mark, and the next one, at once, that of the new.

    Raises:
        UsageError: ``old`` is not the key in force, or nothing would change.
    """
    _lock(connection)
    end = chain_end(connection)
    must_be(end.key, old)
    if end.key == (new.id if new else None):
        raise UsageError("the log is marked with this key already" if new else "the log has no key", where="key")
    end = _append(connection, end, _own(at, CHANGE_KEY, "log", key=new.id if new else None), (), old or new)
    if old is not None and new is not None:
        _append(connection, end, _own(at, START_KEY, "log"), (), new)


def must_be(in_force: str | None, key: AuditKey | None) -> None:
    """Refuse to write without the key that marks the log.

    Raises:
        UsageError: Says which key is needed.
    """
    if in_force == (key.id if key else None):
        return
    offered = f"the key given is {key.id}" if key else "no key was given"
    raise UsageError(
        f"the audit log is marked with the key {in_force}, and {offered}"
        if in_force
        else f"{offered}, the log has none",
        where="audit key",
        expected="the key that the log is marked with",
        fix="set TRUEUP_AUDIT_KEY_FILE to its file, or change it with `trueup feedback key change`",
    )


def baseline(connection: Connection) -> None:
    """Log the rows of a database that was used before the log held their hashes: from here on they are covered."""
    there = set(inspect(connection).get_table_names())
    lines = (
        f"{name} {identity} {ABSENT} {digest}"
        for name, table in COVERED.items()
        if name in there
        for identity, digest in hashes(connection, table)
    )
    at, end = stamp(), chain_end(connection)
    for group in _batched(lines):
        end = _append(connection, end, _own(at, BASELINE, "rows"), group, None)


def chain_end(connection: Connection) -> ChainEnd:
    """The last event, and which key marks the next one."""
    row = connection.execute(
        select(audit_event, audit_proof.c.key)
        .outerjoin(audit_proof, audit_proof.c.event == audit_event.c.seq)
        .order_by(audit_event.c.seq.desc())
        .limit(1)
    ).first()
    if row is None:
        return ChainEnd(0, GENESIS, None)
    return ChainEnd(row.seq, row.hash, next_key(row.action, row.detail, row.key))


def next_key(action: str, detail: str, key: str | None) -> str | None:
    """Id of the key that marks the event after this one."""
    if action != CHANGE_KEY:
        return key
    following = json.loads(detail).get("key")
    return None if following is None else str(following)


def event_hash(previous: str, values: dict[str, Any]) -> str:
    """Hash of an event's ``FIELDS`` together with the hash before it."""
    text = json.dumps([previous, values], sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=repr)
    return sha256_of(text)


def rows_hash(rows: str) -> str:
    """What an event's detail says of the hashes beside it."""
    return sha256_of(rows)


def read_events(connection: Connection, *, proofs: bool = True) -> Iterator[Any]:
    """All events in order with what stands beside each: ``rows``, ``key`` and ``mac``, null where there is none.

    ``proofs`` is false for a database from before there was anything beside them.
    """
    query = select(audit_event, null().label("rows"), null().label("key"), null().label("mac"))
    if proofs:
        query = select(audit_event, audit_proof.c.rows, audit_proof.c.key, audit_proof.c.mac).outerjoin(
            audit_proof, audit_proof.c.event == audit_event.c.seq
        )
    yield from connection.execute(query.order_by(audit_event.c.seq).execution_options(yield_per=500))


def count(connection: Connection) -> int:
    """Number of events."""
    return int(connection.execute(select(func.count()).select_from(audit_event)).scalar_one())


def _batched(lines: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Groups of at most ``ROWS_AT_ONCE``."""
    rest = iter(lines)
    while group := tuple(islice(rest, ROWS_AT_ONCE)):
        yield group


def _own(at: str, action: str, target: str, **detail: Any) -> dict[str, Any]:
    return {"at": at, "actor": "system", "action": action, "object": target, "detail": detail}


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # one writer at a time, or two events would follow the same one
        connection.exec_driver_sql("LOCK TABLE audit_event IN EXCLUSIVE MODE")


def _append(
    connection: Connection, end: ChainEnd, event: dict[str, Any], lines: tuple[str, ...], key: AuditKey | None
) -> ChainEnd:
    rows = "\n".join(lines)
    detail = event["detail"] | ({"rows_sha256": rows_hash(rows)} if rows else {})
    text = json.dumps(detail, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    values = {**event, "seq": end.seq + 1, "detail": text}
    digest = event_hash(end.hash, values)
    connection.execute(insert(audit_event).values(**values, previous=end.hash, hash=digest))
    if rows or key is not None:
        mac = key.mark(values["seq"], digest) if key is not None else None
        proof = {"event": values["seq"], "rows": rows, "key": key.id if key is not None else None, "mac": mac}
        connection.execute(insert(audit_proof).values(**proof))
    return ChainEnd(values["seq"], digest, next_key(event["action"], text, key.id if key is not None else None))
