"""Accounts: no secret is stored as it is, every one of them ends, and no token opens more than its owner may do."""

import sqlite3
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from argon2 import PasswordHasher
from sqlalchemy import select, text

from trueup.errors import UsageError
from trueup.feedback.store import accounts, audit
from trueup.feedback.store.accounts import (
    by_session,
    by_token,
    change_person,
    has_admin,
    hash_password,
    make_token,
    revoke_token,
    set_admin,
    sign_in,
    sign_out,
    tokens_of,
)
from trueup.feedback.store.database import Store
from trueup.feedback.store.opening import VERSIONS
from trueup.feedback.store.projects import add_person, create_project
from trueup.feedback.store.schema import api_token, person, session

PASSWORD = "correct horse battery"


@pytest.fixture
def ann(store):
    add_person(store, "ann", role="lead", password_hash=hash_password(PASSWORD))
    found = sign_in(store, "ann", PASSWORD)
    return found[0]


def everything(store):
    """The whole content of the account tables as one text."""
    with store.read() as connection:
        return "".join(str(connection.execute(select(table)).all()) for table in (person, session, api_token))


def test_signing_in_opens_a_session_until_it_is_over(store, clock):
    add_person(store, "ann", password_hash=hash_password(PASSWORD))
    who, cookie = sign_in(store, "ann", PASSWORD, address="abc")
    assert (who.handle, who.role, who.scopes) == ("ann", "annotator", None)
    assert by_session(store, cookie) == who
    assert by_session(store, cookie + "x") is None
    assert len(who.csrf) == 64
    clock.forward(days=8)
    assert by_session(store, cookie) is None
    _, second = sign_in(store, "ann", PASSWORD)
    sign_out(store, second)
    assert by_session(store, second) is None


@pytest.mark.parametrize(
    ("handle", "password"), [("ann", "wrong horse battery"), ("bob", PASSWORD), ("robot", PASSWORD)]
)
def test_wrong_handle_wrong_password_and_no_password_look_the_same(store, handle, password):
    add_person(store, "ann", password_hash=hash_password(PASSWORD))
    add_person(store, "robot")
    assert sign_in(store, handle, password) is None


def test_no_secret_is_stored_as_it_is(store, ann):
    token = make_token(store, ann, "trainer", ["read"], 7)
    _, cookie = sign_in(store, "ann", PASSWORD)
    held = everything(store)
    for secret in (PASSWORD, cookie, token.text, accounts.csrf_of(cookie)):
        assert secret not in held
    assert "$argon2id$" in held
    assert all("sha256" not in row.to_dict() for row in tokens_of(store, ann.id))


def test_tokens_end_are_revoked_and_say_when_they_were_used(store, clock, ann):
    token = make_token(store, ann, "trainer", ["read", "ingest"], 2)
    assert by_token(store, token.text).scopes == {"read", "ingest"}
    assert by_token(store, token.text + "x") is None
    assert tokens_of(store, ann.id)[0].last_used is not None
    other = make_token(store, ann, "other", ["read"], 30)
    bob = add_person(store, "bob", password_hash=hash_password(PASSWORD))
    stranger, _ = sign_in(store, "bob", PASSWORD)
    assert stranger.id == bob
    assert not revoke_token(store, stranger, other.id)
    assert revoke_token(store, ann, other.id)
    assert by_token(store, other.text) is None
    clock.forward(days=3)
    assert by_token(store, token.text) is None


def test_a_token_never_opens_more_than_its_owner_may_do(store, ann):
    with pytest.raises(UsageError, match="admin"):
        make_token(store, ann, "t", ["admin"], 7)
    with pytest.raises(UsageError, match="one scope or more"):
        make_token(store, ann, "t", [], 7)
    with pytest.raises(UsageError, match="366"):
        make_token(store, ann, "t", ["read"], 367)
    token = make_token(store, ann, "t", ["lead", "read"], 7)
    change_person(store, ann.id, actor="test", role="annotator")
    assert by_token(store, token.text).scopes == {"read"}
    change_person(store, ann.id, actor="test", active=False)
    assert by_token(store, token.text) is None


def test_a_changed_account_must_sign_in_again(store):
    one = add_person(store, "ann", password_hash=hash_password(PASSWORD))
    _, cookie = sign_in(store, "ann", PASSWORD)
    change_person(store, one, actor="test", password="another long password")
    assert by_session(store, cookie) is None
    assert sign_in(store, "ann", PASSWORD) is None
    assert sign_in(store, "ann", "another long password") is not None
    with store.read() as connection:
        assert audit.first_fault(connection) is None


def test_somebody_is_always_left_to_administer(store):
    assert not has_admin(store)
    root = set_admin(store, "root", PASSWORD)
    assert has_admin(store)
    for change in ({"active": False}, {"role": "viewer"}):
        with pytest.raises(UsageError, match="nobody would be left"):
            change_person(store, root, actor="test", **change)
    assert sign_in(store, "root", PASSWORD)
    second = set_admin(store, "second", PASSWORD)
    change_person(store, root, actor="test", active=False)
    assert set_admin(store, "second", "a new long password") == second
    assert sign_in(store, "second", PASSWORD) is None
    add_person(store, "ann")
    with pytest.raises(UsageError, match="not admin"):
        set_admin(store, "ann", PASSWORD)


@pytest.mark.parametrize("password", ["short", "x" * 201])
def test_weak_and_endless_passwords_are_refused(password):
    with pytest.raises(UsageError, match="characters"):
        hash_password(password)


def test_weaker_hashes_of_the_past_are_renewed(store):
    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    add_person(store, "ann", password_hash=old)
    assert sign_in(store, "ann", PASSWORD)
    assert old not in everything(store)
    assert sign_in(store, "ann", PASSWORD)


def test_a_database_of_the_first_version_is_brought_up(tmp_path):
    """Work done before there were accounts is all there after the migration."""
    path = tmp_path / "old.db"
    with Store(path) as made:
        create_project(made, "kept")
    raw = sqlite3.connect(path)
    for table in ("audit_proof", "export", "adjudication", "api_token", "session"):
        raw.execute(f"DROP TABLE {table}")
    raw.execute("UPDATE alembic_version SET version_num = '0001'")
    raw.commit()
    raw.close()
    with Store(path) as opened, opened.read() as connection:
        assert connection.execute(text("SELECT name FROM project")).scalar_one() == "kept"
        assert connection.execute(text("SELECT count(*) FROM session")).scalar_one() == 0
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "0003"


def test_versions_follow_one_another():
    config = Config()
    config.set_main_option("script_location", str(Path(accounts.__file__).parent / "migrations"))
    assert [v.revision for v in ScriptDirectory.from_config(config).walk_revisions()] == [*reversed(VERSIONS)]
