"""Half characters and NUL at the doors of the web: refused with the field, on SQLite and PostgreSQL; never a 500."""

import json

import pytest

from tests.feedback.conftest import where  # noqa: F401  (SQLite and PostgreSQL)
from tests.web.conftest import ROLES, key
from trueup.feedback.store import opening
from trueup.feedback.store.projects import NewItem, add_template, create_project, import_items

BAD = ["half \ud83d", "\ude00", "nul \0"]


def sent(client, method, path, body, **headers):
    """A JSON body as other programs write it: every character outside ASCII escaped."""
    headers = {"Content-Type": "application/json", **headers}
    return client.request(method, path, content=json.dumps(body).encode(), headers=headers)


@pytest.fixture
def room(open_room, where):  # noqa: F811
    made = open_room(where)
    for role in ROLES:
        made.person(role, role)
    return made


def test_every_door_refuses_what_cannot_be_stored(room):
    project = create_project(room.store, "demo")
    template = add_template(room.store, project, "critique", "t")
    import_items(room.store, template, [NewItem("Q", ("x",))])
    lead, admin, annotator = (room.client(name) for name in ("lead", "admin", "annotator"))
    seat = annotator.post(f"/projects/{project}/next").json()["seat"]
    good = {"response": seat["responses"][0]["id"], "text": "fine"}
    judge, tokens = f"/items/{seat['item']}/judgments", {"X-Seat-Token": seat["token"]}
    span = {"start": 0, "end": 1, "tag": "t"}
    for bad in BAD:
        doors = [
            (lead, "POST", "/projects", {"name": bad}, {}),
            (lead, "POST", f"/projects/{project}/guideline", {"markdown": bad}, {}),
            (lead, "POST", f"/projects/{project}/templates", {"kind": "binary", "name": bad}, {}),
            (
                lead,
                "POST",
                f"/projects/{project}/templates",
                {"kind": "binary", "name": "n", "config": {"instruction": bad}},
                {},
            ),
            (admin, "POST", "/people", {"handle": bad}, {}),
            (admin, "POST", "/tokens", {"name": bad, "scopes": ["read"], "days": 1}, {}),
            (annotator, "POST", judge, {"answer": good | {"text": bad}}, {"Idempotency-Key": key(1)}),
            (
                annotator,
                "POST",
                judge,
                {"answer": good | {"spans": [span | {"note": bad}]}},
                {"Idempotency-Key": key(1)},
            ),
            (annotator, "POST", judge, {"answer": good | {bad: 1}}, {"Idempotency-Key": key(1)}),
            (annotator, "POST", judge, {"answer": good, "rationale": bad}, {"Idempotency-Key": key(1)}),
            (annotator, "POST", judge, {"skip_reason": bad}, {"Idempotency-Key": key(1)}),
            (annotator, "POST", judge, {"answer": good, "shown": [bad]}, {"Idempotency-Key": key(1)}),
            (annotator, "PUT", f"/seats/{seat['id']}/draft", {"text": [bad]}, tokens),
            (
                annotator,
                "POST",
                f"/items/{seat['item']}/flag",
                {"reason": "broken", "note": bad},
                {"Idempotency-Key": key(1)},
            ),
            (annotator, "POST", "/auth/login", {"handle": bad, "password": bad}, {}),
        ]
        for client, method, path, body, headers in doors:
            reply = sent(client, method, path, body, **headers)
            assert reply.status_code == 422, (path, body, reply.status_code, reply.text)
    assert annotator.post(f"/projects/{project}/next").json()["seat"]["id"] == seat["id"]
    assert sent(annotator, "POST", judge, {"answer": good}, **{"Idempotency-Key": key(2)}).status_code == 201


@pytest.mark.parametrize("format", ["jsonl", "trl", "preference"])
def test_an_import_refuses_the_row_by_its_line_and_takes_the_others(room, format):
    project = create_project(room.store, "demo")
    template = add_template(room.store, project, "pairwise", "t")
    rows = [{"prompt": f"q{n}", "responses": ["a", "b"]} for n in range(3)]
    if format != "jsonl":
        rows = [{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(3)]
    rows[1]["prompt"] = "q \ud83d"
    if format == "jsonl":
        rows.append({"prompt": "r", "responses": ["a", "b"], "context": {"instruction": "half \ud83d"}})
    lead = room.client("lead")
    path = f"/projects/{project}/import?template={template}&format={format}"
    reply = lead.post(path, content="\n".join(json.dumps(row) for row in rows).encode())
    assert reply.status_code < 300, reply.text
    refused = reply.json()["rejected"]
    assert [row["line"] for row in refused] == ([2, 4] if format == "jsonl" else [2])
    assert all("half a character" in json.dumps(row) for row in refused), refused
    seat = room.client("annotator").post(f"/projects/{project}/next")
    assert seat.status_code == 200


def test_what_an_older_trueup_let_in_stops_nobody(room):
    """Half characters that are stored already are shown as what stands for a lost character."""
    project = create_project(room.store, "demo")
    template = add_template(room.store, project, "pairwise", "t")
    import_items(room.store, template, [NewItem("MARK", ("a", "b"))])
    engine = opening.writing_engine(room.store.where)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE prompt SET turns = '\"half \\ud83d\"'")
    engine.dispose()
    reply = room.client("annotator").post(f"/projects/{project}/next")
    assert reply.status_code == 200, reply.text
    assert "half \ufffd" in reply.text
    assert room.client("lead").get(f"/projects/{project}/progress").status_code == 200
