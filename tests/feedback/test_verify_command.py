"""`trueup feedback verify`, `upgrade` and `key`: what an auditor types, notes and reads."""

import sqlite3

import pytest
from typer.testing import CliRunner

from trueup.commands.feedback import app
from trueup.errors import DataError, RunError, UsageError
from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import add_person


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "feedback.db"
    with Store(path) as store:
        add_person(store, "ann")
    return path


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def noted(db):
    """What verify says to note, as the words of the next command."""
    return run("verify", "--db", db).rsplit("next check: ", 1)[1].split()


def test_what_verify_says_to_note_is_what_the_next_one_takes(db):
    words = noted(db)
    assert words[0] == "--expect"
    assert run("verify", "--db", db, *words).startswith("1 events, whole; 1 rows")
    with Store(db) as store:
        add_person(store, "bob")
    assert "2 events, whole" in run("verify", "--db", db, *words)
    for other in (f"7:{'0' * 64}", f"1:{'0' * 64}"):
        with pytest.raises(RunError, match="1 faults"):
            run("verify", "--db", db, "--expect", other)
    with pytest.raises(UsageError, match="N:HASH"):
        run("verify", "--db", db, "--expect", "7")


def test_verify_names_the_rows_and_says_how_many_more(db):
    with Store(db) as store:
        for number in range(30):
            add_person(store, f"w{number}")
    raw = sqlite3.connect(db)
    raw.execute("UPDATE person SET role = 'admin'")
    raw.commit()
    raw.close()
    done = CliRunner().invoke(app, ["verify", "--db", str(db)])
    assert isinstance(done.exception, RunError)
    assert "31 faults" in str(done.exception)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 21
    assert all(line.startswith("person ") for line in lines[:20])
    assert lines[-1] == "... and 11 more"


def test_reading_commands_make_no_file(tmp_path):
    for words in (["verify"], ["export", "p", "--format", "kto", "--out", tmp_path / "o"], ["upgrade"]):
        with pytest.raises(UsageError, match="no such file"):
            run(*words, "--db", tmp_path / "none" / "x.db")
    assert list(tmp_path.iterdir()) == []


def test_a_key_from_its_making_to_its_end(db, tmp_path, monkeypatch):
    one, two = tmp_path / "one.key", tmp_path / "two.key"
    assert "TRUEUP_AUDIT_KEY_FILE" in run("key", "new", one)
    run("key", "new", two)
    run("key", "change", "--db", db, "--to", one)
    with pytest.raises(UsageError, match="no key was given"):
        Store(db)
    with pytest.raises(UsageError, match="marked with the key"):
        run("key", "change", "--db", db, "--key", two, "--stop")
    monkeypatch.setenv("TRUEUP_AUDIT_KEY_FILE", str(one))
    with Store(db) as store:
        add_person(store, "bob")
    assert "note: " not in run("verify", "--db", db)
    run("key", "change", "--db", db, "--to", two)
    monkeypatch.delenv("TRUEUP_AUDIT_KEY_FILE")
    assert "not checked" in run("verify", "--db", db, "--key", one)
    assert "note: " not in run("verify", "--db", db, "--key", one, "--key", two)
    run("key", "change", "--db", db, "--key", two, "--stop")
    with Store(db) as store:
        add_person(store, "eve")
    assert "whole" in run("verify", "--db", db, "--key", one, "--key", two)
    with pytest.raises(UsageError, match="--stop"):
        run("key", "change", "--db", db)
    with pytest.raises(DataError, match="no audit key"):
        run("verify", "--db", db, "--key", db)


def test_an_older_database_is_brought_up_by_its_command(db):
    raw = sqlite3.connect(db)
    raw.executescript("DROP TABLE audit_proof; UPDATE alembic_version SET version_num = '0002'")
    raw.close()
    assert "0003" in run("upgrade", "--db", db)
    assert "before event 2" in CliRunner().invoke(app, ["verify", "--db", str(db)]).stdout
