"""The explorer's calls: what they tell of runs, what they refuse, and a stream that loses and doubles nothing."""

import json
import os

import httpx
import pytest

from tests.web.explorer.planted import (
    CONFIG,
    TOKENS,
    Served,
    append,
    plant,
    row,
    runaway,
    start,
    write,
    write_offline,
)
from tests.web.test_hostile import PAYLOADS
from trueup.commands.live.desk import Desk
from trueup.commands.live.runs import Runs
from trueup.web.explorer.keys import Keys


def events(client, run, after="", last="", until=1, kind="rows"):
    """(id, data) of the first ``until`` events of one kind."""
    found, identity = [], ""
    with client.stream("GET", "/events", params={"run": run, "after": after}, headers={"Last-Event-ID": last}) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in reply.iter_lines():
            key, _, value = line.partition(": ")
            if key == "id":
                identity = value
            elif key == "event":
                name = value
            elif key == "data" and name == kind:
                found.append((identity, json.loads(value)))
                if len(found) == until:
                    return found
    raise AssertionError("the stream ended")


def steps_of(data):
    return [one["step"] for one in data["rows"] if "score" in one]


def test_runs_are_listed_wherever_they_lie_with_how_they_stand(tmp_path, serve):
    plant(tmp_path / "runs" / "a")
    plant(tmp_path / "runs" / "deep" / "er" / "b", steps=3)
    with start(tmp_path / "runs" / "c") as run:
        write(run, range(2))
        os.utime(run.path / "metrics.jsonl")
        (tmp_path / "runs" / "d").mkdir()
        (tmp_path / "runs" / "d" / "run.json").write_text("{")
        _, client = serve()
        listed = {line["name"]: line for line in client.get("/runs").json()["runs"]}
    assert {name: line["status"] for name, line in listed.items()} == {
        "a": "done", "deep/er/b": "done", "c": "running", "d": "unreadable"}  # fmt: skip
    assert "damaged" in listed["d"]["problem"]


def test_a_running_run_that_is_silent_is_called_so(tmp_path, serve):
    run = start(tmp_path / "runs" / "a")
    write(run, range(2))
    for file in run.path.iterdir():
        os.utime(file, (1e9, 1e9))
    _, client = serve()
    assert client.get("/runs").json()["runs"][0]["status"] == "silent"
    run.__exit__(None, None, None)


def test_a_run_is_described_with_what_its_metrics_mean(tmp_path, serve):
    plant(tmp_path / "runs" / "a")
    _, client = serve()
    told = client.get("/run", params={"run": "a"}).json()
    assert told["hero"] == [["score", "reward"], ["kl"], ["beta"]]
    assert told["normal"]["entropy"]["range"]["steps"] == [0, 4, 12, 20, 28, 36, 39]
    assert told["band"] == {"target": 4.0, "low": pytest.approx(3.2), "high": pytest.approx(4.8)}
    assert told["penalty"] == {"metric": "kl", "where": "penalised in the reward"}
    assert told["meanings"]["kl"]["estimator"] == "k1, sum over tokens, mean over rollouts"
    assert told["verdict"]["headline"] == "Reward rises, KL is inside its band"
    assert told["verdict"]["tone"] == "good"
    assert {one["name"]: one["changed"] for one in told["settings"]}["seed"] is False
    shown = [name for group in told["groups"] for panel in group["panels"] for name in panel]
    assert sorted(shown) == sorted(told["metrics"])
    assert told["meanings"]["tokens_per_second"]["unit"] == "1/s"


def test_series_are_what_was_logged(tmp_path, serve):
    plant(tmp_path / "runs" / "a")
    _, client = serve()
    reply = client.get("/series", params={"run": "a", "metric": ["score", "tokens_per_second"]}).json()
    assert reply["series"]["score"] == {"steps": list(range(40)), "values": [step / 10 for step in range(40)]}
    assert reply["series"]["tokens_per_second"]["values"] == [50.0] * 40
    part = client.get("/series", params={"run": "a", "metric": "kl", "first": 3, "last": 5}).json()
    assert part["series"]["kl"] == {"steps": [3, 4, 5], "values": [row(step)["kl"] for step in (3, 4, 5)]}


@pytest.mark.parametrize("name", ["../a", "nothing", "", "/etc", "a/../a", "a\x00"])
def test_what_is_not_in_the_list_is_refused(tmp_path, serve, name):
    plant(tmp_path / "runs" / "a", steps=2)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text("{}")
    _, client = serve()
    for call in (
        "run",
        "series",
        "probes",
        "history?prompt=aa",
        "search?text=aa",
        "samples?step=0",
        "sample?step=0&prompt=aa",
    ):
        reply = client.get(f"/{call}", params=[*httpx.URL(call).params.multi_items(), ("run", name)])
        assert reply.status_code == 404, call
        assert "there is no run" in reply.json()["detail"]


def test_the_stream_brings_what_comes_once(tmp_path, serve):
    run = start(tmp_path / "runs" / "a")
    write(run, range(3))
    _, client = serve()
    cursor = client.get("/series", params={"run": "a"}).json()["cursor"]
    write(run, range(3, 5))
    [(first, data)] = events(client, "a", after=cursor)
    assert steps_of(data) == [3, 4]
    write(run, range(5, 9))
    [(_, data)] = events(client, "a", after=cursor, last=first)  # the browser's word counts, not the page's old one
    assert steps_of(data) == [5, 6, 7, 8]
    run.__exit__(None, None, None)


def test_a_torn_line_is_waited_for(tmp_path, serve):
    run = start(tmp_path / "runs" / "a")
    write(run, range(3))
    _, client = serve()
    cursor = client.get("/series", params={"run": "a"}).json()["cursor"]
    line = json.dumps({"step": 3, "score": 1.5}) + "\n"
    with open(run.path / "metrics.jsonl", "a") as handle:
        handle.write(line[:10])
        handle.flush()
        assert client.get("/series", params={"run": "a"}).json()["cursor"] == cursor
        handle.write(line[10:])
    [(_, data)] = events(client, "a", after=cursor)
    assert steps_of(data) == [3]
    run.__exit__(None, None, None)


def test_another_server_goes_on_where_the_first_one_ended(tmp_path, serve):
    run = start(tmp_path / "runs" / "a")
    write(run, range(3))
    served, client = serve()
    cursor = client.get("/series", params={"run": "a"}).json()["cursor"]
    write(run, range(3, 6))
    [(seen, data)] = events(client, "a", after=cursor)
    assert steps_of(data) == [3, 4, 5]
    served.stop()
    write(run, range(6, 10))
    served.begin()
    client.close()
    with httpx.Client(base_url=f"{served.url}/api/v1", timeout=30) as again:
        [(_, data)] = events(again, "a", last=seen)
    assert steps_of(data) == [6, 7, 8, 9]
    run.__exit__(None, None, None)


def test_a_resume_says_that_steps_are_run_again(tmp_path, serve):
    run = start(tmp_path / "runs" / "a")
    write(run, range(5))
    saved = run.sync()
    write(run, range(5, 8))
    _, client = serve()
    cursor = client.get("/series", params={"run": "a"}).json()["cursor"]
    run.rewind(5, saved)
    write(run, range(5, 12))  # longer again than what was read
    [(_, data)] = events(client, "a", after=cursor, kind="reset")
    assert data["rows"] == []
    again = client.get("/series", params={"run": "a", "metric": "score"}).json()
    assert again["series"]["score"]["steps"] == list(range(12))
    write(run, range(12, 14))
    [(_, data)] = events(client, "a", after=again["cursor"])
    assert steps_of(data) == [12, 13]
    run.__exit__(None, None, None)


def test_another_run_in_the_same_place_is_another_run(tmp_path, serve):
    plant(tmp_path / "runs" / "a")
    _, client = serve()
    cursor = client.get("/series", params={"run": "a"}).json()["cursor"]
    (tmp_path / "runs" / "a").rename(tmp_path / "runs" / "a.old-1")
    plant(tmp_path / "runs" / "a", steps=60)
    events(client, "a", after=cursor, kind="reset")
    reply = client.get("/series", params={"run": "a", "metric": "score"}).json()
    assert reply["series"]["score"]["steps"] == list(range(60))


def test_a_long_tail_comes_in_pieces_that_fit_together(tmp_path, serve):
    run = start(tmp_path / "runs" / "a")
    write(run, range(1))
    _, client = serve()
    cursor = client.get("/series", params={"run": "a"}).json()["cursor"]
    append(run.path, "metrics", *({"step": step, "score": 0.0} for step in range(1, 1302)))
    pieces = events(client, "a", after=cursor, until=3)
    assert [step for _, data in pieces for step in steps_of(data)] == list(range(1, 1302))
    run.__exit__(None, None, None)


@pytest.mark.parametrize(
    "after", ["x", "0.0.0.0", "00000000.0.99999999.0", "~", "a~b", "'; drop table", "00000000.0.3.0"]
)
def test_a_cursor_that_means_nothing_here_starts_anew(tmp_path, serve, after):
    plant(tmp_path / "runs" / "a", steps=3)
    _, client = serve()
    assert events(client, "a", after=after, kind="reset")


def test_numbers_that_are_none_are_said(tmp_path, serve):
    run = start(tmp_path / "runs" / "a")
    run.log(0, {"loss": 1.0})
    run.log(1, {"loss": math_nan()})
    _, client = serve()
    assert client.get("/series", params={"run": "a"}).json()["series"]["loss"]["values"] == [1.0, "nan"]
    alerts = client.get("/run", params={"run": "a"}).json()["alerts"]
    assert [(one["rule"], one["step"]) for one in alerts] == [("not_finite", 1)]
    run.__exit__(None, None, None)


def math_nan():
    return float("nan")


def test_samples_stand_beside_those_of_the_probe_before(tmp_path, serve):
    plant(tmp_path / "runs" / "a")
    _, client = serve()
    probes = client.get("/probes", params={"run": "a"}).json()["probes"]
    assert [one["step"] for one in probes] == list(range(0, 40, 5))
    assert probes[2] | {"words": 0} == {"step": 10, "answers": 3, "mean": 0.0, "median": 0.0, "words": 0,
                                        "log_ratio": None, "margin": None,
                                        "p10": pytest.approx(-0.8), "p90": pytest.approx(0.8)}  # fmt: skip
    page = client.get("/samples", params={"run": "a", "step": 10, "sort": "reward-low"}).json()
    assert [one["text"][:21] for one in page["rows"]] == [f"Answer 10 to prompt {n}" for n in (2, 1, 0)]
    assert page["rows"][0]["before"]["text"].startswith("Answer 5 to prompt 2")
    second = client.get("/samples", params={"run": "a", "step": 10, "offset": 1, "limit": 1}).json()
    assert [one["question"] for one in second["rows"]] == ["How do I plant a tree?"]
    life = client.get("/history", params={"run": "a", "prompt": page["rows"][0]["prompt"]}).json()["rows"]
    assert [one["step"] for one in life] == list(range(0, 40, 5))
    assert {one["question"] for one in life} == {"Hello!"}
    assert ["before" in one for one in life] == [False] + 7 * [True]
    asked = {"run": "a", "prompt": page["rows"][0]["prompt"], "offset": 6, "limit": 5}
    end = client.get("/history", params=asked).json()
    assert (end["total"], end["offset"], end["rows"]) == (8, 6, life[6:])
    assert [(one["before"]["step"], one["start"]["step"]) for one in end["rows"]] == [(25, 0), (30, 0)]
    assert client.get("/history", params={**asked, "limit": 101}).status_code == 422
    hits = client.get("/search", params={"run": "a", "text": "ANSWER 15"}).json()
    assert hits["total"] == 3


def test_answers_with_log_ratios_come_in_their_orders_beside_the_start_and_the_probe_before(tmp_path, serve):
    with start(tmp_path / "runs" / "a", kind="dpo") as run:
        write_offline(run, (0, 4, 8))
    _, client = serve()
    probes = client.get("/probes", params={"run": "a"}).json()["probes"]
    assert [one["mean"] for one in probes] == [None] * 3
    assert [one["log_ratio"] for one in probes] == [pytest.approx(0.0)] * 3

    def page(sort):
        return client.get("/samples", params={"run": "a", "step": 8, "sort": sort}).json()

    texts = {sort: [one["text"] for one in page(sort)["rows"]] for sort in ("kl", "kl-low", "typical")}
    assert texts["kl"] == ["Said 8 2", "Said 8 1", "Said 8 0"]
    assert texts["kl-low"] == texts["kl"][::-1]
    assert texts["typical"][0] == "Said 8 1"
    row = page("kl")["rows"][0]
    assert (row["before"]["text"], row["start"]["text"]) == ("Said 4 2", "Said 0 2")
    assert row["tokens"] == TOKENS
    first = client.get("/samples", params={"run": "a", "step": 0}).json()
    assert (first["previous"], first["start"]) == (None, None)
    assert not any({"before", "start"} & set(one) for one in first["rows"])


def test_labelled_answers_stand_together_and_have_a_margin(tmp_path, serve):
    with start(tmp_path / "runs" / "a", kind="reward") as run:
        write_offline(run, (0, 5), labels=("chosen", "rejected"))
    _, client = serve()
    probes = client.get("/probes", params={"run": "a"}).json()["probes"]
    assert [one["margin"] for one in probes] == [0.0, 0.5]
    rows = client.get("/samples", params={"run": "a", "step": 5, "sort": "reward-low"}).json()["rows"]
    assert [(one["label"], one["score"]) for one in rows] == [("rejected", 0.0), ("chosen", 0.5)] * 3
    assert len({one["prompt"] for one in rows[::2]}) == 3


def test_a_sample_is_exported_with_all_that_its_line_holds(tmp_path, serve):
    with start(tmp_path / "runs" / "a", kind="dpo") as run:
        write_offline(run, (3,))
    append(tmp_path / "runs" / "a", "samples", {"step": 9, "prompt": "p", "completion": "c", "odd": float("nan")})
    _, client = serve()
    written = [json.loads(line) for line in (tmp_path / "runs" / "a" / "samples.jsonl").read_text().splitlines()]
    rows = client.get("/samples", params={"run": "a", "step": 3}).json()["rows"]
    reply = client.get("/sample", params={"run": "a", "step": 3, "prompt": rows[1]["prompt"]})
    assert reply.json() == {"run": "a", **written[1]}
    assert reply.headers["content-disposition"] == "attachment"
    odd = client.get("/samples", params={"run": "a", "step": 9}).json()["rows"][0]["prompt"]
    assert client.get("/sample", params={"run": "a", "step": 9, "prompt": odd}).json()["odd"] == "NaN"
    for wrong in ({"prompt": "nothing"}, {"step": 4}, {"turn": 1}):
        asked = {"run": "a", "step": 3, "prompt": rows[1]["prompt"]} | wrong
        assert client.get("/sample", params=asked).status_code == 404, wrong


@pytest.mark.parametrize(
    "tokens",
    [7, {"text": "abc"}, {"text": ["a"], "entropy": [1.0, 2.0]}, {"text": ["a"], "entropy": ["x"]}, {"text": [1]}],
)
def test_tokens_that_do_not_fit_together_are_left_out(tokens, tmp_path, serve):
    plant(tmp_path / "runs" / "a", steps=1)
    append(tmp_path / "runs" / "a", "samples", {"step": 9, "prompt": "p", "completion": "c", "tokens": tokens})
    _, client = serve()
    (shown,) = client.get("/samples", params={"run": "a", "step": 9}).json()["rows"]
    assert "tokens" not in shown
    assert shown["text"] == "c"


def test_what_there_is_not_is_said_with_what_there_is(tmp_path, serve):
    plant(tmp_path / "runs" / "a")
    _, client = serve()
    reply = client.get("/samples", params={"run": "a", "step": 7})
    assert "8 probe steps from 0 to 35" in reply.json()["expected"]
    assert "reward-low" in client.get("/samples", params={"run": "a", "step": 5, "sort": "x"}).json()["expected"]
    assert client.get("/samples", params={"run": "a", "step": -1}).status_code == 422
    assert client.get("/samples", params={"run": "a", "step": 5, "limit": 1000}).status_code == 422


def test_only_what_is_set_differently_is_compared(tmp_path, serve):
    plant(tmp_path / "runs" / "a", steps=2)
    plant(tmp_path / "runs" / "b", steps=2, config={**CONFIG, "seed": 1})
    _, client = serve()
    reply = client.get("/differences", params={"run": ["a", "b"]}).json()
    assert reply["settings"] == [{"name": "seed", "values": [0, 1]}]
    assert client.get("/differences", params={"run": "a"}).status_code == 400


def test_hostile_text_travels_as_text(tmp_path, serve):
    run = start(tmp_path / "runs" / "a\nevent: rows\ndata: {}")
    half = "\ud800"
    rows = [{"step": 0, "prompt": text, "completion": f"{text}\r\n\r\nid: 9 {half}", "score": 0.0} for text in PAYLOADS]
    append(run.path, "samples", *rows)
    append(
        run.path,
        "metrics",
        {"step": 0, "<img src=x onerror=alert(1)>\n\ndata: x": 1.0, "score": 1e400, "loss": 10**400},
    )
    _, client = serve()
    [line] = client.get("/runs").json()["runs"]
    shown = client.get("/samples", params={"run": line["name"], "step": 0, "limit": 100}).json()["rows"]
    assert [one["text"] for one in shown] == [one["completion"] for one in rows]
    [(_, data)] = events(client, line["name"], kind="state")
    assert data["run"] == line["name"]
    run.__exit__(None, None, None)


def test_other_sites_methods_and_addresses_are_refused(tmp_path, serve):
    plant(tmp_path / "runs" / "a", steps=2)
    served, client = serve()
    assert client.get("/runs", headers={"Host": "evil.example"}).status_code == 400
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/runs").status_code in (403, 405), method
    page = httpx.get(served.url)
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "<script>" not in page.text
    assert httpx.get(f"{served.url}/static/../../../pyproject.toml").status_code == 404
    assert httpx.get(f"{served.url}/static/vendor/uplot/uPlot.esm.js").status_code == 200


def question(**changes):
    return {"run": "bad", "rule": "kl_runaway", "step": 20, **changes}


@pytest.fixture
def asking(tmp_path):
    """The explorer with a feedback database and a token."""
    plant(tmp_path / "runs" / "bad", values=runaway)
    desk = Desk(str(tmp_path / "feedback.db"))
    desk.check()
    served = Served(
        tmp_path / "runs", source=lambda root: Runs(root, desk=desk), tokens=Keys({"lead": "secret"}), asks=True
    )
    with httpx.Client(base_url=f"{served.url}/api/v1", timeout=30) as client:
        yield client
    served.stop()


def test_without_a_feedback_database_there_is_no_call_that_writes(tmp_path, serve):
    plant(tmp_path / "runs" / "bad", values=runaway)
    _, client = serve()
    assert client.get("/runs").json()["asks"] is False
    assert client.get("/run", params={"run": "bad"}).json()["asked"] is None
    for path in ("/ask", "/runs", "/run"):
        assert client.post(path, json=question()).status_code in (404, 405)


def test_people_are_asked_by_whoever_has_the_token_and_only_once(asking):
    refused = [
        asking.post("/ask", json=question()),
        asking.post("/ask", json=question(), headers={"X-CSRF-Token": "secret"}),
        asking.post("/ask", json=question(), headers={"Authorization": "Bearer secre"}),
    ]
    assert [reply.status_code for reply in refused] == [403, 403, 401]
    assert asking.get("/run", params={"run": "bad"}).json()["asked"] == {"alerts": [], "problem": None}
    asking.headers["Authorization"] = "Bearer secret"
    assert [asking.post("/ask", json=question()).json()["new"] for _ in range(2)] == [3, 0]
    assert asking.get("/run", params={"run": "bad"}).json()["asked"]["alerts"][0]["pairs"] == 3
    assert "secret" not in asking.get("/runs").text + asking.get("/run", params={"run": "bad"}).text


@pytest.mark.parametrize(
    ("wrong", "status"),
    [({"step": 19}, 404), ({"rule": "x"}, 404), ({"run": "../bad"}, 404), ({"step": "20"}, 422), ({"more": 1}, 422)],
)
def test_a_wrong_question_is_refused(asking, wrong, status):
    reply = asking.post("/ask", json=question(**wrong), headers={"Authorization": "Bearer secret"})
    assert reply.status_code == status
    assert reply.json()["detail"]
