"""What a database is, before anything is done to it, and the engines that write or only read it.

Nothing is created, migrated or switched to another journal mode before it is known that the database is empty or ours.
Reading needs no right to write and leaves nothing behind: an SQLite file that nobody has open is read without locks,
and refused if it changed meanwhile; else it is opened ``mode=ro``, or copied where its locks cannot be made.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from trueup.errors import DataError, TrueupError, UsageError, near_file
from trueup.feedback.store.changes import watch
from trueup.feedback.store.texts import dump_json, guard, load_json

AS_JSON: dict[str, Any] = {"json_serializer": dump_json, "json_deserializer": load_json}
VERSIONS = ("0001", "0002", "0003")
"""Schema versions, oldest first; the last one is ours."""
READABLE = VERSIONS[1:]
"""Versions that can be read without bringing them up."""
HEADER = b"SQLite format 3\0"
"""How every SQLite file begins; SQLite itself would write over a shorter one."""
WAIT_SECONDS = 30
"""How long a writer waits for another process to be done (SQLite)."""
CONNECT_SECONDS = 10
"""How long a database server may take to answer."""


def sqlite_path(where: str) -> Path | None:
    """The file of an SQLite database; None for a server."""
    if "://" in where and not where.startswith("sqlite:///"):
        return None
    return Path(where.removeprefix("sqlite:///"))


def require_file(path: Path) -> None:
    """Refuse to go on where there is no file, for whoever does not make one.

    Raises:
        UsageError: There is none; names those that are near.
    """
    if not path.exists():
        fix = near_file(path)
        raise UsageError("there is no such file", where=str(path), expected="a feedback database", fix=fix)


def shown(where: str) -> str:
    """``where`` as it may be told: without a password."""
    if sqlite_path(where) is not None:
        return where
    try:
        return make_url(where).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return where.split("://")[0] + "://..."


def writing_engine(where: str) -> Engine:
    """An engine that writes.

    Raises:
        UsageError: Another kind of database, or a directory.
    """
    path = sqlite_path(where)
    if path is None:
        engine = _server(where)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"check_same_thread": False, "timeout": WAIT_SECONDS},
            **AS_JSON,
        )
        pragmas = (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={WAIT_SECONDS * 1000}",
        )
        _sqlite(engine, pragmas)
    guard(engine)
    watch(engine)
    return engine


def reading_engine(where: str, *, leave_nothing: bool) -> tuple[Engine, Callable[[], None]]:
    """An engine that cannot write, and what to call after reading: it refuses what was read while the file changed.

    Args:
        where: File or URL.
        leave_nothing: Make no file for locks beside one that nobody has open.

    Raises:
        DataError: The file is empty or no database.
        UsageError: It is missing or cannot be read; or another kind of database.
    """
    path = sqlite_path(where)
    if path is None:
        return _server(where), lambda: None
    require_file(path)
    try:
        with path.open("rb") as file:
            begins = file.read(len(HEADER))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path), fix="check its permissions") from error
    if not begins:
        raise DataError("is empty: no database has been made here yet", where=str(path), expected="a feedback database")
    if begins != HEADER:
        raise DataError(
            "the feedback database cannot be opened: file is not a database", where=str(path), fix="check --db"
        )
    reader = _Reader(path, leave_nothing)
    engine = create_engine("sqlite://", creator=reader, poolclass=QueuePool, **AS_JSON)
    event.listen(engine, "engine_disposed", reader.forget)
    _sqlite(engine, (f"busy_timeout={WAIT_SECONDS * 1000}", "query_only=ON"))
    return engine, reader.must_be_unchanged


def version_of(connection: Connection, where: str) -> str | None:
    """Schema version of a feedback database; None if the database is empty.

    Raises:
        DataError: It is another program's, or of a version that this trueup does not know.
    """
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return None
    where = shown(where)
    if not {"audit_event", "alembic_version"} <= tables:
        some = ", ".join(sorted(tables)[:3])
        raise DataError(
            f"is another program's database, with {len(tables)} tables: {some}{', ...' if len(tables) > 3 else ''}",
            where=where,
            expected="a feedback database",
            fix="give the feedback room a file or a database of its own",
        )
    versions = [str(row[0]) for row in connection.execute(text("SELECT version_num FROM alembic_version"))]
    if len(versions) == 1 and versions[0] in VERSIONS:
        return versions[0]
    named = versions[0] if len(versions) == 1 else f"{len(versions)} versions"
    newer = len(versions) == 1 and versions[0].isdecimal() and int(versions[0]) > int(VERSIONS[-1])
    raise DataError(
        f"was written by a newer trueup: its schema version is {named}"
        if newer
        else f"its schema version is {named!r}",
        where=where,
        expected=f"a version up to {VERSIONS[-1]}",
        fix="update trueup" if newer else "compare with a backup",
    )


def migrate(connection: Connection, version: str = "head") -> None:
    """Bring the schema to a version, inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":  # two first openings at once: the second finds it done
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7521984)")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, version)


def explained(error: SQLAlchemyError, where: str, verb: str = "used") -> TrueupError:
    """A database's own error as ours: its first line, without the statement and its values."""
    original = error.orig if isinstance(error, DBAPIError) else error
    lines = str(original).splitlines()
    reason = lines[0] if lines else type(original).__name__
    fix = "check the path or URL, and that it is a trueup database"
    if "locked" in reason or "busy" in reason:
        fix = "another program holds it: close that one, or try again in a moment"
    elif "readonly" in reason or "permission denied" in reason:
        fix = "whoever writes needs the right to: of the file and its folder, or as a role of the server"
    elif "disk is full" in reason or "No space left" in reason:
        fix = "make room; nothing of this change was stored"
    elif "malformed" in reason:
        fix = "the file is damaged: take a backup, or save what is left with `sqlite3 FILE .recover`"
    return DataError(f"the feedback database cannot be {verb}: {reason}", where=shown(where), fix=fix)


def _server(where: str) -> Engine:
    scheme = where.split("://")[0]
    if scheme not in ("postgresql+psycopg", "postgresql", "postgres"):
        raise UsageError(
            f"{scheme!r} databases are not supported", where="db", expected="a file, or postgresql+psycopg://..."
        )
    try:
        url: URL = make_url(where).set(drivername="postgresql+psycopg")
        return create_engine(
            url,
            pool_size=10,
            max_overflow=30,
            pool_pre_ping=True,
            **AS_JSON,
            connect_args={"connect_timeout": CONNECT_SECONDS},
        )
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            "is no database URL", where=shown(where), expected="postgresql+psycopg://user@host:port/name"
        ) from error
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed", where=shown(where), fix="pip install 'trueup[postgres]'"
        ) from error


def _sqlite(engine: Engine, pragmas: tuple[str, ...]) -> None:
    def connect(raw: Any, _: Any) -> None:
        raw.isolation_level = None  # transactions are begun below, not by the driver
        cursor = raw.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("trueup_read", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)


class _Reader:
    """Opens an SQLite file for reading, in the first way that works."""

    def __init__(self, path: Path, leave_nothing: bool) -> None:
        self.path, self.leave_nothing = path, leave_nothing
        self.folder: str | None = None
        self.state: tuple[int, int] | None = None
        """Of a file that is read without locks: when it was last written, and its size."""

    def __call__(self) -> sqlite3.Connection:
        """A new connection."""
        address = f"file:{quote(str(self.path.absolute()))}"
        alone = not self._beside()
        if not (alone and self.leave_nothing):
            try:
                return _opened(f"{address}?mode=ro")
            except sqlite3.OperationalError as error:
                if "unable to open" not in str(error) and "readonly" not in str(error):
                    raise
        if alone:
            self.state = self.state or self._state()
            return _opened(f"{address}?mode=ro&immutable=1")
        if self.folder is None:  # changes wait beside it, and the locks to read them cannot be made here
            self.folder = tempfile.mkdtemp(prefix="trueup-read-")
            for source in (*self._beside(), self.path):
                shutil.copyfile(source, Path(self.folder) / source.name)
        return _opened(f"file:{quote(str(Path(self.folder) / self.path.name))}")

    def must_be_unchanged(self) -> None:
        """Refuse what was read without locks while somebody wrote.

        Raises:
            DataError: Somebody did.
        """
        if self.state is not None and (self._beside() or self._state() != self.state):
            raise DataError("was changed while it was read", where=str(self.path), fix="run it again")

    def forget(self, _: Engine) -> None:
        """Remove the copy, where one was made."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _beside(self) -> list[Path]:
        """Files in which changes wait."""
        return [beside for end in ("-wal", "-journal") if (beside := Path(f"{self.path}{end}")).exists()]

    def _state(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_mtime_ns, status.st_size


def _opened(address: str) -> sqlite3.Connection:
    raw = sqlite3.connect(address, uri=True, check_same_thread=False, timeout=WAIT_SECONDS)
    try:
        raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        raw.close()
        raise
    return raw
