"""The gate: headers, requests that were not meant, sizes, rates, wrong passwords, foreign host names."""

import contextlib
import re
import socket
from pathlib import Path

import httpx
import pytest

from tests.web.conftest import API, PASSWORD, Running, judge, take
from trueup.web.shell.limits import Buckets, Limits, LoginGuard
from trueup.web.shell.security import CSP, HEADERS


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
    from trueup.feedback.workflow import dashboard

    def broken(*_):
        raise RuntimeError("secret of the inside")

    client = room.client("annotator")
    monkeypatch.setattr(dashboard, "projects_for", broken)
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


def test_a_body_over_its_limit_is_refused(open_room):
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
    assert lead.post(path, content=chunks(4000)).status_code == 422  # it was read, and holds no rows
    assert lead.post(path, content=chunks(6000)).status_code == 413
    # Who may not import is answered before a byte of the body is read.
    room.person("ann", "annotator")
    assert room.anonymous().post(path, content=chunks(6000)).status_code == 401
    assert room.client("ann").post(path, content=chunks(6000)).status_code in (403, 404)


def test_a_slow_body_ends_in_time(open_room):
    room = open_room(limits=Limits(rate=1000, burst=1000, body_seconds=0.3))
    host, port = room.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        reply = line.recv(4096)
    assert b"408" in reply.split(b"\r\n")[0]


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


def test_simultaneous_tries_are_each_counted():
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
    assert len(buckets._keys) <= 3


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


def test_guesses_at_one_account_from_everywhere_are_slowed_and_the_wait_has_an_end():
    now = [0.0]
    guard = LoginGuard(Limits(), clock=lambda: now[0])
    free = sum(guard.enter(f"10.0.0.{n}", "ann") == 0 for n in range(200))
    assert free == Limits().account_tries
    assert guard.enter("10.0.1.1", "bob") == 0  # others are not slowed
    for n in range(100):  # the attack goes on, each time as early as it may
        now[0] += guard.enter(f"10.1.0.{n}", "ann")
        assert guard.enter(f"10.2.0.{n}", "ann") == 0
    assert guard.enter("10.3.0.1", "ann") == Limits().account_wait  # never more, so nobody is shut out for ever
    assert guard.enter("10.3.0.1", "ann", "a known browser") == 0
    assert [guard.enter("x", "ann", "a known browser") > 0 for _ in range(9)].count(False) == Limits().free_tries - 1


def test_a_refused_try_counts_nowhere():
    guard = LoginGuard(Limits(), clock=lambda: 0.0)
    for _ in range(50):
        guard.enter("one", "ann")
    assert sum(guard.enter(f"other {n}", "ann") == 0 for n in range(50)) == 10 - 5


def test_a_flood_of_invented_names_does_not_wash_out_the_one_that_is_attacked():
    guard = LoginGuard(Limits(), clock=lambda: 0.0, most=100)
    for n in range(Limits().account_tries):
        guard.enter(f"a{n}", "ann")
    for n in range(5000):
        guard.enter(f"b{n}", f"invented {n}")
    assert guard.enter("new", "ann") > 0
    assert len(guard._accounts._keys) <= 100


GUESSING = Limits(rate=1000, burst=1000, account_tries=3, free_tries=100, first_wait=300, account_wait=300)
"""Three guesses an account, then a wait that outlasts any test."""


def test_wrong_passwords_count_by_account_whether_there_is_one_or_not(open_room):
    room = open_room(limits=GUESSING)
    room.person("ann")
    replies = {}
    for handle in ("ann", "nobody"):
        tries = [room.anonymous().post("/auth/login", json={"handle": h, "password": "x"}) for h in [handle] * 5]
        replies[handle] = [(t.status_code, re.sub(r"\d+", "N", t.json()["detail"])) for t in tries]  # seconds pass
    assert replies["ann"] == replies["nobody"]
    assert [status for status, _ in replies["ann"]] == [401] * 3 + [429] * 2
    aside = room.anonymous().post("/auth/login", json={"handle": "ANN.", "password": PASSWORD})
    assert aside.status_code == 429  # spelling the handle otherwise is no way round


def test_a_browser_that_was_here_before_is_not_held_up_by_strangers(open_room):
    room = open_room(limits=GUESSING)
    for handle in ("ann", "bob"):
        room.person(handle)
    known = room.client("ann")
    for handle in ("ann", "bob") * 5:
        room.anonymous().post("/auth/login", json={"handle": handle, "password": "x"})
    right = {"handle": "ann", "password": PASSWORD}
    assert room.anonymous().post("/auth/login", json=right).status_code == 429
    assert known.post("/auth/login", json=right).status_code == 200
    mark = known.cookies["trueup_browser"]
    for handle, cookie in (("bob", mark), ("ann", mark[:-1] + "-"), ("ann", "x.y")):
        stranger = room.anonymous(Cookie=f"trueup_browser={cookie}")
        assert stranger.post("/auth/login", json={"handle": handle, "password": PASSWORD}).status_code == 429


NEW = "purple lantern over gravel"


def test_people_change_their_own_password(open_room):
    room = open_room()
    room.person("ann", "lead")
    here, there = room.client("ann"), room.client("ann")
    token = room.token(here, "read")
    wrong = here.post("/auth/password", json={"old": "not the password", "new": NEW})
    assert (wrong.status_code, wrong.json()["where"]) == (403, "old")
    weak = here.post("/auth/password", json={"old": PASSWORD, "new": "password1234"})
    assert (weak.status_code, weak.json()["where"]) == (422, "new")
    assert token.post("/auth/password", json={"old": PASSWORD, "new": NEW}).status_code == 403
    assert here.post("/auth/password", json={"old": PASSWORD, "new": NEW}).status_code == 204
    assert here.get("/me").status_code == 200
    assert there.get("/me").status_code == token.get("/me").status_code == 401
    nobody = room.anonymous()
    assert nobody.post("/auth/login", json={"handle": "ann", "password": PASSWORD}).status_code == 401
    assert nobody.post("/auth/login", json={"handle": "ann", "password": NEW}).status_code == 200


def test_a_stolen_session_cannot_guess_the_password(open_room):
    room = open_room()
    room.person("ann")
    here = room.client("ann")
    tries = [here.post("/auth/password", json={"old": f"guess {n}", "new": NEW}).status_code for n in range(8)]
    assert tries == [403] * 5 + [429] * 3
    assert room.client("ann").get("/me").status_code == 200


def test_nothing_large_is_read_from_whoever_may_not_send_it(room, project):
    path = f"/projects/{project}/import?template={room.template}"

    sent = []

    def long():
        for _ in range(1000):
            sent.append(65536)
            yield b" " * 65536

    for client, status in ((room.anonymous(), 401), (room.client("annotator"), 403), (room.client("viewer"), 403)):
        sent.clear()
        with contextlib.suppress(httpx.TransportError):  # answered and closed while it was still sending
            assert client.post(path, content=long()).status_code == status
        assert sum(sent) < 64_000_000  # what the sockets on the way hold, and no more
        reply = client.post(path, content=b" " * 15_000)
        assert reply.status_code == status
    narrow = room.token(room.client("admin"), "read", "annotate")
    assert narrow.post(path, content=b" " * 15_000).status_code == 403
    over = room.anonymous().post("/auth/login", json={"handle": "x", "password": "y" * 30_000})
    assert over.status_code == 413


def test_strangers_cannot_judge(room, project):
    seat = take(room.client("annotator"), project)
    for who in ("adjudicator", "lead", "admin"):
        reply = judge(room.client(who), seat, shown=[r["id"] for r in seat["responses"]])
        assert (reply.status_code, reply.json()["where"]) == (403, "item")
