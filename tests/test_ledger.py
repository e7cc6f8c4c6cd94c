import itertools
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from trueup import ledger
from trueup.errors import Interrupted, RunError, UsageError
from trueup.ledger import Run, metric_rows, read_lines, read_run


def start(path, **changes):
    given = {"kind": "dpo", "config": {"beta": 0.1}, "inputs": {"pairs": "abc"}, "quiet": True} | changes
    return Run.start(path, **given)


def test_a_run_records_what_it_is_and_how_it_ended(tmp_path):
    with start(tmp_path / "r") as run:
        run.log(0, {"loss": 0.5})
        assert read_run(run.path)["status"] == "running"
    record = read_run(tmp_path / "r")
    assert record["status"] == "done"
    assert record["config"] == {"beta": 0.1}
    assert metric_rows(tmp_path / "r") == [{"step": 0, "loss": 0.5}]


def test_a_failure_is_recorded(tmp_path):
    def fail():
        with start(tmp_path / "r"):
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    assert read_run(tmp_path / "r")["status"] == "failed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"beta": 0.2}}, r"config\.beta was 0\.1, now 0\.2"),
        ({"inputs": {"pairs": "other"}}, "inputs"),
        ({"kind": "ppo"}, "kind"),
        ({"resume": False}, "a run is here already"),
    ],
)
def test_resuming_with_something_else_is_refused(tmp_path, change, message):
    start(tmp_path / "r").__exit__(None, None, None)
    with pytest.raises(UsageError, match=message):
        start(tmp_path / "r", **change)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        start(tmp_path)


def test_unknown_metric_is_a_programming_error(tmp_path):
    with start(tmp_path / "r") as run, pytest.raises(KeyError, match="losss"):
        run.log(0, {"losss": 1.0})


def test_nan_is_a_typed_gap_and_valid_json(tmp_path):
    with start(tmp_path / "r") as run:
        run.log(0, {"loss": float("nan"), "kl": float("inf")})
    row = json.loads((tmp_path / "r" / "metrics.jsonl").read_text())
    assert row == {"step": 0, "loss": "nan", "kl": "inf"}


def test_reader_leaves_a_torn_line_for_later(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 0}\n{"ste')
    rows, offset = read_lines(file)
    assert rows == [{"step": 0}]
    with file.open("ab") as handle:
        handle.write(b'p": 1}\n')
    assert read_lines(file, offset)[0] == [{"step": 1}]


def test_pinned_identity_cannot_change(tmp_path):
    with start(tmp_path / "r") as run:
        run.pin("reference", "aaa")
        run.pin("reference", "aaa")
        with pytest.raises(RunError, match="reference changed"):
            run.pin("reference", "bbb")


def test_two_writers_are_refused_and_a_dead_one_is_recognised(tmp_path):
    code = (
        "import sys,time; from trueup.ledger import Run;"
        f"Run.start({str(tmp_path / 'r')!r}, kind='dpo', config={{'beta':0.1}}, inputs={{'pairs':'abc'}}, quiet=True);"
        "print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline().strip() == "held"
    with pytest.raises(RunError, match=f"pid {holder.pid}"):
        start(tmp_path / "r")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with start(tmp_path / "r") as run:
        assert run.path.exists()


class Squares:
    def __len__(self):
        return 5

    def __getitem__(self, step):
        return step * step


def test_steps_resume_where_the_checkpoint_was_and_rewind_the_log(tmp_path):
    saved = []

    def save(done):
        saved.append((done, run.positions()))

    with start(tmp_path / "r") as run:
        for step, value in run.steps(Squares(), save=save, save_every=2):
            run.log(step, {"loss": value})
            if step == 3:
                break
    assert [done for done, _ in saved] == [2]
    with start(tmp_path / "r") as run:
        run.rewind(*saved[0])
        for step, value in run.steps(Squares(), save=save, save_every=2):
            run.log(step, {"loss": value})
    assert metric_rows(tmp_path / "r") == [{"step": s, "loss": float(s * s)} for s in range(5)]


class Lengths(list):
    @property
    def longest(self):
        return self.index(max(self))


def test_a_probe_takes_spread_steps_and_the_longest_twice_and_the_last_once(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "PROBE_SECONDS", 0.0)
    lengths = Lengths([5] * 7 + [50] + [5] * 32)
    with Run.start(tmp_path / "r", kind="sft", config={"a": 1}, inputs={}, quiet=True, probe=4) as run:
        taken = [step for step, _ in run.steps(lengths, save=lambda done: None, save_every=100)]
    assert taken == [0, 7, 13, 26, 0, 7, 13, 26, 39]


@pytest.mark.parametrize(("count", "others"), [(9, [1, 2, 3, 4, 5, 6, 7]), (5, [1, 2, 3])])
def test_a_probe_goes_on_with_other_steps_until_its_time_is_over(count, others, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "PROBE_SECONDS", 100.0)
    monkeypatch.setattr(time, "perf_counter", itertools.count().__next__)  # a second passes whenever it is asked for
    taken = []
    with Run.start(tmp_path / "r", kind="sft", config={"a": 1}, inputs={}, quiet=True, probe=2) as run:
        plan = Lengths([1] * count)
        assert list(run.others(plan)) == others
        for step, _ in run.steps(plan, save=lambda done: None, save_every=100):
            taken.append(step)
    endless = [0, 0, *[*others, 0] * 9]
    assert taken[:-1] == endless[: len(taken) - 1]
    assert len(taken) > 3
    assert taken[-1] == count - 1


def test_a_run_and_a_probe_of_all_steps_have_no_others(tmp_path):
    with Run.start(tmp_path / "r", kind="sft", config={"a": 1}, inputs={}, quiet=True) as run:
        assert list(run.others(Squares())) == []
    with Run.start(tmp_path / "p", kind="sft", config={"a": 1}, inputs={}, quiet=True, probe=3) as run:
        assert list(run.others(Squares())) == []


def test_a_probe_of_a_short_run_takes_all_of_it(tmp_path):
    with Run.start(tmp_path / "r", kind="sft", config={"a": 1}, inputs={}, quiet=True, probe=3) as run:
        assert list(run.indices(Squares())) == [0, 1, 2, 3, 4]


def test_sigterm_finishes_the_step_saves_and_says_how_to_go_on(tmp_path):
    saved = []

    def train():
        with start(tmp_path / "r") as run:
            for step, _ in run.steps(Squares(), save=saved.append, save_every=100):
                if step == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.01)

    with pytest.raises(Interrupted, match="after step 2 of 5"):
        train()
    assert saved == [2]
    assert read_run(tmp_path / "r")["status"] == "interrupted"


def test_a_full_disk_never_stops_a_step_and_loses_no_row(tmp_path, capsys):
    with start(tmp_path / "r") as run:
        run.log(0, {"loss": 1.0})
        (tmp_path / "r" / "metrics.jsonl").rename(tmp_path / "aside")
        (tmp_path / "r" / "metrics.jsonl").mkdir()
        run.log(1, {"loss": 2.0})
        run.log(2, {"loss": 3.0})
        (tmp_path / "r" / "metrics.jsonl").rmdir()
        (tmp_path / "aside").rename(tmp_path / "r" / "metrics.jsonl")
        run.log(3, {"loss": 4.0})
    assert [row["step"] for row in metric_rows(tmp_path / "r")] == [0, 1, 2, 3]
    assert "cannot be written" in capsys.readouterr().err
