"""The tables of the feedback store, one definition for SQLite and PostgreSQL.

Ids are UUIDv7 text, times are UTC text with microseconds, so both sort by time. What must never happen is forbidden by
the database itself: two seats of one item for one annotator, two judgments under one idempotency key, a changed or
deleted judgment.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def new_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (7 << 76)
    value = (value & ~(0x3 << 62)) | (2 << 62)
    return str(uuid.UUID(int=value))


def stamp(moment: datetime | None = None) -> str:
    """UTC with microseconds, ``2026-01-31T12:00:00.000000Z``."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _id() -> Column[str]:
    return Column("id", String(36), primary_key=True)


def _to(table: str, *, name: str | None = None, nullable: bool = False) -> Column[str]:
    return Column(name or table, String(36), ForeignKey(f"{table}.id"), nullable=nullable, index=True)


def _created() -> Column[str]:
    return Column("created_at", String(27), nullable=False)


project = Table(
    "project",
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),
    Column("state", String(10), nullable=False),
    Column("simulated", Boolean, nullable=False),
    _created(),
    CheckConstraint("state in ('draft', 'live', 'paused', 'closed')", name="state"),
)

guideline = Table(
    "guideline",
    metadata,
    _id(),
    _to("project"),
    Column("number", Integer, nullable=False),
    Column("markdown", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    _created(),
    UniqueConstraint("project", "number"),
)

person = Table(
    "person",
    metadata,
    _id(),
    Column("handle", String(80), nullable=False, unique=True),
    Column("pseudonym", String(40), nullable=False, unique=True),
    Column("role", String(12), nullable=False),
    Column("password_hash", String(200)),
    Column("active", Boolean, nullable=False),
    Column("simulated", Boolean, nullable=False),
    _created(),
    CheckConstraint("role in ('admin', 'lead', 'adjudicator', 'annotator', 'viewer')", name="role"),
)

acknowledgement = Table(
    "acknowledgement",
    metadata,
    _id(),
    _to("person"),
    _to("guideline"),
    _created(),
    UniqueConstraint("person", "guideline"),
)

template = Table(
    "template",
    metadata,
    _id(),
    _to("project"),
    Column("kind", String(12), nullable=False),
    Column("name", String(200), nullable=False),
    Column("config", JSON, nullable=False),
    _created(),
    UniqueConstraint("project", "name"),
)

prompt = Table(
    "prompt",
    metadata,
    _id(),
    _to("project"),
    Column("sha256", String(64), nullable=False),
    Column("turns", JSON, nullable=False),
    Column("split", String(10), nullable=False),
    _created(),
    UniqueConstraint("project", "sha256"),
    CheckConstraint("split in ('train', 'validation', 'test')", name="split"),
)

response = Table(
    "response",
    metadata,
    _id(),
    _to("prompt"),
    Column("text", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("generator", String(200), nullable=False),
    Column("generator_kind", String(10), nullable=False),
    _created(),
    UniqueConstraint("prompt", "sha256", "generator"),
)

item = Table(
    "item",
    metadata,
    _id(),
    _to("template"),
    _to("prompt"),
    Column("stream", String(12), nullable=False),
    Column("overlap", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", String(10), nullable=False),
    Column("repeat_of", String(36)),
    Column("gold", JSON(none_as_null=True)),
    Column("explanation", Text, nullable=False),
    Column("context", JSON, nullable=False),
    _created(),
    CheckConstraint("overlap >= 1", name="overlap"),
    CheckConstraint("state in ('open', 'satisfied', 'closed')", name="state"),
    Index("ix_item_queue", "state", "template", "priority"),
)

item_response = Table(
    "item_response",
    metadata,
    _id(),
    _to("item"),
    Column("place", Integer, nullable=False),
    _to("response"),
    UniqueConstraint("item", "place"),
    UniqueConstraint("item", "response"),
)

seat = Table(
    "seat",
    metadata,
    _id(),
    _to("item"),
    Column("slot", Integer, nullable=False),
    _to("person"),
    Column("state", String(10), nullable=False),
    Column("lease_until", String(27), nullable=False),
    Column("token", String(64), nullable=False, unique=True),
    Column("shown", JSON, nullable=False),
    Column("guideline", String(36)),
    Column("draft", JSON(none_as_null=True)),
    _created(),
    UniqueConstraint("item", "slot"),
    UniqueConstraint("item", "person"),
    CheckConstraint("state in ('leased', 'submitted')", name="state"),
)

judgment = Table(
    "judgment",
    metadata,
    _id(),
    _to("item"),
    _to("person"),
    Column("idempotency_key", String(80), nullable=False),
    Column("body_sha256", String(64), nullable=False),
    Column("answer", JSON(none_as_null=True)),
    Column("skip_reason", String(40)),
    Column("rationale", Text, nullable=False),
    Column("shown", JSON, nullable=False),
    Column("active_ms", Integer),
    Column("focus_lost", Integer),
    Column("guideline", String(36)),
    Column("revision", Integer, nullable=False),
    Column("supersedes", String(36), unique=True),
    Column("surplus", Boolean, nullable=False),
    _created(),
    UniqueConstraint("person", "idempotency_key"),
    UniqueConstraint("item", "person", "revision"),
    CheckConstraint("(answer is null) <> (skip_reason is null)", name="answer_or_skip"),
)

flag = Table(
    "flag",
    metadata,
    _id(),
    _to("item"),
    _to("person"),
    Column("reason", String(40), nullable=False),
    Column("note", Text, nullable=False),
    _created(),
)

audit_event = Table(
    "audit_event",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", String(27), nullable=False),
    Column("actor", String(80), nullable=False),
    Column("action", String(40), nullable=False),
    Column("object", String(80), nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
)

audit_proof = Table(
    "audit_proof",
    metadata,
    Column("event", Integer, ForeignKey("audit_event.seq"), primary_key=True, autoincrement=False),
    Column("rows", Text, nullable=False, info={"unlimited": True}),
    Column("key", String(16)),
    Column("mac", String(64)),
    CheckConstraint("(key is null) = (mac is null)", name="mac"),
)

session = Table(
    "session",
    metadata,
    _id(),
    _to("person"),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("expires_at", String(27), nullable=False),
    Column("address", String(32), nullable=False),
    _created(),
)

api_token = Table(
    "api_token",
    metadata,
    _id(),
    _to("person"),
    Column("name", String(80), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("expires_at", String(27), nullable=False),
    Column("last_used", String(27)),
    _created(),
)

adjudication = Table(
    "adjudication",
    metadata,
    _id(),
    _to("item"),
    _to("person"),
    Column("blind", JSON, nullable=False),
    Column("answer", JSON(none_as_null=True)),
    Column("cause", String(20)),
    Column("note", Text, nullable=False),
    Column("settled_at", String(27)),
    _created(),
    UniqueConstraint("item", "person"),
    CheckConstraint(
        "cause is null or cause in ('ambiguous', 'guideline_gap', 'annotator_error', 'value_difference')", name="cause"
    ),
    CheckConstraint("(settled_at is null) = (cause is null)", name="settled"),
)

export = Table(
    "export",
    metadata,
    _id(),
    _to("project"),
    _to("person"),
    Column("format", String(40), nullable=False),
    Column("options", JSON, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("dropped", JSON, nullable=False),
    Column("path", String(400), nullable=False),
    _created(),
)

APPEND_ONLY = ("judgment", "audit_event", "audit_proof")
"""Tables whose rows the database refuses to change or delete."""

REFUSE_CHANGE = " BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END; "
"""Body of the PostgreSQL function that the triggers call."""


def triggers(dialect: str, tables: Sequence[str] = APPEND_ONLY) -> dict[str, str]:
    """Name -> statement of the triggers that make tables append-only, for ``sqlite`` or ``postgresql``."""
    statements = {}
    for table in tables:
        for verb in ("UPDATE", "DELETE"):
            name = f"{table}_no_{verb.lower()}"
            if dialect == "postgresql":
                statements[name] = (
                    f"CREATE TRIGGER {name} BEFORE {verb} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_change()"
                )
            else:
                statements[name] = (
                    f"CREATE TRIGGER {name} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
    return statements


def truncate_triggers() -> dict[str, str]:
    """Name -> statement of the triggers that refuse PostgreSQL's TRUNCATE, which fires none for rows."""
    return {
        f"{table}_no_truncate": f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        for table in APPEND_ONLY
    }


def refuse_change() -> str:
    """Statement that makes the PostgreSQL function of the triggers."""
    return f"CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger AS $${REFUSE_CHANGE}$$ LANGUAGE plpgsql"
