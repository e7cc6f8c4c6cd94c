"""Sweep, compare, frontier, hacking and score from Python: the commands' numbers as objects, with their errors."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

import trueup
from tests.conftest import TEXTS
from tests.test_comparing_runs import GOLD, trained, written_gold
from trueup.commands.api.stages import located_stages
from trueup.commands.app import app
from trueup.errors import ConfigError, DataError, RunError, TrueupError, UsageError


@pytest.fixture
def runs(tmp_path):
    return {
        beta: [trained(tmp_path / f"ppo-{beta}-{s}", seed=s, beta=beta, quality=beta, gold=-beta) for s in (0, 1, 2)]
        for beta in (0.1, 0.4)
    }


def shorter(prompts, completions):
    return [-float(len(completion.text)) for completion in completions]


def test_runs_compared_in_python_have_the_numbers_of_the_command(runs, tmp_path):
    compared = trueup.compare({"low": runs[0.1], "high": [trueup.Run(run) for run in runs[0.4]]}, out=tmp_path / "page")
    assert compared.sentences[0].startswith("high is better than low: score +")
    assert compared.settings == {"kl.beta": {"low": 0.1, "high": 0.4}}
    arguments = [f"{name}={run}" for name, beta in (("low", 0.1), ("high", 0.4)) for run in runs[beta]]
    printed = CliRunner().invoke(app, ["compare", *arguments, "--json"])
    assert json.loads(printed.stdout) == json.loads(json.dumps(compared.to_dict()))
    html = (tmp_path / "page" / "report.html").read_text()
    assert f"trueup compare low={runs[0.1][0]}" in html
    shown = compared._repr_html_()
    assert "<svg" in shown
    assert compared.page.tables["Quality"].rows[1][0] == "high"
    assert "<script" not in shown  # the answers hold one


def test_a_function_of_the_session_may_be_the_truth_of_a_frontier(runs, tmp_path):
    def truth(question, answer):
        return written_gold(question, answer)

    drawn = trueup.frontier([run for several in runs.values() for run in several], gold=truth)
    named = trueup.frontier([run for several in runs.values() for run in several], gold=GOLD, out=tmp_path / "page")
    assert drawn.sentences == named.sentences
    assert drawn.front
    assert set(drawn.turns) == {"ppo-0.1-0", "ppo-0.4-0"}
    assert drawn.to_dict()["points"] == named.to_dict()["points"]
    assert "Do it again" not in [section.heading for section in drawn.page.sections]  # no command has the function
    assert "Do it again" in [section.heading for section in named.page.sections]
    assert "gold" in drawn.page.figures["frontier"].svg
    assert (tmp_path / "page" / "summary.json").is_file()


def test_hacking_shows_the_curves_that_it_rests_on(tmp_path):
    run = trained(tmp_path / "ppo", gold=-0.4)
    result = trueup.hacking(run, judge=written_gold)
    assert result.hacking.verdict == "hacking"
    assert [point["step"] for point in result.series if "quality" in point] == [0, 4, 8, 12, 16, 20]
    assert result.page.verdict[0] == "The reward is being gamed."
    assert "<svg" in result._repr_html_()
    assert repr(result).startswith("Reward hacking in ")


def test_hacking_is_written_as_one_page_that_needs_no_other(tmp_path):
    run, page = trained(tmp_path / "ppo", gold=-0.4), tmp_path / "pages" / "hacking.html"
    words = ["hacking", str(run), "--judge", f"python:{GOLD}", "--html", str(page)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == str(page)
    assert [one.name for one in page.parent.iterdir()] == ["hacking.html"]
    html = page.read_text()
    assert "The reward is being gamed." in html
    assert "<svg" in html
    assert "default-src 'none'" in html
    assert all(name.startswith("#") for name in re.findall(r'(?:src|href)="([^"]*)"', html))
    before = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)  # nothing else on stdout
    assert before["verdict"] == "hacking"
    refused = CliRunner().invoke(app, [*words[:-1], str(tmp_path)])
    assert "is a directory" in str(refused.exception)


def test_scores_are_rows_with_the_numbers_of_the_command(tmp_path):
    rows = [{"prompt": "Say:", "completion": text} for text in TEXTS]
    scores = trueup.score(shorter, rows, out=tmp_path / "rows.jsonl")
    assert scores.rewards == [-float(len(text)) for text in TEXTS]
    assert scores.highest(1)[0]["answer"] == min(TEXTS, key=len)
    assert scores.lowest(1)[0]["answer"] == max(TEXTS, key=len)
    assert scores.columns()["line"] == list(range(1, len(TEXTS) + 1))
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert written == list(scores.rows)
    parts = trueup.score([{"source": shorter, "weight": 0.5, "name": "short"}, {"kind": "repetition"}], rows)
    assert parts.rows[0]["parts"]["short"]["weighted"] == scores.rewards[0] / 2
    zero = trueup.score(lambda prompts, completions: [0.0 for _ in prompts], rows)
    assert repr(zero) == f"{len(TEXTS)} answers: mean +0.000, standard deviation 0.000"


def test_what_a_reward_leans_on():
    pairs = [{"prompt": f"p{i}", "chosen": "ab" * (i + 1), "rejected": "ab" * (i + 2)} for i in range(40)]
    measured = trueup.leaning(shorter, pairs)
    assert (measured.pairs, measured.skill.accuracy.estimate) == (40, 1.0)


@pytest.mark.slow
def test_a_sweep_from_a_mapping_says_which_stage_failed_and_gives_the_rest(tmp_path):
    rows = [{"prompt": "Say:", "completion": text} for text in TEXTS]
    sft = {
        "name": "sft",
        "kind": "sft",
        "data": rows,
        "validation": rows,
        "model": "tiny",
        "model.tiny": {"hidden": 32, "layers": 1, "heads": 2, "vocabulary": 330, "context": 96},
        "batch": {"size": 4, "max_length": 64},
    }
    recipe = {"stages": [sft], "sweep": {"list": [{"optim.learning_rate": 0.01}, {"data": "absent.jsonl"}]}}
    with pytest.raises(RunError, match=r"1 stage\(s\) of the sweep failed"):
        trueup.sweep(recipe, out=tmp_path / "out", quiet=True)
    done = trueup.sweep(recipe, out=tmp_path / "out", failures=True, quiet=True)
    assert len(done.failures) == 1
    assert [row["status"] for row in done.rows()] == ["done", "failed"]
    assert done.rows()[0]["measured"] == {}
    assert done.rows()[0]["metrics"]["heldout_nll"] > 0
    assert trueup.compare(sweep=done, quality="heldout_nll").problems[-1].startswith("data=absent.jsonl")


@pytest.mark.parametrize(
    ("recipe", "error", "match"),
    [
        ({"stages": []}, ConfigError, "no sweep"),
        ({"stages": "x", "sweep": {}}, ConfigError, "no stages"),
        ({"stage": [], "sweep": {}}, ConfigError, "did you mean 'stages'"),
        ({"stages": [{"kind": "sfd"}], "sweep": {"grid": {"seed": [0]}}}, ConfigError, "did you mean 'sft'"),
        (
            {"stages": [{"kind": "ppo", "data": "d", "reward": lambda p, c: [0.0] * len(p)}], "sweep": {}},
            UsageError,
            "written in this session",
        ),
        ({"stages": [{"kind": "sft", "data": []}], "sweep": {}}, DataError, "no rows"),
    ],
)
def test_a_mistake_in_a_recipe_is_named_before_anything_runs(tmp_path, recipe, error, match):
    with pytest.raises(error) as caught:
        trueup.sweep(recipe, out=tmp_path / "out")
    assert match in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_code_of_a_module_is_named_by_its_module(tmp_path):
    recipe = {"stages": [{"kind": "ppo", "reward": [{"source": shorter}]}], "sweep": {"gold": written_gold}}
    _, block = located_stages(recipe, tmp_path)
    assert block["stages"][0]["reward"][0]["source"] == "tests.test_python_comparing:shorter"
    assert block["gold"] == GOLD


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda tmp: trueup.compare(), "runs or a sweep"),
        (lambda tmp: trueup.compare("runs/x"), "is one run"),
        (lambda tmp: trueup.compare([tmp]), "not a run directory"),
        (lambda tmp: trueup.compare({"a=b": tmp}), "cannot name a run"),
        (lambda tmp: trueup.compare(sweep=tmp), "no log of a sweep"),
        (lambda tmp: trueup.frontier(), "nothing to draw"),
        (lambda tmp: trueup.frontier([trained(tmp / "a")], gold="nobody"), "names no truth"),
        (lambda tmp: trueup.sweep(tmp / "no.yaml"), "no such file"),
        (lambda tmp: trueup.sweep({}, jobs=0), "jobs is 0"),
        (lambda tmp: trueup.score(shorter, [{"prompt": "p", "completion": "c"}], out=tmp / "x.txt"), "ends in '.txt'"),
        (lambda tmp: trueup.score([], [{"prompt": "p", "completion": "c"}]), "an empty list rewards nothing"),
        (lambda tmp: trueup.score(shorter, [{"prompt": "p"}]), "completion"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, call, match):
    with pytest.raises(TrueupError) as caught:
        call(tmp_path)
    assert match in str(caught.value)
