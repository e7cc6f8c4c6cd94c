"""Every recipe on a tiny model: it learns, its golden run repeats, and a killed run resumes to the same bytes."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trueup.errors import ConfigError, DataError, ModelError, NonFiniteError, RunError, UsageError
from trueup.ledger import metric_rows, read_run
from trueup.recipes.registry import execute, resolve
from trueup.recipes.table import RECIPES

ROLLOUTS = {"steps": 5, "sampling__max_new_tokens": 8, "probes": 2}
ONLINE = [kind for kind, recipe in RECIPES.items() if "reward" in recipe.inputs]
"""Methods that sample; ``test_online.py`` repeats and resumes each."""
WITH_FILES = [kind for kind in RECIPES if kind not in ONLINE]


def sets(**values):
    return [f"{k.replace('__', '.')}={json.dumps(v)}" for k, v in values.items()]


def config_of(kind, material, **changes):
    common = {"model__kernels": os.environ.get("TRUEUP_TEST_KERNELS", "auto")}
    common |= {"batch__size": 4, "batch__max_length": 64, "save_every": 2, "seed": 5, "optim__learning_rate": 1e-2}
    flags = {
        "sft": {"data": material["demonstrations"], "validation": material["demonstrations"], "model.name": "tiny"},
        "reward": {"data": material["pairs"], "validation": material["pairs"], "model.name": material["policy"]},
        "dpo": {"data": material["pairs"], "validation": material["pairs"], "model.name": material["policy"]},
        "kto": {"data": material["labelled"], "validation": material["labelled"], "model.name": material["policy"]},
    }
    online = {"data": material["prompts"], "reward": material["judge"], "model.name": material["policy"]}
    flags = flags.get(kind, online)
    special = {
        "sft": {"epochs": 4, "model__tiny__hidden": 32, "model__tiny__layers": 2, "model__tiny__heads": 2}
        | {"model__tiny__vocabulary": 330, "model__tiny__context": 96},
        "reward": {"epochs": 4},
        "dpo": {"epochs": 4},
        "kto": {"epochs": 4},
        "ppo": ROLLOUTS | {"epochs": 2, "mini_batches": 2},
        "rloo": ROLLOUTS | {"answers": 2},
        "grpo": ROLLOUTS | {"answers": 2, "epochs": 2, "resample": 1, "overlong_share": 0.5},
        "reinforce-pp": ROLLOUTS | {"answers": 2, "mini_batches": 2},
        "cispo": ROLLOUTS | {"answers": 2, "mini_batches": 2},
        "gspo": ROLLOUTS | {"answers": 2, "mini_batches": 2},
        "online-dpo": ROLLOUTS | {"answers": 2},
        "best-of-n": ROLLOUTS | {"answers": 2},
    }[kind]
    return resolve(kind, None, flags, sets(**(common | special | changes)))


def digest(folder):
    """Bytes of the metrics, samples, evaluations and of the final weights."""
    found = {}
    names = ("metrics.jsonl", "samples.jsonl", "rollouts.jsonl", "eval.jsonl", "pairs.jsonl")
    for name in (*names, "final/model.safetensors"):
        file = Path(folder) / name
        if file.exists():
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


@pytest.mark.parametrize("kind", [*WITH_FILES, "ppo"])
def test_golden_run_two_runs_give_the_same_bytes(kind, material, tmp_path):
    config = config_of(kind, material)
    one = digest(execute(kind, config, tmp_path / "one", quiet=True))
    two = digest(execute(kind, config, tmp_path / "two", quiet=True))
    assert one == two
    assert "metrics.jsonl" in one
    assert "final/model.safetensors" in one


KILLER = """
import os, signal, sys
sys.path.insert(0, {root!r})
import torch; torch.set_num_threads(1)
from trueup.engine import checkpoint
from trueup.ledger import Run
from trueup.recipes.registry import execute
from trueup.recipes.table import RECIPES
import json
config = RECIPES[{kind!r}].settings().model_validate(json.loads({config!r}))
log = Run.log
def dying(self, step, *groups, **more):
    log(self, step, *groups, **more)
    if step == {step}:
        os.kill(os.getpid(), {signal})
Run.log = dying
if {torn}:
    save = checkpoint.save_file
    def torn(tensors, path):
        save(tensors, path)
        with open(path, "r+b") as handle: handle.truncate(100)
        os.kill(os.getpid(), 9)
    checkpoint.save_file = torn
execute({kind!r}, config, {out!r}, quiet=True)
"""


def run_and_kill(kind, config, out, *, step, number=signal.SIGKILL, torn=False):
    code = KILLER.format(
        root=str(Path(__file__).parents[2]),
        kind=kind,
        config=json.dumps(config.model_dump(mode="json")),
        out=str(out),
        step=step,
        signal=int(number),
        torn=torn,
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", [*WITH_FILES, "ppo", "rloo"])
@pytest.mark.parametrize("step", [0, 3])
def test_a_killed_run_resumes_to_the_same_bytes(kind, step, material, tmp_path):
    config = config_of(kind, material)
    straight = digest(execute(kind, config, tmp_path / "straight", quiet=True))
    died = run_and_kill(kind, config, tmp_path / "killed", step=step)
    assert died.returncode == -signal.SIGKILL, died.stderr
    resumed = digest(execute(kind, config, tmp_path / "killed", quiet=True))
    assert resumed == straight


def test_killed_inside_a_checkpoint_write_resumes_to_the_same_bytes(material, tmp_path):
    config = config_of("dpo", material)
    straight = digest(execute("dpo", config, tmp_path / "straight", quiet=True))
    died = run_and_kill("dpo", config, tmp_path / "killed", step=99, torn=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert digest(execute("dpo", config, tmp_path / "killed", quiet=True)) == straight


def test_sigterm_saves_and_says_how_to_go_on(material, tmp_path):
    config = config_of("ppo", material)
    straight = digest(execute("ppo", config, tmp_path / "straight", quiet=True))
    stopped = run_and_kill("ppo", config, tmp_path / "stopped", step=2, number=signal.SIGTERM)
    assert "interrupted after step 2 (3 of 5 are done)" in stopped.stderr
    assert read_run(tmp_path / "stopped")["status"] == "interrupted"
    assert digest(execute("ppo", config, tmp_path / "stopped", quiet=True)) == straight


def test_sft_learns_and_evaluates(material, tmp_path):
    out = execute("sft", config_of("sft", material, epochs=30), tmp_path / "r", quiet=True)
    rows = metric_rows(out)
    assert rows[-1]["heldout_nll"] < 0.5 * rows[0]["nll"]


def test_sft_overfits_four_samples(material, tmp_path):
    """Property 36."""
    four = tmp_path / "four.jsonl"
    four.write_text("".join(Path(material["demonstrations"]).read_text().splitlines(keepends=True)[:4]))
    config = config_of("sft", material | {"demonstrations": str(four)}, epochs=150)
    assert metric_rows(execute("sft", config, tmp_path / "r", quiet=True))[-1]["heldout_nll"] < 0.01


def test_reward_model_learns_and_is_centred(material, tmp_path):
    out = execute("reward", config_of("reward", material, epochs=8), tmp_path / "r", quiet=True)
    last = metric_rows(out)[-1]
    assert last["heldout_accuracy"] == 1.0
    from trueup.config import Batch, Model
    from trueup.data.read import read_pairs
    from trueup.data.render import Renderer
    from trueup.engine.score import rewards
    from trueup.models.heads import open_reward_model

    model = open_reward_model(Model(name=str(out / "final")), new_head=False)
    renderer = Renderer.of(model.tokenizer, Batch(max_length=64))
    pairs, _ = renderer.render_pairs(read_pairs(material["pairs"]).items)
    sides = [(p.prompt_ids, p.chosen_ids) for p in pairs] + [(p.prompt_ids, p.rejected_ids) for p in pairs]
    scaled = rewards(model, sides)
    assert abs(float(scaled.mean())) < 1e-3  # property 47
    assert abs(float(scaled.std()) - 1) < 1e-3


def test_dpo_starts_at_ln_2_and_learns(material, tmp_path):
    rows = metric_rows(execute("dpo", config_of("dpo", material), tmp_path / "r", quiet=True))
    first = rows[0]
    assert abs(first["loss"] - 0.693147) < 1e-4  # property 49
    assert (first["accuracy"], first["strict_accuracy"]) == (0.5, 0.0) or abs(first["margin"]) < 1e-5
    assert rows[-1]["heldout_accuracy"] == 1.0
    assert rows[-1]["margin"] > 0.5


@pytest.mark.parametrize(
    "objective",
    [
        {"kind": "dpo", "label_smoothing": 0.1},
        {"kind": "robust-dpo", "flip_rate": 0.1},
        {"kind": "ipo"},
        {"kind": "hinge"},
        {"kind": "simpo"},
        {"kind": "orpo"},
        {"kind": "length-normalised-dpo"},
        {"kind": "dpo-nll"},
        {"kind": "cpo"},
        {"kind": "apo-zero"},
        {"kind": "apo-down"},
    ],
)
def test_the_whole_family_learns(objective, material, tmp_path):
    changes = {f"objective__{k}": v for k, v in objective.items()}
    rows = metric_rows(execute("dpo", config_of("dpo", material, **changes), tmp_path / "r", quiet=True))
    assert rows[-1]["heldout_loss"] < rows[0]["loss"]
    assert rows[-1]["heldout_accuracy"] > 0.9


def test_a_knob_of_another_objective_is_refused(material):
    with pytest.raises(ConfigError, match="label_smoothing"):
        config_of("dpo", material, objective__kind="ipo", objective__label_smoothing=0.1)


def test_the_first_ratio_is_one_and_a_learning_rate_near_zero_keeps_it(material, tmp_path):
    """Property 67."""
    rows = metric_rows(execute("ppo", config_of("ppo", material), tmp_path / "r", quiet=True))
    assert all(row["first_ratio_error"] < 1e-5 for row in rows)
    assert abs(rows[0]["kl"]) < 1e-5
    still = config_of("ppo", material, optim__learning_rate=1e-30)
    for row in metric_rows(execute("ppo", still, tmp_path / "still", quiet=True)):
        assert abs(row["ratio_max"] - 1) < 1e-5
        assert row["clip_fraction"] == 0
        assert abs(row["approx_kl"]) < 1e-6


def test_ppo_raises_the_score_it_is_given(material, tmp_path):
    config = config_of(
        "ppo",
        material,
        steps=50,
        kl__kind="fixed",
        kl__beta=0.0,
        batch__size=12,
        optim__learning_rate=2e-3,
        missing_eos_penalty=0.0,
    )
    rows = metric_rows(execute("ppo", config, tmp_path / "r", quiet=True))
    before = sum(r["score"] for r in rows[:10]) / 10
    after = sum(r["score"] for r in rows[-10:]) / 10
    assert after > before + 0.15  # the mean of ten steps strays by .06
    assert rows[-1]["kl"] > 0.1


@pytest.mark.parametrize("setting", ["top_p=0.9", "top_k=5", "repetition_penalty=1.2", "temperature=0"])
def test_sampling_filters_that_modify_rollouts_are_refused(setting, material):
    name, value = setting.split("=")
    with pytest.raises(ConfigError, match=name):
        config_of("ppo", material, **{f"sampling__{name}": float(value)})


def test_kl_cap_stops_the_run(material, tmp_path):
    config = config_of("ppo", material, steps=20, kl__kind="fixed", kl__beta=0.0, kl_stop=0.01, batch__size=12)
    out = execute("ppo", config, tmp_path / "r", quiet=True)
    assert len(metric_rows(out)) < 20
    assert '"kl_stop"' in (out / "events.jsonl").read_text()


def test_adaptive_beta_survives_a_resume(material, tmp_path):
    config = config_of("ppo", material, kl__target=0.001, kl__horizon=10)
    out = execute("ppo", config, tmp_path / "r", quiet=True)
    betas = [row["beta"] for row in metric_rows(out)]
    assert len(set(betas)) > 2
    state = json.loads((out / "checkpoints" / (out / "checkpoints/latest").read_text() / "state.json").read_text())
    assert state["extra"]["beta"] != betas[0]


def test_resume_with_a_changed_reference_is_refused(material, tmp_path):
    import shutil

    copy = tmp_path / "reference"
    shutil.copytree(material["policy"], copy)
    config = config_of("dpo", material).model_copy(update={"reference": str(copy)})
    assert run_and_kill("dpo", config, tmp_path / "r", step=3).returncode == -signal.SIGKILL
    weights = load_file(copy / "model.safetensors")
    name = sorted(weights)[0]
    weights[name] += 1
    from safetensors.torch import save_file

    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises((UsageError, ModelError, RunError), match="reference"):
        execute("dpo", config, tmp_path / "r", quiet=True)


def test_a_poisoned_reward_stops_ppo_and_names_the_prompt(material, tmp_path, monkeypatch):
    from trueup.rewards import model

    def poisoned(*_, **__):
        return torch.tensor([1.0, float("nan"), 0.0, 0.0])

    monkeypatch.setattr(model, "rewards", poisoned)
    with pytest.raises(NonFiniteError, match="What does the"):
        execute("ppo", config_of("ppo", material), tmp_path / "r", quiet=True)
    assert read_run(tmp_path / "r")["status"] == "failed"


def test_lora_and_bfloat16_and_gradient_checkpointing_run(material, tmp_path):
    config = config_of(
        "dpo", material, model__lora={"rank": 4}, model__dtype="bfloat16", model__gradient_checkpointing=True
    )
    out = execute("dpo", config, tmp_path / "r", quiet=True)
    rows = metric_rows(out)
    assert rows[-1]["margin"] > 0
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(out / "final")


def test_micro_batches_do_not_change_the_run_beyond_rounding(material, tmp_path):
    whole = metric_rows(execute("dpo", config_of("dpo", material), tmp_path / "a", quiet=True))
    cut = metric_rows(execute("dpo", config_of("dpo", material, batch__micro_tokens=1), tmp_path / "b", quiet=True))
    for one, two in zip(whole, cut, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-3, abs=1e-4)


def test_two_sources_of_one_setting(material):
    with pytest.raises(ConfigError, match="given twice"):
        resolve("dpo", None, {"data": material["pairs"]}, [f"data={material['pairs']}"])


def test_presets_are_known_and_apply():
    config = resolve("ppo", None, {"data": "x", "reward": "y"}, ["preset=activity-16"])
    assert (config.optim.learning_rate, config.kl.beta, config.batch.size) == (1e-6, 0.05, 32)
    with pytest.raises(ConfigError, match="activity-16"):
        resolve("ppo", None, {"data": "x", "reward": "y"}, ["preset=activity-61"])


def test_timing_is_kept_apart_from_metrics(material, tmp_path):
    out = execute("dpo", config_of("dpo", material), tmp_path / "r", quiet=True)
    assert "seconds" in (out / "timing.jsonl").read_text()
    assert "seconds" not in (out / "metrics.jsonl").read_text()


def test_columns_and_bad_rows_are_settings_of_every_method(material, tmp_path):
    lines = [json.loads(line) for line in Path(material["pairs"]).read_text(encoding="utf-8").splitlines()]
    odd = tmp_path / "odd.jsonl"
    renamed = [{"prompt": r["prompt"], "best": r["chosen"], "rejected": r["rejected"]} for r in lines]
    renamed.append({"prompt": renamed[0]["prompt"], "best": "same", "rejected": "same"})
    odd.write_text("".join(json.dumps(r) + "\n" for r in renamed))
    config = config_of("dpo", material, read__columns={"chosen": "best"}, epochs=1)
    config = config.model_copy(update={"data": str(odd), "validation": None})
    with pytest.raises(DataError, match=r"odd\.jsonl:13"):
        execute("dpo", config, tmp_path / "strict", quiet=True)
    lenient = config.model_copy(update={"read": config.read.model_copy(update={"skip_bad_rows": True})})
    out = execute("dpo", lenient, tmp_path / "lenient", quiet=True)
    read = read_run(out)["facts"]["read"]
    assert (read["rows"], read["items"]) == (13, 12)


def test_a_model_that_cannot_be_written_leaves_no_half_one(material, tmp_path, monkeypatch):
    """The disk fills up while ``final/`` is written; once there is room, the same command writes it."""
    config = config_of("dpo", material, epochs=1)

    def full(self, path, rendering=None):
        (path / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("trueup.models.policy.Policy.export", full)
        with pytest.raises(RunError, match="the model cannot be written: the disk is full"):
            execute("dpo", config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "final").exists()
    assert [p.name for p in (tmp_path / "run").iterdir() if p.name.endswith(".tmp")] == []
    execute("dpo", config, tmp_path / "run", quiet=True)
    whole = execute("dpo", config, tmp_path / "other", quiet=True)
    assert digest(tmp_path / "run") == digest(whole)
