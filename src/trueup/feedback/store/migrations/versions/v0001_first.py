"""The first schema: what is judged, by whom, the judgments and the audit log."""

from __future__ import annotations

from alembic import op

from trueup.feedback.store.schema import metadata, refuse_change, triggers

revision = "0001"
down_revision = None

TABLES = (
    "project guideline person acknowledgement template prompt response item item_response seat judgment flag "
    "audit_event"
).split()


def upgrade() -> None:
    """Create the tables and the append-only triggers.

    While no release has been made, a version takes its tables from ``schema.py``; the first change after a release
    must freeze them here.
    """
    connection = op.get_bind()
    metadata.create_all(connection, tables=[metadata.tables[name] for name in TABLES])
    if connection.dialect.name == "postgresql":
        op.execute(refuse_change())
    for statement in triggers(connection.dialect.name, ("judgment", "audit_event")).values():
        op.execute(statement)
