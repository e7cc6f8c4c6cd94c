"""A snapshot holds what the page would ask for, no more than it may, and nothing of it can become code."""

import base64
import hashlib
import html
import json
import re

import pytest
from typer.testing import CliRunner

from tests.web.explorer.planted import CONFIG, append, plant, start, write
from tests.web.test_hostile import PAYLOADS
from trueup.commands.app import app
from trueup.commands.explore import means
from trueup.commands.live.runs import Runs
from trueup.errors import UsageError
from trueup.web.explorer import snapshot
from trueup.web.explorer.snapshot import take_snapshot


def parts(page):
    """Data and scripts of a file, and its policy."""
    text = page.decode()
    scripts = re.findall(r"<script(?P<kind>[^>]*)>(.*?)</script>", text, re.DOTALL)
    data = next(json.loads(body) for kind, body in scripts if "snapshot-data" in kind)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    return data, [body for kind, body in scripts if "snapshot-data" not in kind], policy


def test_the_file_holds_what_the_server_would_answer(tmp_path, serve):
    for seed in range(2):
        plant(tmp_path / "runs" / f"seed-{seed}", config={**CONFIG, "seed": seed})
    _, client = serve()
    names = ["seed-1", "seed-0"]
    reply = client.get("/snapshot", params={"run": names, "place": "#run=seed-0&view=samples"})
    assert reply.headers["content-disposition"] == 'attachment; filename="trueup-2-runs.html"'
    data, _, _ = parts(reply.content)
    for name in names:
        described = client.get("/run", params={"run": name}).json()
        assert data["described"][name] == described
        assert data["series"][name] == client.get("/series", params={"run": name}).json()
        assert data["probes"][name] == client.get("/probes", params={"run": name}).json()
        rows = client.get("/samples", params={"run": name, "step": 20}).json()["rows"]
        assert data["samples"][name]["20"] == [{k: v for k, v in row.items() if k != "before"} for row in rows]
    assert data["differences"] == client.get("/differences", params={"run": names}).json()
    assert data["place"] == "#run=seed-0&view=samples"
    assert client.get("/snapshot").status_code == 400
    unknown = client.get("/snapshot", params={"run": "seed-9"}).json()
    assert unknown["detail"].startswith("there is no run")
    assert "did you mean 'seed-" in json.dumps(unknown)
    twice = client.get("/snapshot", params={"run": ["seed-0", "seed-0"]})
    assert "trueup-seed-0.html" in twice.headers["content-disposition"]
    assert len(parts(twice.content)[0]["runs"]) == 1
    one, _, _ = parts(client.get("/snapshot", params={"run": "seed-0", "place": "https://evil.example"}).content)
    assert one["place"] == "#run=seed-0"


def test_texts_of_a_run_stay_inside_the_data_and_every_script_is_allowed_by_its_hash(tmp_path):
    with start(tmp_path / "runs" / "</title><script>alert(1)</script>", config={**CONFIG, "x": PAYLOADS[0]}) as run:
        write(run, range(12))
        append(run.path, "samples", *({"step": 20, "prompt": text, "completion": f"</script>{text}<!--", "score": 0.1}
                                      for text in PAYLOADS))  # fmt: skip
    source = Runs(tmp_path / "runs")
    taken = take_snapshot(source, means, [source.runs()[0]["name"]])
    data, scripts, policy = parts(taken.page)
    (samples,) = data["samples"].values()
    assert {row["question"] for row in samples["20"]} == set(PAYLOADS)
    assert len(scripts) == 4
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert taken.page.count(b"<title>") == taken.page.count(b"</title>") == 1
    modules = json.loads(scripts[2])["imports"]
    assert {"trueup/explorer.js", "trueup/shell/dom.js", "trueup/vendor/uplot/uPlot.esm.js"} <= set(modules)
    for address in modules.values():
        text = base64.b64decode(address.partition(",")[2]).decode()
        imported = re.findall(r'^(?:import|export)\b[^;]*?from "([^"]+)"', text, re.MULTILINE)
        assert set(imported) <= set(modules)


def test_what_is_too_much_is_left_out_evenly_and_said(tmp_path, monkeypatch):
    folder = plant(tmp_path / "runs" / "a", steps=40)
    append(folder, "samples", *({"step": 50 + step, "prompt": f"p{n}", "completion": "word " * 20, "score": 1.0}
                                for step in range(40) for n in range(120)))  # fmt: skip
    source = Runs(tmp_path / "runs")
    whole, _, _ = parts(take_snapshot(source, means, ["a"]).page)
    assert all(len(rows) <= snapshot.ANSWERS for rows in whole["samples"]["a"].values())
    monkeypatch.setattr(snapshot, "MOST_TEXT", 300_000)
    monkeypatch.setattr(snapshot, "MOST_POINTS", 0)
    monkeypatch.setattr(snapshot, "LEAST_POINTS", 10)
    taken = take_snapshot(source, means, ["a"])
    data, _, _ = parts(taken.page)
    steps = [int(step) for step in data["samples"]["a"]]
    assert steps[-1] == 89
    assert 2 < len(steps) < 48
    assert [row["step"] for row in data["probes"]["a"]["probes"]] == steps
    assert len(json.dumps(data["samples"])) < 310_000
    assert all(len(one["steps"]) <= 20 for one in data["series"]["a"]["series"].values())
    assert f"a: answers of {len(steps)} of 48 probe steps" in taken.notes
    assert "a: the first 100 answers of each step" in taken.notes
    assert taken.notes[0].startswith("Curves of more than 10 points")
    for note in taken.notes:
        assert note in taken.page.decode()


def test_the_command_writes_a_file_and_says_what_is_in_it(tmp_path):
    for name in "abcdefghijk":
        plant(tmp_path / "runs" / name, steps=3)
    runner, file = CliRunner(), tmp_path / "out.html"
    refused = runner.invoke(app, ["explore", str(tmp_path / "runs"), "--snapshot", str(file)])
    assert isinstance(refused.exception, UsageError)
    assert "11 runs are too many" in str(refused.exception)
    assert not file.exists()
    chosen = ["--run", "b", "--run", "a"]
    done = runner.invoke(app, ["explore", str(tmp_path / "runs"), "--snapshot", str(file), *chosen])
    assert done.exit_code == 0, done.output
    assert f"{file}: b, a; 0." in done.output
    assert parts(file.read_bytes())[0]["place"] == "#view=compare&with=b&with=a"
    alone = runner.invoke(app, ["explore", str(tmp_path / "runs"), "--run", "a"])
    assert "--snapshot" in str(alone.exception)
    deeper = tmp_path / "no" / "such" / "x.html"
    assert runner.invoke(app, ["explore", str(tmp_path / "runs" / "a"), "--snapshot", str(deeper)]).exit_code == 0
    assert b"snapshot-data" in deeper.read_bytes()
    for place, why in ((file / "x.html", "there is a file where a directory belongs"), (tmp_path, "is a directory")):
        nowhere = runner.invoke(app, ["explore", str(tmp_path / "runs" / "a"), "--snapshot", str(place)])
        assert why in str(nowhere.exception)
        assert nowhere.exception.fix or nowhere.exception.expected


def test_nobody_takes_no_run_or_too_many(tmp_path):
    plant(tmp_path / "runs" / "a", steps=3)
    for names in ([], ["a"] * 11):
        with pytest.raises(UsageError, match="1 to 10 runs"):
            take_snapshot(Runs(tmp_path / "runs"), means, names)
