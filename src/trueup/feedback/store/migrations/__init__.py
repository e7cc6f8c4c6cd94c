"""Alembic migrations of the feedback store; ``store.Store`` runs them when it opens a database."""
