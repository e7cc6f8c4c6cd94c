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
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from trueup.errors import DataError, UsageError
from trueup.feedback.store import chain, opening
from trueup.feedback.store.audit_key import AuditKey, key_of_environment
from trueup.feedback.store.changes import PENDING, Pending
from trueup.feedback.store.schema import stamp

Clock = Callable[[], datetime]
T = TypeVar("T")


class Store:
    """One feedback database.

    Args:
        where: A file (SQLite) or a URL such as ``postgresql+psycopg://user@host/name``.
        clock: Gives the time; tests hand in their own.
        key: Key that marks the audit log; by default the one that the environment gives.
        read_only: Open what is there for reading: nothing is made, brought up or changed, and no right to write is
            needed.
        must_exist: Open what is there for reading and writing, and make no database and no folder.

    Raises:
        DataError: It is no feedback database, one of a newer version, or it cannot be reached.
        UsageError: A URL of another kind, a directory, or the audit log is marked with a key that is not at hand.
    """

    def __init__(
        self,
        where: str | Path,
        *,
        clock: Clock = lambda: datetime.now(UTC),
        key: AuditKey | None = None,
        read_only: bool = False,
        must_exist: bool = False,
    ) -> None:
        self.where = str(where)
        self.clock = clock
        self.read_only = read_only
        self.version = opening.VERSIONS[-1]
        self.key = None if read_only else key or key_of_environment()
        self._lock = threading.Lock()
        self._after_reading: Callable[[], None] = lambda: None
        path = opening.sqlite_path(self.where)
        if path is not None and path.is_dir():
            raise UsageError("is a directory", where=str(path), expected="a file name such as feedback.db")
        if path is not None and path.exists() and not path.is_file():
            raise UsageError("is a pipe or a device", where=str(path), expected="a file name such as feedback.db")
        if must_exist and path is not None:
            opening.require_file(path)
        with self._explained():
            self._open(path)

    def _open(self, path: Path | None) -> None:
        version = None
        if self.read_only or path is None or (path.exists() and path.stat().st_size):
            self.engine, self._after_reading = opening.reading_engine(self.where, leave_nothing=self.read_only)
            with self.read() as connection:
                version = opening.version_of(connection, self.where)
            if not self.read_only:
                self.engine.dispose()
                self._after_reading = lambda: None
        if self.read_only:
            self.version = self._readable(version)
        else:
            self.engine = opening.writing_engine(self.where)
            self._bring_up(version)
        self.dialect = self.engine.dialect.name

    def _readable(self, version: str | None) -> str:
        if version in opening.READABLE:
            return version
        raise DataError(
            "is empty: no feedback database has been made here yet"
            if version is None
            else f"is of schema version {version}, too old to be read as it is",
            where=opening.shown(self.where),
            expected=f"a feedback database of version {opening.READABLE[0]} to {opening.READABLE[-1]}",
            fix="bring it up with `trueup feedback upgrade`" if version else None,
        )

    def _bring_up(self, version: str | None) -> None:
        if version != opening.VERSIONS[-1]:
            with self.engine.begin() as connection:
                opening.migrate(connection)
        with self.read() as connection:
            in_force = chain.chain_end(connection).key
        if in_force is not None:
            chain.must_be(in_force, self.key)

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: all of it is stored and logged, or nothing.

        Raises:
            UsageError: The store was opened for reading, or the audit log is marked with another key.
        """
        if self.read_only:
            raise UsageError("was opened for reading only", where=opening.shown(self.where))
        guard = self._lock if self.dialect == "sqlite" else contextlib.nullcontext()
        with guard, self.engine.begin() as connection:
            connection.info[PENDING] = Pending()
            try:
                yield connection
                chain.append_pending(connection, self.now, self.key)
            finally:
                del connection.info[PENDING]

    def write_twice(self, work: Callable[[Connection], T]) -> T:
        """``work`` in a write transaction; once more where another process stored first what excludes it.

        The second time sees what the other one stored, so that a retry is answered as a retry.
        """
        try:
            with self.write() as connection:
                return work(connection)
        except IntegrityError:
            with self.write() as connection:
                return work(connection)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; it sees one moment and blocks no writer."""
        options: dict[str, Any] = {"trueup_read": True}
        if self.engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self.engine.connect().execution_options(**options) as connection:
            yield connection
        self._after_reading()

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

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, SQLAlchemyError):
            raise opening.explained(error, self.where) from error

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if hasattr(self, "engine"):
                self.engine.dispose()
            if isinstance(error, SQLAlchemyError):
                raise opening.explained(error, self.where, "opened") from error
            raise
