"""One pair followed through all three ledgers: judgments, snapshot, runs."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import ANIMALS, prompt
from tests.recipes.conftest import _kernels, material  # noqa: F401
from tests.recipes.test_recipes import config_of
from tests.test_commands import trueup
from trueup.commands.life import trace
from trueup.commands.life_steps import Standing, cross_entropy, logit, margin_loss, pulls, sigmoid
from trueup.commands.life_text import format_text
from trueup.data.read import read_labelled
from trueup.engine.checkpoint import names
from trueup.errors import UsageError
from trueup.feedback.store.database import Store
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.projects import NewItem, add_person, add_template, create_project
from trueup.feedback.store.reading import read_project
from trueup.ledger import metric_rows, read_run
from trueup.recipes.registry import execute
from trueup.reports.trace import write_trace
from trueup.spec import preference
from trueup.types import Message, content_id, prompt_json


@pytest.fixture(scope="module")
def world(material, tmp_path_factory):  # noqa: F811
    """Twelve judged pairs, a training file that names their judgments, and two runs on it."""
    folder = tmp_path_factory.mktemp("trace")
    db = str(folder / "feedback.db")
    rows, lines = [], []
    with Store(db) as store:
        project = create_project(store, "demo", simulated=True)
        template = add_template(store, project, "pairwise", "pairs")
        people = [add_person(store, name, simulated=True) for name in "abc"]
        for animal in ANIMALS:
            asked = tuple(Message(t["role"], t["content"]) for t in prompt(animal))
            rows.append(NewItem(asked, (f"No idea, go away {animal}.", f"The {animal} likes warm milk and a nap.")))
        at = "2026-01-05T09:00:0{}.000000Z"
        votes = [
            ImportedVote(
                i, who, {"preferred": 1, "strength": 2} if n else {"strength": 0}, (1, 0), at.format(n), 4000, "kind"
            )
            for i in range(len(rows))
            for n, who in enumerate(people)
        ]
        items = import_judged(store, template, rows, votes)
        judged = read_project(store, project)
        for name, row in zip(items, rows, strict=True):
            origin = [j.id for j in judged.judgments if j.item == name]
            bad, good = row.responses
            lines.append(
                {
                    "prompt": prompt_json(row.prompt),
                    "chosen": good,
                    "rejected": bad,
                    "strength": 0.9,
                    "origin": origin,
                    "pair_id": content_id(prompt_json(row.prompt), good, bad),
                }
            )
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs = []
    for kind in ("reward", "dpo"):
        config = config_of(kind, {**material, "pairs": str(file)})
        runs.append(execute(kind, config, folder / kind, quiet=True))
    return db, runs, lines


def test_a_life_from_judgment_to_margin(world):
    db, runs, lines = world
    life = trace(lines[3]["pair_id"], runs, db=db)
    assert life.prompt.endswith(f"What does the {ANIMALS[3]} like?")
    assert [v.verdict for v in life.voices] == ["tie", "chosen", "chosen"]
    assert {v.shown_first for v in life.voices} == {"chosen"}
    assert [v.judgment for v in life.voices] == lines[3]["origin"]
    assert life.missing == ()
    for run in runs:
        steps = life.runs[str(run)]
        assert len(steps) == 4  # four epochs
        assert [math.ceil(s.epoch) for s in steps] == [1, 2, 3, 4]
        assert all(s.margin == pytest.approx(s.chosen_reward - s.rejected_reward) for s in steps)
    by_dpo = life.runs[str(runs[1])]
    assert by_dpo[-1].margin > by_dpo[0].margin  # it started from the reference, where every margin is zero


def test_the_command_says_it_in_words_and_in_json(world):
    db, runs, lines = world
    said = trueup("trace", lines[0]["pair_id"][:10], *map(str, runs), "--db", db)
    assert said.returncode == 0, said.stderr
    for words in ("judged 3 times", "4 s, simulated", "seen 4 times", "the model agrees with the label"):
        assert words in said.stdout
    parsed = json.loads(trueup("trace", lines[0]["pair_id"], str(runs[0]), "--json").stdout)
    assert parsed["missing"] == ["judgments: give the feedback store with --db"]


WORKED = {"strength": 0.9, "chosen": 0.8, "rejected": -1.4}
"""The example that is worked in the second document: a pair that is 90 % sure, and the rewards it ends with."""


def test_the_worked_example_of_the_course():
    target = logit(WORKED["strength"])
    assert target == pytest.approx(2.197, abs=5e-4)  # printed: 2.2
    assert round(cross_entropy(target, 1.0)[0], 3) == 0.105
    margin = WORKED["chosen"] - WORKED["rejected"]
    assert margin == pytest.approx(2.2)
    assert sigmoid(margin) == pytest.approx(0.9, abs=5e-4)
    assert cross_entropy(margin, 1.0)[0] == pytest.approx(0.105, abs=5e-4)
    hard, soft = cross_entropy(margin, 1.0)[1], cross_entropy(target, WORKED["strength"])[1]
    assert hard == pytest.approx(-0.1, abs=5e-4)  # a label that is certain still pulls there
    assert soft == pytest.approx(0.0, abs=1e-12)  # one that is 90 % sure does not


@given(st.floats(-60, 60), st.floats(-60, 60), st.floats(0.5, 1), st.floats(0, 5))
def test_loss_and_pull_of_a_pair_are_those_of_the_specification(chosen, rejected, strength, apart):
    arrays = [np.array([value]) for value in (chosen, rejected, strength, apart)]
    loss, slope = cross_entropy(chosen - rejected, strength, apart)
    assert loss == pytest.approx(float(preference.bradley_terry(*arrays)[0]), rel=1e-12, abs=1e-12)
    assert slope == pytest.approx(float(preference.bradley_terry_grad(*arrays)[0][0]), rel=1e-9, abs=1e-12)


def test_losses_and_shares_are_those_of_the_steps(world):
    db, runs, lines = world
    assert trace(lines[0]["pair_id"], runs, db=db).target_logit == pytest.approx(math.log(9))
    for run in runs:
        lives = [trace(line["pair_id"], [run]).runs[str(run)] for line in lines]
        by_step = {}
        for passage in (passage for steps in lives for passage in steps):
            by_step.setdefault(passage.step, []).append(passage)
            assert passage.probability == pytest.approx(1 / (1 + math.exp(-passage.margin)))
        logged = {row["step"]: row["loss"] for row in metric_rows(run)}
        for step, passages in by_step.items():
            assert sum(p.share for p in passages) == pytest.approx(1)
            if run == runs[1]:  # a reward model's has its centring term too
                assert sum(p.loss for p in passages) / len(passages) == pytest.approx(logged[step], rel=1e-5)


def test_a_run_whose_data_is_gone_keeps_its_margins(world, tmp_path):
    _, runs, lines = world
    copy = tmp_path / "dpo"
    shutil.copytree(runs[1], copy)
    record = read_run(copy)
    record["config"]["data"] = str(tmp_path / "gone.jsonl")
    (copy / "run.json").write_text(json.dumps(record))
    life = trace(lines[3]["pair_id"], [runs[0], copy])
    assert [step.loss for step in life.runs[str(copy)]] == [None] * 4
    assert any("losses and shares, which go by its data" in said for said in life.missing)
    assert all(step.margin is not None for step in life.runs[str(copy)])


def test_a_share_is_not_guessed_where_a_pair_of_the_step_is_not_known():
    loss = margin_loss("reward", {})
    rows = [{"step": 0, "pair_id": "a", "margin": 1.0}, {"step": 0, "pair_id": "b", "margin": 1.0}]
    standing = Standing(1.0, 2.0, 0.0)
    assert pulls(rows, {0}, loss, {"a": standing}) == {0: None}
    both = pulls(rows, {0, 1}, loss, {"a": standing, "b": standing})
    assert both == {0: pytest.approx(4 / (1 + math.e)), 1: 0.0}


def test_an_objective_of_more_than_the_margin_says_so():
    assert margin_loss("dpo", {"objective": {"kind": "dpo-nll"}}) is None
    assert margin_loss("kto", {}) is None
    smoothed = margin_loss("dpo", {"objective": {"kind": "dpo", "label_smoothing": 0.1}})
    assert smoothed(math.log(9), 1.0, 0.0)[1] == pytest.approx(0, abs=1e-12)


def test_one_sentence_says_why_the_labels_differ(world):
    db, runs, lines = world
    life = trace(lines[0]["pair_id"], runs, db=db)
    assert life.labels["majority"] == pytest.approx(2.5 / 3)
    assert list(life.labels) == ["majority", "dawid_skene", "ability"]
    assert all(0.5 < value <= 1 for value in life.labels.values())
    text = format_text(life)
    assert "majority says 0.833 because it counts 3 votes alike, 83% for chosen" in text
    assert all(f"{name} says {value:.3f}" in text for name, value in life.labels.items())


@pytest.fixture(scope="module")
def online_run(world, material, tmp_path_factory):  # noqa: F811
    """PPO after the reward model of these pairs."""
    config = config_of("ppo", {**material, "judge": str(world[1][0] / "final")}, steps=2, probe_every=1)
    return execute("ppo", config, tmp_path_factory.mktemp("online") / "ppo", quiet=True)


def test_the_models_say_how_likely_each_answer_is_and_what_the_pair_pulled(world, online_run, tmp_path):
    db, runs, lines = world
    probe = json.loads((online_run / "samples.jsonl").read_text().splitlines()[0])
    line = next(line for line in lines if line["prompt"][0]["content"] in probe["prompt"])
    page = tmp_path / "pages" / "pair.html"
    life = trace(line["pair_id"], [*runs, online_run], db=db, models=True)
    write_trace(life.to_dict(), page)
    assert life.missing == ()
    scaled = life.models[str(runs[0])].rewards
    assert scaled.chosen_raw - scaled.rejected_raw == pytest.approx((scaled.chosen - scaled.rejected) * _std(runs[0]))
    before, after = life.models[str(runs[1])].likelihoods
    assert (before.model, after.model) == ("reference (before)", "after")
    assert life.models[str(online_run)].likelihoods[0].chosen == before.chosen  # both start from one model
    assert after.chosen - after.rejected > before.chosen - before.rejected
    for run in runs:
        pushes = life.models[str(run)].pushes
        assert [push.point for push in pushes] == ["start", *names(run)]
        assert all(push.norm > 0 for push in pushes)  # a share may be below 0: a pair can pull against its batch
    assert [reply.step for reply in life.replies[str(online_run)]] == [0, 1]
    text, html = format_text(life, models=True), page.read_text()
    assert "--models" not in text  # a hint is for what was not asked for
    assert "--models opens the models" in format_text(trace(line["pair_id"], runs))
    for words in ("scaled, as PPO sees them", "of the gradient of step", "its own answers to this prompt"):
        assert words in text
    for words in ("says", "ability", "Its logit", "<svg", "as PPO sees them", "answered to this prompt"):
        assert words in html


def _std(run):
    return json.loads((run / "final" / "trueup_reward.json").read_text())["std"]


def test_an_online_run_alone_names_what_is_needed(online_run):
    with pytest.raises(UsageError, match="no run on pairs"):
        trace("a", [online_run])


def test_a_run_with_relative_paths_is_followed_from_anywhere(world, material, tmp_path, monkeypatch):  # noqa: F811
    _, runs, lines = world
    (tmp_path / "data").mkdir()
    shutil.copy(read_run(runs[0])["config"]["data"], tmp_path / "data" / "pairs.jsonl")
    monkeypatch.chdir(tmp_path)
    config = config_of("reward", {**material, "pairs": "data/pairs.jsonl"}, epochs=1)
    execute("reward", config, "runs/reward", quiet=True)
    elsewhere = tmp_path / "elsewhere" / "deep"
    (elsewhere / "data").mkdir(parents=True)
    (elsewhere / "data" / "pairs.jsonl").write_text("another file of that name\n")
    monkeypatch.chdir(elsewhere)
    life = trace(lines[0]["pair_id"], [tmp_path / "runs" / "reward"])
    assert len(life.runs[str(tmp_path / "runs" / "reward")]) == 1
    assert life.source == str(tmp_path / "data" / "pairs.jsonl")


def test_unknown_and_ambiguous_ids_say_what_to_do(world):
    db, runs, _ = world
    with pytest.raises(UsageError, match="0 pairs"):
        trace("zzzz", runs, db=db)
    with pytest.raises(UsageError, match="12 pairs"):
        trace("", runs, db=db)
    with pytest.raises(UsageError, match="no run"):
        trace("a", [])


def test_damaged_lines_of_a_log_are_named_and_the_rest_is_shown(world, tmp_path):
    _, runs, lines = world
    copy = tmp_path / "dpo"
    shutil.copytree(runs[1], copy)
    for name in ("metrics.jsonl", "pairs.jsonl"):
        with (copy / name).open("ab") as handle:
            handle.write(b'{"step": 1, "pair_id": "' + lines[3]["pair_id"].encode() + b'", "margin\n{"torn')
    life = trace(lines[3]["pair_id"], [copy])
    assert len(life.runs[str(copy)]) == 4
    damaged = [said for said in life.missing if "the line is left out" in said]
    assert [said.split(":")[0] for said in damaged] == [str(copy / "metrics.jsonl"), str(copy / "pairs.jsonl")]


@pytest.fixture(scope="module")
def labelled_runs(world, material, tmp_path_factory):  # noqa: F811
    """KTO on the same pairs, and on labels of their own."""
    folder = tmp_path_factory.mktemp("labels")
    pairs = read_run(world[1][0])["config"]["data"]
    config = config_of("kto", material, epochs=2)
    of_pairs = config.model_copy(update={"data": pairs, "validation": None})
    return execute("kto", of_pairs, folder / "pairs", quiet=True), execute("kto", config, folder / "kto", quiet=True)


def test_a_pair_is_followed_through_a_run_on_labels_too(world, labelled_runs):
    db, runs, lines = world
    life = trace(lines[3]["pair_id"], [*runs, labelled_runs[0]], db=db)
    assert life.missing == ()
    steps = life.runs[str(labelled_runs[0])]
    assert len(steps) == 4  # both sides, two epochs
    assert sum(step.chosen_reward is not None for step in steps) == 2
    assert all((step.chosen_reward is None) != (step.rejected_reward is None) for step in steps)
    assert all(step.margin is None for step in steps)
    alone = trace(lines[3]["pair_id"], [labelled_runs[0]], db=db)  # the first run's data is found to be pairs
    assert (alone.chosen, alone.rejected) == (life.chosen, life.rejected)
    text = format_text(life)
    assert "(chosen " in text
    assert text.count("the model agrees with the label") == 3


@pytest.mark.parametrize("number", [3, 4])
def test_a_labelled_response_is_followed_by_its_key(number, labelled_runs, material):  # noqa: F811
    run = labelled_runs[1]
    item = read_labelled(material["labelled"]).items[number]
    life = trace(item.key[:12], [run])
    assert life.pair_id == life.key == item.key
    assert (life.chosen if item.desirable else life.rejected) == item.completion
    assert (life.rejected if item.desirable else life.chosen) is None
    steps = life.runs[str(run)]
    assert [math.ceil(step.epoch) for step in steps] == [1, 2]
    rewards = [step.chosen_reward if item.desirable else step.rejected_reward for step in steps]
    logged = [row for row in map(json.loads, (run / "pairs.jsonl").read_text().splitlines()) if row["key"] == item.key]
    assert rewards == [row["reward"] for row in logged]
    text = format_text(life)
    assert text.startswith(f"response {item.key}, from ")
    assert ("  good:     " if item.desirable else "  bad:      ") + item.completion in text
    assert "seen 2 times" in text
    with pytest.raises(UsageError, match="0 responses have an id or key"):
        trace("zzzz", [run])
