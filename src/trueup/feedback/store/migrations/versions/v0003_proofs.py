"""The audit log holds the hash of every row that an event changed; rows that are there already are logged once."""

from __future__ import annotations

from alembic import op

from trueup.feedback.store.chain import baseline
from trueup.feedback.store.schema import metadata, triggers, truncate_triggers

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table with its triggers, refuse TRUNCATE, and log the rows as they are now."""
    connection = op.get_bind()
    metadata.create_all(connection, tables=[metadata.tables["audit_proof"]])
    statements = triggers(connection.dialect.name, ("audit_proof",))
    if connection.dialect.name == "postgresql":
        statements |= truncate_triggers()
    for statement in statements.values():
        op.execute(statement)
    baseline(connection)
