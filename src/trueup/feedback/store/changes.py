"""Which rows a write transaction changes, and the hash of what a row holds.

``watch`` listens to an engine: whatever statement inserts, updates or deletes rows of a covered table inside
``Store.write`` is noticed here, so that no caller can forget to log its change. The hash is over the values as the
database holds them, not as Python reads them; columns that are null are left out, so that a column which a later
version adds changes no hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, Engine, Select, Table, Text, cast, event, select, type_coerce
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.types import NULLTYPE

from trueup.feedback.store.schema import audit_event, audit_proof, metadata

UNCOVERED = {"seat": ("lease_until", "draft"), "api_token": ("last_used",)}
"""Columns that change at every sign of life and decide nothing that lasts."""
COVERED: dict[str, Table] = {
    table.name: table for table in metadata.sorted_tables if table not in (audit_event, audit_proof)
}
"""Tables whose rows the log speaks for."""
ABSENT = "-"
"""Stands for the hash of a row that is not there."""
PENDING = "trueup_pending"
"""Key of a connection's ``info`` under which its transaction's ``Pending`` is."""
AT_ONCE = 500
"""Rows looked up with one statement."""
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=repr)


class Pending:
    """What a write transaction will log: events, and each changed row's hash before its first change."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.before: dict[tuple[str, str], str] = {}

    def lines(self, connection: Connection) -> Iterator[str]:
        """``table id hash-before hash-after`` of each row that is another one now."""
        ids: dict[str, list[str]] = {}
        for table, identity in self.before:
            ids.setdefault(table, []).append(identity)
        for name, wanted in ids.items():
            after = dict(hashes(connection, COVERED[name], wanted))
            for identity in wanted:
                old, new = self.before[name, identity], after.get(identity, ABSENT)
                if old != new:
                    yield f"{name} {identity} {old} {new}"


def hashes(connection: Connection, table: Table, ids: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Id and hash of a table's rows: those of ``ids``, or all in the order of their ids."""
    if ids is None:
        query = _raw(connection, table).order_by(table.c.id).execution_options(yield_per=AT_ONCE)
        yield from ((str(row.id), row_hash(table, row._mapping)) for row in connection.execute(query))
        return
    for begin in range(0, len(ids), AT_ONCE):
        query = _raw(connection, table).where(table.c.id.in_(ids[begin : begin + AT_ONCE]))
        yield from ((str(row.id), row_hash(table, row._mapping)) for row in connection.execute(query))


def row_hash(table: Table, values: Any) -> str:
    """SHA-256 of one row's covered columns."""
    present = {name: value for name, value in dict(values).items() if value is not None}
    return hashlib.sha256(_ENCODER.encode([table.name, present]).encode()).hexdigest()


def _raw(connection: Connection, table: Table) -> Select[Any]:
    """Covered columns as they are stored."""
    left_out = UNCOVERED.get(table.name, ())
    return select(*(_stored(connection, column) for column in table.c if column.name not in left_out))


def _stored(connection: Connection, column: Any) -> ColumnElement[Any]:
    if isinstance(column.type, JSON) and connection.dialect.name == "postgresql":
        return cast(column, Text).label(column.name)  # its driver would parse it
    return type_coerce(column, NULLTYPE).label(column.name)


def watch(engine: Engine) -> None:
    """Notice every change that goes through ``engine`` while a ``Pending`` is on its connection."""
    event.listen(engine, "before_execute", _before, retval=True)
    event.listen(engine, "after_cursor_execute", _after)


def _before(connection: Connection, statement: Any, many: Any, parameters: Any, _: Any) -> tuple[Any, Any, Any]:
    """An update or a delete: keep what the rows hold, before the first change."""
    pending: Pending | None = connection.info.get(PENDING)
    if pending is None or not isinstance(statement, (Update, Delete)):
        return statement, many, parameters
    table = statement.table
    if not isinstance(table, Table) or table.name not in COVERED:
        return statement, many, parameters
    if many:
        raise NotImplementedError("a change of many rows by a list of parameters cannot be logged")
    query = _raw(connection, table)
    if statement.whereclause is not None:
        query = query.where(statement.whereclause)
    if connection.dialect.name == "postgresql":
        # As the statement itself will lock: an update of no key must not hold up those who refer to the row.
        query = query.order_by(table.c.id).with_for_update(key_share=isinstance(statement, Update))
    rows = connection.execute(query).all()
    for row in rows:
        pending.before.setdefault((table.name, str(row.id)), row_hash(table, row._mapping))
    if connection.dialect.name == "postgresql":
        # A row that somebody commits between the two statements was not looked at, so it is not touched either.
        statement = statement.where(table.c.id.in_([row.id for row in rows]))
    return statement, many, parameters


def _after(connection: Connection, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: bool) -> None:
    """An insert: the rows were not there before."""
    pending: Pending | None = connection.info.get(PENDING)
    if pending is None or context.compiled is None or not isinstance(context.compiled.statement, Insert):
        return
    table = context.compiled.statement.table
    if table.name in COVERED:
        for values in context.compiled_parameters:
            pending.before.setdefault((table.name, values["id"]), ABSENT)
