"""Whether the tables, constraints and triggers of a feedback database are those that its version makes.

SQLite keeps the text of every statement that made something, so a database of the same version is made in memory and
the texts are compared. PostgreSQL keeps none: its catalogue is compared with what ``schema`` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import CheckConstraint, Connection, Table, UniqueConstraint, create_engine, inspect, text

from trueup.feedback.store.opening import VERSIONS, migrate
from trueup.feedback.store.schema import APPEND_ONLY, REFUSE_CHANGE, metadata, triggers, truncate_triggers

SINCE = {"audit_proof": "0003", **dict.fromkeys(("session", "api_token", "adjudication", "export"), "0002")}
"""Version that made a table; the first one made the others."""


def faults(connection: Connection, version: str) -> tuple[list[str], bool]:
    """What is not as the version makes it, and whether tables or columns are missing, so that rows cannot be read."""
    look = inspect(connection)
    tables = set(look.get_table_names())
    differences, missing = [], []
    for name, table in _tables(version).items():
        if name not in tables:
            missing.append(f"the table {name} is missing")
            continue
        columns = {column["name"] for column in look.get_columns(name)}
        missing += [f"the column {name}.{c.name} is missing" for c in table.c if c.name not in columns]
    early = sorted(name for name in set(metadata.tables) - set(_tables(version)) if name in tables)
    differences += [f"the table {name} is there, which schema version {version} does not have" for name in early]
    if connection.dialect.name == "sqlite":
        differences += _sqlite(connection, version)
    else:
        differences += _postgresql_triggers(connection, version)
        differences += [
            why
            for name, table in _tables(version).items()
            if name in tables
            for why in _postgresql_table(connection, table)
        ]
    return missing + differences, bool(missing)


def _tables(version: str) -> dict[str, Table]:
    return {name: table for name, table in metadata.tables.items() if SINCE.get(name, VERSIONS[0]) <= version}


def _sqlite(connection: Connection, version: str) -> Iterator[str]:
    wanted, present = _made_by(version), _statements(connection)
    for (kind, name), (table, statement) in wanted.items():
        if (kind, name) not in present:
            if kind != "table":
                yield f"the {kind} {name} of the table {table} is missing"
        elif present[kind, name] != (table, statement):
            yield f"the {kind} {name} was altered: it is not as schema version {version} makes it"
    for (kind, name), (table, statement) in present.items():
        ours = table in metadata.tables
        if (kind, name) not in wanted and ours and (kind == "trigger" or statement.startswith("create unique")):
            yield f"the {kind} {name} of the table {table} is none of ours"
    for line in connection.execute(text("PRAGMA integrity_check(20)")).scalars():
        if line != "ok":
            yield f"the file is damaged: {line}"


@lru_cache(maxsize=len(VERSIONS))
def _made_by(version: str) -> Mapping[tuple[str, str], tuple[str, str]]:
    """The statements of a new database of a version."""
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as reference:
            migrate(reference, version)
            return _statements(reference)
    finally:
        engine.dispose()


def _statements(connection: Connection) -> dict[tuple[str, str], tuple[str, str]]:
    """(kind, name) -> table and statement, in small letters and without white space that means nothing."""
    query = text("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~'")
    return {(row.type, row.name): (row.tbl_name, _plain(row.sql or "")) for row in connection.execute(query)}


def _plain(statement: str) -> str:
    return re.sub(r"\s*([(),;])\s*", r"\1", re.sub(r"\s+", " ", statement)).replace('"', "").lower().strip()


def _postgresql_triggers(connection: Connection, version: str) -> Iterator[str]:
    wanted = triggers("postgresql", APPEND_ONLY if version >= SINCE["audit_proof"] else APPEND_ONLY[:2])
    if version >= SINCE["audit_proof"]:
        wanted |= truncate_triggers()
    query = text(
        "SELECT t.tgname, c.relname, t.tgenabled, pg_get_triggerdef(t.oid) AS definition FROM pg_trigger t "
        "JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace"
    )
    present = {row.tgname: row for row in connection.execute(query) if row.relname in metadata.tables}
    for name, statement in wanted.items():
        if name not in present:
            yield f"the trigger {name} is missing"
        elif present[name].tgenabled not in ("O", "A", b"O", b"A"):
            yield f"the trigger {name} is switched off"
        elif re.sub(r"\b\w+\.", "", present[name].definition) != statement:
            yield f"the trigger {name} was altered: it is not as schema version {version} makes it"
    yield from (
        f"the trigger {name} of the table {present[name].relname} is none of ours"
        for name in present
        if name not in wanted
    )
    body = text(
        "SELECT prosrc FROM pg_proc WHERE proname = 'refuse_change' AND pronamespace = current_schema()::regnamespace"
    )
    if list(connection.execute(body).scalars()) != [REFUSE_CHANGE]:
        yield "the function refuse_change of the triggers was altered"


def _postgresql_table(connection: Connection, table: Table) -> Iterator[str]:
    look, dialect = inspect(connection), connection.dialect
    columns = {column["name"]: column for column in look.get_columns(table.name)}
    for name in columns.keys() - set(table.c.keys()):
        yield f"the column {table.name}.{name} is none of ours"
    for column in table.c:
        present = columns.get(column.name)
        if present is not None and (
            present["type"].compile(dialect) != column.type.compile(dialect)
            or bool(present["nullable"]) != bool(column.nullable)
            or present["default"] is not None
        ):
            yield f"the column {table.name}.{column.name} was altered"
    yield from (f"a constraint or index of the table {table.name} {why}" for why in _constraints(look, dialect, table))
    query = text(
        "SELECT relrowsecurity OR relhasrules AS hides, "
        "EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = c.oid) AS grown "
        "FROM pg_class c WHERE relname = :name AND relnamespace = current_schema()::regnamespace"
    )
    row = connection.execute(query, {"name": table.name}).one()
    if row.hides:
        yield f"the table {table.name} has rules or row security: it may show other rows than it holds"
    if row.grown:
        yield f"another table inherits from the table {table.name}, and its rows are seen in it"


def _constraints(look: Any, dialect: Any, table: Table) -> Iterator[str]:
    name, preparer = table.name, dialect.identifier_preparer
    wanted: set[Any] = {("primary key", tuple(table.primary_key.columns.keys()))}
    present: set[Any] = {("primary key", tuple(look.get_pk_constraint(name)["constrained_columns"]))}
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            wanted.add(("unique", tuple(sorted(constraint.columns.keys()))))
        elif isinstance(constraint, CheckConstraint):
            wanted.add(("check", preparer.format_constraint(constraint), _plain_check(str(constraint.sqltext))))
    wanted |= {("foreign key", key.parent.name, key.column.table.name) for key in table.foreign_keys}
    wanted |= {("index", preparer.format_index(index)) for index in table.indexes}
    present |= {("unique", tuple(sorted(row["column_names"]))) for row in look.get_unique_constraints(name)}
    present |= {("check", row["name"], _plain_check(row["sqltext"])) for row in look.get_check_constraints(name)}
    present |= {
        ("foreign key", row["constrained_columns"][0], row["referred_table"]) for row in look.get_foreign_keys(name)
    }
    present |= {("index", row["name"]) for row in look.get_indexes(name)}
    for row in sorted(wanted - present, key=str):
        yield f"is missing or altered: {row[0]} {row[1]}"
    for row in sorted(present - wanted, key=str):
        if row[0] != "index" and (row[0] != "check" or row[1] not in {w[1] for w in wanted if w[0] == "check"}):
            yield f"is none of ours: {row[0]} {row[1]}"


def _plain_check(condition: str) -> str:
    """A condition without casts, brackets and white space, as both we and PostgreSQL write it."""
    without = re.sub(r"::[a-z ]+(\[\])?", "", condition.lower())
    return re.sub(r"[()\[\]\s]", "", without).replace("=anyarray", "in")
