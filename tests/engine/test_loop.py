"""Steps over a plan: where they begin, which of them a probe takes, and what a signal does."""

import itertools
import os
import signal
import time

import pytest

from tests.test_ledger import start
from trueup.engine import probe
from trueup.engine.loop import Loop, terminable
from trueup.engine.probe import StepOrder
from trueup.errors import Interrupted
from trueup.ledger import Run, metric_rows, read_run


class Squares:
    def __len__(self):
        return 5

    def __getitem__(self, step):
        return step * step


def test_steps_resume_where_the_checkpoint_was_and_rewind_the_log(tmp_path):
    saved = []

    def save(done):
        saved.append((done, run.sync()))

    with start(tmp_path / "r") as run:
        for step, value in Loop(run, Squares(), save=save, save_every=2):
            run.log(step, {"loss": value})
            if step == 3:
                break
    assert [done for done, _ in saved] == [2]
    with start(tmp_path / "r") as run:
        run.rewind(*saved[0])
        for step, value in Loop(run, Squares(), save=save, save_every=2):
            run.log(step, {"loss": value})
    assert metric_rows(tmp_path / "r") == [{"step": s, "loss": float(s * s)} for s in range(5)]


class Lengths(list):
    @property
    def longest(self):
        return self.index(max(self))


def test_a_probe_takes_spread_steps_and_the_longest_twice_and_the_last_once(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.0)
    lengths = Lengths([5] * 7 + [50] + [5] * 32)
    with Run.start(tmp_path / "r", kind="sft", config={"a": 1}, inputs={}, quiet=True, probe=4) as run:
        taken = [step for step, _ in Loop(run, lengths, save=lambda done: None, save_every=100)]
    assert taken == [0, 7, 13, 26, 0, 7, 13, 26, 39]


@pytest.mark.parametrize(("count", "others"), [(9, [1, 2, 3, 4, 5, 6, 7]), (5, [1, 2, 3])])
def test_a_probe_goes_on_with_other_steps_until_its_time_is_over(count, others, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 100.0)
    monkeypatch.setattr(time, "perf_counter", itertools.count().__next__)  # a second passes whenever it is asked for
    taken = []
    with Run.start(tmp_path / "r", kind="sft", config={"a": 1}, inputs={}, quiet=True, probe=2) as run:
        plan = Lengths([1] * count)
        assert list(StepOrder(plan, run.first_step, run.probe).others) == others
        for step, _ in Loop(run, plan, save=lambda done: None, save_every=100):
            taken.append(step)
    endless = [0, 0, *[*others, 0] * 9]
    assert taken[:-1] == endless[: len(taken) - 1]
    assert len(taken) > 3
    assert taken[-1] == count - 1


def test_a_run_and_a_probe_of_all_steps_have_no_others(tmp_path):
    with Run.start(tmp_path / "r", kind="sft", config={"a": 1}, inputs={}, quiet=True) as run:
        assert list(StepOrder(Squares(), run.first_step, run.probe).others) == []
    with Run.start(tmp_path / "p", kind="sft", config={"a": 1}, inputs={}, quiet=True, probe=3) as run:
        assert list(StepOrder(Squares(), run.first_step, run.probe).others) == []


def test_a_probe_of_a_short_run_takes_all_of_it(tmp_path):
    with Run.start(tmp_path / "r", kind="sft", config={"a": 1}, inputs={}, quiet=True, probe=3) as run:
        assert list(StepOrder(Squares(), run.first_step, run.probe).steps) == [0, 1, 2, 3, 4]


def test_sigterm_finishes_the_step_saves_and_says_how_to_go_on(tmp_path):
    saved = []

    def train():
        with start(tmp_path / "r") as run:
            for step, _ in Loop(run, Squares(), save=saved.append, save_every=100):
                if step == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.01)

    with pytest.raises(Interrupted, match=r"after step 1 \(2 of 5 are done\)"):
        train()
    assert saved == [2]
    assert read_run(tmp_path / "r")["status"] == "interrupted"


def test_sigterm_before_the_first_step_is_an_interruption(tmp_path):
    def prepare():
        with terminable(), start(tmp_path / "r"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        prepare()
    assert read_run(tmp_path / "r")["status"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_signal_stops_at_once(tmp_path):
    def train():
        with start(tmp_path / "r") as run:
            for _ in Loop(run, Squares(), save=lambda done: None, save_every=100):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)  # two signals that nobody has looked at yet are one
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            train()
    finally:
        signal.signal(signal.SIGINT, before)
    assert read_run(tmp_path / "r")["status"] == "interrupted"
