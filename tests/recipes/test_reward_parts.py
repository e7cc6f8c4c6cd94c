"""PPO on a reward of several parts: what is logged, dropped, remembered and refused."""

import json
import re
import signal

import pytest

from tests.recipes.test_recipes import config_of, digest, run_and_kill
from trueup.commands.pipeline import Stage, referring, resolve_stage
from trueup.errors import ConfigError, RunError, UsageError
from trueup.ledger import Run, metric_rows, read_lines, read_run
from trueup.metrics import metric_of
from trueup.recipes import rollouts
from trueup.recipes.registry import execute, identify, resolve
from trueup.reports.build import report_run
from trueup.types import Message

SCORERS = "tests.rewards.scorers"


def parts_of(material, **more):
    return [
        {"source": material["judge"], "weight": 0.7, "name": "judge", "normalise": "running"} | more,
        {"kind": "length", "unit": "tokens", "per": 8, "weight": 0.3},
        {"kind": "diversity", "memory": 6, "weight": 0.5},
    ]


def ppo(material, parts, **changes):
    return config_of("ppo", material | {"judge": parts}, **changes)


def test_every_part_is_logged_with_mean_and_spread_and_the_weighted_means_add_up(material, tmp_path):
    out = execute("ppo", ppo(material, parts_of(material), steps=3), tmp_path / "r", quiet=True)
    for row in metric_rows(out):
        assert row["score"] == pytest.approx(
            sum(row[f"reward/{name}/weighted"] for name in ("judge", "length", "diversity")), abs=1e-5
        )
        assert row["reward/length"] == pytest.approx(-row["completion_length"] / 8)
        assert row["reward/length/weighted_sd"] == pytest.approx(0.3 * row["reward/length/sd"], rel=1e-5)
        assert row["dropped"] == row["reward/judge/dropped"] == 0
        assert all(metric_of(name) for name in row if name not in ("step", "ids", "keys"))
    samples, _ = read_lines(out / "samples.jsonl")
    for sample in samples:
        assert sample["parts"].keys() == {"judge", "length", "diversity"}
        assert sample["score"] == pytest.approx(sum(p["weighted"] for p in sample["parts"].values()), abs=1e-5)


def test_a_killed_run_with_memory_and_running_scale_resumes_to_the_same_bytes(material, tmp_path):
    config = ppo(material, parts_of(material))
    straight = digest(execute("ppo", config, tmp_path / "straight", quiet=True))
    died = run_and_kill("ppo", config, tmp_path / "killed", step=3)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert digest(execute("ppo", config, tmp_path / "killed", quiet=True)) == straight
    states = sorted((tmp_path / "killed" / "checkpoints").glob("step-*/state.json"))
    state = json.loads(states[-1].read_text())["carried"]["reward"]
    assert len(state["memories"]["diversity"]["remembered"]) == 6
    assert state["scales"]["judge"]["count"] == 5 * 4


def test_the_memory_matters(material, tmp_path):
    rows = [
        metric_rows(
            execute(
                "ppo",
                ppo(material, [{"kind": "diversity", "unit": "characters", "n": 1, "memory": memory}], steps=3),
                tmp_path / str(memory),
                quiet=True,
            )
        )
        for memory in (0, 50)
    ]
    assert rows[0][0]["score"] == rows[1][0]["score"]
    assert rows[0][1]["score"] > rows[1][1]["score"]


def test_a_dropped_answer_is_in_no_mean_and_in_no_update(material, tmp_path):
    listed = [{"source": f"{SCORERS}:nan_for_odd", "on_error": "drop"}]
    config = ppo(material, listed, steps=6, batch__size=12, mini_batches=3, probe_every=1)
    out = execute("ppo", config, tmp_path / "r", quiet=True)
    rows = metric_rows(out)
    assert 0 < sum(row["dropped"] for row in rows) < 72
    for row in rows:
        assert row["score"] == row["reward/nan_for_odd"] == 2.0
        assert row["dropped"] == row["reward/nan_for_odd/dropped"]
        assert row["first_ratio_error"] < 1e-4
    samples, _ = read_lines(out / "samples.jsonl")
    assert {sample["score"] for sample in samples} == {2.0, None}
    assert all((sample["score"] is None) == sample.get("dropped", False) for sample in samples)


def test_whoever_forms_groups_knows_who_is_left(material, tmp_path):
    prompts = [(Message("user", animal),) for animal in ("cow", "hen", "fox", "bat") for _ in range(3)]
    with Run.start(tmp_path / "r", kind="ppo", config={}, inputs={}) as run:
        config = ppo(material, [{"source": f"{SCORERS}:nan_for_odd", "on_error": "drop"}])
        actors = rollouts.open_actors(
            run, config.model, config.reward, reference=None, batch=config.batch, read=config.read, seed=1
        )
        rollout = rollouts.draw_rollout(actors, prompts, config.sampling, seed=1, budget=512)
    assert 0 < rollout.dropped == 12 - len(rollout) < 12
    assert len(rollout.kept) == len(rollout.completions) == len(rollout.score_B) == len(rollout.logps_BC)
    assert all(sum(completion.ids) % 2 == 0 for completion in rollout.completions)
    for place, (prompt_ids, _) in zip(rollout.kept, rollout.sequences, strict=True):
        assert prompt_ids == actors.renderer.render_prompt(prompts[place])


def test_without_it_the_same_reward_stops_the_run_and_says_where(material, tmp_path):
    listed = [{"kind": "length"}, {"source": f"{SCORERS}:never", "name": "strict"}]
    with pytest.raises(RunError, match=r"reward part strict: .*prompt .*answer"):
        execute("ppo", ppo(material, listed), tmp_path / "r", quiet=True)
    assert metric_rows(tmp_path / "r") == []


@pytest.mark.parametrize("change", ["weight", "source", "order", "name"])
def test_a_changed_part_is_another_run(material, tmp_path, change):
    listed = parts_of(material)
    execute("ppo", ppo(material, listed, steps=1), tmp_path / "r", quiet=True)
    other = parts_of(material)
    if change == "weight":
        other[0]["weight"] = 0.71
    elif change == "source":
        other[0]["source"] = f"{SCORERS}:brevity"
    elif change == "name":
        other[0]["name"] = "referee"
    else:
        other.reverse()
    with pytest.raises(UsageError, match="reward"):
        execute("ppo", ppo(material, other, steps=1), tmp_path / "r", quiet=True)


def test_the_identity_is_that_of_every_source_and_is_pinned(material, tmp_path):
    config = ppo(material, parts_of(material), steps=1)
    out = execute("ppo", config, tmp_path / "r", quiet=True)
    record = read_run(out)
    assert record["inputs"]["reward"] == record["pinned"]["reward"] == identify("ppo", config)["reward"]
    plain = identify("ppo", config_of("ppo", material))["reward"]
    assert plain != record["inputs"]["reward"]


def test_reward_given_twice_is_both_of_them(material, tmp_path):
    from typer.testing import CliRunner

    from trueup.commands.app import app

    line = ["ppo", "--model", material["policy"], "--data", material["prompts"], "--dry-run", "--json"]
    both = ["--reward", material["judge"], "--reward", f"{SCORERS}:brevity"]
    shown = CliRunner().invoke(app, [*line, *both])
    assert shown.exit_code == 0, shown.output
    rewards = json.loads(shown.output)["reward"]
    assert [(part["kind"], part["source"], part["weight"]) for part in rewards] == [
        ("source", material["judge"], 1.0),
        ("source", f"{SCORERS}:brevity", 1.0),
    ]
    assert json.loads(CliRunner().invoke(app, [*line, *both[:2]]).output)["reward"] == material["judge"]


def test_a_list_on_the_command_line_and_its_mistakes(material):
    text = f"reward=[{{source: {material['judge']}, weight: 0.4}}, {{kind: length, at_most: 9, weight: 0.6}}]"
    flags = {"data": material["prompts"], "model.name": material["policy"]}
    config = resolve("ppo", None, flags, [text])
    assert [part.weight for part in config.reward] == [0.4, 0.6]
    with pytest.raises(ConfigError, match=r"reward\.1\.at_mst .*did you mean 'at_most'"):
        resolve("ppo", None, flags, [text.replace("at_most", "at_mst")])
    with pytest.raises(ConfigError, match=r"reward.*found 3; "):
        resolve("ppo", None, flags, ["reward=3"])


def test_stages_are_named_in_parts_and_patterns_stay_texts(tmp_path):
    done = {name: tmp_path / name for name in ("helpful", "short")}
    for folder in done.values():
        (folder / "final").mkdir(parents=True)
    listed = [
        {"source": "@helpful", "weight": 0.5},
        "@short",
        {"kind": "ensemble", "members": ["@helpful", "@short"]},
        {"kind": "regex", "rules": [{"pattern": "@helpful", "score": 1}]},
    ]
    stage = Stage("ppo", "ppo", {"data": "p.jsonl", "model": {"name": "m"}, "reward": listed})
    parts = resolve_stage(stage, referring(done, stage.name)).reward
    assert parts[0].source == parts[2].members[0] == str(tmp_path / "helpful" / "final")
    assert parts[1].source == parts[2].members[1] == str(tmp_path / "short" / "final")
    assert parts[3].rules[0].pattern == "@helpful"
    with pytest.raises(ConfigError, match=re.escape("@nowhere is not an earlier stage")):
        resolve_stage(Stage("ppo", "ppo", {"reward": ["@nowhere"]}), referring(done, "ppo"))


def test_the_report_has_a_table_and_a_curve_of_the_parts(material, tmp_path):
    listed = [*parts_of(material), {"source": f"{SCORERS}:nan_for_odd", "on_error": "drop", "weight": 0}]
    out = execute("ppo", ppo(material, listed, steps=3, batch__size=12), tmp_path / "r", quiet=True)
    report = report_run(out)
    rows, logged = report.data["parts"]["r"], metric_rows(out)
    assert [(row["name"], row["kind"], row["weight"]) for row in rows] == [
        ("judge", "source", 0.7),
        ("length", "length", 0.3),
        ("diversity", "diversity", 0.5),
        ("nan_for_odd", "source", 0),
    ]
    assert rows[1]["first"] == logged[0]["reward/length"]
    assert rows[1]["weighted"] == logged[-1]["reward/length/weighted"]
    assert rows[3]["dropped"] == sum(row["dropped"] for row in logged) > 0
    for page in (report.html.read_text(), report.markdown.read_text()):
        assert "The reward of r, part by part" in page
        assert "diversity" in page
    assert (out / "figures" / "parts-r.svg").exists()
    plain = report_run(execute("ppo", config_of("ppo", material, steps=1), tmp_path / "plain", quiet=True))
    assert plain.data["parts"] == {}
    assert "part by part" not in plain.html.read_text()
