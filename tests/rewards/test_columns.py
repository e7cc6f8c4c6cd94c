"""Rewards that read columns of the data: what they get, in online methods, score and evaluate, and what is refused."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import trueup
from tests.recipes.conftest import _kernels, material  # noqa: F401
from tests.recipes.test_recipes import config_of
from tests.rewards import column_rewards
from trueup.commands.app import app
from trueup.commands.comparison import compare_models
from trueup.commands.panel import Panel
from trueup.config import Sampling
from trueup.data.read import read_prompts
from trueup.data.write import write_jsonl
from trueup.errors import DataError, NonFiniteError, RunError, ShapeError, TrueupError, UsageError
from trueup.recipes.registry import execute
from trueup.rewards.columns import column_remarks, columns_asked, give_columns
from trueup.rewards.registry import open_reward
from trueup.types import Completion, StopReason, prompt_json

REWARDS = "tests.rewards.column_rewards"
ROWS = [
    {"prompt": "One?", "completion": "1", "answer": "1", "kind": "sum", "note": "n"},
    {"prompt": "Two?", "completion": "3", "answer": "2", "kind": "sum", "note": "m"},
]


@pytest.fixture(autouse=True)
def _forgotten():
    column_rewards.SEEN.clear()


def done(*texts):
    return [Completion(text, (), StopReason.EOS) for text in texts]


def given(name, rows, **options):
    reward = open_reward(f"{REWARDS}:{name}")
    loaded = read_prompts(rows, **options)
    return reward, give_columns(reward, rows, loaded, loaded.items, loaded.items), loaded


def test_what_a_signature_asks_for():
    def asks(prompts, completions, scale=2.0, *, answer, kind=None, **rest):
        """Its third parameter is its own."""

    asked = columns_asked(asks)
    assert (asked.needed, asked.optional, asked.all_others) == (("answer",), ("kind",), True)
    assert asked.among(["scale", "answer", "note", "two words"]) == ("answer", "note")
    assert not columns_asked(lambda prompts, completions: [])
    assert not columns_asked(max)


def test_values_go_with_their_prompts_in_any_order():
    reward, names, loaded = given("exact", ROWS)
    assert names == ("answer",)
    assert reward.score(["Two?", "One?", "Two?"], done("2", "2", "3")).tolist() == [1.0, 0.0, 0.0]
    assert column_rewards.SEEN == [["2", "1", "2"]]
    assert loaded.report.unused_columns == ("completion", "kind", "note")
    assert "answer" not in loaded.report.unused_text


def test_a_part_and_a_member_are_given_theirs():
    parts = open_reward([{"source": f"{REWARDS}:exact", "weight": 3}, {"kind": "length"}])
    loaded = read_prompts(ROWS)
    assert give_columns(parts, ROWS, loaded, loaded.items, loaded.items) == ("answer",)
    assert parts.scored(["One?"], done("1")).parts[0].weighted_K.tolist() == [3.0]
    assert given("Class", ROWS)[0].score(["One?"], done("x")).tolist() == [1.0]


def test_only_rows_that_are_used_need_the_column():
    rows = [*ROWS, {"prompt": "Three?", "completion": "3"}]
    assert given("exact", rows, limit=2)[1] == ("answer",)
    with pytest.raises(DataError, match=r"rows:3.*answer: is missing"):
        given("exact", rows)


def test_an_optional_column_is_none_where_a_row_has_none_and_its_default_where_none_has_it():
    reward, names, _ = given("optional", [{**ROWS[0], "weight": 0.5}, ROWS[1]])
    assert names == ("kind", "weight")
    assert reward.score(["One?", "Two?"], done("a", "b")).tolist() == [0.5, 0.0]
    assert column_remarks(reward) == []
    reward, names, _ = given("optional", [{"prompt": "One?"}])
    reward.score(["One?"], done("a"))
    assert column_rewards.SEEN[-1] == (None, "none")
    assert [line.rpartition(": ")[2] for line in column_remarks(reward)] == [
        "there is no column 'weight'; its default is used",
        "there is no column 'kind'; its default is used",
    ]


def test_all_columns_are_lists_of_the_batch():
    reward, _, loaded = given("everything", ROWS)
    reward.score(["Two?", "One?"], done("a", "b"))
    assert column_rewards.SEEN[0]["note"] == ["m", "n"]
    assert loaded.report.unused_columns == ()


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"prompt": "One?", "anser": "1"}], "did you mean 'anser'"),
        ([ROWS[0], {"prompt": "Two?", "answer": None}], "rows:2, answer: is missing"),
        ([ROWS[0], {**ROWS[0], "answer": "one"}], "rows:2, answer: the prompt stands at rows:1 too"),
    ],
)
def test_a_column_that_cannot_be_read_is_named_with_its_row(rows, match):
    with pytest.raises(DataError) as caught:
        given("exact", rows)
    assert match in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("too_few", ShapeError, "2 numbers"),
        ("nothing", NonFiniteError, "nan"),
        ("raises", RunError, "cannot read 2"),
    ],
)
def test_what_is_no_score_is_refused_with_columns_too(name, error, match):
    reward, _, _ = given(name, ROWS)
    with pytest.raises(error, match=match):
        reward.score(["One?", "Two?"], done("a", "b"))


def test_where_there_are_no_rows_it_is_refused():
    reward = open_reward(f"{REWARDS}:exact")
    with pytest.raises(UsageError, match="nobody gave it"):
        reward.score(["One?"], done("1"))
    with pytest.raises(UsageError, match="no row to take it from"):
        Panel([], reward=reward)
    printed = CliRunner().invoke(app, ["score", f"{REWARDS}:exact", "--text", "1"])
    assert isinstance(printed.exception, UsageError)


def test_an_online_method_gives_them_and_says_what_is_not_used(material, tmp_path, capsys):  # noqa: F811
    config = config_of("rloo", material | {"judge": f"{REWARDS}:exact"}, steps=1)
    loaded = read_prompts(config.data)
    prompts = dict.fromkeys(loaded.items)
    rows = [{"prompt": prompt_json(p), "answer": f"a{n}", "note": "no"} for n, p in enumerate(prompts)]
    data = write_jsonl(tmp_path / "prompts.jsonl", rows)
    execute("rloo", config.model_copy(update={"data": str(data)}), tmp_path / "run", quiet=True)
    assert column_rewards.SEEN
    assert {value for seen in column_rewards.SEEN for value in seen} <= {row["answer"] for row in rows}
    said = capsys.readouterr().err
    assert "'note' is not used" in said
    assert "answer" not in said
    write_jsonl(data, [{key: row[key] for key in ("prompt", "note")} for row in rows])
    with pytest.raises(DataError, match="asks for it"):
        execute("rloo", config.model_copy(update={"data": str(data)}), tmp_path / "none", quiet=True)
    assert not (tmp_path / "none" / "metrics.jsonl").exists()


def test_evaluate_and_score_give_them(material, tmp_path):  # noqa: F811
    data = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    model = material["policy"]
    report = compare_models(
        [f"m={model}"],
        str(data),
        open_reward(f"{REWARDS}:exact"),
        tmp_path / "out",
        sampling=Sampling(max_new_tokens=4),
        tell=lambda line: None,
    )
    assert report.html.is_file()
    assert column_rewards.SEEN == [["1", "2"]]
    printed = CliRunner().invoke(app, ["score", f"{REWARDS}:exact", "--data", str(data), "--json"])
    assert [json.loads(line)["reward"] for line in printed.stdout.splitlines()] == [1.0, 0.0]
    assert trueup.score(f"{REWARDS}:exact", ROWS).rewards == [1.0, 0.0]


def test_a_scorer_takes_columns_beside_its_texts():
    scorer = trueup.open_reward(column_rewards.exact)
    assert scorer.score(["q", "r"], ["1", "1"], columns={"answer": ["1", "2"]}) == [1.0, 0.0]
    for columns, match in (
        ({}, "asks for it"),
        ({"answer": ["1"]}, "1 values of 'answer'"),
        ({"answer": ["1", "2"], "other": [0, 0]}, "does not ask for 'other'"),
    ):
        with pytest.raises(TrueupError, match=match):
            scorer.score(["q", "r"], ["1", "1"], columns=columns)
    with pytest.raises(UsageError, match="asks for no columns"):
        trueup.open_reward(lambda prompts, completions: [0.0]).score("q", "a", columns={"answer": ["1"]})
