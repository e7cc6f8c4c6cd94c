"""The same store tests on SQLite and on PostgreSQL, each test with a database of its own."""

import os
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from trueup.feedback.store.database import Store

SERVER = os.environ.get("TRUEUP_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")


class Clock:
    """A clock that tests move by hand; it also ticks a microsecond at each look, so that order is kept."""

    def __init__(self):
        self.moment = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def __call__(self):
        self.moment += timedelta(microseconds=1)
        return self.moment

    def forward(self, **by):
        self.moment += timedelta(**by)


def _server():
    psycopg = pytest.importorskip("psycopg")
    address = SERVER.replace("postgresql+psycopg", "postgresql")
    try:
        return psycopg.connect(address, autocommit=True, connect_timeout=30)
    except psycopg.OperationalError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no PostgreSQL server at {SERVER}: {error}; set TRUEUP_TEST_POSTGRES")


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """A fresh database: a file, or a throw-away PostgreSQL database."""
    if request.param == "sqlite":
        yield str(tmp_path / "feedback.db")
        return
    name = f"trueup_test_{uuid.uuid4().hex[:12]}"
    with _server() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield SERVER.rsplit("/", 1)[0] + "/" + name
    with _server() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(where, clock):
    with Store(where, clock=clock) as opened:
        yield opened
