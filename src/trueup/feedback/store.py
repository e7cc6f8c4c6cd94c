"""Opening the feedback database: embedded SQLite by default, PostgreSQL by URL; the same tables and the same rules.

SQLite runs in WAL mode with ``synchronous=FULL``: a committed judgment survives a crash of the machine. Every write
transaction takes the write lock at once (``BEGIN IMMEDIATE``), because a reader that becomes a writer half-way is
refused as busy however long it waits; inside one process writers queue on a lock, which is fairer than SQLite's own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from trueup.errors import DataError, UsageError
from trueup.feedback.schema import stamp

Clock = Callable[[], datetime]


class Store:
    """One feedback database.

    Args:
        where: A file (SQLite) or a URL such as ``postgresql+psycopg://user@host/name``.
        clock: Gives the time; tests hand in their own.

    Raises:
        DataError: The file is not a database, or the server cannot be reached.
        UsageError: A URL of another kind.
    """

    def __init__(self, where: str | Path, *, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self.where = str(where)
        self.clock = clock
        self.engine = _engine(self.where)
        self.dialect = self.engine.dialect.name
        self._lock = threading.Lock()
        try:
            with self.write() as connection:
                _migrate(connection)
        except DatabaseError as error:
            raise DataError(
                f"the feedback database cannot be opened: {str(error.orig).splitlines()[0]}",
                where=self.where,
                fix="check the path or URL, and that the file is a trueup database",
            ) from error

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: all of it is stored, or nothing."""
        guard = self._lock if self.dialect == "sqlite" else contextlib.nullcontext()
        with guard, self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; it sees one moment and blocks no writer."""
        with self.engine.connect().execution_options(trueup_read=True) as connection:
            yield connection

    def now(self) -> str:
        """The clock's time as text."""
        return stamp(self.clock())

    def backup(self, target: Path) -> Path:
        """A consistent copy of an SQLite database while it is in use.

        Raises:
            UsageError: The store is not SQLite, or the target exists.
        """
        if self.dialect != "sqlite":
            raise UsageError("backup copies SQLite files", where=self.where, fix="use pg_dump for PostgreSQL")
        if target.exists():
            raise UsageError("exists already", where=str(target), expected="a new file")
        raw = self.engine.raw_connection()
        try:
            raw.cursor().execute("VACUUM INTO ?", (str(target),))
        finally:
            raw.close()
        return target

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _engine(where: str) -> Engine:
    if "://" in where and not where.startswith("sqlite:///"):
        if not where.startswith("postgresql"):
            raise UsageError(
                f"{where.split('://')[0]!r} databases are not supported",
                where="db",
                expected="a file, or postgresql+psycopg://...",
            )
        return create_engine(where, pool_size=10, max_overflow=30, pool_pre_ping=True)
    path = Path(where.removeprefix("sqlite:///"))
    if path.is_dir():
        raise UsageError("is a directory", where=str(path), expected="a file name such as feedback.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": 30})

    def connect(raw: Any, _: Any) -> None:
        raw.isolation_level = None  # transactions are begun below, not by the driver
        cursor = raw.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("trueup_read", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)
    return engine


def _migrate(connection: Connection) -> None:
    """Bring the schema to the newest version, inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
