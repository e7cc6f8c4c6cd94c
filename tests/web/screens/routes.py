"""What the contract's calls do in the test server: ``(method, path, least role, function)``."""

from __future__ import annotations

import json
import secrets
from typing import Any

from tests.web.screens.room import PASSWORD, Call, Refusal, Room
from trueup.errors import UsageError
from trueup.feedback import assignment, audit, judgments, projects
from trueup.feedback.answers import parse_answer
from trueup.feedback.schema import audit_event

Reply = tuple[int, Any, dict[str, str]]
ROUTES: list[tuple[str, str, str | None, Any]] = []


def route(method: str, path: str, least: str | None = "annotator") -> Any:
    """Enter a function into the table; ``*`` in a path is an id."""

    def enter(run: Any) -> Any:
        ROUTES.append((method, path.replace("*", "([^/]+)"), least, run))
        return run

    return enter


def ok(body: Any = None, status: int = 200) -> Reply:
    return (204 if body is None else status), body, {}


@route("POST", "/auth/login", None)
def login(room: Room, call: Call) -> Reply:
    given = call.body
    person = next((p for p in room.people.values() if p.handle == given["handle"] and p.active), None)
    if given["handle"] == "too-often":
        raise Refusal(429, "too many tries", headers={"Retry_After": "30"})
    if person is None or given["password"] != PASSWORD:
        raise Refusal(401, "handle or password is wrong")
    session, csrf = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    room.sessions[session] = (person.id, csrf)
    cookie = f"trueup_session={session}; HttpOnly; SameSite=Lax; Path=/"
    return 200, {"me": describe(person), "csrf": csrf}, {"Set_Cookie": cookie}


def describe(person: Any) -> dict[str, Any]:
    pseudonym = f"p-{person.id[:6]}"
    return {"id": person.id, "handle": person.handle, "pseudonym": pseudonym, "role": person.role, "simulated": False}


@route("POST", "/auth/logout", "viewer")
def logout(room: Room, call: Call) -> Reply:
    del room.sessions[call.session]
    return ok()


@route("GET", "/me", "viewer")
def me(room: Room, call: Call) -> Reply:
    return ok(describe(call.person) | {"csrf": room.sessions[call.session][1]})


@route("GET", "/projects", "viewer")
def list_projects(room: Room, call: Call) -> Reply:
    rows = []
    for of in room.projects.values():
        done = room.judged(of)
        rows.append(
            {
                "id": of.id,
                "name": of.name,
                "state": of.state,
                "simulated": False,
                "items": len(of.items),
                "satisfied": 0,
                "judgments": len(done),
                "my_judgments": 0,
            }
        )
    return ok(rows)


@route("POST", "/projects", "lead")
def create_project(room: Room, call: Call) -> Reply:
    return ok({"id": room.project(call.body["name"]).id}, 201)


@route("PATCH", "/projects/*", "lead")
def patch_project(room: Room, call: Call) -> Reply:
    room.projects[call.ids[0]].state = call.body["state"]
    return ok({"id": call.ids[0], "state": call.body["state"]})


@route("GET", "/projects/*/guideline", "viewer")
def guideline(room: Room, call: Call) -> Reply:
    of = room.projects[call.ids[0]]
    if of.guideline is None:
        raise Refusal(404, "there is no guideline")
    return ok(of.guideline | {"acknowledged": call.person.id in of.acknowledged})


@route("POST", "/projects/*/guideline", "lead")
def new_guideline(room: Room, call: Call) -> Reply:
    room.guideline(call.ids[0], call.body["markdown"])
    return ok(room.projects[call.ids[0]].guideline, 201)


@route("POST", "/guidelines/*/ack")
def acknowledge(room: Room, call: Call) -> Reply:
    assignment.acknowledge(room.store, call.person.id, call.ids[0])
    return ok({"acknowledged": True})


@route("GET", "/projects/*/templates", "lead")
def templates(room: Room, call: Call) -> Reply:
    return ok(room.projects[call.ids[0]].templates)


@route("POST", "/projects/*/templates", "lead")
def new_template(room: Room, call: Call) -> Reply:
    given = call.body
    made = projects.add_template(room.store, call.ids[0], given["kind"], given["name"], given["config"])
    room.projects[call.ids[0]].templates.append({"id": made, **given})
    return ok({"id": made}, 201)


@route("POST", "/projects/*/import", "lead")
def import_rows(room: Room, call: Call) -> Reply:
    assert {"format", "template", "dry_run"} <= set(call.query)
    lines, rejected, good = call.raw.decode().splitlines(), [], 0
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)
            good += 1
        except ValueError:
            rejected.append({"line": number, "reason": "not JSON"})
    return ok({"rows": len(lines), "items": good, "rejected": rejected})


@route("POST", "/projects/*/next")
def next_item(room: Room, call: Call) -> Reply:
    of = room.projects[call.ids[0]]
    if of.state != "live":
        return ok({"seat": None, "reason": "paused", "message": f"the project is {of.state}"})
    seat = assignment.next_seat(room.store, of.id, call.person.id, lease=room.lease)
    if isinstance(seat, assignment.Nothing):
        return ok({"seat": None, "reason": seat.reason, "message": seat.message})
    held = {"id": seat.id, "token": seat.token, "lease_until": seat.lease_until, "draft": room.drafts.get(seat.id)}
    done = sum(one.item in of.items for one in room.judged(of))
    more = {"progress": {"done": done, "of": len(of.items)}}
    return ok({"seat": held | room.shown(seat.item, seat.shown) | more})


@route("POST", "/seats/*/heartbeat")
def heartbeat(room: Room, call: Call) -> Reply:
    room.beats.append(call.ids[0])
    token = call.header("X-Seat-Token")
    return ok({"lease_until": assignment.heartbeat(room.store, call.ids[0], token, lease=room.lease)})


@route("POST", "/seats/*/release")
def release(room: Room, call: Call) -> Reply:
    assignment.release(room.store, call.ids[0], call.header("X-Seat-Token"))
    return ok()


@route("PUT", "/seats/*/draft")
def draft(room: Room, call: Call) -> Reply:
    assignment.save_draft(room.store, call.ids[0], call.header("X-Seat-Token"), call.body)
    room.drafts[call.ids[0]] = call.body
    return ok()


BODY = {"answer", "skip_reason", "rationale", "active_ms", "focus_lost", "shown"}


def _body(call: Call) -> tuple[str, dict[str, Any]]:
    key, given = call.header("Idempotency-Key"), call.body
    if set(given) != BODY or not 8 <= len(key) <= 80:
        raise Refusal(422, f"fields are {sorted(given)}", expected=", ".join(sorted(BODY)))
    return key, given


def _taken(taken: judgments.Taken) -> Reply:
    feedback = taken.feedback and {
        "right": taken.feedback["correct"],
        "explanation": taken.feedback["explanation"],
        "expected": taken.feedback["expected"],
    }
    body = {"judgment": taken.judgment, "surplus": taken.surplus, "replayed": taken.replayed, "feedback": feedback}
    return ok(body, 200 if taken.replayed else 201)


@route("POST", "/items/*/judgments")
def judge(room: Room, call: Call) -> Reply:
    key, given = _body(call)
    shown = tuple(given.pop("shown"))
    return _taken(judgments.submit(room.store, call.ids[0], call.person.id, key, shown=shown, **given))


@route("POST", "/judgments/*/supersede")
def supersede(room: Room, call: Call) -> Reply:
    key, given = _body(call)
    if given["answer"] is None:
        raise UsageError("a correction needs an answer", where="answer")
    args = (room.store, call.ids[0], call.person.id, key, given["answer"])
    return _taken(judgments.supersede(*args, rationale=given["rationale"]))


@route("POST", "/items/*/flag")
def flag(room: Room, call: Call) -> Reply:
    given = call.body
    made = judgments.flag_item(room.store, call.ids[0], call.person.id, given["reason"], given["note"])
    room.flags.append(given)
    return ok({"id": made}, 201)


@route("GET", "/projects/*/progress", "viewer")
def progress(room: Room, call: Call) -> Reply:
    of = room.projects[call.ids[0]]
    default = {"by_stream": [{"stream": "main", "items": 3, "satisfied": 1, "judgments": 4}], "per_day": []}
    return ok(of.quality.get("progress", default | {"eta_hours": None}))


@route("GET", "/projects/*/quality/*", "viewer")
def quality(room: Room, call: Call) -> Reply:
    return ok(room.projects[call.ids[0]].quality.get(call.ids[1], []))


@route("GET", "/projects/*/gold", "viewer")
def gold(room: Room, call: Call) -> Reply:
    return ok(room.projects[call.ids[0]].gold)


@route("POST", "/items/*/gold/retire", "lead")
def retire(room: Room, call: Call) -> Reply:
    for of in room.projects.values():
        for row in of.gold:
            if row["item"] == call.ids[0]:
                row["retired_at"] = "2026-01-31T12:00:00.000000Z"
    return ok({"item": call.ids[0]})


@route("POST", "/projects/*/exports", "lead")
def export(room: Room, call: Call) -> Reply:
    made = secrets.token_hex(4)
    room.exports[made] = b'{"prompt": "p"}\n'
    return ok({"id": made, "rows": 1, "sha256": "a" * 64, "dropped": {"tie": 2, "gold": 1}}, 201)


@route("GET", "/exports/*/download", "lead")
def download(room: Room, call: Call) -> Reply:
    return 200, room.exports[call.ids[0]], {"Content_Disposition": 'attachment; filename="pairs.jsonl"'}


@route("GET", "/adjudication/*/next", "adjudicator")
def adjudication(room: Room, call: Call) -> Reply:
    of = room.projects[call.ids[0]]
    if not of.adjudicate:
        return ok({"seat": None, "reason": "done", "message": "nothing is disputed"})
    order = tuple(one["id"] for one in room.responses(of.adjudicate[0]))
    return ok({"seat": room.shown(of.adjudicate[0], order)})


@route("POST", "/adjudication/*/blind", "adjudicator")
def blind(room: Room, call: Call) -> Reply:
    ids = [one["id"] for one in room.responses(call.ids[0])]
    of = room.projects[room.kinds[call.ids[0]][0]]
    kind = next(one["kind"] for one in of.templates if one["id"] == room.kinds[call.ids[0]][1])
    parse_answer(call.body["answer"], kind=kind, responses=ids)
    return ok({"answers": room.projects[of.id].quality.get("answers", [])})


@route("POST", "/adjudication/*/settle", "adjudicator")
def settle(room: Room, call: Call) -> Reply:
    of = room.projects[room.kinds[call.ids[0]][0]]
    assert set(call.body) == {"answer", "cause", "note"}
    of.adjudicate.remove(call.ids[0])
    of.settled[call.ids[0]] = call.body
    return ok({"item": call.ids[0]}, 201)


@route("GET", "/people", "admin")
def people(room: Room, call: Call) -> Reply:
    return ok([describe(p) | {"active": p.active} for p in room.people.values()])


@route("POST", "/people", "admin")
def new_person(room: Room, call: Call) -> Reply:
    return ok({"id": room.person(call.body["role"], call.body["handle"]).id}, 201)


@route("PATCH", "/people/*", "admin")
def patch_person(room: Room, call: Call) -> Reply:
    person = room.people[call.ids[0]]
    person.active = call.body.get("active", person.active)
    person.role = call.body.get("role", person.role)
    return ok(describe(person) | {"active": person.active})


@route("GET", "/tokens", "viewer")
def tokens(room: Room, call: Call) -> Reply:
    return ok(room.tokens)


@route("POST", "/tokens", "viewer")
def new_token(room: Room, call: Call) -> Reply:
    made = secrets.token_hex(4)
    given = call.body
    room.tokens.append({"id": made, "name": given["name"], "scopes": given["scopes"], "expires_at": None})
    return ok({"id": made, "token": f"tu_{secrets.token_hex(16)}"}, 201)


@route("DELETE", "/tokens/*", "viewer")
def drop_token(room: Room, call: Call) -> Reply:
    room.tokens[:] = [one for one in room.tokens if one["id"] != call.ids[0]]
    return ok()


@route("GET", "/audit", "admin")
def audit_log(room: Room, call: Call) -> Reply:
    with room.store.read() as connection:
        rows = connection.execute(audit_event.select().order_by(audit_event.c.seq.desc()).limit(50))
        return ok([dict(row._mapping) for row in rows])


@route("GET", "/audit/verify", "admin")
def verify(room: Room, call: Call) -> Reply:
    with room.store.read() as connection:
        broken = audit.verify(connection)
        count, head = audit.head(connection)
    return ok({"ok": broken is None, "events": count, "head": head})
