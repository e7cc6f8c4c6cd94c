"""The first schema."""

from __future__ import annotations

from alembic import op

from trueup.feedback.schema import metadata, triggers

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table and the append-only triggers.

    While no release has been made, the first version is the schema of ``schema.py`` itself; the first change after a
    release must freeze this one.
    """
    connection = op.get_bind()
    metadata.create_all(connection)
    for statement in triggers(connection.dialect.name):
        op.execute(statement)
