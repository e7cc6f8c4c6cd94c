"""What is no feedback database of this version is a sentence; reading makes nothing and needs no right to write."""

import os
import shutil
import sqlite3
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.feedback.conftest import SERVER
from tests.feedback.test_integrity import psycopg_connection
from trueup.errors import DataError, UsageError
from trueup.feedback.store import audit, opening
from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import add_person, create_project
from trueup.feedback.store.schema import project


def foreign(path, *statements):
    raw = sqlite3.connect(path)
    for statement in statements or ("CREATE TABLE cookies (a)",):
        raw.execute(statement)
    raw.commit()
    raw.close()


NO_DATABASES = {
    "there is no such file": lambda path: None,
    "is empty": lambda path: path.touch(),
    "is a directory": lambda path: path.mkdir(),
    "file is not a database": lambda path: path.write_text("x"),
    "not a database": lambda path: path.write_bytes(b"not a database" * 300),
    "is a pipe or a device": os.mkfifo,
    "another program's database, with 1 tables: cookies": foreign,
    "another program's database": lambda path: foreign(path, "CREATE TABLE alembic_version (version_num)"),
    "is empty: no feedback": lambda path: foreign(path, "CREATE TABLE t (a)", "DROP TABLE t"),
}


@pytest.mark.parametrize("said", NO_DATABASES)
def test_reading_refuses_what_is_no_feedback_database_and_leaves_it_as_it_was(tmp_path, said):
    path = tmp_path / "x.db"
    NO_DATABASES[said](path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises((DataError, UsageError), match=said):
        Store(path, read_only=True)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert [entry.name for entry in tmp_path.iterdir()] == (["x.db"] if path.exists() else [])


@pytest.mark.parametrize("said", [name for name in NO_DATABASES if "program" in name or "not a" in name])
def test_writing_leaves_other_programs_files_alone(tmp_path, said):
    path = tmp_path / "x.db"
    NO_DATABASES[said](path)
    before = path.read_bytes()
    with pytest.raises(DataError, match=said):
        Store(path)
    assert path.read_bytes() == before


def test_writing_takes_a_new_an_empty_and_a_nested_place(tmp_path):
    (tmp_path / "empty.db").touch()
    for name in ("empty.db", "new.db", "a/b/new.db", "what?mode=ro #1 50% ä.db"):
        with Store(tmp_path / name) as store:
            create_project(store, "p")
        assert (tmp_path / name).stat().st_size > 0
        with Store(tmp_path / name, read_only=True) as store, store.read() as connection:
            assert audit.first_fault(connection) is None


def test_a_room_in_use_is_read_at_one_moment(where):
    """Somebody writes all the while; no look sees half of a change."""
    with Store(where) as store:
        create_project(store, "p")
        over = threading.Event()

        def write():
            for number in range(40):
                add_person(store, f"w{number}")
            over.set()

        thread = threading.Thread(target=write)
        thread.start()
        seen = set()
        while not over.is_set():
            with Store(where, read_only=True) as reading, reading.read() as connection:
                assert audit.first_fault(connection) is None
                seen.add(audit.end_of_log(connection)[0])
        thread.join()
    assert seen


@pytest.mark.parametrize(
    ("version", "said"),
    [("0099", "newer trueup"), ("0004", "newer trueup"), ("abc", "'abc'"), ("0000", "'0000'"), ("", "''")],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_other_versions_are_a_sentence(where, version, said, read_only):
    with Store(where) as store, store.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")
    with pytest.raises(DataError, match=said):
        Store(where, read_only=read_only)


def test_a_version_too_old_to_read_says_how_to_bring_it_up(tmp_path):
    with Store(tmp_path / "x.db") as store, store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(DataError, match="trueup feedback upgrade"):
        Store(tmp_path / "x.db", read_only=True)


def test_a_store_for_reading_writes_nothing(where):
    Store(where).close()
    with Store(where, read_only=True) as store:
        with pytest.raises(UsageError, match="reading only"):
            create_project(store, "p")
        with store.read() as connection, pytest.raises(Exception, match=r"read-?only"):
            connection.exec_driver_sql("INSERT INTO project VALUES ('a', 'b', 'live', false, 'c')")


@contextmanager
def nobody():
    """Act as a user who may write nothing of ours; does nothing for one who is no superuser."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that everybody may read."""
    folder = Path(tempfile.mkdtemp(prefix="trueup-test-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("state", ["closed", "open", "left over"])
def test_reading_needs_no_right_to_write_and_leaves_nothing(open_folder, state):
    path = open_folder / "feedback.db"
    store = Store(path)
    create_project(store, "p")
    if state == "closed":
        store.close()
    if state == "left over":  # a copy with changes that wait beside it, and no file for locks
        for name in ("feedback.db", "feedback.db-wal"):
            shutil.copy(open_folder / name, open_folder / f"copy-{name}")
        store.close()
        path = open_folder / "copy-feedback.db"
    names = {entry.name for entry in open_folder.iterdir()}
    for entry in open_folder.iterdir():
        entry.chmod(0o444)
    open_folder.chmod(0o555)
    with nobody(), Store(path, read_only=True) as reading, reading.read() as connection:
        assert connection.execute(select(project.c.name)).scalars().all() == ["p"]
        assert audit.first_fault(connection) is None
    assert {entry.name for entry in open_folder.iterdir()} == names
    store.close()


def test_what_changed_while_it_was_read_without_locks_is_refused(tmp_path):
    path = tmp_path / "x.db"
    Store(path).close()
    reading = Store(path, read_only=True)
    look = reading.read()
    look.__enter__().execute(select(project)).all()
    with Store(path) as store:
        create_project(store, "p")
    with pytest.raises(DataError, match="changed while it was read"):
        look.__exit__(None, None, None)
    reading.close()


def test_a_database_that_somebody_holds_is_a_sentence(tmp_path, monkeypatch):
    path = tmp_path / "x.db"
    Store(path).close()
    monkeypatch.setattr(opening, "WAIT_SECONDS", 0)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    for read_only in (False, True):
        with pytest.raises(DataError, match="locked"):
            Store(path, read_only=read_only)
    holder.close()
    store = Store(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(DataError, match="another program holds it"), store:
        create_project(store, "p")
    holder.close()


def test_a_damaged_file_is_a_sentence(tmp_path):
    path = tmp_path / "x.db"
    with Store(path) as store:
        create_project(store, "p")
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 2048] = b"\xff" * 2048
    path.write_bytes(data)
    with pytest.raises(DataError, match="malformed"):
        Store(path, read_only=True)


def test_damage_that_is_met_on_the_way_is_a_sentence(tmp_path):
    path = tmp_path / "x.db"
    with Store(path) as store:
        create_project(store, "p")
    raw = sqlite3.connect(path)
    (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'audit_event'").fetchone()
    raw.close()
    data = bytearray(path.read_bytes())
    data[4096 * (page - 1) : 4096 * page] = b"\xff" * 4096
    path.write_bytes(data)
    with pytest.raises(DataError, match="malformed"), Store(path, read_only=True) as store, store.read() as connection:
        audit.first_fault(connection)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://a/b", "'mysql' databases are not supported"),
        ("postgresql+psycopg2://a/b", "not supported"),
        ("postgresql+psycopg://u:secret@h:port/b", "no database URL"),
        ("postgresql+psycopg://u:secret@127.0.0.1:1/b", "refused"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_addresses_that_lead_nowhere_are_sentences_without_the_password(url, said, read_only):
    pytest.importorskip("psycopg")
    with pytest.raises((DataError, UsageError), match=said) as refused:
        Store(url, read_only=read_only)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("where", ["postgresql"], indirect=True)  # SQLite is tried above
def test_a_server_without_the_database_or_with_another_programs(where):
    with pytest.raises(DataError, match="does not exist"):
        Store(where + "_none", read_only=True)
    with pytest.raises(DataError, match="is empty"):
        Store(where, read_only=True)
    with psycopg_connection(where) as connection:
        connection.execute("CREATE TABLE cookies (a int)")
    for read_only in (False, True):
        with pytest.raises(DataError, match="another program's"):
            Store(where, read_only=read_only)


@pytest.mark.parametrize("where", ["postgresql"], indirect=True)  # SQLite is tried above
def test_a_role_that_may_only_read_is_enough_on_a_server(where):
    with Store(where) as store:
        create_project(store, "p")
    role = f"reader_{where[-12:]}"
    with psycopg_connection(where) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    host = SERVER.rsplit("@", 1)[1].rsplit("/", 1)[0]
    as_role = f"postgresql+psycopg://{role}:x@{host}/{where.rsplit('/', 1)[1]}"
    try:
        with Store(as_role, read_only=True) as reading, reading.read() as connection:
            assert audit.first_fault(connection) is None
        with pytest.raises(DataError, match="permission denied"), Store(as_role) as store:
            create_project(store, "q")
    finally:
        with psycopg_connection(where) as connection:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")
