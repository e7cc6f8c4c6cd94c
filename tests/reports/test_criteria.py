"""A run against what is asked of it, what it takes for a trial, and the command that does it again."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.test_evaluation import rows as evaluated
from trueup.config import default_values
from trueup.ledger import Run, read_run
from trueup.recipes.registry import resolve
from trueup.recipes.table import RECIPES
from trueup.reports.again import again, changed, flat
from trueup.reports.build import report_run
from trueup.reports.criteria import criteria, is_trial
from trueup.reports.logs import read_log


def logged(path, kind, series, *, evaluations=(), config=None, samples=(), facts=None):
    config = {"seed": 0, **(config or {})}
    with Run.start(path, kind=kind, config=config, inputs={}, defaults=config, quiet=True) as run:
        if facts:
            run.note(**facts)
        for step in range(len(next(iter(series.values())))):
            run.log(step, {name: values[step] for name, values in series.items()})
            run.time(step, 0.1)
        for step, row in enumerate(evaluations):
            run.evaluation(step, **row)
        for line in samples:
            run.sample(**line)
    return path


def outcomes(path, rows=(), model=None):
    samples = path / "samples.jsonl"
    probes = [json.loads(line) for line in samples.read_text().splitlines()] if samples.exists() else []
    return {one.name: (one.outcome, one.words) for one in criteria(read_log(path), probes, rows, model)}


RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.01, 200)


@pytest.mark.parametrize(
    ("series", "outcome", "word"),
    [
        (3 * np.exp(-np.arange(200) / 15) + 1 + NOISE, "met", "no longer moves"),
        (np.linspace(4, 1, 200) + NOISE, "not met", "still falls"),
        (1 + NOISE, "not met", "no fall beyond its noise"),
        (np.linspace(1, 2, 200) + NOISE, "not met", "no fall beyond its noise"),
        (np.array([2.0, 1.0, 0.9]), "cannot be told", "too few"),
    ],
)
def test_whether_sft_converged(tmp_path, series, outcome, word):
    (found,) = outcomes(logged(tmp_path / "sft", "sft", {"nll": series.tolist()})).values()
    assert found[0] == outcome
    assert word in found[1]


def test_over_fitting_is_said(tmp_path):
    series = {"nll": (3 * np.exp(-np.arange(200) / 15) + 1 + NOISE).tolist()}
    held = [{"heldout_nll": value} for value in (2.0, 1.5, 1.9)]
    (found,) = outcomes(logged(tmp_path / "sft", "sft", series, evaluations=held)).values()
    assert "over-fits" in found[1]


@pytest.mark.parametrize(
    ("accuracy", "bounds", "outcome"),
    [(0.75, (0.70, 0.80), "met"), (0.55, (0.5, 0.6), "not met"), (0.68, (0.60, 0.75), "cannot be told")],
)
def test_whether_the_reward_model_is_above_65_percent(tmp_path, accuracy, bounds, outcome):
    held = [{"heldout_accuracy": accuracy, "pairs": 200, "intervals": {"heldout_accuracy": list(bounds)}}]
    (found,) = outcomes(logged(tmp_path / "r", "reward", {"loss": [0.5] * 30}, evaluations=held)).values()
    assert found[0] == outcome
    assert f"{accuracy:.1%}" in found[1]


def test_a_reward_model_without_held_out_pairs_is_not_measured(tmp_path):
    for config, words in (({}, "give --validation"), ({"validation": "held.jsonl"}, "see the validation data")):
        run = logged(tmp_path / f"r-{len(config)}", "reward", {"loss": [0.5] * 30}, config=config)
        (found,) = outcomes(run).values()
        assert found[0] == "not measured"
        assert words in found[1]


def ppo(path, *, rise=2.0, kl_end=4.0, kl=None, probes=True, steps=60):
    score, measured = np.linspace(0, rise, steps), np.minimum(np.linspace(0.1, 2 * kl_end, steps), kl_end)
    noise = np.random.default_rng(1).normal(0, 0.05, steps)
    samples = [
        {
            "step": step,
            "prompt": f"q{i}",
            "question": f"q{i}",
            "completion": "a",
            "score": float(i % 3 + (rise + i % 4 / 10) * step / steps),
        }
        for step in (0, steps - 1)
        for i in range(12 if probes else 0)
    ]
    series = {"score": (score + noise).tolist(), "kl": (measured + noise).tolist()}
    control = {"kl": kl or {"kind": "adaptive", "target": 4.0}}
    return logged(path, "ppo", series, config=control, samples=samples)


@pytest.mark.parametrize("probes", [True, False])
def test_whether_the_reward_rose(tmp_path, probes):
    for rise, outcome in ((2.0, "met"), (-2.0, "not met")):
        found = outcomes(ppo(tmp_path / f"{rise}", rise=rise, probes=probes))["the reward rose"]
        assert found[0] == outcome
        assert ("fixed prompts" in found[1]) is probes
    assert outcomes(ppo(tmp_path / "flat", rise=0.0, probes=False))["the reward rose"][0] == "cannot be told"


def test_whether_the_kl_stayed_in_range(tmp_path):
    name = "the KL stayed in range"
    assert outcomes(ppo(tmp_path / "in"))[name][0] == "met"
    assert outcomes(ppo(tmp_path / "out", kl_end=9.0))[name][0] == "not met"
    fixed = outcomes(ppo(tmp_path / "fixed", kl={"kind": "fixed", "beta": 0.1}))[name]
    assert "no range" in fixed[1]


def test_whether_it_is_better_than_the_model_before(tmp_path):
    name, run = "better than the model before", ppo(tmp_path / "ppo")
    assert outcomes(run)[name][0] == "not measured"
    rows = evaluated("sft", [0.2, 0.4] * 10) + evaluated("ppo", [0.8, 0.9] * 10)
    assert outcomes(run, rows)[name] == ("not measured", "The evaluation did not measure this run's final model.")
    assert outcomes(run, rows, "ppo")[name][0] == "met"
    assert outcomes(run, rows, "sft")[name][0] == "not met"
    alike = evaluated("sft", [0.2, 0.4] * 10) + evaluated("ppo", [0.4, 0.2] * 10)
    assert outcomes(run, alike, "ppo")[name][0] == "cannot be told"


def test_a_preference_run_says_whether_chosen_answers_lost(tmp_path):
    series = {"margin": [0.1] * 40, "chosen_logratio": (-1 + NOISE[:40]).tolist()}
    held = [{"heldout_accuracy": 0.8, "pairs": 100, "intervals": {"heldout_accuracy": [0.7, 0.9]}}]
    found = outcomes(logged(tmp_path / "dpo", "dpo", series, evaluations=held))
    assert found["chosen answers did not become less likely"][0] == "not met"
    assert found["the policy prefers the chosen answers of held-out pairs"][0] == "met"


def test_a_trial_says_that_it_is_one(tmp_path):
    short = logged(tmp_path / "short", "sft", {"nll": [2.0, 1.9]})
    probe = logged(tmp_path / "probe", "sft", {"nll": [2.0] * 30}, facts={"steps": 400})
    whole = logged(tmp_path / "whole", "sft", {"nll": [2.0] * 30}, facts={"steps": 30})
    assert "2 steps" in is_trial(read_log(short))
    assert "30 of its 400 steps" in is_trial(read_log(probe))
    assert is_trial(read_log(whole)) is None
    assert report_run(short).data["smoke"]
    assert report_run(short).html.read_text().index("smoke run") < 6000
    assert not report_run(whole).data["smoke"]


def test_a_run_that_was_stopped_by_its_kl_is_no_trial(tmp_path):
    series = {"score": [0.1] * 30, "kl": [1.0] * 29 + [9.0]}
    run = logged(tmp_path / "ppo", "ppo", series, config={"kl_stop": 5.0}, facts={"steps": 100})
    assert is_trial(read_log(run)) is None
    facts = {"steps": 100, "stopped": {"step": 29, "rule": "kl_runaway"}}
    assert is_trial(read_log(logged(tmp_path / "alerted", "ppo", series, facts=facts))) is None


def test_the_report_of_a_run_shows_its_probes_and_the_evaluation(tmp_path):
    from trueup.evaluation.rows import write_rows

    run = ppo(tmp_path / "ppo")
    (tmp_path / "test").mkdir()
    write_rows(evaluated("sft", [0.2, 0.4] * 10) + evaluated("ppo", [0.8, 0.9] * 10), tmp_path / "test" / "eval.jsonl")
    report = report_run(run, evaluation=tmp_path / "test")
    text = report.markdown.read_text()
    assert "*step 0*" in text
    assert "*step 59*" in text
    assert "| better than the model before | met |" in text
    assert {one["outcome"] for one in report.data["criteria"]} == {"met"}


def config_of(kind, changes):
    base = {"data": "x.jsonl", "model.name": "m", "reward": "r", "validation": "v.jsonl"}
    recipe = RECIPES[kind]
    flags = {name: base.get(name) for name in recipe.inputs}
    return resolve(kind, None, flags, [f"{name}={json.dumps(value)}" for name, value in changes.items()])


def words_of(command):
    """What the command line means, as Typer would read it."""
    _, kind, *words = shlex.split(command)
    flags, sets = {}, []
    for flag, value in zip(words[::2], words[1::2], strict=True):
        if flag == "--set":
            sets.append(value)
        elif flag != "--out":
            flags["model.name" if flag == "--model" else flag[2:]] = value
    return resolve(kind, None, flags, sets)


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "optim.learning_rate": st.floats(1e-6, 1),
        "optim.schedule": st.sampled_from(["cosine", "linear", "constant"]),
        "optim.betas": st.lists(st.floats(0, 0.9), min_size=2, max_size=2),
        "batch.size": st.sampled_from([128, 256, 512]),  # whole groups for every method
        "batch.micro_tokens": st.one_of(st.none(), st.integers(1, 99)),
        "model.lora": st.one_of(st.none(), st.just({"rank": 4, "alpha": 8.0})),
        "model.template_variables": st.sampled_from([{}, {"enable": False}, {"word": "a b 'c'"}]),
        "read.split": st.sampled_from(["train", "true", "1e5", "null", "a b", "ä", "${HOME}x".replace("$", "")]),
        "seed": st.integers(0, 9),
    },
)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(RECIPES)), CHANGES)
def test_the_command_that_does_it_again_gives_the_same_settings(kind, changes):
    config = config_of(kind, changes)
    record = json.loads(
        json.dumps(
            {
                "kind": kind,
                "status": "done",
                "config": config.model_dump(mode="json"),
                "defaults": default_values(type(config)),
                "inputs": {},
            }
        )
    )
    (command,) = again(record, "runs/x y")
    assert words_of(command) == config
    assert "'runs/x y-again'" in command


def test_an_unfinished_run_is_gone_on_with_and_an_own_recipe_is_called_from_python():
    record = {"kind": "my.module:Mine", "status": "failed", "config": {"steps": 3}, "defaults": {"steps": 2}}
    assert list(again(record, "runs/x")) == ["trueup resume runs/x"]
    (command,) = again(record | {"status": "done"}, "runs/x")
    code = shlex.split(command)[2]
    compile(code, "again", "exec")
    assert "trueup.train('my.module:Mine', {'steps': 3}, out='runs/x-again')" in code


def test_settings_that_differ_are_those_that_were_set(tmp_path):
    record = {"config": {"a": 1, "b": {"c": 2, "d": {}}, "data": "x"}, "defaults": {"a": 0, "b": {"c": 2, "d": {}}}}
    assert changed(record) == {"a": 1}
    assert flat(record["config"]) == {"a": 1, "b.c": 2, "b.d": {}, "data": "x"}
    run = logged(tmp_path / "sft", "sft", {"nll": [2.0] * 30}, config={"epochs": 3})
    assert read_run(run)["config"]["epochs"] == 3
    assert report_run(run).data["runs"]["sft"]["changed"] == {}
