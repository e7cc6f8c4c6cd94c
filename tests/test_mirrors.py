"""Mirrors: each step once, whatever was killed; training neither waits nor fails for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from typing import ClassVar

import pytest

import trueup
from trueup.commands.mirrors.follow import Mirror
from trueup.commands.mirrors.mlflow import MlFlow
from trueup.commands.mirrors.trackio import Trackio
from trueup.commands.mirrors.wandb import WeightsAndBiases
from trueup.config import build
from trueup.config.log import Log
from trueup.errors import ConfigError, RunError, UsageError
from trueup.ledger import Run
from trueup.ledger import mirrors as started

CONFIG = {"optim": {"learning_rate": 0.5}, "data": "a|b.jsonl", "kl": {"kind": "adaptive", "target": 1.0}}


def begin(folder):
    """A run that is open for writing."""
    return Run.start(folder, kind="ppo", config=CONFIG, inputs={"data": "abc"}, quiet=True)


def steps(run, first, end, *, offset=0.0):
    """Rows of steps; the KL runs away at step 5."""
    for step in range(first, end):
        run.log(step, {"loss": step + offset, "kl": 9.0 if step >= 3 else 1.0, "reward/len/weighted": 0.5})
        run.time(step, 2.0, tokens=10.0)


def killed(run, checkpoint=None):
    """Let go of a run as a kill does: its status stays."""
    positions = run.sync() if checkpoint is None else None
    run._lock.release()
    return positions


def rewound(folder, step, positions):
    """The same run, resumed from a checkpoint."""
    run = begin(folder)
    run.rewind(step, positions)
    return run


class Recorded:
    """A tool that keeps what it is given, by key; like most, it cannot take a step back."""

    overwrites, goes_on = False, True
    held: ClassVar[dict] = {}
    breaks = 0

    def __init__(self, head, first, key, *, new):
        self.key, self.head = key, head
        if new:
            assert key not in self.held
            self.held[key] = {"steps": [], "alerts": [], "status": None, "settings": head.settings}
        self.mine = self.held[key]

    def step(self, step, values, seconds):
        if Recorded.breaks:
            Recorded.breaks -= 1
            raise ConnectionError("no network")
        self.mine["steps"].append((step, values["loss"], values["timing/tokens_per_second"], seconds))

    def alert(self, alert):
        self.mine["alerts"].append((alert.rule, alert.step))

    def flush(self):
        pass

    def close(self, status, facts):
        self.mine["status"] = status

    def place(self):
        return "nowhere"

    @staticmethod
    def forget(head, key):
        del Recorded.held[key]


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr("trueup.commands.mirrors.follow.open_sink", lambda target: Recorded)
    monkeypatch.setattr("trueup.commands.mirrors.follow.LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Recorded, "held", {})
    monkeypatch.setattr(Recorded, "breaks", 0)
    return Recorded


def mirror(folder, target="trackio", *, once=False, remote=None):
    said = []
    Mirror(folder, target, "trueup", remote, said.append).follow(once=once)
    return said


def losses(recorded):
    (held,) = recorded.held.values()
    return [(step, loss) for step, loss, _, _ in held["steps"]]


def test_each_step_once_with_timing_settings_and_alerts(recorded, tmp_path):
    with begin(tmp_path / "r") as run:
        steps(run, 0, 8)
    assert mirror(tmp_path / "r") == ["trackio: 8 steps: nowhere"]
    (held,) = recorded.held.values()
    assert held["steps"] == [(step, float(step), 5.0, 2.0 * (step + 1)) for step in range(8)]
    assert held["alerts"] == [("kl_runaway", 5)]
    assert held["status"] == "done"
    assert held["settings"]["optim.learning_rate"] == 0.5
    assert held["settings"]["inputs.data"] == "abc"
    assert mirror(tmp_path / "r") == ["trackio: 8 steps; nothing was new"]


def test_the_newest_step_waits_until_it_is_whole(recorded, tmp_path):
    with begin(tmp_path / "r") as run:
        steps(run, 0, 3)
        mirror(tmp_path / "r", once=True)
        assert losses(recorded) == [(0, 0.0), (1, 1.0)]
        steps(run, 3, 5)
    mirror(tmp_path / "r")
    assert losses(recorded) == [(step, float(step)) for step in range(5)]


def test_a_resume_that_takes_steps_back_neither_doubles_nor_loses_any(recorded, tmp_path):
    run = begin(tmp_path / "r")
    steps(run, 0, 4)
    positions = run.sync()
    steps(run, 4, 7)
    killed(run, checkpoint=4)
    mirror(tmp_path / "r")
    assert len(losses(recorded)) == 7
    with rewound(tmp_path / "r", 4, positions) as run:
        steps(run, 4, 9, offset=0.5)
    mirror(tmp_path / "r")
    assert losses(recorded) == [(step, step + (0.5 if step >= 4 else 0.0)) for step in range(9)]


def test_a_clean_stop_is_gone_on_with_and_not_written_anew(recorded, tmp_path):
    run = begin(tmp_path / "r")
    steps(run, 0, 4)
    positions = killed(run)
    mirror(tmp_path / "r")
    with rewound(tmp_path / "r", 4, positions) as run:
        steps(run, 4, 6)
    mirror(tmp_path / "r")
    (key,) = recorded.held
    assert not key.endswith("-2")
    assert losses(recorded) == [(step, float(step)) for step in range(6)]


def test_a_mirror_that_was_killed_is_written_anew(recorded, tmp_path):
    with begin(tmp_path / "r") as run:
        steps(run, 0, 4)
        mirror(tmp_path / "r", once=True)
        steps(run, 4, 6)
    state = tmp_path / "r" / "mirrors" / "trackio.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"open": True}))
    mirror(tmp_path / "r")
    (key,) = recorded.held
    assert key.endswith("-2")
    assert losses(recorded) == [(step, float(step)) for step in range(6)]


def test_what_cannot_be_written_is_said_once_and_tried_again(recorded, tmp_path, monkeypatch):
    run = begin(tmp_path / "r")
    steps(run, 0, 3)
    recorded.breaks = 2
    alive = iter([True] * 12)
    monkeypatch.setattr("trueup.commands.mirrors.follow.is_held", lambda folder: next(alive, False))
    said = mirror(tmp_path / "r")
    run.__exit__(None, None, None)
    assert [line for line in said if "warning" in line] == [
        "warning: the mirror for trackio cannot be written; it is tried again: ConnectionError: no network"
    ]
    assert losses(recorded) == [(step, float(step)) for step in range(3)]


def test_what_cannot_be_written_at_the_end_is_an_error_and_caught_up_with(recorded, tmp_path):
    with begin(tmp_path / "r") as run:
        steps(run, 0, 3)
    recorded.breaks = 1
    with pytest.raises(RunError, match="not complete: ConnectionError: no network"):
        mirror(tmp_path / "r")
    mirror(tmp_path / "r")
    assert losses(recorded) == [(step, float(step)) for step in range(3)]


# TensorBoard, read back by itself -----------------------------------------------------------------------------------


def read_back(folder):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder / "mirrors" / "tensorboard"))
    events.Reload()
    return events


def test_tensorboard_reads_what_was_written_and_drops_what_was_taken_back(tmp_path):
    pytest.importorskip("tensorboard", reason="pip install 'trueup[tensorboard]'")
    run = begin(tmp_path / "r")
    steps(run, 0, 4)
    positions = run.sync()
    steps(run, 4, 7)
    killed(run, checkpoint=4)
    mirror(tmp_path / "r", "tensorboard")
    with rewound(tmp_path / "r", 4, positions) as run:
        steps(run, 4, 6, offset=0.5)
        run.note(parameters=7)
    mirror(tmp_path / "r", "tensorboard")
    events = read_back(tmp_path / "r")
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4.5), (5, 5.5)]
    assert {"kl", "reward/len/weighted", "timing/seconds", "timing/tokens_per_second"} <= set(events.Tags()["scalars"])
    first, second = events.Scalars("kl")[:2]
    assert second.wall_time - first.wall_time == pytest.approx(2.0, abs=0.01)
    assert "Sequence KL" in events.SummaryMetadata("kl").summary_description
    assert b"a\\|b.jsonl" in events.Tensors("settings")[0].tensor_proto.string_val[0]
    assert b'"parameters": 7' in events.Tensors("end")[-1].tensor_proto.string_val[0]
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert HParamsPluginData.FromString(content).session_start_info.hparams["optim.learning_rate"].number_value == 0.5


def test_python_mirrors_a_run_and_says_what_it_cannot_use(tmp_path, capsys):
    pytest.importorskip("tensorboard", reason="pip install 'trueup[tensorboard]'")
    plain(tmp_path / "r")
    run = trueup.Run(tmp_path / "r")
    folder = trueup.mirror(run, to="tensorboard")
    assert folder == tmp_path / "r" / "mirrors" / "tensorboard"
    assert [event.value for event in read_back(tmp_path / "r").Scalars("loss")] == [1, 2]
    assert "tensorboard --logdir" in capsys.readouterr().out
    assert trueup.mirror(str(tmp_path / "r"), "tensorboard", quiet=True) == folder
    assert capsys.readouterr().out == ""
    for wrong, problem in (
        ({"to": "tensorbord"}, "did you mean 'tensorboard'"),
        ({"to": "tensorboard", "remote": "host"}, "remote: TensorBoard reads files"),
        ({"to": "mlflow", "remote": "https://me:pw@host"}, "remote: the address holds a password"),
    ):
        with pytest.raises(UsageError, match=problem):
            trueup.mirror(run, **wrong)
    with pytest.raises(UsageError):
        trueup.mirror(tmp_path / "nowhere", to="tensorboard")


# The other tools, by the calls that they get ------------------------------------------------------------------------


class Calls(list):
    """Takes every call, and says which."""

    def __getattr__(self, name):
        def call(*values, **named):
            self.append((name, values, named))
            return self

        return call


def plain(folder):
    """A mirror that was written to the end, of a run of two steps."""
    with begin(folder) as run:
        run.log(0, {"loss": 1.0})
        run.log(1, {"loss": 2.0})


def test_weights_and_biases_stays_offline_unless_it_is_told_where(tmp_path, monkeypatch):
    plain(tmp_path / "r")
    calls = Calls()
    calls.summary = {}
    fake = types.SimpleNamespace(init=lambda **named: calls.init(**named), Settings=lambda **named: named)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    mirror(tmp_path / "r", "wandb")
    (_, _, init), *rest = calls
    assert (init["mode"], init["entity"]) == ("offline", None)
    assert init["dir"] == str(tmp_path / "r" / "mirrors" / "wandb")
    assert next((values[0]["loss"], named) for name, values, named in rest if name == "log") == (1.0, {"step": 0})
    assert calls.summary["status"] == "done"
    assert rest[-1] == ("finish", (), {"exit_code": 0})
    del calls[:]
    mirror(tmp_path / "r", "wandb", remote="team")
    assert (calls[0][2]["mode"], calls[0][2]["entity"]) == ("online", "team")


def test_trackio_goes_nowhere_by_the_environment_alone(tmp_path, monkeypatch):
    plain(tmp_path / "r")
    calls = Calls()
    monkeypatch.setitem(sys.modules, "trackio", types.SimpleNamespace(init=calls.init, finish=calls.finish))
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/space")
    monkeypatch.setenv("TRACKIO_DIR", "elsewhere")
    mirror(tmp_path / "r", "trackio")
    assert "TRACKIO_SPACE_ID" not in os.environ
    assert os.environ["TRACKIO_DIR"] == str(tmp_path / "r" / "mirrors" / "trackio")
    assert "space_id" not in calls[0][2]
    assert [name for name, _, _ in calls] == ["init", "log", "log", "finish"]
    del calls[:]
    mirror(tmp_path / "r", "trackio", remote="somebody/space")
    assert (calls[0][2]["space_id"], calls[0][2]["private"]) == ("somebody/space", True)


def test_mlflow_gets_steps_in_batches_and_the_end(tmp_path, monkeypatch):
    plain(tmp_path / "r")
    calls, addresses = Calls(), []

    class Client:
        def __init__(self, tracking_uri):
            addresses.append(tracking_uri)

        def __getattr__(self, name):
            return getattr(calls, name)

        def get_experiment_by_name(self, name):
            return None

        def create_run(self, experiment, **named):
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="7"))

    entities = types.SimpleNamespace(Metric=lambda *values: values, Param=lambda *values: values)
    monkeypatch.setitem(sys.modules, "mlflow", types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", types.SimpleNamespace(MlflowClient=Client))
    mirror(tmp_path / "r", "mlflow")
    metrics = [m for name, _, named in calls if name == "log_batch" for m in named.get("metrics", ())]
    assert [(name, step) for name, _, _, step in metrics] == [("loss", 0), ("loss", 1)]
    assert ("set_terminated", ("7", "FINISHED"), {}) in calls
    assert set(addresses) == {f"sqlite:///{tmp_path}/r/mirrors/mlflow/mlflow.db"}


def test_tools_that_cannot_take_steps_back_say_so():
    assert [tool for tool in (MlFlow, Trackio, WeightsAndBiases) if tool.overwrites] == []
    assert not WeightsAndBiases.goes_on


# Settings, and the process that trains ------------------------------------------------------------------------------


def test_a_missing_package_is_said_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(started, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as error:
        started.Mirrors(tmp_path, Log(mlflow=True).targets(), "trueup")
    assert "log.mlflow: mlflow is not installed" in str(error.value)
    assert "pip install 'trueup[mlflow]'" in str(error.value)


def test_a_folder_named_like_a_package_is_none(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    spec = types.SimpleNamespace(origin=None)
    monkeypatch.setattr(started, "find_spec", lambda name: spec)
    with pytest.raises(UsageError, match="wandb is not installed"):
        started.require("wandb", "--to")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"wandb_remote": "team"}, "set log.wandb=true"),
        ({"mlflow": True, "mlflow_remote": "https://me:pw@host"}, "holds a password or key"),
        ({"trackio": True, "trackio_remote": "https://host/?write_token=abc"}, "holds a password or key"),
    ],
)
def test_places_elsewhere_are_asked_for_in_full_and_hold_no_key(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        build(Log, settings)


def test_nothing_is_mirrored_by_default():
    assert Log().targets() == {}


def test_training_goes_on_without_a_mirror_that_fails_and_says_so(tmp_path, monkeypatch, capfd):
    """The mirror's process ends with an error, hangs past the end, or cannot be started."""
    monkeypatch.setattr(started, "require", lambda target, where: None)
    monkeypatch.setattr(started, "AFTER_DONE", 3.0)
    start = subprocess.Popen
    programs = {
        "trackio": "print('warning: no network', flush=True); raise SystemExit(1)",
        "mlflow": "import time; time.sleep(60)",
    }

    def popen(words, **named):
        if words[6] not in programs:
            raise OSError(12, "no memory")
        return start([sys.executable, "-c", programs[words[6]]], **named)

    monkeypatch.setattr(started.subprocess, "Popen", popen)
    folder = tmp_path / "r"
    with started.Mirrors(folder, dict.fromkeys(("trackio", "mlflow", "wandb")), "trueup", quiet=True) as mirrors:
        with begin(folder) as run:
            mirrors.start()
            steps(run, 0, 2)
        assert json.loads((folder / "run.json").read_text())["status"] == "done"
    said = capfd.readouterr().err
    mirrors._running["mlflow"][0].kill()
    mirrors._running["mlflow"][0].wait()
    assert "warning: no network" in said
    assert "the mirror for trackio is not complete (exit code 1)" in said
    assert "the mirror for MLflow is still being written" in said
    assert "the mirror for Weights & Biases cannot be started" in said
    assert f"trueup mirror {folder} --to wandb" in said
