"""Somebody asks a run that trains to pause or to end: it does, and says who asked; its numbers stay what they are."""

import json
import subprocess
import sys

import pytest

from tests.recipes.test_recipes import config_of, digest
from tests.web.explorer.planted import CONFIG, start, write
from trueup.errors import NotAllowed, Paused, RunError, UsageError
from trueup.ledger import Run, metric_rows, read_run
from trueup.ledger.control import CONTROL, pending, request, take
from trueup.recipes.registry import execute

ALLOWED = {**CONFIG, "control": True}


def events(run, name):
    rows = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [row for row in rows if row["event"] == name]


def asks_at(monkeypatch, step, action):
    """Somebody asks while this step is logged."""
    log = Run.log

    def logged(self, at, *groups, **rest):
        log(self, at, *groups, **rest)
        if at == step and not events(self.path, "control"):
            request(self.path, action, "ada")

    monkeypatch.setattr(Run, "log", logged)


def asks_before(monkeypatch, step, action, module):
    """Somebody asks while a step of a method on a file runs; its row is not written yet."""
    obey = module.obey

    def asked(run, at, loop, *, allowed):
        if at == step and not events(run.path, "control"):
            request(run.path, action, "ada")
        return obey(run, at, loop, allowed=allowed)

    monkeypatch.setattr(module, "obey", asked)


@pytest.mark.parametrize("kind", ["rloo", "dpo"])
def test_a_paused_run_is_saved_and_goes_on_to_the_same_bytes(kind, material, tmp_path, monkeypatch):
    from trueup.recipes import offline

    settings = {"steps": 5} if kind == "rloo" else {}
    config = config_of(kind, material, control=True, save_every=100, **settings)
    straight = execute(kind, config, tmp_path / "straight", quiet=True)
    if kind == "rloo":
        asks_at(monkeypatch, 1, "pause")
    else:
        asks_before(monkeypatch, 1, "pause", offline)
    with pytest.raises(Paused, match=r"after step 1 \(2 of \d+ are done\), everything is saved: ada asked for it"):
        execute(kind, config, tmp_path / "r", quiet=True)
    out = tmp_path / "r"
    [event] = events(out, "control")
    assert (event["action"], event["by"], event["step"]) == ("pause", "ada", 1)
    assert event["asked"] <= event["time"]
    assert read_run(out)["status"] == "interrupted"
    assert read_run(out)["facts"]["paused"]["by"] == "ada"
    assert not (out / CONTROL).exists()
    execute(kind, config, out, quiet=True)
    assert digest(out) == digest(straight)


@pytest.mark.parametrize("kind", ["rloo", "dpo"])
def test_a_stopped_run_is_done_with_its_model_and_takes_no_further_step(kind, material, tmp_path, monkeypatch):
    from trueup.recipes import offline

    settings = {"steps": 5} if kind == "rloo" else {}
    config = config_of(kind, material, control=True, save_every=100, probes=2, **settings)
    if kind == "rloo":
        asks_at(monkeypatch, 1, "stop")
    else:
        asks_before(monkeypatch, 1, "stop", offline)
    out = execute(kind, config, tmp_path / "r", quiet=True)
    record = read_run(out)
    assert record["status"] == "done"
    assert (record["facts"]["stopped"]["by"], record["facts"]["stopped"]["step"]) == ("ada", 1)
    assert [row["step"] for row in metric_rows(out)] == [0, 1]
    assert (out / "final" / "model.safetensors").is_file()
    assert (out / "checkpoints" / "step-00000002").is_dir()
    samples = [json.loads(line)["step"] for line in (out / "samples.jsonl").read_text().splitlines()]
    assert max(samples) == (1 if kind == "rloo" else 2)
    before = digest(out)
    execute(kind, config, out, quiet=True)
    assert digest(out) == before


def test_a_run_without_the_permission_looks_for_nothing(material, tmp_path, monkeypatch):
    out = tmp_path / "r"
    log = Run.log

    def logged(self, at, *groups, **rest):
        (out / CONTROL).write_text(json.dumps({"action": "stop", "by": "eve", "time": 1.0}))
        log(self, at, *groups, **rest)

    monkeypatch.setattr(Run, "log", logged)
    execute("rloo", config_of("rloo", material, steps=3), out, quiet=True)
    assert len(metric_rows(out)) == 3
    assert events(out, "control") == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property"),
        ("[]", "holds no action"),
        ('{"action": "delete", "by": "eve", "time": 1}', "holds no action"),
        ('{"action": "stop"}', "who asked"),
        ('{"action": "stop", "by": 3, "time": 1}', "who asked"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_request_that_is_none_is_said_and_not_obeyed(text, problem, tmp_path):
    (tmp_path / CONTROL).write_text(text)
    with pytest.raises(ValueError, match=problem):
        take(tmp_path)
    assert take(tmp_path) is None


def test_only_a_run_that_trains_here_and_allows_it_is_asked(tmp_path):
    folder = tmp_path / "r"
    with start(folder, config=ALLOWED) as run:
        write(run, range(2))
        asked = request(folder, "pause", "ada")
        assert pending(folder) == asked
        with pytest.raises(RunError, match="to pause was asked already, by ada"):
            request(folder, "stop", "bob")
        assert take(folder) == asked
        assert (pending(folder), take(folder)) == (None, None)
    with pytest.raises(UsageError, match="this run is done: there is nothing to stop"):
        request(folder, "stop", "ada")
    with start(tmp_path / "other") as run, pytest.raises(NotAllowed, match="does not allow it"):
        request(run.path, "stop", "ada")


def test_a_run_that_was_killed_or_copied_here_is_not_asked(tmp_path):
    folder = tmp_path / "r"
    run = start(folder, config=ALLOWED)
    run._lock.release()  # as the end of the process does
    with pytest.raises(RunError, match="no process here trains this run"):
        request(folder, "pause", "ada")
    (folder / ".lock").unlink()
    with pytest.raises(RunError, match="no process here trains this run"):
        request(folder, "pause", "ada")
    assert not (folder / CONTROL).exists()


def test_the_process_that_trains_may_be_another_one(tmp_path):
    code = (
        "import sys; from tests.web.explorer.planted import start\n"
        f"run = start({str(tmp_path / 'r')!r}, config={ALLOWED!r}); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"ready\n"
        assert request(tmp_path / "r", "stop", "ada").action == "stop"
        other.communicate(b"")
    with pytest.raises(RunError, match="no process here"):
        request(tmp_path / "r", "stop", "ada")


def test_a_request_to_a_process_that_is_gone_is_void(tmp_path):
    folder = tmp_path / "r"
    run = start(folder, config=ALLOWED)
    request(folder, "stop", "ada")
    run._lock.release()
    with start(folder, config=ALLOWED):
        assert pending(folder) is None
    assert len(events(folder, "control_void")) == 1
