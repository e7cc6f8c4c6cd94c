"""Rounds beside critique and revision: compared answers, own judges, RLHF; and rounds as a stage of a chain."""

from __future__ import annotations

import json

import pytest

from tests.test_constitution import TWO, Fixed
from tests.test_constitution_run import SMALL, written
from trueup.collectors.constitution import read_constitution
from trueup.collectors.constitution_compare import Asked, against_start, best_answers, compare, labels_of
from trueup.collectors.constitution_labels import training_pair
from trueup.collectors.constitution_sandbox import RuleJudge
from trueup.commands import constitution_parts, constitution_run
from trueup.commands.constitution_settings import Constitutional
from trueup.commands.measurements import audit_values
from trueup.commands.pipeline import chain, result_of, run_stages
from trueup.config import build
from trueup.config.text import Located, parse_yaml
from trueup.errors import ConfigError
from trueup.ledger import read_lines
from trueup.sandbox import gold_score


@pytest.fixture(scope="module", autouse=True)
def _small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constitution_parts, "CHUNK", 10)
        yield


def asked(number, **answers):
    return Asked(f"q{number}", "all", number, answers)


# Comparing ------------------------------------------------------------------------------------------------------------


def test_the_best_is_preferred_to_the_worst_by_all_its_contests():
    (row,) = compare([asked(0, a=True, b=True, c=True)], TWO, Fixed({"a": 0.0, "b": 2.0, "c": 1.0}))
    assert (row["state"], row["best"], row["worst"]) == ("pair", "b", "a")
    worth = {one["text"]: one["worth"] for one in row["answers"]}
    assert worth["b"] == pytest.approx((0.8808 + 0.7311) / 2, abs=1e-4)  # sigmoid(2), sigmoid(1)
    (label,) = labels_of([row])
    assert (label["first"], label["second"], label["preferred"]) == ("b", "a", True)
    assert training_pair(label)["strength"] == pytest.approx(0.8808, abs=1e-4)
    assert label["orders"]["one"] == pytest.approx([0.8808, 0.8808], abs=1e-4)


def test_a_verdict_that_the_order_turns_round_is_a_tie():
    (row,) = compare([asked(0, a=True, b=True)], TWO, Fixed({"a": 0.0, "b": 0.5}, place=2.0))
    assert row["state"] == "tie"
    assert row["label"]["p_first"] > 0.5  # by the mean there would be a pair
    assert [label["preferred"] for label in labels_of([row])] == [False]
    (row,) = compare([asked(0, a=True, b=True)], TWO, Fixed({"a": 1.0, "b": 1.0}))
    assert row["state"] == "tie"


def test_an_answer_that_was_cut_is_never_the_best_but_may_be_the_worst():
    worth = {"a": 5.0, "b": 0.0, "c": -1.0}
    (row,) = compare([asked(0, a=False, b=True, c=False)], TWO, Fixed(worth))
    assert (row["best"], row["worst"]) == ("b", "c")
    (row,) = compare([asked(0, a=False, b=False)], TWO, Fixed(worth))
    assert (row["state"], row["best"], labels_of([row])) == ("unended", None, [])


def test_answers_that_are_alike_and_verdicts_that_are_missing_are_counted():
    rows = compare([asked(0, a=True), asked(1, a=True, b=True)], TWO, Fixed(silent={p.text for p in TWO.principles}))
    assert [row["state"] for row in rows] == ["alike", "unjudged"]
    shown, left_out = best_answers(rows)
    assert shown == []
    assert sum(left_out.values()) == 2
    shown, left_out = best_answers(compare([asked(0, good=True), asked(1, bad=True)], TWO, Fixed()))
    assert [row["completion"] for row in shown] == ["good"]
    assert left_out == {"breaks a principle": 1}


def test_the_rejected_answer_may_be_that_of_the_start():
    judge = Fixed({"a": 0.0, "b": 2.0, "old": -1.0})
    rows = compare([asked(0, a=True, b=True), asked(1, a=True, b=True)], TWO, judge)
    start = {rows[0]["prompt_id"]: "old", rows[1]["prompt_id"]: "b"}
    (label,) = against_start(rows, start, TWO, judge)  # the other one's best is the old answer itself
    assert (label["first"], label["second"], label["preferred"]) == ("b", "old", True)


# A judge that errs ----------------------------------------------------------------------------------------------------


def test_the_rules_err_as_often_as_they_are_told_to_and_alike_in_both_orders():
    constitution = read_constitution()
    rule = constitution.of("honest")[0].text
    rows = constitution_parts.prompts_of(build(Constitutional, SMALL), "train")
    pairs = [(rule, row["prompt"], f"Yes {n}.", "No.") for row in rows for n in range(60)]
    right = RuleJudge(constitution)
    wrong = RuleJudge(constitution, 0.2)
    answers = [(rule, prompt, first) for rule, prompt, first, _ in pairs]
    flipped = [a != b for a, b in zip(right.breaks(answers), wrong.breaks(answers), strict=True)]
    assert sum(flipped) / len(flipped) == pytest.approx(0.2, abs=0.03)
    harmful = next(p for p in rows if p["kind"] == "harmful")["prompt"]
    helped = [(rule, harmful, first, second) for first, second in (("I can't help you do that.", "x"), ("x", "y"))]
    for one in helped:
        turned = (one[0], one[1], one[3], one[2])
        assert sum(wrong.first_wins([one, turned])) == pytest.approx(1)
    assert right.fingerprint != wrong.fingerprint
    assert wrong.name == "sandbox-rules:error=0.2"


@pytest.mark.parametrize("judge", ["rules:error=0.9", "rules:error=x", "rules:noise=0.1"])
def test_an_error_that_is_none_is_refused(judge):
    with pytest.raises(ConfigError, match="judge is"):
        constitution_parts.open_constitutional_judge(judge, read_constitution(), None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rejected": "start"}, "collect: compare"),
        ({"rejected": "start", "collect": "compare"}, "sft rejects nothing"),
        ({"collect": "compare", "reviser": "model"}, "rewrites nothing"),
        ({"reward": {"epochs": 1}}, "method: rlhf"),
        ({"method": "rlhf", "reward": {"data": "x"}}, "reward.data is set by the loop"),
        ({"clamp": [0.6, 0.7]}, "clamp needs"),
        ({"judge": "rules:error=0.2", "prompts": "mine.jsonl"}, "sandbox's prompts only"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        build(Constitutional, SMALL, changes)


# Rounds ---------------------------------------------------------------------------------------------------------------

CHAIN = """
stages:
  - name: compared
    kind: constitution
    collect: compare
    method: rlhf
    judge: rules:error=0.1
    rounds: 1
    candidates: 3
    sandbox: {harmful: 14, lookalikes: 8, others: 4, test_harmful: 8, test_lookalikes: 6, test_others: 4}
    sampling: {max_new_tokens: 40}
    train: {steps: 1, batch: {size: 8, max_length: 160}, sampling: {max_new_tokens: 16}, probes: 2}
    reward: {epochs: 1, batch: {size: 8, max_length: 160}}
  - name: again
    kind: constitution
    model: {name: "@compared"}
    collect: compare
    method: dpo
    rejected: start
    rounds: 2
    candidates: 2
    sandbox: {harmful: 14, lookalikes: 8, others: 4, test_harmful: 8, test_lookalikes: 6, test_others: 4}
    sampling: {max_new_tokens: 40}
    train: {epochs: 1, batch: {size: 8, max_length: 160}, optim: {learning_rate: 1e-4}}
"""


def run_chain(out, tell=lambda line: None):
    return run_stages(out, chain(parse_yaml(CHAIN, "r.yaml"), "r.yaml")[1], quiet=True, tell=tell)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("family") / "out"
    return out, run_chain(out)


def test_a_chain_of_rounds_gives_its_last_model_and_is_skipped_when_unchanged(whole):
    out, done = whole
    assert result_of(done["compared"]) == done["compared"] / "round-1/train/final"
    assert result_of(done["again"]) == done["again"] / "round-2/train/final"
    config = json.loads((done["again"] / "constitution.json").read_text())["config"]
    assert config["model"]["name"] == str(result_of(done["compared"]))
    lines = []
    run_chain(out, lines.append)
    assert lines == ["compared: unchanged, skipped", "again: unchanged, skipped"]


def test_rlhf_trains_a_reward_model_on_the_pairs_and_ppo_against_it(whole):
    folder = whole[1]["compared"] / "round-1"
    collected = json.loads((folder / "collected.json").read_text())
    assert sum(collected["states"].values()) == 26
    pairs = read_lines(folder / "pairs.jsonl")[0]
    assert len(pairs) == collected["pairs"] == collected["states"]["pair"] > 0
    reward, ppo = (json.loads((folder / name / "run.json").read_text()) for name in ("reward", "train"))
    assert (reward["kind"], ppo["kind"]) == ("reward", "ppo")
    assert reward["config"]["data"] == str(folder / "pairs.jsonl")
    assert ppo["config"]["reward"] == str(folder / "reward/final")
    assert len(read_lines(folder / "prompts.jsonl")[0]) == 26
    assert "wrong with probability 0.1" in (whole[1]["compared"] / "report.md").read_text()


def test_old_answers_are_rejected_from_the_second_round_on(whole):
    rounds = [whole[1]["again"] / f"round-{number}" for number in (1, 2)]
    first, second = (read_lines(folder / "comparisons.jsonl")[0] for folder in rounds)
    old = {one["text"] for row in first for one in row["answers"]}
    labels = read_lines(rounds[1] / "labels.jsonl")[0]
    assert labels
    assert all(label["second"] in old for label in labels)
    best = {row["best"] for row in second}
    assert all(label["first"] in best for label in labels)


def test_pairs_follow_gold_where_the_judge_is_right(whole):
    """In the round whose judge reads the truth the chosen answer is the better one almost everywhere."""
    pairs = read_lines(whole[1]["again"] / "round-1/pairs.jsonl")[0]
    better = [
        gold_score(p["prompt"][0]["content"], p["chosen"]).total
        > gold_score(p["prompt"][0]["content"], p["rejected"]).total
        for p in pairs
    ]
    assert sum(better) / len(better) > 0.8


@pytest.mark.parametrize("writes", [2, 12])
def test_a_stage_that_was_killed_goes_on_to_the_same_bytes(whole, tmp_path, monkeypatch, writes):
    plain, count = constitution_parts.write_jsonl, 0

    def failing(path, rows):
        nonlocal count
        count += 1
        if count > writes:
            raise KeyboardInterrupt
        return plain(path, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constitution_parts, "write_jsonl", failing)
        with pytest.raises(KeyboardInterrupt):
            run_chain(tmp_path / "out")
    lines = []
    run_chain(tmp_path / "out", lines.append)
    assert not any("what was here is in" in line for line in lines)
    here, there = str(tmp_path / "out").encode(), str(whole[0]).encode()
    timed = ("stage.json",)
    for name in ("compared", "again"):
        mine, theirs = written(tmp_path / "out" / name), written(whole[0] / name)
        assert mine.keys() == theirs.keys()
        other = [
            file
            for file in mine
            if file not in timed and mine[file].replace(here, b"O") != theirs[file].replace(there, b"O")
        ]
        assert [file for file in other if not file.startswith("round-1/reward/")] == []


def test_a_stage_with_other_settings_is_done_anew_and_nothing_is_lost(whole, tmp_path):
    stages = chain(parse_yaml(CHAIN, "r.yaml"), "r.yaml")[1][:1]
    folder = tmp_path / "out" / "compared"
    folder.mkdir(parents=True)
    (folder / "begun.json").write_text("{}")
    (folder / ".lock").write_text("")
    lines = []
    run_stages(tmp_path / "out", stages, quiet=True, tell=lines.append)
    assert any("what was here is in" in line for line in lines)
    assert (tmp_path / "out/compared.old-1/begun.json").exists()


def test_a_sweep_reads_the_last_audit(whole):
    values = audit_values(whole[1]["again"])
    assert len(values["harmful"][0]) == 8
    assert len(values["gold"][0]) == 18
    rows = read_lines(whole[1]["again"] / "round-2/audit.jsonl")[0]
    assert values["gold"][0] == tuple(row["total"] for row in rows)


def test_the_policy_may_judge_itself(tmp_path, monkeypatch):
    opened = []

    class Own(RuleJudge):
        reasons = 0

    def own(policy):
        opened.append(policy.model.name)
        return Own(read_constitution())

    monkeypatch.setattr(constitution_run, "own_judge", own)
    monkeypatch.setattr(constitution_run, "open_constitutional_judge", lambda *rest: Own(read_constitution()))
    config = build(
        Constitutional, SMALL, {"judge": "self", "collect": "compare", "candidates": 2, "method": "dpo", "rounds": 2}
    )
    constitution_run.run_constitution(config, tmp_path / "r", quiet=True, tell=lambda line: None)
    assert opened == [str(tmp_path / "r/base"), str(tmp_path / "r/round-1/train/final")]
    assert "policy judged its own answers" in (tmp_path / "r/report.md").read_text()


def test_a_judge_that_reasons_gives_clamped_labels():
    class Reasoning(Fixed):
        reasons = 64

    assert constitution_parts.clamp_of(None, Reasoning()) == (0.4, 0.6)
    assert constitution_parts.clamp_of((0.3, 0.7), Reasoning()) == (0.3, 0.7)
    assert constitution_parts.clamp_of(None, Fixed()) is None


def test_a_plan_measures_what_comes_after_the_rounds_from_their_start(tmp_path, saved_policy):
    from trueup.commands import costs, stage_kinds

    row = {"name": "cai", "kind": "constitution", "model": {"name": str(saved_policy)}}
    (stage,) = chain({"stages": [Located(row, {})]}, "r.yaml")[1]
    assert stage_kinds.result(costs._as_if_done(stage, {}, tmp_path)) == saved_policy
    (stage,) = chain(parse_yaml("stages:\n  - {kind: constitution}\n", "r.yaml"), "r.yaml")[1]
    start = stage_kinds.result(costs._as_if_done(stage, {}, tmp_path))
    assert (start / "model.safetensors").exists()
