"""Sweeps: what is planned and shared, what runs after what, what a failure stops, what is written in the end."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.conftest import TEXTS
from trueup.commands import sweep_jobs
from trueup.commands.app import app
from trueup.commands.pipeline import read_recipe
from trueup.commands.sweep_jobs import BLOCKED, DONE, FAILED, SKIPPED, Ending, run_jobs
from trueup.commands.sweep_plan import choices, plan_sweep, read_sweep
from trueup.commands.sweep_run import results_of_sweep, run_sweep
from trueup.config.text import parse_yaml
from trueup.data.write import write_jsonl
from trueup.errors import ConfigError

STAGES = """
stages:
  - {name: sft, kind: sft, data: demos.jsonl, model: {name: tiny}}
  - {name: reward, kind: reward, data: pairs.jsonl, model: {name: "@sft"}}
  - {name: ppo, kind: ppo, data: prompts.jsonl, model: {name: "@sft"}, reward: "@reward", kl: {kind: fixed}}
"""


def planned(block, stages=STAGES, out=Path("out"), done=()):
    return plan_sweep(parse_yaml(f"{stages}{block}", "r.yaml"), out, dict(done), where="r.yaml")


def test_stages_that_do_not_differ_are_shared():
    plan = planned("grid: {ppo.kl.beta: [0.01, 0.05, 0.1, 0.2], ppo.seed: [0, 1, 2]}")
    assert len(plan.variants) == 12
    assert [job.stage.name for job in plan.jobs].count("ppo") == 12
    assert [job.stage.name for job in plan.jobs].count("sft") == 1
    assert {variant.jobs["ppo"].needs["reward"] for variant in plan.variants} == {
        plan.variants[0].jobs["reward"].folder
    }
    assert plan.baseline == "ppo.kl.beta=0.01"
    assert {variant.seed for variant in plan.variants} == {"ppo.seed=0", "ppo.seed=1", "ppo.seed=2"}


def test_a_setting_alone_holds_for_every_stage_that_has_it_and_what_follows_is_another_run():
    plan = planned("grid: {seed: [0, 1]}")
    assert [job.stage.name for job in plan.jobs] == ["sft", "reward", "ppo"] * 2
    assert [variant.name for variant in plan.variants] == ["as written"] * 2
    assert [variant.seed for variant in plan.variants] == ["0", "1"]
    only = planned("grid: {sft.seed: [0, 1]}")
    assert len({variant.jobs["ppo"].folder for variant in only.variants}) == 2
    assert len(planned("grid: {reward.epochs: [1, 2]}").jobs) == 5


def test_a_directory_goes_by_what_is_set_and_by_nothing_else(tmp_path):
    before = planned("grid: {ppo.kl.beta: [0.05, 0.1]}", out=tmp_path)
    for job in before.jobs:  # as after the runs, whose models are in final/
        (job.folder / "final").mkdir(parents=True)
    after = planned("grid: {ppo.kl.beta: [0.1, 0.05]}", out=tmp_path)
    assert {job.folder for job in before.jobs} == {job.folder for job in after.jobs}
    default = planned("grid: {ppo.kl.beta: [0.05], ppo.epochs: [4]}", out=tmp_path)  # 4 is the default
    assert default.variants[0].jobs["ppo"].folder == before.variants[0].jobs["ppo"].folder
    renamed = planned("grid: {ppo.kl.beta: [0.05]}", STAGES.replace("demos", "others"), tmp_path)
    assert not {job.folder for job in renamed.jobs} & {job.folder for job in before.jobs}


def test_a_block_of_another_kind_is_replaced_whole_and_a_part_keeps_the_rest():
    plan = planned("list: [{ppo.kl: {kind: adaptive, target: 3.0}}, {ppo.kl.beta: 0.3}]")
    kl = [variant.jobs["ppo"].stage.settings["kl"] for variant in plan.variants]
    assert kl == [{"kind": "adaptive", "target": 3.0}, {"kind": "fixed", "beta": 0.3}]


def test_listed_and_crossed_settings_go_together():
    block = parse_yaml("list: [{a: 1}, {a: 2, b: 3}]\ngrid: {c: [4, 5]}", "r.yaml")
    assert list(choices(block, "r")) == [{"a": 1, "c": 4}, {"a": 1, "c": 5}, {"a": 2, "b": 3, "c": 4},
                                         {"a": 2, "b": 3, "c": 5}]  # fmt: skip


def test_the_baseline_is_chosen_by_its_settings():
    plan = planned("grid: {ppo.kl.beta: [0.01, 0.05], seed: [0, 1]}\nbaseline: {ppo.kl.beta: 0.05}")
    assert plan.baseline == "ppo.kl.beta=0.05"


def test_stages_before_a_sweep_can_be_referred_to(tmp_path):
    stages = STAGES.replace("  - {name: sft, kind: sft, data: demos.jsonl, model: {name: tiny}}\n", "")
    (tmp_path / "sft" / "final").mkdir(parents=True)
    plan = planned("grid: {ppo.kl.beta: [0.01]}", stages, done={"sft": tmp_path / "sft"})
    assert plan.variants[0].jobs["ppo"].needs["sft"] == tmp_path / "sft"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("grid: {ppo.kl.beta: 0.1}", r"sweep\.grid\.ppo\.kl\.beta: found 0\.1"),
        ("grid: {ppo.kl.beta: []}", "expected: a list of values"),
        ("grid: [1]", r"sweep\.grid: found"),
        ("grid: {ppo.kl.betta: [0.1]}", r"(?s)stage ppo.*betta"),
        ("grid: {ppo.kl.beta: [-1]}", r"(?s)stage ppo.*kl\.beta"),
        ("grid: {pppo.seed: [1]}", "no stage is called 'pppo'"),
        ("grid: {sede: [1]}", r"(?s)no stage is called 'sede'.*seed"),
        ("gird: {seed: [1]}", "unknown key 'gird'"),
        ("list: []", r"sweep\.list"),
        ("list: [3]", r"sweep\.list"),
        ("quality: gold", "nothing varies"),
        ("grid: {seed: [0, 0]}", "comes twice"),
        ("grid: {seed: [0, 1]}\nlist: [{seed: 2}]", "stands in grid and in list"),
        ("grid: {seed: [0, 1]}\nbaseline: {seed: 7}", "0 variants have seed=7"),
        ("grid: {seed: [0, 1]}\nbaseline: first", r"sweep\.baseline"),
        ("grid: {seed: [0, 1]}\ngold: [x]", r"sweep\.gold"),
        (f"grid: {{seed: {list(range(40))}, ppo.steps: {list(range(1, 40))}}}", "1560 variants"),
        ("grid: {ppo.model.name: ['@sfx']}", "@sfx is not an earlier stage"),
    ],
)
def test_mistakes_are_named_before_anything_runs(block, message):
    with pytest.raises(ConfigError, match=message):
        planned(block)


def test_a_file_says_that_it_is_one_of_a_sweep(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(f"{STAGES}sweep: {{grid: {{seed: [0]}}}}\nout: {tmp_path / 'o'}\n")
    assert read_sweep(file).out == tmp_path / "o"
    with pytest.raises(ConfigError, match="trueup sweep"):
        read_recipe(file)
    file.write_text(STAGES)
    with pytest.raises(ConfigError, match="no sweep"):
        read_sweep(file)
    assert [stage.name for stage in read_recipe(file)[1]] == ["sft", "reward", "ppo"]


class Fakes:
    """Stages that take a moment and note which ran together."""

    def __init__(self, failing=()):
        self.failing, self.order, self.most, self.lock, self.now = failing, [], 0, threading.Lock(), 0

    def __call__(self, job, at_once, fresh, logs, children):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        with self.lock:
            self.now -= 1
            self.order.append(job.folder)
        return Ending(FAILED, 0.0, "it broke") if job.stage.name in self.failing else Ending(DONE, 0.0)


def ran(monkeypatch, tmp_path, fakes, at_once=1, unchanged=()):
    monkeypatch.setattr(sweep_jobs, "_run", fakes)
    monkeypatch.setattr(sweep_jobs, "_is_unchanged", lambda job: job.stage.name in unchanged)
    plan = planned("grid: {ppo.kl.beta: [0.01, 0.05], seed: [0, 1]}")
    lines = []
    return plan, run_jobs(plan.jobs, at_once=at_once, fresh=False, tell=lines.append, logs=tmp_path), lines


@pytest.mark.parametrize("at_once", [1, 3])
def test_every_stage_runs_once_and_after_what_it_needs(monkeypatch, tmp_path, at_once):
    fakes = Fakes()
    plan, endings, lines = ran(monkeypatch, tmp_path, fakes, at_once)
    assert sorted(fakes.order) == sorted(job.folder for job in plan.jobs)
    for job in plan.jobs:
        assert all(fakes.order.index(folder) < fakes.order.index(job.folder) for folder in job.needs.values())
    assert fakes.most == min(at_once, 3)
    assert {ending.status for ending in endings.values()} == {DONE}
    assert len(lines) == len(plan.jobs)


def test_a_failure_stops_what_needs_it_and_nothing_else(monkeypatch, tmp_path):
    fakes = Fakes(failing=("reward",))
    plan, endings, lines = ran(monkeypatch, tmp_path, fakes, at_once=2)
    by_name = {
        name: {endings[j.folder].status for j in plan.jobs if j.stage.name == name} for name in ("sft", "reward", "ppo")
    }
    assert by_name == {"sft": {DONE}, "reward": {FAILED}, "ppo": {BLOCKED}}
    assert sum("not run, because reward failed" in line for line in lines) == 4
    assert sum("FAILED" in line and "it broke" in line for line in lines) == 2


def test_what_is_done_is_not_started(monkeypatch, tmp_path):
    fakes = Fakes()
    plan, endings, _ = ran(monkeypatch, tmp_path, fakes, unchanged=("sft", "reward"))
    assert {job.stage.name for job in plan.jobs if job.folder in fakes.order} == {"ppo"}
    assert [endings[job.folder].status for job in plan.jobs].count(SKIPPED) == 4


@pytest.mark.slow
def test_a_real_sweep_with_a_variant_that_fails(tmp_path):
    demos = write_jsonl(tmp_path / "demos.jsonl", [{"prompt": "Say:", "completion": text} for text in TEXTS])
    tiny = {"hidden": 32, "layers": 1, "heads": 2, "vocabulary": 330, "context": 96}
    sft = {
        "name": "sft",
        "kind": "sft",
        "data": str(demos),
        "validation": str(demos),
        "model": {"name": "tiny", "tiny": tiny},
        "batch": {"size": 4, "max_length": 64},
        "epochs": 1,
    }
    recipe = tmp_path / "recipe.yaml"
    listed = [{"sft.optim.learning_rate": 0.01}, {"sft.data": "absent.jsonl"}]
    recipe.write_text(yaml.safe_dump({"out": str(tmp_path / "out"), "stages": [sft], "sweep": {"list": listed}}))
    first = CliRunner().invoke(app, ["sweep", str(recipe), "--jobs", "2"])
    assert first.exit_code == 1
    assert "absent.jsonl" in first.stdout
    assert "1 stage(s) failed" in first.stderr
    lines = [json.loads(line) for line in (tmp_path / "out" / "sweep.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["done", "failed"]
    assert lines[0]["peak_gb"] > 0.05
    assert lines[0]["seconds"] > 0
    assert lines[0]["metrics"]["heldout_nll"] > 0
    assert lines[0]["settings"] == {"sft.optim.learning_rate": 0.01}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["comparison"]["quality"] == "heldout_nll"
    assert summary["comparison"]["better"] == "down"
    assert any("has no results" in line for line in summary["verdict"])
    write_jsonl(tmp_path / "absent.jsonl", [{"prompt": "Say:", "completion": text} for text in TEXTS])
    text = recipe.read_text().replace("absent.jsonl", str(tmp_path / "absent.jsonl"))
    recipe.write_text(text)
    told = []
    done = run_sweep(read_sweep(recipe), tell=told.append)
    done.require_whole()
    assert told[1].endswith("unchanged, skipped")
    assert told[2].startswith("2/2")
    assert len(results_of_sweep(tmp_path / "out")) == 2
    assert done.comparison.contrasts[0].name.startswith("sft.data=")
