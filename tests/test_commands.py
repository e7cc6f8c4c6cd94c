"""The commands as a user meets them: help, the whole road in seconds, chains, clear errors and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from trueup.recipes.registry import RECIPES

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def trueup(*words, cwd=None, check=True):
    import os

    found = subprocess.run(
        [sys.executable, "-m", "trueup", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **ENVIRONMENT},
        check=False,
    )
    if check:
        assert found.returncode == 0, found.stderr
    return found


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "q"
    return out, trueup("quickstart", "--smoke", "--quiet", "--out", out)


def test_quickstart_walks_the_whole_road(quickstart):
    out, ran = quickstart
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["comparison"]["models"]) == {"base", "sft", "dpo", "ppo"}
    assert [r["status"] for r in summary["runs"].values()] == ["done"] * 5
    assert summary["reward_model"]["noise_ceiling"] == summary["facts"]["noise_ceiling"]
    assert {"length_baseline", "words_baseline", "peak_memory_gb"} <= set(summary["facts"])
    assert "report:" in ran.stdout
    html = (out / "report.html").read_text()
    assert f'href="{summary["feedback"]["card"]}"' in html
    assert (out / summary["feedback"]["card"]).is_file()
    for word in ("Quality", "Before and after", "learning_rate", "KL to the reference", "95 %"):
        assert word in html


def test_a_second_quickstart_trains_nothing(quickstart):
    out, _ = quickstart
    again = trueup("quickstart", "--smoke", "--quiet", "--out", out)
    assert again.stdout.count("unchanged, skipped") == 5


def test_evaluate_compares_models_on_held_out_prompts(quickstart, tmp_path):
    out, _ = quickstart
    models = [f"sft={out}/sft/final", f"{out}/ppo/final"]
    common = ["--data", out / "data" / "test-prompts.jsonl", "--reward", out / "reward" / "final"]
    ran = trueup("evaluate", *models, *common, "--limit", 6, "--out", tmp_path / "eval", "--max-new-tokens", 12)
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())["comparison"]
    assert (summary["baseline"], summary["score"], summary["prompts"]) == ("sft", "reward", 6)
    ppo = summary["models"]["ppo"]
    assert 0 <= ppo["win_rate"]["rate"]["estimate"] <= 1
    assert ppo["kl"]["estimate"] is not None
    assert "report.html" in ran.stdout
    assert len((tmp_path / "eval" / "eval.jsonl").read_text().splitlines()) == 12
    twice = trueup("evaluate", models[0], models[0], *common, check=False)
    assert twice.returncode == 2
    assert "two models are called 'sft'" in twice.stderr
    stranger = trueup("evaluate", models[0], *common, "--baseline", "stf", check=False)
    assert stranger.returncode == 2
    assert "did you mean 'sft'" in stranger.stderr


def test_the_written_recipe_runs_and_a_changed_stage_is_named(quickstart):
    out, _ = quickstart
    again = trueup("run", out / "recipe.yaml", "--quiet")
    assert again.stdout.count("unchanged, skipped") == 5
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    recipe["stages"][3]["objective"]["beta"] = 0.3
    changed = out / "changed.yaml"
    changed.write_text(yaml.safe_dump(recipe))
    refused = trueup("run", changed, "--quiet", check=False)
    assert refused.returncode == 2
    assert "objective.beta was 0.05, now 0.3" in refused.stderr


def test_models_open_with_plain_hugging_face(quickstart):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, _ = quickstart
    model = AutoModelForCausalLM.from_pretrained(out / "ppo" / "final")
    tokenizer = AutoTokenizer.from_pretrained(out / "ppo" / "final")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    assert model.generate(**ids, max_new_tokens=2, do_sample=False).shape[1] == ids["input_ids"].shape[1] + 2


def test_sample_shows_models_side_by_side(quickstart):
    out, _ = quickstart
    words = ["--prompt", "What is the capital of France?", "--max-new-tokens", "8", "--json"]
    judged = ["--reward", out / "reward/final", "--reference", out / "sft/final"]
    lines = trueup("sample", out / "sft/final", out / "dpo/final", *words, *judged).stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert [a["model"] for a in answers] == ["sft", "dpo"]
    assert answers[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert all(isinstance(a["reward"], float) for a in answers)


def test_report_of_one_run(quickstart, tmp_path):
    out, _ = quickstart
    trueup("report", out / "ppo", "--out", tmp_path)
    assert "reward and KL together" in (tmp_path / "report.html").read_text()


def test_data_check_finds_what_is_wrong(quickstart, tmp_path):
    out, _ = quickstart
    (pairs,) = (out / "data" / "feedback" / "snapshot" / "train").glob("pairs-*.jsonl")
    told = trueup("data", "check", pairs, "--against", pairs).stdout
    assert "rows" in told
    assert str(len(pairs.read_text().splitlines())) in told
    found = json.loads(trueup("data", "check", pairs, "--json").stdout)
    assert isinstance(found, dict)


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_dry_run_prints_the_settings_and_writes_nothing(kind, tmp_path):
    flags = ["--data", "d.jsonl", "--model", "m", "--out", tmp_path / "r", "--dry-run"]
    flags += ["--reward", "r"] if kind == "ppo" else []
    shown = trueup(kind, *flags).stdout
    assert yaml.safe_load(shown)["data"] == "d.jsonl"
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["dpo", "--model", "m", "--data", "nowhere.jsonl"], 2, "nowhere.jsonl"),
        (["dpo", "--model", "m", "--data", "d", "--set", "objective.btea=1"], 2, "did you mean 'beta'"),
        (["dpo", "--model", "m", "--data", "d", "--set", "optim.learning_rate=fast"], 2, "learning_rate"),
        (["ppo", "--model", "m", "--data", "d", "--reward", "r", "--set", "sampling.top_p=0.9"], 2, "first ratio"),
        (["report", "nowhere"], 2, "not a run directory"),
        (["run", "nowhere.yaml"], 2, "nowhere.yaml"),
    ],
)
def test_wrong_use_is_explained(words, code, says, tmp_path):
    found = trueup(*words, cwd=tmp_path, check=False)
    assert found.returncode == code
    assert says in found.stderr
    assert "Traceback" not in found.stderr
