"""Whoever writes past the log is seen, by row; whoever writes a new log is seen by the key or by what was noted."""

import re
import shutil
import sqlite3
import threading
import uuid

import pytest
from argon2 import PasswordHasher
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from tests.feedback.conftest import SERVER, Clock, _server
from trueup.errors import DataError, UsageError
from trueup.feedback.store import chain, opening
from trueup.feedback.store.accounts import change_person, make_token, sign_in, sign_out
from trueup.feedback.store.audit_key import key_of_environment, new_key, parse_key, read_key
from trueup.feedback.store.changes import COVERED, UNCOVERED, Pending
from trueup.feedback.store.database import Store
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.integrity import inspect_all, parse_expected
from trueup.feedback.store.projects import (
    NewItem,
    add_guideline,
    add_person,
    add_template,
    create_project,
    import_items,
    set_state,
)
from trueup.feedback.store.schema import APPEND_ONLY, metadata, person, triggers
from trueup.feedback.workflow.adjudication import give_blind, settle
from trueup.feedback.workflow.assignment import acknowledge, heartbeat, next_seat, save_draft
from trueup.feedback.workflow.dashboard import note_export
from trueup.feedback.workflow.judgments import flag_item, submit, supersede

PASSWORD = "correct horse battery"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
ONE, TWO = (parse_key(digit * 64, "test") for digit in "12")


def fill(store):
    """A row in every table, and changes and deletions of some."""
    project = create_project(store, "demo")
    guideline = add_guideline(store, project, "# Be kind")
    template = add_template(store, project, "pairwise", "which is better")
    import_items(store, template, [NewItem(f"Q{n}?", (f"x{n}", f"y{n}")) for n in range(2)])
    ann, bob = (add_person(store, name, password_hash=HASH) for name in ("ann", "bob"))
    lead = add_person(store, "lead", role="lead", password_hash=HASH)
    for who in (ann, bob):
        acknowledge(store, who, guideline)
        for number in range(2):
            here = next_seat(store, project, who)
            save_draft(store, here.id, here.token, {"rationale": "half"})
            heartbeat(store, here.id, here.token)
            answer = {"preferred": sorted(here.shown)[who == ann], "strength": 2}
            done = submit(store, here.item, who, f"key-{number}", answer=answer, rationale="clearer")
            if number:
                supersede(store, done.judgment, who, "again", answer | {"strength": 3})
    flag_item(store, here.item, ann, "broken", "?")
    give_blind(store, here.item, lead, answer)
    settle(store, here.item, lead, answer, "ambiguous")
    _, cookie = sign_in(store, "ann", PASSWORD)
    sign_out(store, cookie)
    owner, _ = sign_in(store, "lead", PASSWORD)
    make_token(store, owner, "t", ["read"], 7)
    change_person(store, bob, actor="test", role="viewer")
    options = {
        "export_id": str(uuid.uuid4()),
        "path": "a",
        "format": "kto",
        "options": {},
        "rows": 1,
        "sha256": "0" * 64,
    }
    note_export(store, project, lead, **options, dropped={})
    votes = [
        ImportedVote(n, ann, {"preferred": 0, "strength": 1}, (0, 1), "2026-01-05T09:00:00.000000Z") for n in range(2)
    ]
    import_judged(store, template, [NewItem(f"Old {n}?", ("a", "b")) for n in range(2)], votes)
    set_state(store, project, "paused", actor="test")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    path = tmp_path_factory.mktemp("filled") / "feedback.db"
    with Store(path, clock=Clock()) as store:
        fill(store)
    return path


@pytest.fixture(scope="module")
def filled_server():
    name = f"trueup_test_{uuid.uuid4().hex[:12]}"
    with _server() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with Store(SERVER.rsplit("/", 1)[0] + "/" + name, clock=Clock()) as store:
        fill(store)
    yield name
    with _server() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def server_room(filled_server):
    """A filled database of a server for one test."""
    name = f"trueup_test_{uuid.uuid4().hex[:12]}"
    with _server() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {filled_server}")
    yield SERVER.rsplit("/", 1)[0] + "/" + name
    with _server() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def room(request, tmp_path):
    """A filled database for one test."""
    if request.param == "postgresql":
        return request.getfixturevalue("server_room")
    return str(shutil.copy(request.getfixturevalue("filled"), tmp_path / "feedback.db"))


def psycopg_connection(where):
    return pytest.importorskip("psycopg").connect(where.replace("postgresql+psycopg", "postgresql"), autocommit=True)


def inspection(where, **options):
    with Store(where, read_only=True) as store, store.read() as connection:
        return inspect_all(connection, **options)


def faults(where, **options):
    return [fault.why for fault in inspection(where, **options).faults]


def forge(where, *statements, old=False):
    """Write as somebody with every right, the triggers out of the way, and put them back."""
    engine = opening.writing_engine(where)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            off, on = ["SET session_replication_role = replica"], ["SET session_replication_role = origin"]
            on += [f"DROP TRIGGER {name}_no_truncate ON {name}" for name in ("judgment", "audit_event")] if old else []
        else:
            held = triggers("sqlite", APPEND_ONLY[:2] if old else APPEND_ONLY)
            off, on = [f"DROP TRIGGER {name}" for name in triggers("sqlite")], list(held.values())
        for statement in (*off, *statements, *on):
            connection.exec_driver_sql(statement)
    engine.dispose()


FIRST = "(SELECT min(id) FROM {0})"
FORGERIES = {
    "an answer": ("judgment", "UPDATE judgment SET answer = '{}' WHERE id = " + FIRST.format("judgment")),
    "a reason": ("judgment", "UPDATE judgment SET rationale = 'forged' WHERE id = " + FIRST.format("judgment")),
    "who judged": (
        "judgment",
        "UPDATE judgment SET idempotency_key = 'zz', revision = 9, person = (SELECT max(id) FROM person) "
        "WHERE id = (SELECT max(id) FROM judgment)",
    ),
    "when": ("judgment", "UPDATE judgment SET created_at = '2020' WHERE id = " + FIRST.format("judgment")),
    "the order shown": ("judgment", "UPDATE judgment SET shown = '[]' WHERE id = " + FIRST.format("judgment")),
    "an answer turned into a skip": ("judgment", "UPDATE judgment SET answer = NULL, skip_reason = 'other'"),
    "white space of an answer": ("judgment", "UPDATE judgment SET answer = '{ }'"),
    "a judgment deleted": ("judgment", "DELETE FROM judgment WHERE supersedes IS NOT NULL"),
    "a judgment put in": (
        "judgment",
        "INSERT INTO judgment (id, item, person, idempotency_key, body_sha256, skip_reason, rationale, shown, "
        "revision, surplus, created_at) SELECT 'forged', item, person, 'k', 'b', 'other', '', '[]', 7, surplus, "
        "created_at FROM judgment WHERE id = " + FIRST.format("judgment"),
    ),
    "a role": ("person", "UPDATE person SET role = 'admin' WHERE handle = 'bob'"),
    "a password": ("person", "UPDATE person SET password_hash = 'x' WHERE handle = 'bob'"),
    "a pseudonym": ("person", "UPDATE person SET pseudonym = 'p-x' WHERE handle = 'bob'"),
    "an account switched off": ("person", "UPDATE person SET active = (1 = 0) WHERE handle = 'bob'"),
    "an account put in": (
        "person",
        "INSERT INTO person (id, handle, pseudonym, role, active, simulated, created_at) "
        "SELECT 'eve', 'eve', 'p-eve', 'admin', active, simulated, created_at FROM person WHERE handle = 'ann'",
    ),
    "settings": ("template", """UPDATE template SET config = '{"allow_tie": false}'"""),
    "a guideline": ("guideline", "UPDATE guideline SET markdown = 'Be cruel'"),
    "an acknowledgement deleted": ("acknowledgement", "DELETE FROM acknowledgement"),
    "a response": ("response", "UPDATE response SET text = 'better' WHERE id = " + FIRST.format("response")),
    "a generator": ("response", "UPDATE response SET generator = 'ours'"),
    "a prompt": ("prompt", "UPDATE prompt SET turns = '\"other\"' WHERE id = " + FIRST.format("prompt")),
    "a split": ("prompt", "UPDATE prompt SET split = 'test'"),
    "an item's state": ("item", "UPDATE item SET state = 'closed' WHERE id = " + FIRST.format("item")),
    "gold": ("item", """UPDATE item SET gold = '{"preferred": null}' WHERE id = """ + FIRST.format("item")),
    "the order of responses": ("item_response", "UPDATE item_response SET place = place + 7"),
    "a seat": ("seat", "UPDATE seat SET state = 'leased'"),
    "a flag deleted": ("flag", "DELETE FROM flag"),
    "a verdict": ("adjudication", "UPDATE adjudication SET cause = 'annotator_error'"),
    "a blind answer": ("adjudication", "UPDATE adjudication SET blind = '{}'"),
    "a session that lasts": ("session", "UPDATE session SET expires_at = '9999'"),
    "a token's rights": ("api_token", """UPDATE api_token SET scopes = '["admin"]'"""),
    "what was exported": ("export", "UPDATE export SET sha256 = 'f'"),
    "a project": ("project", "UPDATE project SET state = 'live'"),
    "an event": ("event", "UPDATE audit_event SET actor = 'nobody' WHERE seq = 3"),
    "an event in the middle gone": (
        "event",
        "DELETE FROM audit_proof WHERE event = 5",
        "DELETE FROM audit_event WHERE seq = 5",
    ),
    "the last events gone": (
        "project",
        "DELETE FROM audit_proof WHERE event > (SELECT max(seq) - 2 FROM audit_event)",
        "DELETE FROM audit_event WHERE seq > (SELECT max(seq) FROM audit_event) - 2",
    ),
    "hashes of rows": ("event 4", "UPDATE audit_proof SET rows = 'person x - y' WHERE event = 4"),
    "hashes of rows gone": ("event 4", "DELETE FROM audit_proof WHERE event = 4"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_is_written_past_the_log_is_named(filled, tmp_path, forgery):
    named, *statements = FORGERIES[forgery]
    path = str(shutil.copy(filled, tmp_path / "feedback.db"))
    forge(path, *statements)
    found = faults(path)
    assert any(re.match(named + r"\b", why) for why in found), found
    assert not any("trigger" in why for why in found)


def test_forgeries_all_at_once_are_each_named_on_both_databases(room):
    """All of them at once: what names one table does not hide another."""
    for forgery, (_, *statements) in FORGERIES.items():
        if "gone" not in forgery and "skip" not in forgery:  # these exclude others
            forge(room, *statements)
    found = faults(room)
    for named, *_ in FORGERIES.values():
        assert any(re.match(named + r"\b", why) for why in found), named


def test_a_whole_room_is_whole_and_says_how_much_it_looked_at(room):
    done = inspection(room)
    assert done.faults == done.notes == []
    with Store(room, read_only=True) as store, store.read() as connection:
        assert done.events == chain.count(connection)
        rows = [connection.execute(select(func.count()).select_from(t)).scalar_one() for t in COVERED.values()]
    assert done.rows == sum(rows)
    assert all(rows)


def test_a_later_change_does_not_make_a_forged_row_right(room):
    forge(room, "UPDATE person SET role = 'admin' WHERE handle = 'bob'")
    with Store(room) as store:
        with store.read() as connection:
            bob = connection.execute(select(person.c.id).where(person.c.handle == "bob")).scalar_one()
        change_person(store, bob, actor="test", password="another long password")
    (why,) = faults(room)
    assert why.startswith(f"person {bob} was changed past the log after event")


def test_work_of_many_at_once_stays_whole(room):
    """Sessions that end while others begin, on rows that somebody else touches."""
    with Store(room) as store:
        errors = []

        def work(number):
            try:
                for n in range(3):
                    name = f"w{number}-{n}"
                    one = add_person(store, name, password_hash=HASH)
                    _, cookie = sign_in(store, name, PASSWORD)
                    change_person(store, one, actor="test", role="viewer")
                    sign_out(store, cookie)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert faults(room) == []


SCHEMA = {
    "sqlite": {
        "trigger judgment_no_update of the table judgment is missing": ["DROP TRIGGER judgment_no_update"],
        "trigger judgment_no_delete was altered": [
            "DROP TRIGGER judgment_no_delete",
            "CREATE TRIGGER judgment_no_delete BEFORE DELETE ON judgment BEGIN SELECT 1; END",
        ],
        "trigger sly of the table person is none of ours": [
            "CREATE TRIGGER sly AFTER INSERT ON person BEGIN UPDATE person SET role = 'admin'; END"
        ],
        "table seat was altered": ["ALTER TABLE seat ADD COLUMN more TEXT"],
        "table project was altered": [
            "PRAGMA writable_schema = 1",
            "UPDATE sqlite_master SET sql = replace(sql, 'paused', 'halted') WHERE name = 'project'",
        ],
        "column flag.note is missing": ["ALTER TABLE flag RENAME COLUMN note TO remark"],
        "table flag is missing": ["DROP TABLE flag"],
        "table audit_proof is there": ["UPDATE alembic_version SET version_num = '0002'"],
    },
    "postgresql": {
        "trigger judgment_no_update is missing": ["DROP TRIGGER judgment_no_update ON judgment"],
        "trigger judgment_no_delete is switched off": ["ALTER TABLE judgment DISABLE TRIGGER judgment_no_delete"],
        "trigger audit_event_no_delete was altered": [
            "CREATE OR REPLACE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event "
            "FOR EACH ROW WHEN (OLD.seq < 0) EXECUTE FUNCTION refuse_change()"
        ],
        "function refuse_change of the triggers was altered": [
            "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger AS $$ BEGIN RETURN NEW; END; $$ "
            "LANGUAGE plpgsql"
        ],
        "table person has rules or row security": ["CREATE RULE sly AS ON UPDATE TO person DO INSTEAD NOTHING"],
        "another table inherits from the table person": ["CREATE TABLE persons () INHERITS (person)"],
        "column seat.more is none of ours": ["ALTER TABLE seat ADD COLUMN more TEXT"],
        "column flag.reason was altered": ["ALTER TABLE flag ALTER COLUMN reason DROP NOT NULL"],
        "check ck_project_state": ["ALTER TABLE project DROP CONSTRAINT ck_project_state"],
        "unique ('idempotency_key', 'person')": [
            "ALTER TABLE judgment DROP CONSTRAINT uq_judgment_person_idempotency_key"
        ],
        "table audit_proof is there": ["UPDATE alembic_version SET version_num = '0002'"],
        "column flag.note is missing": ["ALTER TABLE flag RENAME COLUMN note TO remark"],
        "table flag is missing": ["DROP TABLE flag"],
    },
}


@pytest.mark.parametrize("why", SCHEMA["sqlite"])
def test_an_altered_schema_is_named(filled, tmp_path, why):
    path = str(shutil.copy(filled, tmp_path / "feedback.db"))
    raw = sqlite3.connect(path)
    for statement in SCHEMA["sqlite"][why]:
        raw.execute(statement)
    raw.commit()
    raw.close()
    assert any(why in found for found in faults(path)), faults(path)


def test_an_altered_schema_of_a_server_is_named(server_room):
    for why, statements in SCHEMA["postgresql"].items():
        with psycopg_connection(server_room) as connection:
            for statement in statements:
                connection.execute(statement)
        assert any(why in found for found in faults(server_room)), (why, faults(server_room))


def rewrite(where, key=None, *, first=1, actor="somebody else"):
    """What a forger with every right and this code does: a whole new chain, with another actor of event ``first``."""
    with Store(where, read_only=True) as store, store.read() as connection:
        events = list(chain.read_events(connection))
    statements, previous = [], chain.GENESIS
    for event in events:
        values = {name: getattr(event, name) for name in chain.FIELDS}
        if event.seq == first:
            values["actor"] = actor
        digest = chain.event_hash(previous, values)
        statements.append(
            f"UPDATE audit_event SET actor = '{values['actor']}', previous = '{previous}', hash = '{digest}' "
            f"WHERE seq = {event.seq}"
        )
        if key is not None and event.key == key.id:
            mac = key.mark(event.seq, digest)
            statements.append(f"UPDATE audit_proof SET mac = '{mac}' WHERE event = {event.seq}")
        previous = digest
    forge(where, *statements)


def test_a_log_written_anew_is_seen_by_what_was_noted(room):
    before = inspection(room)
    noted = parse_expected(f"{before.events}:{before.head}")
    assert faults(room, expect=noted) == []
    with Store(room) as store:
        add_person(store, "later")
    assert faults(room, expect=noted) == []  # the log may grow
    rewrite(room, first=4)
    assert faults(room) == []  # nothing inside the database can tell
    (why,) = faults(room, expect=noted)
    assert "another one was noted" in why


def test_an_older_copy_put_back_is_seen_by_what_was_noted(filled, tmp_path):
    path = str(shutil.copy(filled, tmp_path / "feedback.db"))
    with Store(path) as store:
        add_person(store, "later")
    now = inspection(path)
    shutil.copy(filled, path)
    assert faults(path) == []
    (why,) = faults(path, expect=parse_expected(f"{now.events}:{now.head}"))
    assert "cut off, or an older copy was put back" in why


@pytest.mark.parametrize("text", ["", "12", "12:", "x:" + "0" * 64, "1:" + "g" * 64, "-1:" + "0" * 64, "1:" + "0" * 63])
def test_what_was_noted_wrongly_is_refused(text):
    with pytest.raises(UsageError, match="N:HASH"):
        parse_expected(text)


@pytest.mark.parametrize("number", ["0", "000"])
def test_no_event_is_nothing_to_hold_a_log_to(number):
    with pytest.raises(UsageError, match="any log"):
        parse_expected(f"{number}:{'0' * 64}")


def marked(where, key):
    with Store(where, key=key) as store:
        add_person(store, f"under {key.id if key else 'no key'}")


def change(where, old, new):
    with Store(where, key=old) as store, store.write() as connection:
        chain.change_key(connection, store.now(), old, new)


def test_from_the_first_mark_on_every_event_is_marked_and_nobody_writes_without_the_key(room):
    marked(room, ONE)
    done = inspection(room, keys=[ONE])
    assert done.faults == done.notes == []
    assert inspection(room).notes == [f"the marks of the key {ONE.id} were not checked: give its file with --key"]
    for key in (None, TWO):
        with pytest.raises(UsageError, match=f"marked with the key {ONE.id}"):
            Store(room, key=key)
    with Store(room, read_only=True) as store:
        assert store.key is None
    assert any(f"no event carries a mark of the key {TWO.id}" in why for why in faults(room, keys=[ONE, TWO]))


def test_a_log_written_anew_is_seen_by_the_key(room):
    marked(room, ONE)
    rewrite(room, first=2)  # long before the first mark
    assert faults(room) == []
    assert any("its mark is not that of the key" in why for why in faults(room, keys=[ONE]))


@pytest.mark.parametrize("what", ["all", "the last"])
def test_marks_taken_away_are_missed(room, what):
    marked(room, ONE)
    last = "" if what == "all" else " AND event = (SELECT max(event) FROM audit_proof)"
    forge(room, f"UPDATE audit_proof SET key = NULL, mac = NULL WHERE key IS NOT NULL{last}")
    assert any(ONE.id in why for why in faults(room, keys=[ONE]))


def test_a_tail_without_marks_is_seen(room):
    marked(room, ONE)
    forge(
        room,
        "DELETE FROM audit_proof WHERE key IS NOT NULL",
        "DELETE FROM audit_event WHERE action = 'change_key'",
    )
    assert any("no event carries a mark" in why for why in faults(room, keys=[ONE]))


def test_a_key_is_changed_and_ended_under_its_own_mark(room):
    change(room, None, ONE)
    marked(room, ONE)
    with pytest.raises(UsageError, match="already"):
        change(room, ONE, ONE)
    change(room, ONE, TWO)
    marked(room, TWO)
    assert faults(room, keys=[ONE, TWO]) == []
    rewrite(room, ONE, first=2)  # the old key became known: what came after its end is still seen
    assert any(TWO.id in why for why in faults(room, keys=[ONE, TWO]))


def test_a_key_that_was_ended_is_not_asked_for(room):
    marked(room, ONE)
    change(room, ONE, None)
    marked(room, None)
    assert faults(room, keys=[ONE]) == []
    with pytest.raises(UsageError, match="no key"):
        change(room, None, None)


def test_keys_come_from_files_or_the_environment(tmp_path, monkeypatch):
    made = new_key(tmp_path / "audit.key")
    assert read_key(tmp_path / "audit.key") == made
    assert (tmp_path / "audit.key").stat().st_mode & 0o077 == 0
    assert "secret" not in repr(made)
    with pytest.raises(UsageError, match="exists"):
        new_key(tmp_path / "audit.key")
    (tmp_path / "wrong").write_text("correct horse")
    for path in (tmp_path / "wrong", tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="key") as refused:
            read_key(path)
        assert "horse" not in str(refused.value)
    assert key_of_environment({}) is None
    assert key_of_environment({"TRUEUP_AUDIT_KEY": "1" * 64}) == ONE
    assert key_of_environment({"TRUEUP_AUDIT_KEY_FILE": str(tmp_path / "audit.key")}) == made
    with pytest.raises(UsageError, match="both set"):
        key_of_environment({"TRUEUP_AUDIT_KEY": "1" * 64, "TRUEUP_AUDIT_KEY_FILE": "x"})
    monkeypatch.setenv("TRUEUP_AUDIT_KEY", "1" * 64)
    with Store(tmp_path / "f.db") as store:
        add_person(store, "ann")
    assert faults(tmp_path / "f.db", keys=[ONE]) == []


def of_the_second_version(where, monkeypatch, *statements):
    """A database as the release before wrote it, then changed past its log."""
    with monkeypatch.context() as patch:
        patch.setattr(Pending, "lines", lambda *_: iter(()))
        with Store(where, clock=Clock()) as store:
            fill(store)
    forge(where, *statements, "DROP TABLE audit_proof", "UPDATE alembic_version SET version_num = '0002'", old=True)


def test_an_older_database_is_followed_brought_up_and_covered_from_then_on(where, monkeypatch):
    of_the_second_version(where, monkeypatch)
    before = inspection(where)
    assert (before.faults, before.rows) == ([], 0)
    assert "schema version 0002" in before.notes[0]
    with Store(where) as store:
        assert store.version == "0003"
    after = inspection(where)
    assert after.faults == []
    assert after.rows > 30
    assert f"before event {before.events + 1}" in after.notes[0]
    forge(where, "UPDATE judgment SET rationale = 'forged' WHERE revision = 2")
    assert all(why.startswith("judgment") for why in faults(where))
    assert len(faults(where)) == 2


OLD_FORGERIES = {
    "is gone": "DELETE FROM judgment WHERE revision = 2",
    "is in no event": "INSERT INTO judgment (id, item, person, idempotency_key, body_sha256, skip_reason, rationale, "
    "shown, revision, surplus, created_at) SELECT 'forged', item, person, 'k', 'b', 'other', '', '[]', 7, surplus, "
    "created_at FROM judgment WHERE revision = 2",
    "has another body, item or annotator": "UPDATE judgment SET body_sha256 = 'x' WHERE revision = 2",
    "imported judgments are there": "DELETE FROM judgment WHERE idempotency_key LIKE 'import-%%'",
}


@pytest.mark.parametrize("why", OLD_FORGERIES)
@pytest.mark.parametrize("brought_up", [False, True])
def test_what_an_older_log_says_of_answers_is_still_held_against_them(tmp_path, monkeypatch, why, brought_up):
    path = str(tmp_path / "feedback.db")
    statement = OLD_FORGERIES[why].replace(
        "WHERE revision = 2", "WHERE revision = 2 AND id = (SELECT max(id) FROM judgment WHERE revision = 2)"
    )
    of_the_second_version(path, monkeypatch, statement)
    if brought_up:
        Store(path).close()
    (found,) = faults(path)
    assert why in found


@pytest.mark.parametrize("value", ["x'ff00'", "CAST(x'ff41' AS TEXT)", "7", "'other'", "NULL"])
def test_whatever_is_put_into_whichever_column_is_seen(filled, tmp_path, value):
    """Every column that is covered, of every table, the log's own as well; of every type that SQLite can hold."""
    engine = opening.writing_engine(str(shutil.copy(filled, tmp_path / "feedback.db")))
    missed = []
    with engine.connect() as connection:
        for name in triggers("sqlite"):
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        for table in metadata.sorted_tables:
            for column in table.c:
                if column.name in UNCOVERED.get(table.name, ()):
                    continue
                last = f"(SELECT max(rowid) FROM {table.name})"
                inner = connection.begin_nested()
                try:
                    change = f"UPDATE {table.name} SET {column.name} = {value} WHERE rowid = {last}"
                    changed = connection.exec_driver_sql(change + f" AND {column.name} IS NOT {value}").rowcount
                except IntegrityError:
                    changed = 0
                if changed and not [f for f in inspect_all(connection).faults if "trigger" not in f.why]:
                    missed.append(column)
                inner.rollback()
        connection.rollback()
    engine.dispose()
    assert missed == []


def test_a_look_alike_in_the_place_of_a_table_is_seen(filled, tmp_path):
    path = str(shutil.copy(filled, tmp_path / "feedback.db"))
    raw = sqlite3.connect(path)
    raw.executescript("ALTER TABLE flag RENAME TO hidden; CREATE VIEW flag AS SELECT * FROM hidden WHERE 0;")
    raw.close()
    assert "the table flag is missing" in faults(path)
    path = str(shutil.copy(filled, tmp_path / "twice.db"))
    raw = sqlite3.connect(path)
    raw.executescript(
        "CREATE TABLE copy AS SELECT * FROM person; INSERT INTO copy SELECT * FROM person; DROP TABLE person; "
        "ALTER TABLE copy RENAME TO person;"
    )
    raw.close()
    assert any("person" in why and "in no event" in why for why in faults(path))
