"""Two processes (gloo, CPU) do what one does: same metrics and weights, resumable by either, whatever dies."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes.test_recipes import config_of, digest
from trueup.config import Model, Sampling
from trueup.engine.generate import generate
from trueup.engine.placement import place
from trueup.engine.processes import _cut, _even, rank
from trueup.engine.score import sequence_logps
from trueup.ledger import metric_rows, read_lines, read_run
from trueup.models.policy import open_policy
from trueup.recipes.registry import execute

ROOT = Path(__file__).parents[2]
WORKER = """
import json, os, sys
import torch
torch.set_num_threads(1)
from trueup.engine.processes import joined, rank
from trueup.ledger import Run
from trueup.recipes.registry import execute
from trueup.recipes.table import RECIPES
jobs, dies = json.loads(open(sys.argv[1]).read())
if dies and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    log = Run.log
    def dying(self, step, *groups, **more):
        log(self, step, *groups, **more)
        if step == dies:
            os._exit(9)
    Run.log = dying
for kind, config, out in jobs:
    if kind == "generate":
        from tests.recipes.test_processes import draw
        with joined():
            draw(config, out)
        continue
    execute(kind, RECIPES[kind].settings().model_validate(config), out, quiet=True)
"""


def launch(folder, jobs, *, dies=None, restarts=0):
    """Run ``jobs`` in order in two processes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "worker.py").write_text(WORKER)
    listed = [(kind, c if isinstance(c, str) else c.model_dump(mode="json"), str(out)) for kind, c, out in jobs]
    (folder / "jobs.json").write_text(json.dumps([listed, dies]))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    ran = subprocess.run(
        [sys.executable, *launcher, "--monitor-interval=0.2", str(folder / "worker.py"), str(folder / "jobs.json")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr[-6000:]


SHARDED = {"model__engine": "fsdp2"}
# Twelve examples in batches of five end each epoch with a batch of two; KTO's and PPO's are even.
JOBS = {
    "sft ddp": ("sft", {"batch__size": 5}),
    "sft fsdp2": ("sft", {"batch__size": 5} | SHARDED),
    "reward fsdp2": ("reward", {"batch__size": 5} | SHARDED),
    "dpo ddp": ("dpo", {"batch__size": 11}),  # a last batch of one pair: fewer than there are processes
    "dpo fsdp2": ("dpo", {"batch__size": 11} | SHARDED),
    "dpo lora fsdp2": ("dpo", {"model__lora": {"rank": 4}} | SHARDED),
    "kto ddp": ("kto", {}),
    "bco ddp": ("kto", {"objective__kind": "bco", "batch__size": 11}),  # the same
    "ppo ddp": ("ppo", {}),
    "ppo fsdp2": ("ppo", SHARDED),
    "ppo python": ("ppo", {}),
    "ppo parts": ("ppo", {}),
}


def parts(material):
    """A reward of several parts that remember, normalise and drop."""
    return [
        {"source": material["judge"], "normalise": "running"},
        {"source": "tests.rewards.scorers:nan_for_odd", "on_error": "drop", "weight": 0.5},
        {"source": "tests.rewards.scorers:by_process", "normalise": "batch"},
        {"kind": "ensemble", "members": [material["judge"], "tests.rewards.scorers:brevity"], "combine": "min"},
        {"kind": "diversity", "memory": 5},
    ]


@pytest.fixture(scope="module")
def done(material, tmp_path_factory):
    """Every job by two processes, all in one launch, and how it was configured."""
    folder = tmp_path_factory.mktemp("two")
    configs = {name: config_of(kind, material, **changes) for name, (kind, changes) in JOBS.items()}
    # Its scores would differ between the processes; only the first one may call it.
    python = {"reward": "tests.rewards.scorers:by_process"}
    configs["ppo python"] = configs["ppo python"].model_copy(update=python)
    configs["ppo parts"] = config_of("ppo", material | {"judge": parts(material)}, batch__size=12)
    jobs = [(JOBS[name][0], config, folder / name) for name, config in configs.items()]
    launch(folder, [*jobs, ("generate", material["policy"], folder / "drawn")])
    return folder, configs


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.slow
def test_two_processes_give_what_one_gives(name, done, tmp_path):
    folder, configs = done
    agree(JOBS[name][0], configs[name], folder / name, tmp_path)


def agree(kind, config, together, tmp_path):
    """One process writes the metrics and weights that two have written."""
    execute(kind, config, tmp_path / "one", quiet=True)
    ours, others = metric_rows(tmp_path / "one"), metric_rows(together)
    for mine, theirs in zip(ours, others, strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            if isinstance(value, float):
                assert math.isclose(value, theirs[key], rel_tol=2e-3, abs_tol=2e-4), (
                    mine["step"],
                    key,
                    value,
                    theirs[key],
                )
            else:
                assert value == theirs[key]
    weights, shared = (load_file(where / "final" / "model.safetensors") for where in (tmp_path / "one", together))
    assert weights.keys() == shared.keys()
    for key, value in weights.items():
        torch.testing.assert_close(shared[key], value, rtol=1e-2, atol=2e-3)


def test_first_steps_agree_to_rounding(done, tmp_path):
    folder, configs = done
    for name in ("dpo fsdp2", "reward fsdp2", "sft ddp"):
        execute(JOBS[name][0], configs[name], tmp_path / name, quiet=True)
        mine, theirs = metric_rows(tmp_path / name)[0], metric_rows(folder / name)[0]
        assert math.isclose(mine["loss"], theirs["loss"], rel_tol=1e-6)
        assert math.isclose(mine["grad_norm"], theirs["grad_norm"], rel_tol=1e-5)
        ours, others = (read_lines(place / name / "samples.jsonl")[0] for place in (tmp_path, folder))
        assert [(row["step"], row["prompt"]) for row in ours] == [(row["step"], row["prompt"]) for row in others]
        for own, other in zip(ours, others, strict=True):
            if own["step"] == 0:
                assert own["completion"] == other["completion"]
                assert own.get("reward") == pytest.approx(other.get("reward"), abs=1e-3)


def draw(folder, out):
    """Sample seven completions that end at very different lengths, and write them from the first process."""
    policy = open_policy(Model(name=folder))
    place(policy, "fsdp2")
    prompts = [tuple(range(5, 8 + row)) for row in range(7)]
    found = generate(policy, prompts, Sampling(max_new_tokens=40), stop_ids=range(0, 330, 12), seed=1)
    with torch.no_grad():
        again = sequence_logps(policy, [(p, c.ids) for p, c in zip(prompts, found, strict=True)])
    if rank() == 0:
        gap = max(float((c.logps - logps).abs().max()) for c, logps in zip(found, again, strict=True))
        Path(out).write_text(json.dumps([[c.ids for c in found], gap]))


def test_completions_of_unequal_length_are_the_same_tokens(done, material, tmp_path):
    folder, _ = done
    draw(material["policy"], tmp_path / "alone")
    alone, _ = json.loads((tmp_path / "alone").read_text())
    together, gap = json.loads((folder / "drawn").read_text())
    assert together == alone
    assert max(map(len, alone)) > 2 * min(map(len, alone))
    assert gap < 1e-4


@pytest.mark.parametrize("name", ["dpo fsdp2", "ppo fsdp2"])
def test_one_process_goes_on_from_the_checkpoint_of_two(name, done, tmp_path):
    folder, configs = done
    out = tmp_path / "moved"
    shutil.copytree(folder / name, out)
    steps = sorted(p.name for p in (out / "checkpoints").glob("step-*"))
    (out / "checkpoints" / "latest").write_text(steps[0])
    execute(JOBS[name][0], configs[name], out, quiet=True)
    straight, resumed = metric_rows(folder / name), metric_rows(out)
    begun = int(steps[0].removeprefix("step-"))
    assert begun < len(straight)
    assert resumed[:begun] == straight[:begun]
    assert resumed[-1]["loss"] == pytest.approx(straight[-1]["loss"], rel=1e-2, abs=1e-3)


@pytest.mark.slow
def test_a_killed_process_is_restarted_and_the_run_ends_with_the_same_bytes(done, material, tmp_path):
    folder, configs = done
    jobs = [("dpo", configs["dpo fsdp2"], tmp_path / "dpo")]
    launch(tmp_path, jobs, dies=3, restarts=1)
    assert digest(tmp_path / "dpo") == digest(folder / "dpo fsdp2")
    events = [json.loads(line)["event"] for line in (tmp_path / "dpo" / "events.jsonl").read_text().splitlines()]
    assert "resume" in events
    assert read_run(tmp_path / "dpo")["status"] == "done"


@pytest.mark.parametrize("parts", [2, 4, 6])
def test_even_groups_hold_every_item_once_and_none_is_empty(parts):
    ordered = sorted([9, 1, 4, 4, 7, 30, 2, 8], reverse=True)
    groups = _even(ordered, lambda n: n, parts)
    assert len(groups) == parts
    assert [n for group in groups for n in group] == ordered
    assert all(groups)


def test_groups_fit_the_budget_where_they_can():
    lengths = [10] * 8
    assert len(_cut(lengths, lambda n: n, 40, 2)) == 2
    assert len(_cut(lengths, lambda n: n, 20, 2)) == 4
    assert len(_cut(lengths[:3], lambda n: n, 10, 2)) == 2  # three items cannot make a multiple of two groups
