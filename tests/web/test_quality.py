"""Quality pages and exports over HTTP, on the curator and the report themselves."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.web.conftest import judge, place_of, take


@pytest.fixture
def judged(room, project):
    """Three pairs, two opinions of each."""
    for handle in ("annotator", "admin"):
        client = room.client(handle)
        for number in range(3):
            seat = take(client, project)
            judge(client, seat, number, place=place_of(seat, "good"), rationale="clearer")
    return project


@pytest.mark.parametrize("page", ["agreement", "annotators", "bias", "disagreement", "gold", "overlap"])
@pytest.mark.parametrize("full", [True, False])
def test_every_quality_page_is_json(room, request, page, full):
    project = request.getfixturevalue("judged" if full else "project")
    reply = room.client("viewer").get(f"/projects/{project}/quality/{page}")
    assert reply.status_code == 200, reply.text
    json.loads(reply.text, parse_constant=pytest.fail)  # no NaN


def test_an_unknown_page_is_a_problem(room, project):
    assert room.client("viewer").get(f"/projects/{project}/quality/mood").status_code == 422


def test_an_export_is_made_hashed_and_downloaded(room, judged):
    lead = room.client("lead")
    made = lead.post(f"/projects/{judged}/exports", json={"format": "preference", "method": "majority"})
    assert made.status_code == 201, made.text
    found = made.json()
    assert found.keys() == {"id", "rows", "sha256", "dropped"}
    assert found["rows"] == 3
    reply = lead.get(f"/exports/{found['id']}/download")
    assert hashlib.sha256(reply.content).hexdigest() == found["sha256"]
    assert reply.headers["content-disposition"].startswith("attachment")
    names = zipfile.ZipFile(io.BytesIO(reply.content)).namelist()
    assert "manifest.json" in names
    assert room.client("admin").get("/audit").json()[-1]["action"] != "export"  # the sign-in came after it
    assert any(
        e["action"] == "export" and e["object"] == found["id"] for e in room.client("admin").get("/audit").json()
    )
    file = next(Path(room.app.state.exports).glob("*.zip"))
    file.write_bytes(b"another")
    assert lead.get(f"/exports/{found['id']}/download").status_code == 409
    file.unlink()
    assert lead.get(f"/exports/{found['id']}/download").status_code == 404


def test_settings_that_do_not_exist_and_empty_projects_are_problems(room, project, judged):
    lead = room.client("lead")
    path = f"/projects/{project}/exports"
    assert lead.post(path, json={"format": "xml"}).status_code in (409, 422)
    for name in ("colour", "out_dir", "adjudicated", "source"):
        assert lead.post(path, json={"format": "preference", name: "x"}).json()["where"] == "body"
    empty = lead.post("/projects", json={"name": "empty"}).json()["id"]
    assert lead.post(f"/projects/{empty}/exports", json={"format": "preference"}).status_code == 422
    assert lead.get("/exports/none/download").status_code == 404


def test_a_settled_item_overrides_the_votes(room, judged):
    """Both preferred the good one; the verdict says otherwise, and that is what is exported."""
    admin, settler = room.client("annotator"), room.client("adjudicator")
    item = json.loads(room.client("viewer").get(f"/projects/{judged}/quality/disagreement").text)
    assert item is not None
    from trueup.feedback.store.reading import read_project

    target = next(iter(read_project(room.store, judged).items.values()))
    keyed = {"Idempotency-Key": "report 1"}
    assert admin.post(f"/items/{target.id}/flag", json={"reason": "wrong"}, headers=keyed).status_code == 201
    seat = settler.get(f"/adjudication/{judged}/next").json()["seat"]
    bad = next(r["id"] for r in seat["responses"] if r["text"].startswith("bad"))
    verdict = {"kind": "pairwise", "preferred": bad, "strength": 3}
    settler.post(f"/adjudication/{target.id}/blind", json={"answer": verdict})
    body = {"answer": verdict, "cause": "annotator_error"}
    assert settler.post(f"/adjudication/{target.id}/settle", json=body).status_code == 200
    lead = room.client("lead")
    made = lead.post(f"/projects/{judged}/exports", json={"format": "preference", "method": "majority"}).json()
    archive = zipfile.ZipFile(io.BytesIO(lead.get(f"/exports/{made['id']}/download").content))
    rows = [
        json.loads(line) for n in archive.namelist() if n.endswith(".jsonl") for line in archive.read(n).splitlines()
    ]
    chosen = {row["chosen"] if isinstance(row["chosen"], str) else row["chosen"][-1]["content"] for row in rows}
    assert sum("bad" in text for text in chosen) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("min_votes", "two"), ("min_votes", 0), ("min_strength", 1), ("method", "guess"), ("drop_annotators", "p-1")],
)
def test_a_setting_of_the_wrong_kind_is_named(room, judged, name, value):
    reply = room.client("lead").post(f"/projects/{judged}/exports", json={"format": "preference", name: value})
    assert reply.status_code == (409 if name == "method" else 422), reply.text
    assert name in reply.text
