"""Whether a feedback database is as it was written: the chain of events, every row, the schema and its triggers.

Looked at from both sides: each row must have the hash that the last event about it recorded, and each row that the log
speaks of must be there. Somebody who can write the database can also write a new chain; against that stand the key
(``audit_key``) and a number and hash that were noted outside (``expect``).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from trueup.errors import DataError, UsageError
from trueup.feedback.store import chain, shape
from trueup.feedback.store.audit_key import AuditKey
from trueup.feedback.store.changes import ABSENT, COVERED, hashes
from trueup.feedback.store.opening import VERSIONS, version_of
from trueup.feedback.store.schema import audit_event, audit_proof, judgment, person


@dataclass(frozen=True, slots=True)
class LogFault:
    """One thing that is not as it was written."""

    seq: int
    """The event it is about; 0 where it is about none."""
    why: str


@dataclass(slots=True)
class Inspection:
    """What was looked at and what is wrong."""

    events: int = 0
    head: str = chain.GENESIS
    rows: int = 0
    faults: list[LogFault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was not looked at, and why."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The end of the log as somebody noted it."""

    seq: int
    hash: str


def parse_expected(text: str) -> Expected:
    """``N:HASH`` as ``verify`` prints it.

    Raises:
        UsageError: It is something else.
    """
    text = text.strip().lower()
    if not re.fullmatch(r"[0-9]{1,12}:[0-9a-f]{64}", text):
        raise UsageError(
            f"is {text[:90]!r}", where="--expect", expected="N:HASH, the number of events and 64 hexadecimal digits"
        )
    number, digest = text.split(":")
    if not int(number):  # it holds of every log, whatever became of it
        raise UsageError(
            "names no event, so it would hold of any log",
            where="--expect",
            expected="the number of an event, 1 or more, and its hash",
            fix="note what verify prints once the log has an event",
        )
    return Expected(int(number), digest)


def inspect_all(connection: Connection, *, expect: Expected | None = None, keys: Sequence[AuditKey] = ()) -> Inspection:
    """Look at everything, reading only.

    Args:
        connection: A reading transaction; it must see one moment.
        expect: Number and hash of the log's end as noted before.
        keys: Keys that the log was marked with; each must have marked something.

    Raises:
        DataError: It is no feedback database, or one of a version that this trueup does not know.
    """
    version = version_of(connection, "database")
    result = Inspection()
    if version is None:
        raise DataError("is empty", where="database", expected="a feedback database")
    with _any_text(connection):
        of_schema, missing = shape.faults(connection, version)
        if missing:  # what the log says cannot be compared with what cannot be read
            result.faults += [LogFault(0, why) for why in of_schema]
            return result
        covered = version == VERSIONS[-1]
        log = _Log({key.id: key for key in keys}, expect)
        for event in chain.read_events(connection, proofs=covered):
            log.take(event)
        log.end()
        result.faults += log.faults
        if covered:
            result.faults += _proofs_of_nothing(connection)
            result.faults += _rows(connection, log.rows, result)
        result.faults += _answers(connection, log, covered)
    result.faults += [LogFault(0, why) for why in of_schema]
    result.events, result.head = log.seq, log.hash
    result.notes += _notes(version, log)
    return result


class _Log:
    """Follows the chain; keeps the last hash of every row."""

    def __init__(self, keys: Mapping[str, AuditKey], expect: Expected | None) -> None:
        self.keys, self.expect = keys, expect
        self.seq, self.hash = 0, chain.GENESIS
        self.key: str | None = None
        self.rows: dict[tuple[str, str], tuple[str, int]] = {}
        """(table, id) -> hash after the last change, and the event of that change."""
        self.baseline: tuple[int, str] | None = None
        self.answers: list[Any] = []
        """Events of answers from before their rows were covered."""
        self.old: set[str] = set()
        """Judgments that were there when rows began to be covered."""
        self.imported = 0
        self.marked: set[str] = set()
        self.faults: list[LogFault] = []
        self._noted: str | None = chain.GENESIS

    def fault(self, seq: int, why: str) -> None:
        """Keep one."""
        self.faults.append(LogFault(seq, why))

    def take(self, event: Any) -> None:
        """The next event. What stands beside it may be of any type: SQLite holds what it is given."""
        if event.seq != self.seq + 1:
            last = f" to {event.seq - 1}" if event.seq > self.seq + 2 else ""
            self.fault(self.seq + 1, f"event {self.seq + 1}{last} is missing")
        if event.previous != self.hash:
            self.fault(event.seq, f"event {event.seq} does not follow the event before it")
        values = {name: getattr(event, name) for name in chain.FIELDS}
        if event.hash != chain.event_hash(event.previous, values):
            self.fault(event.seq, f"event {event.seq}: its content was changed")
        self.seq, self.hash = event.seq, event.hash
        if self.expect is not None and self.expect.seq == event.seq:
            self._noted = event.hash
        detail = _detail(event.detail)
        self._changes(event, detail)
        self._mark(event, detail)
        if event.action == chain.BASELINE and self.baseline is None:
            self.baseline = (event.seq, event.at)
        if self.baseline is None and event.action in ("judge", "supersede"):
            self.answers.append((event.seq, event.actor, event.object, detail))
        if self.baseline is None and event.action == "import_judged":
            judgments = detail.get("judgments")
            self.imported += judgments if isinstance(judgments, int) else 0

    def _changes(self, event: Any, detail: Mapping[str, Any]) -> None:
        """The rows that an event changed: each must have been as the event before it about that row left it."""
        text = _text(event.rows)
        lines = [line.split(" ") for line in text.split("\n")] if text else []
        if detail.get("rows_sha256") != (chain.rows_hash(text) if text else None):
            named = [" ".join(line[:2]) for line in lines[:3]]
            about = f"; it names {', '.join(named)}" if named else " or taken away"
            self.fault(event.seq, f"event {event.seq}: the hashes of the rows it changed were rewritten{about}")
        for line in lines:
            if len(line) != 4 or line[0] not in COVERED:
                self.fault(event.seq, f"event {event.seq}: a line of its rows cannot be read")
                continue
            table, identity, before, after = line
            known, seq = self.rows.get((table, identity), (ABSENT, 0))
            if before != known:
                since = f"after event {seq}" if seq else "before any event spoke of it"
                self.fault(event.seq, f"{table} {identity} was changed past the log {since}, before event {event.seq}")
            self.rows[table, identity] = (after, event.seq)
            if event.action == chain.BASELINE and table == judgment.name:
                self.old.add(identity)

    def _mark(self, event: Any, detail: Mapping[str, Any]) -> None:
        """The key's mark: from the first one on, every event carries that of the key in force."""
        starts = event.action == chain.CHANGE_KEY and self.key is None
        wanted = detail.get("key") if starts else self.key
        name = _text(event.key) or None
        if name != wanted:
            carried = f"the mark of the key {name}" if name else "no mark"
            self.fault(event.seq, f"event {event.seq} carries {carried}; that of the key {wanted} is due")
        if (name is None) != (event.mac is None):
            self.fault(event.seq, f"event {event.seq} carries half a mark: a key and its mark go together")
        key = self.keys.get(name or "")
        if key is not None and not key.marks(event.seq, event.hash, _text(event.mac)):
            self.fault(event.seq, f"event {event.seq}: its mark is not that of the key {name}")
        if name is not None:
            self.marked.add(name)
        self.key = detail.get("key") if event.action == chain.CHANGE_KEY else name

    def end(self) -> None:
        """What can only be said when the whole log was seen."""
        for name in self.keys:
            if name not in self.marked:
                self.fault(0, f"no event carries a mark of the key {name}: the log was rewritten, or never had it")
        if self.expect is None:
            return
        if self.expect.seq > self.seq:
            why = f"the log ends at event {self.seq}, and {self.expect.seq} were noted: its end was cut off, or an "
            self.fault(self.expect.seq, why + "older copy was put back")
        elif self.expect.hash != self._noted:
            why = f"event {self.expect.seq} has the hash {self._noted}, another one was noted: the log was rewritten"
            self.fault(self.expect.seq, why)


def _detail(text: Any) -> Mapping[str, Any]:
    """An event's detail; empty where it is none, which its hash tells."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else repr(value)


def _proofs_of_nothing(connection: Connection) -> Iterator[LogFault]:
    alone = select(audit_proof.c.event).where(audit_proof.c.event.not_in(select(audit_event.c.seq)))
    for seq in connection.execute(alone.order_by(audit_proof.c.event)).scalars():
        yield LogFault(seq, f"event {seq} is missing; the hashes of the rows it changed are still there")


def _rows(
    connection: Connection, recorded: dict[tuple[str, str], tuple[str, int]], result: Inspection
) -> Iterator[LogFault]:
    """Every row against the last event about it, and every such event against the rows. Empties ``recorded``."""
    for name, table in COVERED.items():
        for identity, digest in hashes(connection, table):
            result.rows += 1
            after, seq = recorded.pop((name, identity), (None, 0))
            if after is None:
                yield LogFault(0, f"{name} {identity} is in no event: it was inserted past the log")
            elif after == ABSENT:
                yield LogFault(seq, f"{name} {identity} is there again, though event {seq} deleted it")
            elif after != digest:
                yield LogFault(seq, f"{name} {identity} is not what event {seq} recorded: it was changed past the log")
    for (name, identity), (after, seq) in recorded.items():
        if after != ABSENT:
            yield LogFault(
                seq, f"{name} {identity} is gone, though event {seq} recorded it: it was deleted past the log"
            )


def _answers(connection: Connection, log: _Log, covered: bool) -> Iterator[LogFault]:
    """What events from before the rows were covered say of answers: which there are, whose, and of which body."""
    if covered and log.baseline is None:
        return
    columns = [judgment.c[name] for name in ("id", "item", "idempotency_key", "body_sha256")]
    query = select(*columns, person.c.pseudonym).join(person, person.c.id == judgment.c.person, isouter=True)
    judgments = {row.id: row for row in connection.execute(query)}
    for seq, actor, identity, detail in log.answers:
        row = judgments.pop(identity, None)
        if row is None:
            yield LogFault(seq, f"judgment {identity} is gone, though event {seq} recorded it")
        elif (row.body_sha256, row.pseudonym, row.item) != (detail.get("body"), actor, detail.get("item", row.item)):
            yield LogFault(seq, f"judgment {identity} has another body, item or annotator than event {seq} recorded")
    imported = 0
    for identity, row in judgments.items():
        if covered and identity not in log.old:
            continue
        if row.idempotency_key == f"import-{identity}":
            imported += 1
        else:
            yield LogFault(0, f"judgment {identity} is in no event: it was inserted past the log")
    if imported != log.imported:
        yield LogFault(0, f"{imported} imported judgments are there, the log recorded {log.imported}")


def _notes(version: str, log: _Log) -> list[str]:
    notes = []
    if version != VERSIONS[-1]:
        notes.append(
            f"schema version {version}: the log holds no hashes of rows, so only its chain was followed; "
            "`trueup feedback upgrade` begins to cover them"
        )
    if log.baseline is not None:
        seq, at = log.baseline
        notes.append(
            f"rows from before event {seq} ({at}) are covered as they were then, not as they were first written"
        )
    notes += [
        f"the marks of the key {name} were not checked: give its file with --key"
        for name in sorted(log.marked - set(log.keys))
    ]
    return notes


@contextlib.contextmanager
def _any_text(connection: Connection) -> Iterator[None]:
    """Let SQLite hand out text that is not UTF-8: it is a fault of one row, not the end of the inspection."""
    raw = connection.connection.driver_connection
    if connection.dialect.name != "sqlite" or raw is None:
        yield
        return
    before, raw.text_factory = raw.text_factory, lambda data: data.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        raw.text_factory = before
