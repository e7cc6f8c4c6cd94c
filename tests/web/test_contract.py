"""Every call of the HTTP contract does what it says, over real HTTP."""

import json
import threading

import pytest
from jinja2 import DictLoader, Environment
from sqlalchemy import func, select

from tests.web.conftest import PASSWORD, SECRETS, judge, key, place_of, prefer, take
from trueup import __version__
from trueup.feedback.store.projects import NewItem, add_template, create_project, import_items
from trueup.feedback.store.schema import flag as flag_table
from trueup.feedback.store.schema import template as template_table
from trueup.web.annotate import pages


def test_signing_in_sets_a_strict_cookie_and_signing_out_ends_it(room):
    client = room.client("annotator")
    me = client.get("/me").json()
    assert me.keys() == {"id", "handle", "pseudonym", "role", "simulated", "csrf"}
    assert (me["handle"], me["role"], me["simulated"]) == ("annotator", "annotator", False)
    cookie = next(iter(client.cookies.jar))
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert not cookie.secure  # plain HTTP on the loopback
    assert cookie.get_nonstandard_attr("SameSite").lower() == "lax"
    held = cookie.value
    assert client.post("/auth/logout").status_code == 204
    assert client.get("/me").status_code == 401
    again = room.anonymous(Cookie=f"trueup_session={held}")
    assert again.get("/me").status_code == 401


@pytest.mark.parametrize("given", [("annotator", "wrong horse battery"), ("nobody", PASSWORD), ("annotator", "")])
def test_wrong_handle_and_wrong_password_get_the_same_reply(room, given):
    reply = room.anonymous().post("/auth/login", json={"handle": given[0], "password": given[1]})
    assert reply.status_code == 401
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "handle and password do not match",
    }


def test_an_assignment_has_the_fields_of_the_contract_and_nothing_hidden(room, project):
    client = room.client("annotator")
    reply = client.post(f"/projects/{project}/next")
    seat = reply.json()["seat"]
    assert seat.keys() == set(
        "id token lease_until item kind prompt responses config context draft progress guideline".split()
    )
    assert seat["kind"] == "pairwise"
    assert seat["prompt"][0]["role"] == "user"
    assert {len(r) for r in seat["responses"]} == {2}
    assert seat["config"] == {"min_seconds": 1}
    assert seat["context"] == {"principle": "be kind"}
    assert seat["progress"] == {"done": 0, "of": 3}
    assert seat["guideline"] is None
    assert take(client, project)["id"] == seat["id"]
    for hidden in (*SECRETS, "secret of the leads", "gold", "stream", "generator", "overlap"):
        assert hidden not in reply.text


def test_hidden_streams_look_like_all_others(room):
    """Gold, attention and calibration items have exactly the fields of an ordinary one."""
    seen = {}
    for stream in ("main", "gold", "attention", "calibration", "holdout"):
        project = create_project(room.store, stream)
        template = add_template(room.store, project, "pairwise", "t")
        gold = {"preferred": 0, "strength": 2} if stream not in ("main", "holdout") else None
        row = NewItem("Q?", ("a", "b"), generators=SECRETS[:2], stream=stream, gold=gold, explanation=SECRETS[2])
        import_items(room.store, template, [row], overlap=1)
        reply = room.client("annotator").post(f"/projects/{project}/next")
        seat = reply.json()["seat"]
        seen[stream] = (set(seat), set(seat["responses"][0]), seat["config"], seat["context"], seat["progress"])
        for hidden in (*SECRETS, "gold", "attention", "calibration", "holdout"):
            assert hidden not in reply.text, stream
    assert all(fields == seen["main"] for fields in seen.values())


def test_a_retried_judgment_is_stored_once_and_a_correction_supersedes_it(room, project):
    client = room.client("annotator")
    seat = take(client, project)
    first = judge(client, seat, 1, shown=[r["id"] for r in seat["responses"]], active_ms=1200, focus_lost=0)
    assert first.status_code == 201
    assert first.json().keys() == {"judgment", "surplus", "replayed", "feedback"}
    again = judge(client, seat, 1)
    assert again.status_code == 200
    assert again.json() == first.json() | {"replayed": True}
    other = judge(client, seat, 1, place=1)
    assert other.status_code == 422
    assert other.json()["where"] == "Idempotency-Key"
    assert judge(client, seat, 2).status_code == 422
    path = f"/judgments/{first.json()['judgment']}/supersede"
    body = {"answer": None, "skip_reason": "broken_item", "rationale": "looked again"}
    fixed = client.post(path, json=body, headers={"Idempotency-Key": key(3)})
    assert fixed.status_code == 201
    assert client.post(path, json=body, headers={"Idempotency-Key": key(3)}).status_code == 200
    assert client.post(path, json=body, headers={"Idempotency-Key": key(4)}).status_code == 409
    (row,) = client.get("/projects").json()
    assert (row["judgments"], row["my_judgments"], row["items"], row["satisfied"]) == (1, 1, 3, 0)


def test_a_correction_after_the_time_limit_is_refused(room, project, clock):
    client = room.client("annotator")
    seat = take(client, project)
    made = judge(client, seat).json()["judgment"]
    clock.forward(minutes=11)
    late = client.post(
        f"/judgments/{made}/supersede", json={"answer": prefer(seat, 1)}, headers={"Idempotency-Key": key(2)}
    )
    assert late.status_code == 409
    assert "flag" in late.json()["fix"]


@pytest.mark.parametrize(
    ("headers", "body", "where"),
    [
        ({}, {"skip_reason": "other"}, "header.Idempotency-Key"),
        ({"Idempotency-Key": "short"}, {"skip_reason": "other"}, "header.Idempotency-Key"),
        ({"Idempotency-Key": key()}, {"skip_reason": "bored"}, "skip_reason"),
        ({"Idempotency-Key": key()}, {}, "answer"),
        ({"Idempotency-Key": key()}, {"answer": {"preferred": "A", "strength": 1}}, "answer"),
        ({"Idempotency-Key": key()}, {"skip_reason": "other", "stream": "main"}, "body.stream"),
        ({"Idempotency-Key": key()}, {"skip_reason": "other", "active_ms": -1}, "body.active_ms"),
        ({"Idempotency-Key": key()}, {"skip_reason": "other", "active_ms": "12"}, "body.active_ms"),
        ({"Idempotency-Key": key()}, {"skip_reason": "other", "shown": ["x", "y"]}, "shown"),
        ({"Idempotency-Key": key()}, {"skip_reason": "other", "rationale": "x" * 20_001}, "body.rationale"),
    ],
)
def test_what_does_not_fit_is_a_problem_that_says_where(room, project, headers, body, where):
    client = room.client("annotator")
    seat = take(client, project)
    reply = client.post(f"/items/{seat['item']}/judgments", json=body, headers=headers)
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["where"] == where
    assert client.get("/projects").json()[0]["judgments"] == 0


@pytest.mark.parametrize(
    "text", [r'{"rationale": "\ud800", "skip_reason": "other"}', '{"rationale": ', "[1]", '"x"', "", "\x00", "[" * 5000]
)
def test_broken_bodies_are_refused_and_harm_nothing(room, project, text):
    client = room.client("annotator")
    seat = take(client, project)
    reply = client.post(
        f"/items/{seat['item']}/judgments",
        content=text,
        headers={"Idempotency-Key": key(), "Content-Type": "application/json"},
    )
    assert reply.status_code in (400, 422), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert judge(client, seat, 5).status_code == 201


def test_drafts_are_kept_heartbeats_extend_the_lease_and_a_release_ends_it(room, project, clock):
    client = room.client("annotator")
    seat = take(client, project)
    mine = {"X-Seat-Token": seat["token"]}
    path = f"/seats/{seat['id']}"
    assert client.put(f"{path}/draft", json={"strength": 2, "note": "ü"}, headers=mine).status_code == 204
    assert take(client, project)["draft"] == {"strength": 2, "note": "ü"}
    not_finite = client.put(f"{path}/draft", content='{"x": NaN}', headers=mine | {"Content-Type": "application/json"})
    assert not_finite.status_code == 422
    clock.forward(minutes=5)
    later = client.post(f"{path}/heartbeat", headers=mine).json()["lease_until"]
    assert later > seat["lease_until"]
    assert client.post(f"{path}/heartbeat", headers={"X-Seat-Token": "another"}).status_code == 409
    assert client.post(f"{path}/heartbeat").status_code == 422
    assert client.post(f"{path}/release", headers=mine).status_code == 204
    gone = client.post(f"{path}/heartbeat", headers=mine)
    assert gone.status_code == 409
    assert "submit all the same" in gone.json()["fix"]


def test_late_work_is_kept_as_surplus(room, project, clock):
    early, others = room.client("annotator"), [room.client(name) for name in ("adjudicator", "lead", "admin")]
    seat = take(early, project)
    clock.forward(minutes=11)
    for n, other in enumerate(others):
        for m in range(3):
            theirs = take(other, project)
            if theirs is None:
                break
            judge(other, theirs, 10 * n + m)
    late = judge(early, seat, 99, shown=[r["id"] for r in seat["responses"]])
    assert (late.status_code, late.json()["surplus"]) == (201, True)
    pages = {
        name: others[1].get(f"/projects/{project}/quality/{name}").json()
        for name in ("agreement", "annotators", "bias", "disagreement", "gold", "overlap")
    }
    assert {name: found["surplus"] for name, found in pages.items()} == dict.fromkeys(pages, 1)
    told = {row["annotator"]: row for row in pages["annotators"]["annotators"]}
    assert sorted((row["judgments"], row["surplus"]) for row in told.values() if row["surplus"]) == [(1, 1)]
    assert all(row["raters"] == len(told) - 1 for row in pages["agreement"]["rows"])


def test_calibration_answers_with_right_or_wrong(room):
    project = create_project(room.store, "c")
    template = add_template(room.store, project, "pairwise", "t")
    gold = {"preferred": 1, "strength": 2}
    import_items(
        room.store, template, [NewItem("Q?", ("x", "y"), stream="calibration", gold=gold, explanation="y answers it")]
    )
    client = room.client("annotator")
    seat = take(client, project)
    place = [r["text"] for r in seat["responses"]].index("y")
    told = judge(client, seat, place=place).json()["feedback"]
    assert (told["right"], told["explanation"]) == (True, "y answers it")
    assert told["expected"]["preferred"] == seat["responses"][place]["id"]


def test_an_empty_queue_says_why(room, project):
    lead, client = room.client("lead"), room.client("annotator")
    assert lead.patch(f"/projects/{project}", json={"state": "paused"}).json()["state"] == "paused"
    found = client.post(f"/projects/{project}/next").json()
    assert found["seat"] is None
    assert found["reason"] == "paused"
    lead.patch(f"/projects/{project}", json={"state": "live"})
    for n in range(3):
        judge(client, take(client, project), n)
    assert client.post(f"/projects/{project}/next").json()["reason"] == "done"


def test_guidelines_are_read_before_work(room, project):
    lead, client = room.client("lead"), room.client("annotator")
    assert client.get(f"/projects/{project}/guideline").json() is None
    made = lead.post(f"/projects/{project}/guideline", json={"markdown": "# Be *kind*"})
    assert made.status_code == 201
    assert client.post(f"/projects/{project}/next").json()["reason"] == "guideline_not_acknowledged"
    found = client.get(f"/projects/{project}/guideline").json()
    assert found["html"] == "<h1>Be <em>kind</em></h1>\n"
    assert (found["number"], found["acknowledged"], len(found["sha256"])) == (1, False, 64)
    assert client.post(f"/guidelines/{found['id']}/ack").status_code == 204
    assert client.get(f"/projects/{project}/guideline").json()["acknowledged"]
    assert take(client, project)["guideline"] == {"id": found["id"], "number": 1}
    assert client.post("/guidelines/none/ack").status_code == 404


def test_projects_and_templates_are_made_once_and_wrong_settings_refused(room):
    lead = room.client("lead")
    made = lead.post("/projects", json={"name": "new", "simulated": True})
    assert made.status_code == 201
    assert made.json()["simulated"] is True
    assert lead.post("/projects", json={"name": "new"}).status_code == 409
    path = f"/projects/{made.json()['id']}"
    assert lead.patch(path, json={"state": "open"}).status_code == 422
    axes = {"axes": [{"name": "helpful", "low": 1, "high": 5}]}
    one = lead.post(f"{path}/templates", json={"name": "rate", "kind": "rating", "config": axes})
    assert one.status_code == 201
    assert lead.post(f"{path}/templates", json={"name": "rate", "kind": "binary"}).status_code == 409
    assert (
        lead.post(f"{path}/templates", json={"name": "r", "kind": "rating"}).json()["where"] == "template.config.axes"
    )
    assert lead.get(f"{path}/templates").json() == [
        {"id": one.json()["id"], "name": "rate", "kind": "rating", "config": axes}
    ]
    assert lead.get("/projects/none/templates").status_code == 404


def test_settings_of_templates_are_checked_named_and_changed(room):
    lead = room.client("lead")
    path = f"/projects/{lead.post('/projects', json={'name': 'new'}).json()['id']}/templates"
    wrong = lead.post(path, json={"name": "t", "kind": "pairwise", "config": {"alow_tie": False}})
    assert (wrong.status_code, wrong.json()["where"]) == (422, "template.config.alow_tie")
    assert "did you mean 'allow_tie'" in wrong.json()["expected"]
    assert lead.post(path, json={"name": "t", "kind": "pairwize"}).status_code == 422
    made = lead.post(path, json={"name": "t", "kind": "pairwise", "config": {"min_seconds": 2}}).json()
    change = lead.patch(f"{path}/{made['id']}", json={"config": {"allow_tie": False}})
    assert (change.status_code, change.json()["config"]) == (200, {"allow_tie": False})
    for config, where in (({"min_seconds": "soon"}, "template.config.min_seconds"), ([], "body.config")):
        refused = lead.patch(f"{path}/{made['id']}", json={"config": config})
        assert (refused.status_code, refused.json()["where"]) == (422, where)
    assert lead.get(path).json()[0]["config"] == {"allow_tie": False}
    assert lead.patch(f"{path}/none", json={"config": {}}).status_code == 404
    assert room.client("annotator").patch(f"{path}/{made['id']}", json={"config": {}}).status_code == 403


def test_settings_that_an_older_version_let_in_are_a_problem_that_a_lead_mends(room, project):
    client, lead = room.client("annotator"), room.client("lead")
    seat = take(client, project)
    with room.store.write() as connection:
        connection.execute(template_table.update().values(config={"allow_tie": "no"}))
    refused = judge(client, seat, 1)
    assert (refused.status_code, refused.json()["where"]) == (409, "template.config.allow_tie")
    nothing = client.post(f"/projects/{project}/next").json()
    assert (nothing["seat"], nothing["reason"]) == (None, "unusable_settings")
    assert judge(client, seat, 2, skip_reason="other", answer=None).status_code == 201
    (row,) = lead.get(f"/projects/{project}/templates").json()
    assert "allow_tie" in row["problem"]
    assert lead.patch(f"/projects/{project}/templates/{row['id']}", json={"config": {}}).status_code == 200
    assert take(client, project) is not None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"gold": {"preferred": 7, "strength": 1}}, "gold.preferred"),
        ({"gold": {"tiers": 3}}, "gold.tiers"),
        ({"gold": {"preferred": [0], "strength": 1}}, "gold.preferred"),
        ({"gold": [0]}, "gold"),
        ({"gold": {}}, "gold"),
        ({"stream": "gold"}, "gold"),
        ({"stream": 3}, "stream"),
        ({"split": ["train"]}, "split"),
        ({"responses": [["a"], "b"]}, "responses.0"),
        ({"responses": "ab"}, "responses"),
        ({"responses": {"a": "b"}}, "responses"),
        ({"generators": "ab"}, "generators"),
        ({"generators": ["a", "b", "c"]}, "generators"),
        ({"explanation": 4}, "explanation"),
        ({"context": [1]}, "context"),
        ({"context": {"principle": "a\u0000"}}, "context"),
        ({"context": {"a": {"b": ["\ud800"]}}}, "context"),
        ({"prompt": {"text": "x"}}, "prompt"),
        ({"prompt": [{"role": "boss", "content": "x"}]}, "prompt[0].role"),
        ({"prompt": [{"role": "user", "content": ["x"]}]}, "prompt[0].content"),
        ({"tier": [[0], [1]]}, "row"),
    ],
)
def test_one_bad_row_is_refused_by_field_and_sinks_no_import(room, project, row, reason):
    lead = room.client("lead")
    good = {"prompt": "Good?", "responses": ["a", "b"], "gold": {"preferred": 1, "strength": 2}, "stream": "gold"}
    rows = [good, {"prompt": "Bad?", "responses": ["a", "b"]} | row, good | {"prompt": "Last?"}]
    data = "\n".join(json.dumps(one) for one in rows).encode()
    path = f"/projects/{project}/import?template={room.template}"
    for dry in ("&dry_run=1", ""):
        done = lead.post(path + dry, content=data)
        assert (done.status_code, done.json()["items"]) == (200, 2), done.text
        (refused,) = done.json()["rejected"]
        assert refused["line"] == 2
        assert refused["reason"].startswith(reason)
    assert lead.get("/projects").json()[0]["items"] == 5


def test_an_import_says_what_it_did_not_use_and_takes_an_encoding(room, project):
    lead = room.client("lead")
    path = f"/projects/{project}/import?template={room.template}&format="
    row = {"prompt": "Q?", "chosen": "a", "rejected": "b", "source": "web", "id": 4}
    done = lead.post(path + "preference", content=json.dumps(row).encode()).json()
    assert (done["items"], done["unused"]) == (1, {"id": 1, "source": 1})
    table = 'prompt;responses\nWie heißt das?;"[""x"", ""y""]"\n'.encode("cp1252")
    refused = lead.post(path + "csv", content=table)
    assert (refused.status_code, "--encoding" in refused.json()["fix"]) == (422, True)
    assert lead.post(path + "csv&encoding=cp1252", content=table).json()["items"] == 1
    assert lead.post(path + "csv&encoding=nonsense", content=table).status_code == 409
    wrong = lead.post(path + "kto", content=json.dumps(row).encode()).json()
    assert "--format preference" in wrong["notes"][0]


def test_imports_tell_refused_rows_by_line_and_dry_runs_store_nothing(room, project):
    lead = room.client("lead")
    rows = [
        {"prompt": "New?", "responses": ["a", "b"], "generators": ["g1", "g2"]},
        {"prompt": "New?", "responses": ["a", "a"]},
        {"prompt": [{"role": "user", "content": "Chat?"}], "responses": ["c", "d"], "context": {"principle": "p"}},
        {"prompt": "Gold?", "responses": ["e", "f"], "stream": "gold", "gold": {"preferred": 0, "strength": 1}},
        {"prompt": "?", "responses": "ab"},
        {"question": "?"},
    ]
    data = "\n\n".join(json.dumps(row) for row in rows).encode() + b"\nnot json"
    path = f"/projects/{project}/import?format=jsonl&template={room.template}&overlap=1"
    dry = lead.post(path + "&dry_run=1", content=data).json()
    assert lead.get("/projects").json()[0]["items"] == 3
    done = lead.post(path, content=data).json()
    assert dry == done
    assert (done["rows"], done["items"]) == (7, 3)
    assert [r["line"] for r in done["rejected"]] == [3, 9, 11, 12]
    assert "same text" in done["rejected"][0]["reason"]
    assert "not valid JSON" in done["rejected"][3]["reason"]
    assert lead.get("/projects").json()[0]["items"] == 6
    assert lead.post(path.replace("jsonl", "xlsx"), content=data).status_code == 409
    assert lead.post(path.replace(room.template, "none"), content=data).status_code == 404
    assert lead.post(path, content=b"\xff\xfe").status_code == 422


def test_annotators_work_on_during_a_large_import(room, project):
    lead, client = room.client("lead"), room.client("annotator")
    rows = [{"prompt": f"Big {n // 2}?", "responses": [f"a{n}", f"b{n}"]} for n in range(12_000)]
    rows[1201]["responses"] = ["same", "same"]
    data = "\n".join(json.dumps(row) for row in rows).encode()
    reply = []
    path = f"/projects/{project}/import?template={room.template}"
    importing = threading.Thread(target=lambda: reply.append(lead.post(path, content=data)))
    importing.start()
    while True:  # every request is answered, how ever long the import takes
        assert take(client, project) is not None
        if not importing.is_alive():
            break
    importing.join()
    assert (reply[0].json()["items"], reply[0].json()["rejected"][0]["line"]) == (11_999, 1202)


def test_csv_and_trl_files_are_read(room, project):
    lead = room.client("lead")
    path = f"/projects/{project}/import?template={room.template}&format="
    table = 'prompt,responses,stream\n"Which, then?","[""a"", ""b""]",main\nWhy?,[oops],main\nshort,row\n'
    found = lead.post(path + "csv", content=table.encode()).json()
    assert (found["items"], [r["line"] for r in found["rejected"]]) == (1, [3, 4])
    pairs = json.dumps({"prompt": "P?", "chosen": "z", "rejected": "a"}) + "\n" + json.dumps({"prompt": "P?"})
    found = lead.post(path + "trl", content=pairs.encode()).json()
    assert (found["items"], [r["line"] for r in found["rejected"]]) == (1, [2])


def test_progress_counts_by_stream_and_retired_gold_is_shown_no_more(room, project):
    lead, client = room.client("lead"), room.client("annotator")
    row = {"prompt": "G?", "responses": ["e", "f"], "stream": "gold", "gold": {"preferred": 0, "strength": 1}}
    lead.post(f"/projects/{project}/import?template={room.template}", content=json.dumps(row).encode())
    for n in range(4):
        judge(client, take(client, project), n)
    found = lead.get(f"/projects/{project}/progress").json()
    assert found["by_stream"] == [
        {"stream": "gold", "items": 1, "satisfied": 0, "judgments": 1},
        {"stream": "main", "items": 3, "satisfied": 0, "judgments": 3},
    ]
    assert found["per_day"] == [{"day": "2026-01-31", "judgments": 4}]
    assert found["eta_hours"] is None
    (gold,) = lead.get(f"/projects/{project}/gold").json()
    assert (gold["exposures"], gold["retired_at"], gold["prompt"]) == (1, None, "G?")
    assert lead.post(f"/items/{gold['item']}/gold/retire").status_code == 204
    (gold,) = lead.get(f"/projects/{project}/gold").json()
    assert gold["retired_at"].startswith("2026-01-31")
    other = room.client("adjudicator")
    for n in range(3):
        assert take(other, project)["item"] != gold["item"]
        judge(other, take(other, project), n)
    assert take(other, project) is None
    ordinary = lead.get("/projects").json()[0]
    assert (ordinary["items"], ordinary["satisfied"]) == (3, 3)


def test_adjudication_is_blind_first(room, project):
    one, two, judge_ = room.client("annotator"), room.client("lead"), room.client("adjudicator")
    for n in range(3):  # one takes the good response of every pair, the other the bad one
        for client, taste in ((one, "bad"), (two, "good")):
            seat = take(client, project)
            judge(client, seat, n, place=place_of(seat, taste), rationale="because")
    reply = judge_.get(f"/adjudication/{project}/next")
    seat, settled = reply.json()["seat"], 0
    while seat is not None:
        settled += 1
        assert "because" not in reply.text
        assert "generator" not in reply.text
        item, answer = seat["item"], prefer(seat)
        early = judge_.post(f"/adjudication/{item}/settle", json={"answer": answer, "cause": "ambiguous"})
        assert early.status_code == 409
        told = judge_.post(f"/adjudication/{item}/blind", json={"answer": answer})
        assert len(told.json()["answers"]) == 2
        assert told.json()["answers"][0].keys() >= {"annotator", "answer", "rationale", "reliability"}
        changed = judge_.post(f"/adjudication/{item}/blind", json={"answer": prefer(seat, 1)})
        assert changed.status_code == 409
        resumed = judge_.get(f"/adjudication/{project}/next").json()["seat"]
        assert (resumed["item"], resumed["blind"]["preferred"]) == (item, answer["preferred"])
        body = {"answer": prefer(seat, 1), "cause": "guideline_gap", "note": "unclear"}
        assert judge_.post(f"/adjudication/{item}/settle", json=body).status_code == 200
        reply = judge_.get(f"/adjudication/{project}/next")
        seat = reply.json()["seat"]
    assert (reply.json()["reason"], settled) == ("done", 3)
    assert judge_.post(f"/adjudication/{item}/settle", json=body | {"cause": "mood"}).status_code == 422


def test_accounts_and_tokens_are_made_listed_without_secrets_and_ended(room):
    admin = room.client("admin")
    made = admin.post("/people", json={"handle": "ada", "role": "lead", "password": PASSWORD})
    assert made.status_code == 201
    assert admin.post("/people", json={"handle": "ada"}).status_code == 409
    weak = admin.post("/people", json={"handle": "eve", "password": "short"})
    assert (weak.status_code, weak.json()["where"]) == (422, "password")
    ada = room.client("ada")
    token = ada.post("/tokens", json={"name": "trainer", "scopes": ["read"], "days": 3}).json()
    listed = ada.get("/tokens")
    assert token["token"] not in listed.text
    assert listed.json()[0]["scopes"] == ["read"]
    path = f"/people/{made.json()['id']}"
    assert admin.patch(path, json={"active": False}).json()["active"] is False
    assert ada.get("/me").status_code == 401
    assert room.anonymous(Authorization=f"Bearer {token['token']}").get("/me").status_code == 401
    assert admin.patch("/people/none", json={"active": False}).status_code == 404
    me = admin.get("/me").json()["id"]
    assert "nobody would be left" in admin.patch(f"/people/{me}", json={"role": "lead"}).json()["detail"]
    assert "$argon2" not in admin.get("/people").text


def test_the_audit_log_is_told_and_verified(room, project):
    admin = room.client("admin")
    found = admin.get("/audit/verify").json()
    assert found["ok"] is True
    assert found["broken"] is None
    every = admin.get("/audit?since=0&limit=5000").json()
    assert [e["seq"] for e in every] == list(range(1, found["events"] + 1))
    assert admin.get("/audit?since=2026-02-01T00:00:00.000000Z").json() == []
    assert len(admin.get("/audit?since=2026-01-31T00:00:00.000000Z").json()) == len(every)
    assert admin.get("/audit?limit=2").json() == every[-2:]


def test_a_report_of_an_item_is_stored_once_for_each_key(room, project):
    client = room.client("annotator")
    seat = take(client, project)
    path, said, keyed = f"/items/{seat['item']}/flag", {"reason": "broken", "note": "?"}, {"Idempotency-Key": key(7)}
    assert client.post(path, json=said).status_code == 422
    first = client.post(path, json=said, headers=keyed)
    again = client.post(path, json=said, headers=keyed)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = client.post(path, json=said | {"note": "!"}, headers=keyed)
    assert (other.status_code, other.json()["where"]) == (422, "Idempotency-Key")
    assert client.post(path, json=said, headers={"Idempotency-Key": key(8)}).status_code == 201
    with room.store.read() as connection:
        assert connection.execute(select(func.count()).select_from(flag_table)).scalar() == 2
    assert (
        client.post("/items/none/flag", json={"reason": "broken"}, headers={"Idempotency-Key": key(9)}).status_code
        == 404
    )


def test_pages_are_templates_that_hold_no_data(room, monkeypatch):
    names = ("projects", "login", "annotate", "adjudicate", "lead", "admin")
    loader = DictLoader({f"{name}.html": f"<title>{name} {{{{ version }}}}</title>" for name in names})
    monkeypatch.setattr(pages, "_templates", Environment(loader=loader, autoescape=True))
    nobody = room.anonymous()
    for path, name in {"/": "projects", "/lead/<b>": "lead", **{f"/{n}": n for n in names[1:]}}.items():
        reply = nobody.get(room.url + path)
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert reply.text == f"<title>{name} {__version__}</title>"
        assert "script-src 'self'" in reply.headers["content-security-policy"]
    assert nobody.get(room.url + "/base").status_code == 404


def test_health_calls_answer_and_unknown_paths_are_problems(room):
    nobody = room.anonymous()
    for path in ("/healthz", "/readyz", f"{room.url}/healthz", f"{room.url}/readyz"):
        assert nobody.get(path).json()["ok"] is True
    for path in ("/nothing", f"{room.url}/nothing", f"{room.url}/static/../app.py", f"{room.url}/a/b/c"):
        reply = nobody.get(path)
        assert reply.status_code == 404
        assert reply.headers["content-type"] == "application/problem+json"
    assert nobody.delete("/me").json()["status"] == 405
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert nobody.get(room.url + path).status_code == 404
