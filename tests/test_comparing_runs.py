"""``trueup compare`` and ``trueup frontier`` on runs that were written by hand, whose numbers are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.evaluation.test_evaluation import rows as evaluated
from tests.reports.test_reports import HOSTILE, Page
from trueup.commands.app import app
from trueup.commands.compare_pages import compare_sections, cost
from trueup.commands.frontier_data import gather
from trueup.commands.measurements import compare_results, gold_of, known_measurements, read_results, with_gold
from trueup.commands.run_groups import differing, group_runs
from trueup.errors import ConfigError, DataError, UsageError
from trueup.evaluation.intervals import Interval
from trueup.evaluation.rows import write_rows
from trueup.ledger import Run
from trueup.reports.build import evaluated_as
from trueup.reports.criteria import probe_change
from trueup.sandbox import World


def trained(
    path, kind="ppo", *, seed=0, beta=0.1, quality=0.0, inputs=None, model="base", spike=None, steps=24, gold=0.0
):
    """An online run: score rises to 1 + quality, KL to 20 * (1 - beta); probes every four steps."""
    config = {
        "seed": seed,
        "data": "prompts.jsonl",
        "model": {"name": str(model)},
        "kl": {"kind": "fixed", "beta": beta},
    }
    with Run.start(
        path,
        kind=kind,
        config=config,
        inputs=inputs or {"data": "d" * 8, "model.name": "m"},
        defaults=config,
        quiet=True,
    ) as run:
        rng = np.random.default_rng([seed, round(100 * beta)])
        for step in range(steps):
            norm = 50.0 if step == spike else 1.0
            share = step / steps
            metrics = {
                "score": share * (1 + quality),
                "kl": 20 * (1 - beta) * share,
                "grad_norm": norm,
                "skipped_steps": 0.0,
            }
            run.log(step, {"reward": -9.0, **metrics})
            run.time(step, 2.0)
            if step % 4 == 0:
                for i in range(10):
                    score = share * (1 + quality) + rng.normal(0, 0.02) + i / 10
                    truth = 0.5 + gold * share + rng.normal(0, 0.01)
                    text = f"{truth:.6f} {HOSTILE}"
                    run.sample(step, prompt=f"q{i}", question=f"q{i}", completion=text, score=score, stop="eos")
        run.event("saved", step=steps, seconds=0.1, peak_memory=2**30)
    (path / "final").mkdir()
    return path


def written_gold(question, answer):
    """The truth that ``trained`` wrote into its answers."""
    return float(answer.split()[0])


GOLD = "tests.test_comparing_runs:written_gold"


@pytest.fixture
def runs(tmp_path):
    made = {}
    for seed in (0, 1, 2):
        sft = trained(tmp_path / f"sft-{seed}", "sft", seed=seed)
        for beta, quality in ((0.1, 0.0), (0.4, 0.5)):
            name = f"ppo-{beta}-{seed}"
            model = {"data": "d" * 8, "model.name": f"hash-{seed}"}
            made[beta, seed] = trained(
                tmp_path / name, seed=seed, beta=beta, quality=quality, model=sft / "final", inputs=model
            )
    return made


def test_runs_that_differ_in_seeds_only_are_one_also_where_they_start_from_other_seeds(runs):
    results = group_runs([str(path) for path in runs.values()])
    assert len({result.name for result in results}) == 2
    assert sorted({result.seed for result in results}) == ["0", "1", "2"]
    assert differing(results) == {"kl.beta": {"ppo-0.1-0": 0.1, "ppo-0.4-0": 0.4}}


def test_other_data_or_another_start_is_another_group(tmp_path):
    one = trained(tmp_path / "a")
    data = trained(tmp_path / "b", seed=1, inputs={"data": "e" * 8, "model.name": "m"})
    start = trained(tmp_path / "c", seed=1, inputs={"data": "d" * 8, "model.name": "n"})
    assert len({result.name for result in group_runs([str(one), str(data), str(start)])}) == 3
    named = group_runs([f"x={one}", f"x={data}", f"y={start}"])
    assert [result.name for result in named] == ["x", "x", "y"]


def test_the_same_run_or_seed_twice_is_refused(tmp_path):
    one, two = trained(tmp_path / "a"), trained(tmp_path / "b")
    with pytest.raises(UsageError, match="given twice"):
        group_runs([str(one), str(one / "final")])
    with pytest.raises(UsageError, match="second of a with seed 0"):
        group_runs([str(one), str(two)])
    with pytest.raises(UsageError, match="not a run directory"):
        group_runs([str(tmp_path)])


def test_the_better_variant_is_named_with_what_it_cost(runs):
    results = group_runs([str(path) for path in runs.values()])
    assert known_measurements(results)[0] == "score"  # not the reward of training, from which penalties are taken
    comparison = compare_results(results, "ppo-0.1-0")
    assert comparison.conclusion[0].startswith("ppo-0.4-0 is better than ppo-0.1-0: score +")
    tables = {section.heading: section.table for section in compare_sections(results, comparison)}
    line = dict(zip(tables["Cost and steadiness"].columns, tables["Cost and steadiness"].rows[1], strict=True))
    assert line["memory"] == "1.00 GB"
    assert line["time"] == "0:48"
    gain = comparison.contrasts[0].difference.estimate
    assert line["cost of a point"].startswith(f"{48 / 100 / gain:.2g} s (")
    assert any(heading.startswith("Answers: q") for heading in tables)


def test_cost_is_said_only_where_a_gain_was_shown():
    def interval(estimate, low, high):
        return Interval(estimate, low, high, 3, 0.95, "t")

    assert cost(100.0, interval(0.5, 0.25, 1.0), "up") == "2 s (1 s to 4 s)"
    assert cost(100.0, interval(-0.5, -1.0, -0.25), "down") == "2 s (1 s to 4 s)"
    assert cost(100.0, interval(0.5, -0.1, 1.0), "up") == "–"
    assert cost(100.0, interval(-0.5, -1.0, -0.25), "up") == "–"
    assert cost(100.0, interval(0.5, math.nan, math.nan), "up") == "–"
    assert cost(100.0, None, "up") == "–"


def test_spikes_and_failures_are_counted(tmp_path):
    path = trained(tmp_path / "a", spike=20)
    with open(path / "events.jsonl", "a", encoding="utf-8") as handle:
        handle.write(json.dumps({"event": "failed", "time": 0.0}) + "\n")
    (result,) = group_runs([str(path)])
    assert (result.steadiness["spikes"], result.steadiness["failed"], result.steadiness["interrupted"]) == (1, 1, 0)
    assert result.seconds == 48.0


def test_what_cannot_be_compared_is_said(runs):
    results = group_runs([str(path) for path in runs.values()])
    with pytest.raises(ConfigError, match="'gold'"):
        compare_results(results, "ppo-0.1-0", quality="gold")
    failed = read_results("x", "0", {}, kinds={}, settings={}, error="it broke")
    assert compare_results([failed], "x") is None
    assert compare_results([*results, failed], "x").baseline == "ppo-0.1-0"


def test_an_evaluation_knows_its_models_by_where_they_lay(tmp_path):
    one, two, other = (trained(tmp_path / name, beta=beta) for name, beta in (("a", 0.1), ("b", 0.2), ("ppo", 0.3)))
    (tmp_path / "test").mkdir()
    rows = evaluated("x", [0.9] * 8) + evaluated("y", [0.1] * 8)
    write_rows(rows, tmp_path / "test" / "eval.jsonl")
    record = {"models": {"x": str(one / "final"), "y": str(two)}}
    (tmp_path / "test" / "evaluation.json").write_text(json.dumps(record))
    results = group_runs([str(one), str(two)], evaluations=[tmp_path / "test"])
    assert [evaluated_as(path, tmp_path / "test", rows) for path in (one, two)] == ["x", "y"]
    assert all(result.evaluation == tmp_path / "test" for result in results)
    record["models"] = {"ppo": str(one)}  # what is called like the method is another run
    (tmp_path / "test" / "evaluation.json").write_text(json.dumps(record))
    rows = evaluated("ppo", [0.9] * 8)
    assert evaluated_as(two, tmp_path / "test", rows) == "b"
    record["models"] = {"ppo": str(tmp_path / "gone")}
    (tmp_path / "test" / "evaluation.json").write_text(json.dumps(record))
    assert evaluated_as(other, tmp_path / "test", rows) == "ppo"


def test_an_evaluation_decides_where_there_is_one(tmp_path):
    one, two = trained(tmp_path / "a"), trained(tmp_path / "b", beta=0.4)
    for name in ("test", "again"):
        (tmp_path / name).mkdir()
        measured = [
            {**row, "reward": row["gold"], "kl": 1.0}
            for row in evaluated("a", [0.9, 0.8] * 9) + evaluated("b", [0.1, 0.3] * 9)
        ]
        write_rows(measured, tmp_path / name / "eval.jsonl")
    results = group_runs([str(one), str(two)], evaluations=[tmp_path / "test"])
    comparison = compare_results(results, "a")
    assert comparison.quality == "gold"
    assert "b is worse than a" in comparison.conclusion[0]
    with pytest.raises(DataError, match="is measured in"):
        group_runs([str(one)], evaluations=[tmp_path / "test", tmp_path / "again"])


def test_the_command_prints_and_writes_a_page_that_stands_alone(runs, tmp_path):
    paths = [str(path) for path in runs.values()]
    shown = CliRunner().invoke(app, ["compare", *paths, "--html", str(tmp_path / "page")], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "cost of a point" in shown.output
    assert "better than" in shown.output
    text = (tmp_path / "page" / "report.html").read_text()
    page = Page(text)
    assert page.stack == []
    assert HOSTILE not in text
    assert "script" not in page.tags
    assert [v for k, v in page.attributes if k in ("src", "href") and v and not v.startswith("#")] == []
    data = json.loads(CliRunner().invoke(app, ["compare", *paths, "--json"], catch_exceptions=False).output)
    assert data["comparison"]["quality"] == "score"
    assert len(data["runs"]) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare"], "runs or a sweep"),
        (["compare", "x", "--sweep", "y"], "runs or a sweep"),
        (["compare", "--sweep", "absent"], "no log of a sweep"),
        (["frontier"], "nothing to draw"),
        (["frontier", "absent"], "not a run directory"),
    ],
)
def test_wrong_use_is_said(words, message):
    with pytest.raises(Exception, match=message):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_gold_is_a_name_that_is_known_or_code():
    assert gold_of(None) is None
    (one,) = World(0).demonstrations("test", 1)
    assert gold_of("sandbox")(one.prompt, one.completion) > gold_of("sandbox")(one.prompt, "No.")
    with pytest.raises(DataError, match="not a prompt of the sandbox"):
        gold_of("sandbox")("What is the meaning of life?", "42")
    rows = with_gold(evaluated("a", [0.1]), "tests.test_comparing_runs:length")
    assert rows[0]["gold"] == len("answer 0 of a")
    with pytest.raises(UsageError, match="names no truth"):
        gold_of("truth")
    with pytest.raises(DataError, match="gold is nan"):
        gold_of("tests.test_comparing_runs:no_number")("q", "a")


def length(question, answer):
    return len(answer)


def no_number(question, answer):
    return math.nan


def test_paths_hold_the_kl_after_the_probes_update_and_every_seed(runs):
    tradeoff = gather([str(path) for path in runs.values()], None, (), GOLD)
    first, second = tradeoff.paths
    assert first.steps == (0, 4, 8, 12, 16, 20)
    assert first.kl_SK.shape == (3, 6)
    assert first.kl_SK[0, 1] == pytest.approx(20 * 0.9 * 5 / 24)  # of step 5, whose rollouts the same weights drew
    assert second.proxy_SKP.shape == (3, 6, 10)
    assert second.gold_SKP.mean() == pytest.approx(0.5, abs=0.02)


def test_a_run_without_probes_is_drawn_from_its_score(tmp_path):
    path = trained(tmp_path / "a")
    (path / "samples.jsonl").unlink()
    (one,) = gather([str(path)], None, (), None).paths
    assert len(one.steps) == 12
    assert one.gold_SKP is None
    shown = CliRunner().invoke(app, ["frontier", str(path), "--gold", GOLD, "--out", str(tmp_path / "o")]).output
    assert "--gold has no answers here to judge" in shown
    assert "judge with --gold" not in shown  # it was given


def test_over_optimisation_is_found_where_it_was_planted(tmp_path):
    bad = trained(tmp_path / "bad", beta=0.01, gold=-0.4, steps=40)
    good = trained(tmp_path / "good", beta=0.3, gold=0.2, steps=40)
    words = ["frontier", str(bad), str(good), "--gold", GOLD, "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, words, catch_exceptions=False).output
    assert "bad: over-optimisation from the first answers on (95 % interval step 0 to 4)" in shown
    assert "good: no over-optimisation found" in shown
    assert Page((tmp_path / "out" / "report.html").read_text()).stack == []
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["turning_points"]["bad"]["point"]["found"]
    assert {point["name"] for point in summary["front"]} == {"good"}
    without = CliRunner().invoke(app, ["frontier", str(bad), "--out", str(tmp_path / "o")], catch_exceptions=False)
    assert "Gold is not known here" in without.output
    assert "judge with --gold" in without.output


def test_evaluations_give_points_gains_and_best_of_n(tmp_path):
    (tmp_path / "test").mkdir()
    rng = np.random.default_rng(0)
    measured = []
    for name, kl, lift in (("sft", 0.0, 0.0), ("a", 1.0, 0.2), ("b", 4.0, 0.3), ("c", 9.0, 0.1), ("d", 16.0, -0.2)):
        for sample in range(4 if name == "sft" else 1):
            golds = (0.5 + lift + rng.normal(0, 0.05, 12)).tolist()
            measured += [
                {**row, "sample": sample, "kl": kl, "reward": row["gold"] + 0.1 * kl} for row in evaluated(name, golds)
            ]
    write_rows(measured, tmp_path / "test" / "eval.jsonl")
    tradeoff = gather([str(tmp_path / "test")], None, (), None)
    assert [point.name for point in tradeoff.ends] == ["sft", "a", "b", "c", "d"]
    assert [one.n for one in tradeoff.best] == [1, 2, 4]
    assert tradeoff.gains["b"][0] == (pytest.approx(4.0), pytest.approx(0.3, abs=0.05))
    words = ["frontier", str(tmp_path / "test"), "--out", str(tmp_path / "out"), "--json"]
    summary = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).output)
    assert [point["name"] for point in summary["front"]] == ["sft", "a", "b"]
    assert summary["fits"]["evaluations"]["beta"]["estimate"] > 0
    broken = [{**row, "kl": None} for row in measured]
    write_rows(broken, tmp_path / "test" / "eval.jsonl")
    with pytest.raises(UsageError, match="rows with reward and kl"):
        gather([str(tmp_path / "test")], None, (), None)


def test_answers_that_could_not_be_scored_are_compared_with_nothing(tmp_path):
    path = trained(tmp_path / "a")
    lines = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    lines[3]["score"] = lines[-1]["score"] = None  # the fourth prompt at the first step, the last one at the last
    (path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (one,) = gather([str(path)], None, (), None).paths
    assert one.proxy_SKP.shape == (1, 6, 8)
    (result,) = group_runs([str(path)])
    assert len(result.values["score"][0]) == 9
    assert probe_change(lines).n == 8
