"""``trueup evaluate`` and ``trueup hacking`` on tiny models: every judge, no judge, people and back, refusals."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import trueup
from tests.conftest import tiny_model
from tests.recipes.conftest import _kernels, material  # noqa: F401
from tests.web.explorer.planted import judge as judge_everything
from trueup.commands.app import app
from trueup.commands.judges import parse_judges
from trueup.errors import ConfigError, DataError, NonFiniteError, RunError, UsageError
from trueup.feedback.exchange.landing import project_named
from trueup.feedback.store.database import Store
from trueup.feedback.store.reading import read_project
from trueup.models.policy import open_policy

ANIMALS = "cat dog owl fox bee hen ant bat".split()
ROWS = [
    {
        "prompt": [{"role": "user", "content": f"What does the {animal} like?"}],
        "kind": "pet" if number < 2 else "wild",
        "safe": number % 2 == 0,
        "reference": f"The {animal} likes warm milk.",
    }
    for number, animal in enumerate(ANIMALS)
]
QUICK = {"max_new_tokens": 8, "quiet": True}


@pytest.fixture(scope="module")
def models(material, tmp_path_factory):  # noqa: F811
    """Two tiny policies of one vocabulary that answer differently."""
    other = tmp_path_factory.mktemp("other") / "policy"
    policy = open_policy(tiny_model().model_copy(update={"name": material["policy"]}))
    for parameter in policy.model.parameters():
        parameter.data.mul_(1.5)
    policy.export(other)
    return {"sft": material["policy"], "new": str(other)}


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(file)


def longer(prompt, answer, other):
    return "tie" if len(answer) == len(other) else "a" if len(answer) > len(other) else "b"


def characters(prompt, answer):
    assert not prompt.startswith("user:")
    return len(answer)


def test_without_a_judge_answers_are_described(models, data, tmp_path):
    told = trueup.evaluate(models, data, out=tmp_path / "e", **QUICK)
    assert told.comparison["judges"] == []
    answers = told.comparison["models"]["new"]["answers"]
    assert {"words", "tokens", "eos", "kl", "refusals", "distinct_2", "repetition"} <= answers.keys()
    page = told.report.read_text()
    assert "Quality was not judged" in page
    assert "win-rate" not in page.split("<h2>The answers</h2>")[0].split("<h2>Quality</h2>")[1]
    assert {row["safe"] for row in told.rows} == {True, False}
    assert {row["refusal"] for row in told.rows} <= {"full", "partial", "none"}
    with pytest.raises(KeyError):
        told.win_rate("new")


def test_all_judges_at_once(models, data, material, tmp_path):  # noqa: F811
    judges = {"strict": f"reward:{material['judge']}", "size": characters, "likes": longer, "known": "reference:rouge"}
    told = trueup.evaluate(models, data, judges=judges, out=tmp_path / "e", samples=2, **QUICK)
    assert [judge["label"] for judge in told.comparison["judges"]] == list(judges)
    assert len(told.rows) == 2 * 2 * len(ROWS)
    assert all(row["size"] == len(row["completion"]) for row in told.rows)
    assert all(0 <= row["known"] <= 1 for row in told.rows)
    by = {judge["label"]: judge for judge in told.comparison["judges"]}
    assert set(by["known"]["models"]["new"]["by_kind"]) == {"pet", "wild"}
    assert by["likes"]["models"]["new"]["consistency"]["estimate"] == 1.0
    assert by["strict"]["models"]["new"]["length_controlled"]["extrapolates"]
    assert told.win_rate("new", "strict")["n"] == len(ROWS)
    same = {frozenset((one["first"], one["second"])): one["raw"]["estimate"] for one in told.comparison["agreement"]}
    assert same[frozenset(("size", "likes"))] == 1.0  # they like the same
    verdicts = [json.loads(line) for line in (tmp_path / "e" / "verdicts.jsonl").read_text().splitlines()]
    assert len(verdicts) == 2 * len(ROWS)
    for name in ("report.html", "report.md"):
        assert all(label in (tmp_path / "e" / name).read_text() for label in judges)


def test_the_implicit_reward_is_beta_times_the_log_ratio(models, data, tmp_path):
    judge = f"implicit:{models['new']}#reference={models['sft']},beta=0.3"
    told = trueup.evaluate(models, data, judges=[judge], out=tmp_path / "e", **QUICK)
    new, old = trueup.open_policy(models["new"]), trueup.open_policy(models["sft"])
    for row in (row for row in told.rows if row["stop"] == "eos"):
        ratio = new.logps(row["question"], row["completion"])[0] - old.logps(row["question"], row["completion"])[0]
        assert row["implicit"] == pytest.approx(0.3 * ratio, abs=1e-4)
    assert "new judges its own answers" in told.report.read_text()
    with pytest.raises(ConfigError, match="nothing says what its reference is"):
        trueup.evaluate(models, data, judges=[f"implicit:{models['new']}"], out=tmp_path / "f", **QUICK)


def test_people_judge_blindly_and_their_answers_come_back(models, data, tmp_path):
    db, out = str(tmp_path / "room.db"), tmp_path / "e"
    people = {"db": db, "project": "blind", "votes": 2}
    trueup.evaluate(models, data, judges=["people"], people=people, out=out, **QUICK)
    assert "Quality was not judged" in (out / "report.html").read_text()
    with pytest.raises(DataError, match="nobody has judged"):
        trueup.read_people("blind", db=db, out=out, quiet=True)
    with Store(db, read_only=True) as store:
        items = read_project(store, project_named(store, "blind")).items.values()
    assert {item.stream for item in items} == {"holdout"}
    assert len({item.responses[0].generator for item in items}) == 2  # whose answer comes first is drawn

    def longest(shown, texts):
        sizes = {name: len(text) for name, text in texts.items()}
        if len(set(sizes.values())) == 1:
            return {"preferred": None, "strength": 0}
        return {"preferred": max(sizes, key=sizes.get), "strength": 2}

    judge_everything(db, "blind", ["ada", "bob"], longest)
    told = trueup.read_people("blind", db=db, out=out, quiet=True)
    rows = {(row["model"], row["prompt_id"]): row for row in told.rows}
    for row in (row for row in told.rows if row["model"] == "new"):
        other = rows["sft", row["prompt_id"]]
        ours, theirs = (len(r["completion"]) if r["completion"].strip() else 9 for r in (row, other))
        wanted = 0.5 if row["completion"] == other["completion"] or ours == theirs else float(ours > theirs)
        assert (row["true_quality"], other["true_quality"]) == (wanted, 1 - wanted)
    rate = told.win_rate("new", "people")
    mean = sum(row["true_quality"] for row in told.rows if row["model"] == "new") / len(ROWS)
    assert rate["estimate"] == pytest.approx(mean)
    assert rate["low"] < rate["estimate"] or rate["estimate"] == 0
    again = trueup.read_people("blind", db=db, out=out, quiet=True)
    assert again.comparison == told.comparison
    assert "by 2 people who saw no names" in again.report.read_text()
    with pytest.raises(UsageError, match="there is a project 'blind' already"):
        trueup.evaluate(models, data, judges=["people"], people=people, out=tmp_path / "g", **QUICK)
    trueup.evaluate(models, data, judges=[longer], out=tmp_path / "h", seed=5, **QUICK)
    with pytest.raises(DataError, match="not those of this evaluation"):
        trueup.read_people("blind", db=db, out=tmp_path / "h", quiet=True)


def _raises(prompt, answer):
    raise ValueError("no idea")


def _unsure(prompt, answer):
    return float("nan")


def _four(a, b, c, d):
    return 0


@pytest.mark.parametrize(
    ("judges", "error", "match"),
    [
        (["endpoint:http://localhost"], UsageError, "cannot be asked yet"),
        (["reword:x"], UsageError, "did you mean 'reward'"),
        (["reward"], UsageError, "names nothing"),
        (["gold:x"], UsageError, "too much"),
        (["mine=gold"], UsageError, "always called gold"),
        (["reference:blue"], UsageError, "no measure"),
        (["kl=reference"], UsageError, "a column of every evaluation"),
        (["a=reference:f1", "a=reference:exact"], UsageError, "two judges are called 'a'"),
        (["people"], UsageError, "where they judge"),
        (["gold"], DataError, "not of the sandbox"),
        ([_raises], RunError, "ValueError: no idea"),
        ([_unsure], NonFiniteError, "nan"),
        ([_four], UsageError, "takes 4 arguments"),
    ],
)
def test_what_cannot_judge_is_refused_with_its_name(judges, error, match, models, data, tmp_path):
    with pytest.raises(error, match=match):
        trueup.evaluate(models, data, judges=judges, out=tmp_path / "e", **QUICK)
    assert not (tmp_path / "e" / "report.html").exists()


def test_a_second_judge_of_a_kind_has_a_name_of_its_own():
    parsed = parse_judges(["reward:a", "reward:b#label=x=y,text=answer", "n-1=python:m:f", "reference"])
    assert [(judge.label, judge.kind, judge.source) for judge in parsed] == [
        ("reward", "reward", "a"),
        ("reward-2", "reward", "b#label=x=y,text=answer"),
        ("n-1", "python", "m:f"),
        ("reference", "reference", ""),
    ]
    assert [judge.text for judge in parsed][2:] == ["n-1=python:m:f", "reference"]


@pytest.mark.parametrize(
    ("change", "columns", "match"),
    [
        ({"safe": "perhaps"}, {}, r"test\.jsonl:3, safe"),
        ({"kind": None}, {}, r"test\.jsonl:3, kind"),
        ({"reference": " "}, {"references": "reference"}, r"test\.jsonl:3, reference"),
        ({}, {"kind": "sort"}, "no column 'sort'"),
    ],
)
def test_marks_that_cannot_be_read_name_file_and_line(change, columns, match, models, tmp_path):
    file = tmp_path / "test.jsonl"
    rows = [*ROWS[:2], ROWS[2] | change, *ROWS[3:]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=match):
        trueup.evaluate(models, str(file), columns=columns, out=tmp_path / "e", **QUICK)


def test_one_model_has_nothing_to_compare(models, data, tmp_path):
    one = {"sft": models["sft"]}
    with pytest.raises(UsageError, match="two models or more"):
        trueup.evaluate(one, data, judges=[longer], out=tmp_path / "e", **QUICK)
    told = trueup.evaluate(one, data, judges=["reference"], out=tmp_path / "e", **QUICK)
    assert "score" in told.comparison["judges"][0]["models"]["sft"]


def test_the_command(models, data, tmp_path):
    run = CliRunner().invoke
    named = [f"{name}={path}" for name, path in models.items()]
    out = str(tmp_path / "e")
    done = run(app, ["evaluate", *named, "--data", data, "--judge", "reference", "--out", out, "--max-new-tokens", "8"])
    assert done.exit_code == 0, done.exception
    assert done.stdout.rstrip().endswith("report.html")
    told = run(app, ["evaluate", *named, "--data", data, "--out", out, "--max-new-tokens", "8", "--json"])
    assert json.loads(told.stdout)["comparison"]["judges"] == []
    for wrong in (
        [],
        named,
        ["--data", data],
        ["--read-back", "x", "--data", data],
        ["--read-back", "x", "--out", data],
    ):
        assert isinstance(run(app, ["evaluate", *wrong]).exception, UsageError), wrong


# Hacking --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gamed(material, tmp_path):  # noqa: F811
    """A finished run whose logs say that it games its reward."""
    from trueup.config import build
    from trueup.recipes.table import recipe_of

    folder = tmp_path / "run"
    settings = {"data": material["prompts"], "reward": material["judge"], "model": {"name": material["policy"]}}
    config = build(recipe_of("ppo").settings(), settings, where="test").model_dump(mode="json")
    folder.mkdir()
    record = {"kind": "ppo", "status": "done", "config": config, "defaults": config, "pinned": {}, "inputs": {}}
    (folder / "run.json").write_text(json.dumps(record | {"format": 1}))
    metrics, samples = [], []
    for step in range(24):
        row = {"score": step / 4, "kl": step * 2.0, "distinct_2": 0.9 - step / 30, "completion_length": 20.0}
        metrics.append({"step": step, **row})
        words = [f"w{number}" for number in range(2 + min(step, 24 - step))]
        text = " ".join(words * (1 if step <= 12 else 1 + 40 // len(words)))
        samples += [{"step": step, "prompt": f"user: {q}", "question": q, "completion": text, "score": step / 4,
                     "stop": "eos"} for q in ("Why?", "How?")]  # fmt: skip
    for name, lines in (("metrics", metrics), ("samples", samples)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def variety(prompt, answer):
    assert prompt in ("Why?", "How?")
    return len(set(answer.split())) / 10


def test_a_run_that_games_its_reward(gamed, tmp_path):
    alone = trueup.hacking(gamed)
    assert (alone.hacking.verdict, alone.judge) == ("suspected", None)
    assert any("--judge" in note for note in alone.notes)
    assert {"distinct_2", "repetition"} <= alone.hacking.symptoms.keys()
    told = trueup.hacking(gamed, judge=variety)
    assert told.hacking.verdict == "hacking"
    assert 11 <= told.point_step <= 13
    assert told.hacking.kl_limit == 2 * trueup.Run(gamed).settings["kl"]["target"]
    assert [example["quality"] for example in told.examples] == pytest.approx([0.3])
    file = tmp_path / "people.jsonl"
    file.write_text("".join(json.dumps({"step": s, "quality": 3 - s / 10}) + "\n" for s in (0, 5, 10, 23)))
    assert trueup.hacking(gamed, quality=file).point_step == 0
    assert trueup.hacking(gamed, judge=variety, kl_limit=1000.0).hacking.divergence is False


def test_the_hacking_command(gamed):
    run = CliRunner().invoke
    told = run(app, ["hacking", str(gamed)])
    assert told.exit_code == 0, told.exception
    assert "The reward may be gamed" in told.stdout
    assert "What helps:" in told.stdout
    assert json.loads(run(app, ["hacking", str(gamed), "--json"]).stdout)["signs"]["quality"] is None


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"judge": "reference"}, UsageError, "cannot score single answers"),
        ({"judge": "gold"}, UsageError, "not of the sandbox"),
        ({"judge": "gold", "quality": "x"}, UsageError, "one of the two"),
        ({"quality": "nowhere.jsonl"}, UsageError, "no such file"),
    ],
)
def test_hacking_refuses(options, error, match, gamed):
    with pytest.raises(error, match=match):
        trueup.hacking(gamed, **options)


@pytest.mark.parametrize(
    "line", ["{", '{"step": 1}', '{"step": 99, "quality": 1}', '{"step": 1, "quality": "good"}', "[]"]
)
def test_ratings_that_cannot_be_read_name_their_line(line, gamed, tmp_path):
    file = tmp_path / "people.jsonl"
    file.write_text(f'{{"step": 0, "quality": 1}}\n{line}\n')
    with pytest.raises(DataError, match=r"people\.jsonl:2"):
        trueup.hacking(gamed, quality=file)


def test_a_run_without_a_reward_is_refused(gamed):
    (gamed / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
    with pytest.raises(UsageError, match="0 steps with a score"):
        trueup.hacking(gamed)
