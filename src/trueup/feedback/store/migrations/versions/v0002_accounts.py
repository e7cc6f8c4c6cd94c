"""Sessions and API tokens, settled disagreements, and what was exported."""

from __future__ import annotations

from alembic import op

from trueup.feedback.store.schema import metadata

revision = "0002"
down_revision = "0001"

TABLES = ("session", "api_token", "adjudication", "export")


def upgrade() -> None:
    """Create the tables."""
    metadata.create_all(op.get_bind(), tables=[metadata.tables[name] for name in TABLES])
