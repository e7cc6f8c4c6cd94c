"""Who may do what in the explorer: every route times every role, and runs that are paused and stopped from the page."""

import contextlib
import json
from types import SimpleNamespace
from typing import get_args

import httpx
import pytest

from tests.web.explorer.planted import CONFIG, Served, plant, runaway, start, write
from tests.web.test_access import routes
from trueup.commands.explore import means
from trueup.commands.live.desk import Desk
from trueup.commands.live.runs import Runs
from trueup.ledger.control import ACTIONS, CONTROL, take
from trueup.web.explorer.app import addresses, create_app
from trueup.web.explorer.keys import COOKIE, ROLES, Keys
from trueup.web.explorer.source import Action

API = "/api/v1"
TOKENS = {"viewer": "look", "lead": "act"}
ALLOWED = {**CONFIG, "control": True}
OPEN, READ, ACT = None, frozenset(ROLES), frozenset({"lead"})

TABLE = {
    ("GET", "/"): OPEN,
    ("MOUNT", "/static"): OPEN,
    ("MOUNT", "/static/shell"): OPEN,
    ("POST", f"{API}/session"): OPEN,
    ("GET", f"{API}/me"): READ,
    ("GET", f"{API}/runs"): READ,
    ("GET", f"{API}/run"): READ,
    ("GET", f"{API}/series"): READ,
    ("GET", f"{API}/events"): READ,
    ("GET", f"{API}/probes"): READ,
    ("GET", f"{API}/samples"): READ,
    ("GET", f"{API}/history"): READ,
    ("GET", f"{API}/sample"): READ,
    ("GET", f"{API}/search"): READ,
    ("GET", f"{API}/differences"): READ,
    ("GET", f"{API}/snapshot"): READ,
    ("POST", f"{API}/ask"): ACT,
    ("POST", f"{API}/control"): ACT,
}


@pytest.fixture
def explorer(tmp_path):
    """The explorer with everything that can be had: a closed one and an open one, on one folder of runs."""
    plant(tmp_path / "runs" / "bad", values=runaway)
    desk = Desk(str(tmp_path / "feedback.db"))
    desk.check()
    opened = [
        Served(
            tmp_path / "runs",
            source=lambda root: Runs(root, desk=desk),
            tokens=Keys(TOKENS, closed),
            asks=True,
            controls=True,
        )
        for closed in (True, False)
    ]
    yield SimpleNamespace(closed=opened[0].url, open=opened[1].url, runs=tmp_path / "runs")
    for served in opened:
        served.stop()


@contextlib.contextmanager
def client_of(url, role, by):
    """Somebody of a role, by a session as a browser has it or by a bearer token as a program does."""
    with httpx.Client(base_url=url, timeout=30) as client:
        if by == "bearer" and role != "nobody":
            client.headers["Authorization"] = f"Bearer {TOKENS[role]}"
        elif role != "nobody":
            client.headers["Origin"] = url
            me = client.post(f"{API}/session", json={"token": TOKENS[role]})
            assert me.json()["role"] == role
            client.headers["X-CSRF-Token"] = me.json()["csrf"]
        yield client


def called(client, call):
    """The status of a call that is otherwise wrong: allowed is whatever is not 401 or 403."""
    method, path = call
    with client.stream("GET" if method == "MOUNT" else method, path) as reply:  # one of them never ends
        return reply.status_code


def test_every_route_has_a_row_and_every_row_a_route():
    app = create_app(Runs, means, tokens=Keys(TOKENS, closed=True), asks=True, controls=True)
    there = {call for call in routes(app) if call[0] != "HEAD"}
    assert there - set(TABLE) == set(), "a new route needs a row: who may call it?"
    assert set(TABLE) == there
    assert [middleware.cls.__name__ for middleware in app.user_middleware] == ["Gate"]


@pytest.mark.parametrize("by", ["session", "bearer"])
@pytest.mark.parametrize("role", [*ROLES, "nobody"])
@pytest.mark.parametrize("closed", [True, False])
def test_the_table_of_roles_and_routes(explorer, role, by, closed):
    counted = "viewer" if role == "nobody" and not closed else role
    with client_of(explorer.closed if closed else explorer.open, role, by) as client:
        refused = {call: called(client, call) for call in TABLE if call[1] != f"{API}/session"}
    wrong = {
        call: status
        for call, status in refused.items()
        if (status in (401, 403)) != (TABLE[call] is not OPEN and counted not in TABLE[call]) or status >= 500
    }
    assert wrong == {}
    out = {status for status in refused.values() if status in (401, 403)}
    assert out == ({401} if counted == "nobody" else {403} if counted == "viewer" else set())


def test_a_viewer_who_acts_is_sent_to_the_address_of_a_lead(explorer):
    with client_of(explorer.closed, "viewer", "bearer") as client:
        reply = client.post(f"{API}/control", json={"run": "bad", "action": "stop"})
        assert reply.status_code == 403
        assert reply.json()["expected"] == "lead"
        assert "the first address" in reply.json()["fix"]


def test_what_a_viewer_is_told_offers_no_action(explorer):
    for role, may in (("viewer", False), ("lead", True)):
        with client_of(explorer.closed, role, "session") as client:
            told = client.get(f"{API}/runs").json()
            assert (told["role"], told["asks"], told["controls"]) == (role, may, may)


def test_a_token_opens_no_other_door(explorer):
    with httpx.Client(base_url=explorer.closed) as client:
        assert client.post(f"{API}/session", json={"token": "loo"}).status_code == 401
        assert client.get(f"{API}/runs", headers={"Authorization": "Bearer loo"}).status_code == 401
        assert client.get(f"{API}/runs", params={"token": "look"}).status_code == 401
        for cookie in ("look", "act", "", "x" * 64):
            reply = client.get(f"{API}/runs", headers={"Cookie": f"{COOKIE}0={cookie}; trueup_session={cookie}"})
            assert reply.status_code == 401
        evil = {"Origin": "http://evil.example"}
        assert client.post(f"{API}/session", json={"token": "act"}, headers=evil).status_code == 403
        cookie = client.post(f"{API}/session", json={"token": "act"}).headers["set-cookie"]
        assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
        assert "act" not in cookie.split("=")[1]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "act"},
        {"X-CSRF-Token": "0" * 64},
    ],
)
@pytest.mark.parametrize("by", ["session", "bearer"])
def test_another_site_cannot_act_by_the_session_or_token_of_a_lead(explorer, headers, by):
    asked = {"run": "done", "action": "stop"}
    plant(explorer.runs / "done", config=ALLOWED)
    with client_of(explorer.closed, "lead", by) as client:
        for meant in ({}, {"Origin": explorer.closed}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
            assert client.post(f"{API}/control", json=asked, headers=meant).status_code == 409, meant
        reply = client.post(f"{API}/control", json=asked, headers=headers)
        assert reply.status_code == (409 if by == "bearer" and "X-CSRF-Token" in headers else 403), reply.text
        assert client.get(f"{API}/runs", headers=headers).status_code == 200  # it gets no answer that it could read


def test_another_host_name_is_refused(explorer):
    for call in TABLE:
        reply = httpx.request(
            "GET" if call[0] == "MOUNT" else call[0], explorer.open + call[1], headers={"Host": "evil.example"}
        )
        assert reply.status_code == 400, call


def test_a_run_is_asked_to_pause_and_says_by_whom(explorer):
    with start(explorer.runs / "a", config=ALLOWED) as run, client_of(explorer.open, "lead", "bearer") as client:
        write(run, range(2))
        asked = client.post(f"{API}/control", json={"run": "a", "action": "pause"})
        assert asked.status_code == 200, asked.text
        told = client.get(f"{API}/run", params={"run": "a"}).json()["control"]
        assert told["allowed"] is True
        assert told["asked"] == asked.json()
        assert told["asked"]["by"].endswith("(lead of the explorer)")
        again = client.post(f"{API}/control", json={"run": "a", "action": "stop"})
        assert (again.status_code, "asked already" in again.text) == (409, True)
        assert take(run.path).action == "pause"


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("bad", 403, "does not allow it"),
        ("done", 409, "this run is done"),
        ("synced", 409, "no process here trains this run"),
        ("../a", 404, "there is no run '../a'"),
    ],
)
def test_a_run_that_cannot_be_asked_says_why(explorer, name, status, words):
    plant(explorer.runs / "done", config=ALLOWED)
    with start(explorer.runs / "synced", config=ALLOWED) as run:
        write(run, range(2))
    record = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(record | {"status": "running"}))  # as it was copied while it ran
    with client_of(explorer.open, "lead", "bearer") as client:
        reply = client.post(f"{API}/control", json={"run": name, "action": "stop"})
        assert (reply.status_code, words in reply.json()["detail"]) == (status, True), reply.text
        wrong = client.post(f"{API}/control", json={"run": name, "action": "rm"}).json()
        assert (wrong["status"], wrong["detail"]) == (422, "there is no action 'rm'")
        assert wrong["expected"] == "'pause' or 'stop'"
    assert not any((explorer.runs / folder / CONTROL).exists() for folder in ("bad", "done", "synced"))


def test_what_may_be_asked_is_what_a_run_can_do():
    assert get_args(Action) == ACTIONS


def test_of_a_run_whose_process_was_killed_it_is_said_that_nobody_acts(explorer):
    with start(explorer.runs / "a", config=ALLOWED) as run, client_of(explorer.open, "lead", "bearer") as client:
        write(run, range(2))
        asked = client.post(f"{API}/control", json={"run": "a", "action": "pause"}).json()
        record = (run.path / "run.json").read_text()
        told = client.get(f"{API}/run", params={"run": "a"}).json()
        assert (told["status"], told["control"]["held"]) == ("running", True)
    (run.path / "run.json").write_text(record)  # as it is left by kill -9, with the lock gone
    with client_of(explorer.open, "lead", "bearer") as client:
        told = client.get(f"{API}/run", params={"run": "a"}).json()
        assert (told["status"], told["control"]["held"], told["control"]["asked"]) == ("running", False, asked)
        again = client.post(f"{API}/control", json={"run": "a", "action": "stop"})
        assert (again.status_code, "was killed" in again.json()["detail"]) == (409, True)


def test_without_the_option_there_is_no_call_that_acts(tmp_path):
    plant(tmp_path / "runs" / "a", config=ALLOWED)
    served = Served(tmp_path / "runs", tokens=Keys(TOKENS))
    with client_of(served.url, "lead", "bearer") as client:
        told = client.get(f"{API}/runs").json()
        assert (told["asks"], told["controls"]) == (False, False)
        for path in ("/control", "/ask"):
            assert client.post(API + path, json={"run": "a", "action": "stop"}).status_code in (404, 405)
    served.stop()


def test_each_role_is_told_its_address():
    url = "http://127.0.0.1:8401/"
    assert addresses(url, Keys({})) == [url]
    assert addresses(url, Keys({"viewer": "look"}, closed=True)) == [f"{url}#token=look"]
    assert addresses(url, Keys({"lead": "act"})) == [f"{url}#token=act", f"to look only: {url}"]
    assert addresses(url, Keys(TOKENS, closed=True)) == [f"{url}#token=act", f"to look only: {url}#token=look"]
