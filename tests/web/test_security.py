"""The gate: headers, requests that were not meant, sizes, rates, wrong passwords, foreign host names."""

import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.web.conftest import API, PASSWORD, Running, take
from trueup.web.annotate.limits import Buckets, Limits, LoginGuard
from trueup.web.annotate.security import CSP, HEADERS


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/me", "/api/v1/nothing", "/", "/static/nothing.js", "/a/b/c/d"])
def test_every_reply_carries_the_headers(room, path):
    reply = room.anonymous().get(room.url + path)
    assert {name: reply.headers[name] for name in HEADERS} == HEADERS
    assert "server" not in reply.headers or "uvicorn" in reply.headers["server"]  # `serve` turns it off
    assert "access-control-allow-origin" not in reply.headers
    if not path.startswith("/static"):
        assert reply.headers["cache-control"] == "no-store"


def test_the_policy_lets_nothing_in_from_elsewhere():
    parts = dict(part.split(" ", 1) for part in CSP.split("; "))
    assert parts["default-src"] == "'none'"
    assert parts["frame-ancestors"] == parts["base-uri"] == "'none'"
    assert {parts[name] for name in ("script-src", "style-src", "connect-src", "form-action")} == {"'self'"}
    for unsafe in ("unsafe", "http:", "https:", "*", "blob:"):
        assert unsafe not in CSP


def test_an_unforeseen_error_tells_nothing_of_the_inside(room, monkeypatch, caplog):
    from trueup.feedback import desk

    def broken(*_):
        raise RuntimeError("secret of the inside")

    client = room.client("annotator")
    monkeypatch.setattr(desk, "projects_for", broken)
    reply = client.get("/projects")
    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["content-security-policy"] == CSP
    assert "secret" not in reply.text
    assert "secret of the inside" in caplog.text


CSRF = [
    ({}, None, 403),
    ({"X-CSRF-Token": "0" * 64}, None, 403),
    ({"X-CSRF-Token": ""}, "own", 403),
    ({"X-CSRF-Token": "é".encode()}, "own", 403),
    ({"X-CSRF-Token": "right"}, None, 201),
    ({"X-CSRF-Token": "right"}, "own", 201),
    ({"X-CSRF-Token": "right"}, "https://evil.example", 403),
    ({"X-CSRF-Token": "right"}, "null", 403),
    ({"X-CSRF-Token": "right"}, "http://127.0.0.1:1", 403),
    ({"X-CSRF-Token": "right", "Sec-Fetch-Site": "cross-site"}, None, 403),
    ({"X-CSRF-Token": "right", "Sec-Fetch-Site": "same-site"}, "own", 403),
    ({"X-CSRF-Token": "right", "Sec-Fetch-Site": "same-origin"}, "own", 201),
    ({"X-CSRF-Token": "right", "Sec-Fetch-Site": "none"}, None, 201),
]


@pytest.mark.parametrize(("headers", "origin", "status"), CSRF)
def test_a_session_changes_things_only_from_our_own_pages(room, headers, origin, status):
    client = room.client("lead")
    right = client.headers.pop("X-CSRF-Token")
    del client.headers["Origin"]
    sent = {name: right if value == "right" else value for name, value in headers.items()}
    if origin is not None:
        sent["Origin"] = room.url if origin == "own" else origin
    reply = client.post("/projects", json={"name": "made"}, headers=sent)
    assert reply.status_code == status, reply.text
    assert [p["name"] for p in client.get("/projects").json()] == (["made"] if status == 201 else [])


def test_the_csrf_token_of_another_session_does_not_fit(room):
    one, two = room.client("lead"), room.client("lead")
    assert one.headers["X-CSRF-Token"] != two.headers["X-CSRF-Token"]
    assert (
        one.post("/projects", json={"name": "x"}, headers={"X-CSRF-Token": two.headers["X-CSRF-Token"]}).status_code
        == 403
    )


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_every_unsafe_method_needs_the_token(room, method):
    client = room.client("admin")
    del client.headers["X-CSRF-Token"]
    path = {"PUT": "/seats/x/draft", "PATCH": "/people/x", "DELETE": "/tokens/x"}[method]
    assert client.request(method, path).json()["where"] == "X-CSRF-Token"


def test_nobody_can_be_signed_in_from_another_site(room):
    """Login CSRF: a foreign page must not put somebody into a stranger's account."""
    body = {"handle": "lead", "password": PASSWORD}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        reply = room.anonymous(**headers).post("/auth/login", json=body)
        assert reply.status_code == 403
        assert "set-cookie" not in reply.headers


def test_signing_in_again_needs_no_token_of_the_old_session(room):
    client = room.client("lead")
    before = client.headers.pop("X-CSRF-Token")
    reply = client.post("/auth/login", json={"handle": "admin", "password": PASSWORD})
    assert reply.status_code == 200
    assert reply.json()["csrf"] != before
    assert client.get("/me").json()["handle"] == "admin"
    evil = client.post(
        "/auth/login", json={"handle": "lead", "password": PASSWORD}, headers={"Origin": "https://evil.example"}
    )
    assert evil.status_code == 403


def test_programs_need_no_csrf_token(room):
    client = room.token(room.client("lead"), "lead")
    assert client.post("/projects", json={"name": "x"}).status_code == 201


def test_a_form_of_another_type_is_no_body(room):
    """text/plain is what a foreign page can send without asking first."""
    client = room.client("lead")
    reply = client.post("/projects", content='{"name": "x"}', headers={"Content-Type": "text/plain"})
    assert reply.status_code == 422


def test_bodies_are_bounded(open_room):
    room = open_room(limits=Limits(rate=1000, burst=1000, body=2000, import_body=5000))
    room.person("lead", "lead")
    lead = room.client("lead")
    made = lead.post("/projects", json={"name": "p"}).json()["id"]
    template = lead.post(f"/projects/{made}/templates", json={"name": "t", "kind": "pairwise"}).json()["id"]
    over = lead.post("/projects", json={"name": "x" * 3000})
    assert over.status_code == 413
    assert over.json()["expected"] == "at most 2000 bytes"

    def chunks(size):  # no Content-Length: the size is found out while reading
        for _ in range(size // 100):
            yield b" " * 100

    assert lead.post("/projects", content=chunks(3000)).status_code == 413
    path = f"/projects/{made}/import?template={template}"
    assert lead.post(path, content=chunks(4000)).json()["rows"] == 0
    assert lead.post(path, content=chunks(6000)).status_code == 413
    assert room.anonymous().post(path, content=chunks(4000)).status_code == 413  # the larger limit is for known people


def test_a_slow_body_ends_in_time(open_room):
    room = open_room(limits=Limits(rate=1000, burst=1000, body_seconds=0.3))
    host, port = room.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as line:
        line.sendall(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        began = time.monotonic()
        reply = line.recv(4096)
    assert b"408" in reply.split(b"\r\n")[0]
    assert time.monotonic() - began < 3


def test_requests_are_limited_for_each_principal(open_room):
    room = open_room(limits=Limits(rate=0.5, burst=10))
    room.person("one")
    room.person("two")
    one, two = room.client("one"), room.client("two")
    statuses = [one.get("/me").status_code for _ in range(12)]
    assert statuses[:10] == [200] * 10
    assert statuses[-1] == 429
    over = one.get("/me")
    assert 1 <= int(over.headers["retry-after"]) <= 3
    assert two.get("/me").status_code == 200


def test_files_of_the_pages_are_not_counted(open_room):
    """One page is dozens of modules, and a whole office may share an address."""
    room = open_room(limits=Limits(rate=0.01, burst=5))
    nobody = room.anonymous()
    assert {nobody.get(f"{room.url}/static/nothing.js").status_code for _ in range(20)} == {404}
    assert nobody.get("/healthz").status_code == 200


def test_wrong_passwords_wait_longer_and_longer(open_room):
    room = open_room()
    room.person("ann")
    nobody = room.anonymous()
    wrong = {"handle": "ann", "password": "wrong horse battery"}
    right = {"handle": "ann", "password": PASSWORD}
    assert [nobody.post("/auth/login", json=wrong).status_code for _ in range(5)] == [401] * 5
    held = nobody.post("/auth/login", json=right)
    assert held.status_code == 429
    assert int(held.headers["retry-after"]) >= 1
    assert held.json()["status"] == 429


def test_the_wait_doubles_is_capped_and_forgotten():
    now = [0.0]
    guard = LoginGuard(Limits(), clock=lambda: now[0])
    waits = []
    for _ in range(16):
        now[0] += (wait := guard.enter("1.2.3.4"))
        if wait:
            assert guard.enter("1.2.3.4") == 0.0
        waits.append(round(wait))
    assert waits[:9] == [0, 0, 0, 0, 0, 2, 4, 8, 16]
    assert max(waits) == 900
    assert guard.enter("5.6.7.8") == 0.0
    now[0] += 5000
    assert [guard.enter("1.2.3.4") for _ in range(3)] == [0.0] * 3


def test_many_tries_at_once_are_many():
    guard = LoginGuard(Limits(), clock=lambda: 0.0)
    assert [guard.enter("a") > 0 for _ in range(50)].count(False) == 5


def test_a_right_password_does_not_wipe_out_the_wrong_ones():
    """Else somebody with an account could try those of others for ever."""
    guard = LoginGuard(Limits(), clock=lambda: 0.0)
    wrong = 0
    for _ in range(20):
        wrong += guard.enter("a") == 0
        if guard.enter("a") == 0:
            guard.forgive("a")
    assert wrong == 5


def test_addresses_are_kept_as_keyed_hashes_only(room, project):
    client = room.client("annotator")
    take(client, project)
    one, two = LoginGuard(Limits()), LoginGuard(Limits())
    assert one.name("127.0.0.1") == one.name("127.0.0.1") != two.name("127.0.0.1")
    files = list(Path(room.store.where).parent.glob("feedback.db*"))
    assert b"annotator" in b"".join(path.read_bytes() for path in files)
    assert all(b"127.0.0.1" not in path.read_bytes() for path in files)


def test_buckets_fill_again_and_forget_the_idle():
    now = [0.0]
    buckets = Buckets(2.0, 4.0, clock=lambda: now[0], most=3)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    now[0] += 1
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0.5]
    now[0] += 100
    for n in range(10):
        assert buckets.take(f"k{n}") == 0
    assert len(buckets._held) <= 3


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1", 200), ("localhost:99", 200), ("evil.example", 400), ("", 400)]
)
def test_on_the_loopback_only_its_own_names_are_answered(open_room, host, status):
    """DNS rebinding: a foreign name that resolves to this computer opens nothing."""
    room = open_room(hosts=frozenset({"localhost", "127.0.0.1", "::1"}))
    assert room.anonymous().get("/healthz", headers={"Host": host}).status_code == status


def test_behind_tls_the_cookie_is_secure(open_room):
    room = open_room()
    room.person("ann")
    behind = Running(room.app, proxy_headers=True, forwarded_allow_ips="127.0.0.1")
    reply = httpx.post(
        f"{behind.url}{API}/auth/login",
        json={"handle": "ann", "password": PASSWORD},
        headers={"X-Forwarded-Proto": "https"},
    )
    behind.close()
    assert "; Secure" in reply.headers["set-cookie"]
    assert reply.headers["strict-transport-security"].startswith("max-age=")
