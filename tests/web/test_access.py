"""Who may do what: every route times every role, token scopes, and other people's things."""

import pytest
from fastapi.routing import APIRoute

from tests.web.conftest import ROLES, judge, key, take

API = "/api/v1"
ALL, NONE = frozenset(ROLES), frozenset()
ANNOTATORS = ALL - {"viewer"}
ADJUDICATORS = ANNOTATORS - {"annotator"}
LEADS = frozenset({"lead", "admin"})
READERS = LEADS | {"viewer"}
ADMINS = frozenset({"admin"})
OPEN = None
"""Anybody, signed in or not."""

TABLE = {
    ("POST", f"{API}/auth/login"): OPEN,
    ("POST", f"{API}/auth/logout"): ALL,
    ("POST", f"{API}/auth/password"): ALL,
    ("GET", f"{API}/me"): ALL,
    ("GET", f"{API}/tokens"): ALL,
    ("POST", f"{API}/tokens"): ALL,
    ("DELETE", f"{API}/tokens/{{token_id}}"): ALL,
    ("GET", f"{API}/people"): ADMINS,
    ("POST", f"{API}/people"): ADMINS,
    ("PATCH", f"{API}/people/{{person_id}}"): ADMINS,
    ("GET", f"{API}/projects"): ALL,
    ("POST", f"{API}/projects"): LEADS,
    ("PATCH", f"{API}/projects/{{project_id}}"): LEADS,
    ("GET", f"{API}/projects/{{project_id}}/progress"): READERS,
    ("GET", f"{API}/projects/{{project_id}}/guideline"): ALL,
    ("POST", f"{API}/projects/{{project_id}}/guideline"): LEADS,
    ("POST", f"{API}/guidelines/{{guideline_id}}/ack"): ALL,
    ("GET", f"{API}/projects/{{project_id}}/templates"): LEADS,
    ("POST", f"{API}/projects/{{project_id}}/templates"): LEADS,
    ("PATCH", f"{API}/projects/{{project_id}}/templates/{{template_id}}"): LEADS,
    ("POST", f"{API}/projects/{{project_id}}/import"): LEADS,
    ("POST", f"{API}/projects/{{project_id}}/next"): ANNOTATORS,
    ("POST", f"{API}/seats/{{seat_id}}/heartbeat"): ANNOTATORS,
    ("POST", f"{API}/seats/{{seat_id}}/release"): ANNOTATORS,
    ("PUT", f"{API}/seats/{{seat_id}}/draft"): ANNOTATORS,
    ("POST", f"{API}/items/{{item_id}}/judgments"): ANNOTATORS,
    ("POST", f"{API}/judgments/{{judgment_id}}/supersede"): ANNOTATORS,
    ("POST", f"{API}/items/{{item_id}}/flag"): ANNOTATORS,
    ("GET", f"{API}/adjudication/{{project_id}}/next"): ADJUDICATORS,
    ("POST", f"{API}/adjudication/{{item_id}}/blind"): ADJUDICATORS,
    ("POST", f"{API}/adjudication/{{item_id}}/settle"): ADJUDICATORS,
    ("GET", f"{API}/projects/{{project_id}}/quality/{{page}}"): READERS,
    ("GET", f"{API}/projects/{{project_id}}/gold"): READERS,
    ("POST", f"{API}/items/{{item_id}}/gold/retire"): LEADS,
    ("POST", f"{API}/projects/{{project_id}}/exports"): LEADS,
    ("GET", f"{API}/exports/{{export_id}}/download"): LEADS,
    ("GET", f"{API}/audit"): ADMINS,
    ("GET", f"{API}/audit/verify"): ADMINS,
    ("GET", f"{API}/healthz"): OPEN,
    ("GET", f"{API}/readyz"): OPEN,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/"): OPEN,
    ("GET", "/{page}"): OPEN,
    ("GET", "/{page}/{project_id}"): OPEN,
    ("MOUNT", "/static"): OPEN,
    ("MOUNT", "/static/shell"): OPEN,
}

SCOPES = {
    "read": {("GET", path) for method, path in TABLE if method == "GET" and "/api" in path and "/token" not in path}
    - {("GET", f"{API}/adjudication/{{project_id}}/next"), ("GET", f"{API}/audit"), ("GET", f"{API}/audit/verify")}
    - {("GET", f"{API}/people")},
    "annotate": {call for call, roles in TABLE.items() if roles in (ANNOTATORS, ADJUDICATORS)}
    | {("POST", f"{API}/guidelines/{{guideline_id}}/ack"), ("GET", f"{API}/projects")}
    | {("GET", f"{API}/projects/{{project_id}}/guideline")},
    "lead": {call for call, roles in TABLE.items() if roles == LEADS},
    "ingest": {("POST", f"{API}/projects/{{project_id}}/import")},
    "admin": {call for call, roles in TABLE.items() if roles == ADMINS},
}
FOR_ANY_TOKEN = {("GET", f"{API}/me")}


def routes(app):
    """(method, path) of every route, whether the framework keeps included routers flat or nested."""
    try:
        from fastapi.routing import iter_route_contexts
    except ImportError:
        found = app.routes
    else:
        found = list(iter_route_contexts(app.routes))
    for one in found:
        methods = getattr(one, "methods", None)
        for method in methods or {"MOUNT"}:
            yield method, one.path


def called(client, room, call):
    """Make a call with ids that lead nowhere and no body: allowed is whatever is not 401 or 403."""
    method, path = call
    for name in (
        "project_id",
        "item_id",
        "token_id",
        "person_id",
        "guideline_id",
        "seat_id",
        "judgment_id",
        "export_id",
        "template_id",
    ):
        path = path.replace("{" + name + "}", "none")
    return client.request(method if method != "MOUNT" else "GET", room.url + path.replace("{page}", "gold")).status_code


def test_every_route_has_a_row_and_every_row_a_route(room):
    there = {call for call in routes(room.app) if call[0] != "HEAD"}
    assert len(there) > 30
    assert there - set(TABLE) == set(), "a new route needs a row: who may call it?"
    assert set(TABLE) == there


def test_nothing_bypasses_the_gate(room):
    assert [m.cls.__name__ for m in room.app.user_middleware] == ["Gate"]
    assert all(isinstance(route, APIRoute) for route in room.app.routes if type(route).__name__ == "Route")


@pytest.mark.parametrize("role", [*ROLES, "nobody"])
def test_the_table_of_roles_and_routes(room, role):
    client = room.anonymous(Origin=room.url) if role == "nobody" else room.client(role)
    wrong = []
    for call, roles in TABLE.items():
        if call[1].endswith("/auth/logout"):
            continue
        status = called(client, room, call)
        expected_out = roles is not OPEN and role not in roles
        if expected_out != (status == (401 if role == "nobody" else 403)):
            wrong.append((call, status))
        assert status < 500, call
    assert wrong == []
    out = client.post("/auth/logout").status_code
    assert out == (401 if role == "nobody" else 204)


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_the_table_of_scopes_and_routes(room, scope):
    """A token of the admin, who may do everything, opens what its scope says and nothing else."""
    client = room.token(room.client("admin"), scope)
    opened = {
        call for call, roles in TABLE.items() if roles is not OPEN and called(client, room, call) not in (401, 403)
    }
    guarded = {call for call, roles in TABLE.items() if roles is not OPEN}
    assert opened == (SCOPES[scope] | FOR_ANY_TOKEN) & guarded


def test_a_token_cannot_make_tokens_or_end_sessions(room):
    client = room.token(room.client("admin"), "annotate", "read", "lead", "admin", "ingest")
    for method, path in (("GET", "/tokens"), ("POST", "/tokens"), ("DELETE", "/tokens/x"), ("POST", "/auth/logout")):
        reply = client.request(method, path, json={"name": "x", "scopes": ["read"]} if method == "POST" else None)
        assert reply.status_code == 403, path


def test_a_token_is_cut_to_its_owners_role(room):
    viewer = room.client("viewer")
    assert viewer.post("/tokens", json={"name": "t", "scopes": ["annotate"], "days": 1}).status_code == 409
    reader = room.token(viewer, "read")
    assert reader.get("/projects").status_code == 200
    assert reader.post("/projects/x/next").status_code == 403


@pytest.mark.parametrize("text", ["Bearer nonsense", "Basic dXNlcjpwdw==", "Bearer trueup_", "bearer", ""])
def test_unknown_tokens_are_refused_even_beside_a_good_session(room, text):
    client = room.client("annotator")
    reply = client.get("/me", headers={"Authorization": text})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"


def test_tokens_in_the_address_open_nothing(room):
    admin = room.client("admin")
    token = admin.post("/tokens", json={"name": "t", "scopes": ["read"], "days": 1}).json()["token"]
    for name in ("token", "access_token", "api_key", "key"):
        assert room.anonymous().get(f"/projects?{name}={token}").status_code == 401


def test_seats_and_judgments_of_others_do_not_exist(room, project):
    mine, other = room.client("annotator"), room.client("adjudicator")
    seat = take(mine, project)
    stolen = {"X-Seat-Token": seat["token"]}  # even with the token of the seat
    for method, what in (("POST", "heartbeat"), ("POST", "release")):
        assert other.request(method, f"/seats/{seat['id']}/{what}", headers=stolen).status_code == 404
    assert other.put(f"/seats/{seat['id']}/draft", json={"x": 1}, headers=stolen).status_code == 404
    assert take(mine, project)["draft"] is None
    made = judge(mine, seat, shown=[]).json()["judgment"]
    theirs = other.post(
        f"/judgments/{made}/supersede", json={"skip_reason": "other"}, headers={"Idempotency-Key": key(9)}
    )
    assert theirs.status_code == 404
    assert (
        theirs.json()
        == other.post(
            "/judgments/none/supersede", json={"skip_reason": "other"}, headers={"Idempotency-Key": key(9)}
        ).json()
    )


def test_one_persons_key_is_not_anothers(room, project):
    """The same idempotency key from two people is two judgments, and neither sees the other's."""
    replies = []
    for handle in ("annotator", "adjudicator"):
        client = room.client(handle)
        replies.append(judge(client, take(client, project), 7))
    assert [r.status_code for r in replies] == [201, 201]
    assert replies[0].json()["judgment"] != replies[1].json()["judgment"]


def test_tokens_of_others_cannot_be_revoked(room):
    lead, admin = room.client("lead"), room.client("admin")
    made = lead.post("/tokens", json={"name": "t", "scopes": ["read"], "days": 1}).json()["id"]
    assert admin.delete(f"/tokens/{made}").status_code == 404
    assert lead.delete(f"/tokens/{made}").status_code == 204


def test_a_changed_role_holds_at_once(room):
    admin, lead = room.client("admin"), room.client("lead")
    token = room.token(lead, "lead")
    who = lead.get("/me").json()["id"]
    assert token.post("/projects", json={"name": "one"}).status_code == 201
    admin.patch(f"/people/{who}", json={"role": "annotator"})
    assert lead.post("/projects", json={"name": "two"}).status_code == 401
    assert token.post("/projects", json={"name": "two"}).status_code == 403
