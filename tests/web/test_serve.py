"""The commands: serving with and without an admin, making accounts, checking the log; clear errors, clean ends."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from tests.web.conftest import API, PASSWORD
from tests.web.test_crowd import Process
from trueup.errors import UsageError
from trueup.feedback.store.accounts import has_admin, sign_in
from trueup.feedback.store.database import Store
from trueup.feedback.store.projects import add_person, create_project
from trueup.web.annotate.serve import serve_feedback
from trueup.web.shell.server import is_loopback


def trueup(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "trueup", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "feedback.example"])
def test_others_are_not_served_before_an_admin_has_a_password(tmp_path, host):
    with pytest.raises(UsageError, match="no admin has a password"):
        serve_feedback(str(tmp_path / "f.db"), host, 0)
    with Store(tmp_path / "f.db") as store:
        add_person(store, "root", role="admin")  # without a password
        assert not has_admin(store)
    with pytest.raises(UsageError, match="no admin has a password"):
        serve_feedback(str(tmp_path / "f.db"), host, 0)


def test_loopback_addresses_are_known():
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "localhost.example", ""]))


def test_a_weak_admin_password_is_refused(tmp_path):
    found = trueup("serve", "--db", tmp_path / "f.db", "--port", 0, TRUEUP_ADMIN_PASSWORD="short")
    assert found.returncode == 2
    assert "12 to 200" in found.stderr
    assert "short" not in found.stderr


def test_the_address_is_told_the_admin_signs_in_and_sigterm_ends_it(tmp_path):
    server = Process(tmp_path / "f.db", TRUEUP_ADMIN_PASSWORD=PASSWORD)
    reply = httpx.post(f"{server.url}{API}/auth/login", json={"handle": "admin", "password": PASSWORD})
    assert reply.json()["me"]["role"] == "admin"
    assert "server" not in reply.headers
    assert httpx.get(f"{server.url}/healthz", headers={"Host": "evil.example"}).status_code == 400
    assert server.end(signal.SIGTERM) == 0


def test_without_an_account_it_says_how_to_make_one_and_ctrl_c_ends_it(tmp_path):
    server = Process(tmp_path / "f.db")
    assert "trueup feedback user add" in server.lines[0]
    assert server.end(signal.SIGINT) == 0


def test_a_taken_port_is_a_clear_error(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = trueup("serve", "--db", tmp_path / "f.db", "--port", taken.getsockname()[1])
    assert found.returncode == 2
    assert "cannot listen" in found.stderr
    assert "Traceback" not in found.stderr


def test_accounts_are_made_on_the_command_line(tmp_path):
    db = tmp_path / "f.db"
    made = trueup("feedback", "user", "add", "ada", "--role", "lead", "--db", db, TRUEUP_PASSWORD=PASSWORD)
    assert (made.returncode, made.stdout) == (0, "ada is lead now\n")
    with Store(db) as store:
        assert sign_in(store, "ada", PASSWORD)[0].role == "lead"
    again = trueup("feedback", "user", "add", "ada", "--db", db, TRUEUP_PASSWORD=PASSWORD)
    assert again.returncode == 2
    wrong = trueup("feedback", "user", "add", "bob", "--role", "laed", "--db", db, TRUEUP_PASSWORD=PASSWORD)
    assert "did you mean 'lead'" in wrong.stderr


def test_verify_follows_the_chain_and_finds_tampering(tmp_path):
    db = tmp_path / "f.db"
    assert "no such file" in trueup("feedback", "verify", "--db", db).stderr
    with Store(db) as store:
        for number in range(3):
            create_project(store, f"p{number}")
    whole = trueup("feedback", "verify", "--db", db)
    assert (whole.returncode, whole.stdout.startswith("3 events, whole")) == (0, True)
    with Store(db) as store, store.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_event_no_update")
        connection.exec_driver_sql("UPDATE audit_event SET actor = 'nobody' WHERE seq = 2")
    broken = trueup("feedback", "verify", "--db", db)
    assert broken.returncode == 1
    assert "event 2" in broken.stderr


def test_a_password_is_changed_on_the_command_line(tmp_path):
    db, new = tmp_path / "f.db", "purple lantern over gravel"
    words = ("feedback", "user", "password", "ada", "--db", db)
    assert "no such file" in trueup(*words, TRUEUP_OLD_PASSWORD=PASSWORD, TRUEUP_PASSWORD=new).stderr
    trueup("feedback", "user", "add", "ada", "--db", db, TRUEUP_PASSWORD=PASSWORD)
    wrong = trueup(*words, TRUEUP_OLD_PASSWORD="wrong", TRUEUP_PASSWORD=new)
    weak = trueup(*words, TRUEUP_OLD_PASSWORD=PASSWORD, TRUEUP_PASSWORD="ada123456789")
    assert (wrong.returncode, weak.returncode) == (2, 2)
    assert "do not match" in wrong.stderr
    assert "common words" in weak.stderr
    done = trueup(*words, TRUEUP_OLD_PASSWORD=PASSWORD, TRUEUP_PASSWORD=new)
    assert (done.returncode, done.stderr) == (0, "")
    with Store(db) as store:
        assert sign_in(store, "ada", PASSWORD) is None
        assert sign_in(store, "ada", new) is not None
