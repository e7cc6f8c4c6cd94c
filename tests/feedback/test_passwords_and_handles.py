"""What a password and a handle must not be, and that everybody can change the first."""

import pytest
from sqlalchemy import update

from trueup.errors import UsageError
from trueup.feedback.store import audit
from trueup.feedback.store.accounts import (
    by_session,
    by_token,
    change_own_password,
    change_person,
    hash_password,
    knows_browser,
    make_token,
    mark_browser,
    set_admin,
    sign_in,
)
from trueup.feedback.store.handles import skeleton
from trueup.feedback.store.passwords import check_password
from trueup.feedback.store.projects import add_person
from trueup.feedback.store.schema import audit_event, person

PASSWORD, OTHER = "correct horse battery", "purple lantern over gravel"
WEAK = [
    "short",
    "x" * 201,
    "            ",
    "aaaaaaaaaaaa",
    "ababababababab",
    "abcabcabcabc",
    "abcdefghijkl",
    "zyxwvutsrqpo",
    "123456789012",
    "11223344556677",
    "qwertyuiop12",
    "1qaz2wsx3edc",
    "!@#$%^&*()_+",
    "passwordpassword",
    "Password1234!",
    "P@ssw0rd1234",
    "administrator1",
    "letmein12345",
    "summer2026!!",
    "TrueUp2026!!!",
    "feedbackroom1",
    "katharina.weber",
    "Katharina.Weber1",
    "rebew.anirahtak",
    "k4th4rin4w3b3r!",
    "ｋａｔｈａｒｉｎａｗｅｂｅｒ",
    "weberweberweber1",
]


@pytest.mark.parametrize("password", WEAK)
def test_what_somebody_tries_who_knows_the_handle_is_refused(password):
    with pytest.raises(UsageError) as refused:
        check_password(password, "katharina.weber")
    assert refused.value.where == "password"
    assert len(password.strip()) < 6 or password not in str(refused.value)


@pytest.mark.parametrize(
    "password",
    [PASSWORD, OTHER, "xK9#qLm2vR8t", "x&;}#(k~9]+!", "Grüße vom Balkon", "мост река фонарь", "k3J9-_xQ2mLp7vBa"],
)
def test_a_good_password_is_taken(password):
    check_password(password, "katharina.weber")


def test_the_rule_is_the_same_at_every_door(store):
    ann = add_person(store, "annabella.rossi", password_hash=hash_password(PASSWORD))
    who, _ = sign_in(store, "annabella.rossi", PASSWORD)
    doors = [
        lambda: hash_password("annabella.rossi1", "annabella.rossi"),
        lambda: change_person(store, ann, actor="system", password="annabella.rossi1"),
        lambda: change_person(store, ann, actor="system", password=""),
        lambda: change_own_password(store, who, PASSWORD, "annabella.rossi1"),
        lambda: set_admin(store, "admin", "adminadmin2026"),
    ]
    for door in doors:
        with pytest.raises(UsageError, match="password"):
            door()
    assert sign_in(store, "annabella.rossi", PASSWORD) is not None


def test_a_weak_password_of_before_still_signs_in_and_its_old_hash_is_renewed(store, monkeypatch):
    from argon2 import PasswordHasher

    add_person(store, "ann", password_hash=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("weak"))
    assert sign_in(store, "ann", "weak") is not None
    assert sign_in(store, "ann", "weak") is not None


def test_ones_own_password_needs_the_old_one_and_ends_what_it_opened(store):
    add_person(store, "ann", role="lead", password_hash=hash_password(PASSWORD))
    who, here = sign_in(store, "ann", PASSWORD)
    _, there = sign_in(store, "ann", PASSWORD)
    token, mark = make_token(store, who, "t", ["read"], 7), mark_browser(store, "ann")
    assert not change_own_password(store, who, OTHER, "violet harbour and 3 bells")
    assert by_session(store, there) is not None
    with pytest.raises(UsageError, match="is the old one"):
        change_own_password(store, who, PASSWORD, PASSWORD)
    assert change_own_password(store, who, PASSWORD, OTHER, keep=here)
    assert by_session(store, here) is not None
    assert by_session(store, there) is by_token(store, token.text) is sign_in(store, "ann", PASSWORD) is None
    assert sign_in(store, "ann", OTHER) is not None
    assert not knows_browser(store, "ann", mark)
    with store.read() as connection:
        actions = connection.execute(audit_event.select()).all()
        assert audit.first_fault(connection) is None
    assert [row.actor for row in actions if row.action == "change_password"] == [who.pseudonym]
    assert all(OTHER not in row.detail for row in actions)


def test_a_browser_is_known_to_its_own_account_alone(store):
    held = hash_password(PASSWORD)
    for handle in ("ann", "bob"):
        add_person(store, handle, password_hash=held)
    mark = mark_browser(store, "ann")
    assert knows_browser(store, "ann", mark)
    for handle, other in [
        ("bob", mark),
        ("nobody", mark),
        ("ann", mark + "0"),
        ("ann", ""),
        ("ann", "."),
        ("ann", "é.ü"),
    ]:
        assert not knows_browser(store, handle, other)


LOOK_ALIKES = ["Admin", "ADMIN", "adm1n", "admIn", "admin.", "ad-min", "a.d.m.i.n", "@dmin", "adrnin"]


@pytest.mark.parametrize("handle", LOOK_ALIKES)
def test_a_handle_that_can_be_taken_for_another_is_refused(store, handle):
    add_person(store, "admin")
    with pytest.raises(UsageError, match="can be taken for 'admin'"):
        add_person(store, handle)


@pytest.mark.parametrize(
    "handle",
    [
        "аdmin",
        "ａdmin",
        "ad\u200bmin",
        "ad\u00admin",
        "admin\u202e",
        "jos\u00e9",
        "ann ",
        " ann",
        "a  b",
        "a\tb",
        "",
        ".",
        "---",
    ],
)
def test_a_handle_of_characters_that_cannot_be_told_apart_is_refused(store, handle):
    with pytest.raises(UsageError, match="handle") as refused:
        add_person(store, handle)
    assert "ASCII" in str(refused.value)


def test_handles_of_before_stay_and_nobody_new_looks_like_them(store):
    old = add_person(store, "somebody", role="lead", password_hash=hash_password(PASSWORD))
    with store.write() as connection:
        connection.execute(update(person).where(person.c.id == old).values(handle="аnnа"))  # Cyrillic
    assert sign_in(store, "аnnа", PASSWORD) is not None
    with pytest.raises(UsageError, match="can be taken for"):
        add_person(store, "anna")
    assert skeleton("аnnа") == skeleton("anna") != skeleton("annb")


def test_people_of_a_file_keep_their_names_and_take_none(store):
    add_person(store, "imported:help/Ünal")
    add_person(store, "imported:help/ünal")
    add_person(store, "importedhelp")
    for number in range(12):
        add_person(store, f"w{number}")
