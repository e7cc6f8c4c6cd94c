"""The commands as a user meets them: help, the whole road in seconds, chains, clear errors and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from trueup import write_sandbox
from trueup.commands.app import app, main
from trueup.errors import UsageError
from trueup.recipes.table import RECIPES
from trueup.reports.verdict import SMOKE

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


def call(capsys, *words):
    """The command in this process: its exit code, and what it said."""
    before, sys.argv = sys.argv, ["trueup", *map(str, words)]
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.argv = before
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "q"
    return out, trueup("quickstart", "--smoke", "--quiet", "--out", out)


@pytest.mark.slow
def test_quickstart_walks_the_whole_road(quickstart):
    out, ran = quickstart
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["comparison"]["models"]) == {"base", "sft", "dpo", "ppo"}
    assert summary["problems"] == []
    assert [r["status"] for r in summary["runs"].values()] == ["done"] * 4
    skill = summary["skill"]
    assert skill["ceiling"]["estimate"] == pytest.approx(summary["facts"]["noise_ceiling"])
    assert skill["accuracy"]["estimate"] == pytest.approx(summary["reward_model"]["heldout_accuracy"])
    assert set(skill["leads"]) == {"length alone", "a bag of words"}
    assert "peak_memory_gb" in summary["facts"]
    assert "report:" in ran.stdout
    html = (out / "report.html").read_text()
    assert summary["smoke"]
    assert summary["verdict"] == [SMOKE]
    assert html.index(SMOKE) < html.index("Where the preferences come from")
    assert f'href="{summary["feedback"]["card"]}"' in html
    assert (out / summary["feedback"]["card"]).is_file()
    for word in ("Quality", "Before and after", "learning_rate", "KL to the reference", "95 %"):
        assert word in html


@pytest.mark.slow
def test_a_second_quickstart_trains_nothing(quickstart):
    out, _ = quickstart
    again = trueup("quickstart", "--smoke", "--quiet", "--out", out)
    assert again.stdout.count("unchanged, skipped") == 4


@pytest.mark.slow
def test_the_sandbox_is_written_as_the_quickstart_has_it_and_over_nothing_else(quickstart, tmp_path):
    data = quickstart[0] / "data"
    before = (data / "world.json").read_bytes()
    files = write_sandbox(data, smoke=True, quiet=True)  # the same seed and size, so that it is there
    assert (data / "world.json").read_bytes() == before
    assert {name: str(path) for name, path in files.items()} == json.loads(before)["files"]
    assert all(path.exists() for path in files.values())
    shown = CliRunner().invoke(app, ["data", "sandbox", "--smoke", "--out", str(data)], catch_exceptions=False).output
    assert f"held out pairs: {files['held_out_pairs']}" in shown
    with pytest.raises(UsageError, match="another world is here"):
        write_sandbox(data, seed=1, smoke=True, quiet=True)
    (tmp_path / "feedback").mkdir()
    with pytest.raises(UsageError, match="holds no world"):
        write_sandbox(tmp_path, smoke=True, quiet=True)


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_written_recipe_runs_and_a_changed_stage_is_named(quickstart):
    out, _ = quickstart
    again = trueup("run", out / "recipe.yaml", "--quiet")
    assert again.stdout.count("unchanged, skipped") == 4
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    recipe["stages"][2]["objective"]["beta"] = 0.3
    changed = out / "changed.yaml"
    changed.write_text(yaml.safe_dump(recipe))
    refused = trueup("run", changed, "--quiet", check=False)
    assert refused.returncode == 2
    assert "objective.beta was 0.1, now 0.3" in refused.stderr


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
def test_dry_run_prints_the_settings_and_writes_nothing(kind, tmp_path, capsys):
    flags = ["--data", "d.jsonl", "--model", "m", "--out", tmp_path / "r", "--dry-run"]
    flags += ["--reward", "r"] if "reward" in RECIPES[kind].inputs else []
    code, shown, _ = call(capsys, kind, *flags)
    assert code == 0
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
        (["resume", "nowhere"], 2, "not a run directory"),
        (["resume", "nowhere", "--verify", "--from", "step-00000001"], 2, "--verify only looks"),
        (["ppo", "--model", "m", "--data", "d", "--reward", "r", "--set", "init_kl_coef=1"], 2, "kl.beta"),
    ],
)
def test_wrong_use_is_explained(words, code, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found, _, told = call(capsys, *words)
    assert found == code
    assert says in told
    assert "Traceback" not in told


TINY = ["model.tiny.hidden=16", "model.tiny.layers=1", "model.tiny.heads=1", "model.tiny.vocabulary=300",
        "batch.size=4", "save_every=1", "epochs=3"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of three steps, and the words that made it."""
    folder = tmp_path_factory.mktemp("trained")
    lines = [json.dumps({"prompt": f"Say {n}.", "completion": f"Here is {n} for you."}) for n in range(4)]
    (folder / "demos.jsonl").write_text("\n".join(lines) + "\n")
    words = ["sft", "--data", folder / "demos.jsonl", "--quiet", *(w for one in TINY for w in ("--set", one))]
    ran = trueup(*words, "--out", folder / "r", "--json")
    return folder / "r", words, json.loads(ran.stdout)


@pytest.mark.slow
def test_training_speaks_json_to_programs(trained):
    run, _, said = trained
    assert (said["status"], said["steps"], said["final"]) == ("done", 3, str(run / "final"))


def test_resume_verifies_goes_on_and_falls_back_only_when_asked(trained, tmp_path, capsys):
    import shutil

    run, _, _ = trained
    copy = tmp_path / "r"
    shutil.copytree(run, copy)
    code, out, _ = call(capsys, "resume", copy, "--verify")
    assert (code, out.count("whole")) == (0, 2)
    (copy / "checkpoints" / "step-00000003" / "manifest.json").write_text("{}")
    code, out, err = call(capsys, "resume", copy, "--verify", "--json")
    assert code == 1
    assert json.loads(out)["latest"] == "step-00000003"
    assert f"trueup resume {copy} --from step-00000002" in err
    code, _, err = call(capsys, "resume", copy, "--quiet")
    assert code == 1
    assert "Traceback" not in err
    code, out, _ = call(capsys, "resume", copy, "--from", "step-00000002", "--quiet")
    assert (code, out.strip()) == (0, str(copy / "final"))
    for name in ("metrics.jsonl", "final/model.safetensors"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()


def test_fresh_moves_the_old_run_aside_on_every_training_command(trained, tmp_path, capsys):
    from typer.main import get_command

    from trueup.commands.app import app

    commands = get_command(app).commands
    for kind in RECIPES:
        assert "--fresh" in {flag for option in commands[kind].params for flag in option.opts}
    _, words, _ = trained
    assert call(capsys, *words, "--out", tmp_path / "r")[0] == 0
    code, _, err = call(capsys, *words, "--out", tmp_path / "r", "--set", "seed=1")
    assert code == 2
    assert "--fresh" in err
    code, _, err = call(capsys, *words, "--out", tmp_path / "r", "--set", "seed=1", "--fresh")
    assert code == 0
    assert "r.old-1" in err
    assert (tmp_path / "r.old-1" / "final" / "model.safetensors").exists()


def test_a_training_command_has_a_flag_for_each_input_of_its_recipe_and_its_own_directory():
    from typer.main import get_command

    from trueup.commands.app import app

    shared = {"--out", "--set", "--no-resume", "--fresh", "--dry-run", "--quiet", "--json"}
    inputs = {"model.name": "--model"}
    for kind, recipe in RECIPES.items():
        command = get_command(app).commands[kind]
        flags = {flag for option in command.params if option.param_type_name == "option" for flag in option.opts}
        wanted = {inputs.get(name, f"--{name}") for name in recipe.inputs}
        assert flags == wanted | shared, kind
        assert next(option.default for option in command.params if option.name == "out") == Path("runs") / kind
        assert recipe.summary in command.help
        assert f"`trueup {kind} " in command.help


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyError("x"), 1, "unexpected KeyError"),
        (OSError(28, "No space left on device", "/x"), 1, "/x: the disk is full"),
        (PermissionError(13, "Permission denied", "/x"), 1, "/x: no permission"),
        (MemoryError(), 1, "out of memory"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_no_error_ends_in_a_traceback_and_each_has_its_exit_code(error, code, says, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.setattr("trueup.commands.machine.inspect_machine", fail)
    ended, out, err = call(capsys, "doctor")
    assert (ended, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_a_changed_or_damaged_stage_is_moved_aside_by_fresh(trained, tmp_path, capsys):
    _, words, _ = trained
    recipe = tmp_path / "recipe.yaml"
    stage = {"name": "sft", "kind": "sft", "data": str(words[2]), "epochs": 1, "batch": {"size": 4}, "model": {}}
    stage["model"] = {"name": "tiny", "tiny": {"hidden": 16, "layers": 1, "heads": 1, "vocabulary": 300}}
    recipe.write_text(yaml.safe_dump({"out": str(tmp_path / "runs"), "stages": [stage]}))
    assert call(capsys, "run", recipe, "--quiet")[0] == 0
    (tmp_path / "runs" / "sft" / "run.json").write_text("[]")
    assert call(capsys, "run", recipe, "--quiet")[0] == 1
    code, out, _ = call(capsys, "run", recipe, "--quiet", "--fresh")
    assert code == 0
    assert "sft.old-1" in out
