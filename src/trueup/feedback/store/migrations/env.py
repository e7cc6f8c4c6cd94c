"""Where Alembic enters: it runs the versions on the connection that ``store.Store`` hands over."""

from __future__ import annotations

from alembic import context

from trueup.feedback.store.schema import metadata


def run() -> None:
    """Run the migrations inside the caller's transaction."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata)
    context.run_migrations()


if getattr(context, "_proxy", None) is not None:  # Alembic is at work; a plain import of this file does nothing
    run()
