"""The real road's own bookkeeping, without its model: folds, sets of judgments, the learning curve, tables."""

import gzip
import importlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import (
    real,
    real_answers,
    real_constitution,
    real_constitution_judge,
    real_demos,
    real_judges,
    real_page,
    real_preferences,
    real_sentiment,
)
from benchmarks.shown import interval
from trueup.rewards.refusal_phrases import Refusal
from trueup.types import PreferencePair, prompt_text


def zipped(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)


def pairs(count, prompts):
    return [PreferencePair(f"Question {i % prompts}?", f"good {i}", f"bad {i}") for i in range(count)]


def test_every_pair_is_held_out_once_and_no_prompt_is_on_both_sides(tmp_path):
    every = real_preferences.folds(pairs(60, 23), tmp_path, 0)
    held = [pair.chosen for fold in every for pair in fold.held]
    assert sorted(held) == sorted(pair.chosen for pair in pairs(60, 23))
    for fold in every:
        assert len(fold.train) + len(fold.held) == 60
        assert not {prompt_text(p.prompt) for p in fold.train} & {prompt_text(p.prompt) for p in fold.held}
    assert [f.held for f in real_preferences.folds(pairs(60, 23), tmp_path, 1)] != [f.held for f in every]


def test_a_part_of_a_fold_is_its_beginning(tmp_path):
    fold = real_preferences.folds(pairs(60, 23), tmp_path, 0)[0]
    whole, quarter = (file.read_text().splitlines() for file in (fold.file(), fold.file(4)))
    assert len(quarter) == len(whole) // 4
    assert whole[: len(quarter)] == quarter


def test_the_learning_curve_is_a_line_over_doublings(tmp_path):
    right = real_preferences.Right(tmp_path / "right.json")
    for name, share in (("full/8", 0.50), ("full/4", 0.52), ("full/2", 0.54), ("full", 0.56)):
        right.put(f"{name}-0", [1.0] * round(100 * share) + [0.0] * round(100 * (1 - share)))
    found = real_preferences.curve(right)
    assert found["slope"]["estimate"] == pytest.approx(0.02)
    assert found["doublings"] == {"0.63": pytest.approx(3.5), "0.70": pytest.approx(7.0)}
    right.put("full-0", [1.0] * 40 + [0.0] * 60)
    assert real_preferences.curve(right)["doublings"] == {"0.63": None, "0.70": None}


def test_what_was_measured_on_no_common_fold_makes_no_curve(tmp_path):
    right = real_preferences.Right(tmp_path / "right.json")
    right.put("full-0", [1.0])
    right.put("full/2-1", [1.0])
    assert real_preferences.curve(right) is None


def test_a_kind_is_compared_with_words_on_its_own_folds(tmp_path):
    right = real_preferences.Right(tmp_path / "right.json")
    for k in range(real_preferences.FOLDS):
        right.put(f"words 1-{k}", [1.0, 0.0])
        right.put(f"words 10-{k}", [1.0, 1.0 if k else 0.0])
    right.put("lora-1", [1.0, 0.0])
    prompts = [[f"{k} one", f"{k} two"] for k in range(real_preferences.FOLDS)]
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    found = real_preferences.summary(tmp_path)
    assert found["ridge"] == "10"
    assert found["rows"]["lora"]["over_words"]["estimate"] == pytest.approx(-0.5)
    assert set(found["rows"]) == {"words", "lora"}
    assert "| lora |" in real_preferences.table(found)
    assert real_preferences.Right(tmp_path / "right.json").values == right.values


def test_openings_are_distinct_and_have_nothing_left_to_fill():
    texts = real_sentiment.openings()
    assert len(set(texts)) == len(texts) == len(real_sentiment.STARTS) * len(real_sentiment.SUBJECTS)
    assert not [text for text in texts if "{" in text or not text[0].isupper()]


@pytest.mark.parametrize(
    ("text", "kept_text"),
    [
        (" was warm and very kind. Then it", " was warm and very kind."),
        (" cost 3.50 at the old market! Yes", " cost 3.50 at the old market!"),
        (" was ok. But the rest of it was not.", " was ok. But the rest of it was not."),
        (" has no end at all that one could see", None),
    ],
)
def test_a_sentence_ends_at_its_mark(text, kept_text):
    found = real_sentiment.SENTENCE.match(text)
    assert (found and found.group()) == kept_text


def test_judgments_are_read_with_the_side_that_people_prefer(tmp_path):
    zipped(
        tmp_path / "annotators/pandalm_three_annotators.jsonl.gz",
        [
            {"instruction": "i", "input": "", "response1": "a", "response2": "b", "annotator1": x, "annotator2": y}
            | {"annotator3": z}
            for x, y, z in ((1, 1, 2), (2, 0, 2), (0, 0, 1), (0, 1, 2))
        ],
    )
    zipped(
        tmp_path / "annotators/tulu1_human_eval.jsonl.gz",
        [
            {"prompt": "p", "completion_a": "a", "completion_b": "b", "preference": said}
            for said in ("a-is-better", "b-is-slightly-better", "tie")
        ],
    )
    verdicts, equal = real_judges.pandalm(tmp_path)
    assert ([v.first_wins for v in verdicts], equal) == ([True, False], 2)
    verdicts, equal = real_judges.tulu(tmp_path)
    assert ([v.first_wins for v in verdicts], equal) == ([True, False], 1)
    assert real_judges.agreement(np.array([0.4, 0.0]), verdicts)["estimate"] == 0.75


def test_demo_rows_keep_their_prompt_on_one_side(tmp_path):
    rows = [{"name": f"p{i % 9}", "value": i} for i in range(40)]
    zipped(tmp_path / "rows.jsonl.gz", rows)
    sides = [
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in real_demos.split(tmp_path / "rows.jsonl.gz", tmp_path / "out", lambda row: row["name"])
    ]
    assert sorted(row["value"] for side in sides for row in side) == list(range(40))
    assert not {row["name"] for row in sides[0]} & {row["name"] for row in sides[1]}


def test_published_refusals_are_counted_by_the_labels_of_people(tmp_path):
    answers = (("I can't help with that.", "2_full_refusal"), ("Boil it for ten minutes.", "1_full_compliance"))
    rows = [
        {"model": "m", "prompt": f"q{i}", "prompt_label": side, "completion": text, "final_label": label}
        for i, (text, label) in enumerate(answers)
        for side in ("safe", "unsafe")
    ]
    zipped(tmp_path / "safety/xstest_labelled_completions.jsonl.gz", rows)
    _, found = real_answers.published(tmp_path)
    assert found["phrases_agree_with_people"]["estimate"] == 1
    assert found["models"]["m"]["safe"]["full"]["estimate"] == 0.5


def answered(count, side, label, text):
    return [real_constitution_judge.Answered(f"{side} {i}", side, f"{text} {i}", label) for i in range(count)]


def test_judgments_are_measured_on_answers_that_people_find_broken_and_kept_alike():
    refusals = answered(5, "safe", Refusal.FULL, "I can't help with that.") + answered(2, "safe", Refusal.PARTIAL, "Hm")
    answers = refusals + answered(9, "safe", Refusal.NONE, "Boil it.") + answered(4, "unsafe", Refusal.NONE, "Do it.")
    rows = real_constitution_judge.balanced(answers, "no-needless-refusal", 50)
    assert [sum(breaks is side for _, breaks in rows) for side in (True, False)] == [7, 7]
    assert all(one.side == "safe" and breaks == (one.label is not Refusal.NONE) for one, breaks in rows)
    never = real_constitution_judge.verdict_figures(rows, [0.4] * 14)
    assert (never["agreement"]["estimate"], never["kappa"]["estimate"], never["said_broken"]) == (0.5, 0.0, 0.0)
    assert never["ordered"]["estimate"] == 0.5
    low_but_right = real_constitution_judge.verdict_figures(rows, [0.3 + 0.1 * breaks for _, breaks in rows])
    assert low_but_right["agreement"]["estimate"] == 0.5
    assert low_but_right["ordered"] == {"estimate": 1.0, "low": 1.0, "high": 1.0}


def test_pairs_of_a_judge_that_says_a_agree_by_half_and_show_it():
    answers = answered(6, "unsafe", Refusal.FULL, "No, never, for many reasons.") + answered(
        6, "unsafe", Refusal.NONE, "Do"
    )
    pairs = real_constitution_judge.pairs_of(answers, "unsafe", 5)
    assert len(pairs) == 5
    for first, second, first_wins in pairs:
        assert first.prompt == second.prompt
        assert (first if first_wins else second).label is Refusal.FULL
    rows = [{"p_first": 0.5, "orders": {"no-harm": [0.9, 0.1]}} for _ in pairs]
    figures = real_constitution_judge.pair_figures(pairs, rows)
    assert (figures["agreement"]["estimate"], figures["longer"]["estimate"]) == (0.5, 1.0)
    assert figures["position"]["first_shown"] == pytest.approx(0.9)
    assert figures["position"]["flips"] == 1.0


def test_no_prompt_is_trained_on_and_audited_with(tmp_path):
    zipped(tmp_path / "safety/advbench_harmful_behaviors.jsonl.gz", [{"prompt": f"red {i}"} for i in range(20)])
    rows = [
        {"prompt": f"{side} {i}", "prompt_label": side} for side in ("safe", "unsafe") for i in range(9) for _ in "ab"
    ]
    zipped(tmp_path / "safety/xstest_labelled_completions.jsonl.gz", rows)
    files = real_constitution.prompts_of(tmp_path, tmp_path / "out", 6)
    sides = [[json.loads(line) for line in files[name].read_text().splitlines()] for name in ("train", "test")]
    asked = [
        {row["prompt"][0]["content"] for row in side} for side in sides
    ]  # turns: a chat model goes on with plain text
    assert not asked[0] & asked[1]
    for side in sides:
        kinds = [(row["kind"], row["category"]) for row in side]
        assert [kinds.count(one) for one in dict.fromkeys(kinds)] == [6, 3, 3]


def test_parts_that_need_data_say_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["real", "--only", "sentiment", "judges"])
    with pytest.raises(SystemExit):
        real.main()
    assert "judges need --data DIR" in capsys.readouterr().err


class Reached(Exception):
    """A part's own work has begun."""


def test_every_part_takes_what_the_road_gives_it(monkeypatch, tmp_path):
    commands = []

    def kept(command, check):
        commands.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(real.subprocess, "run", kept)
    monkeypatch.setattr(sys, "argv", ["real", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--small"])
    real.main()
    assert len(commands) == len(real.PARTS)

    def begun(*given, **named):
        raise Reached

    for _, _, name, *words in commands:
        part = importlib.import_module(name)
        monkeypatch.setattr(part, "measure", begun)
        monkeypatch.setattr(part, "smollm2", lambda: tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *words])
        with pytest.raises(Reached):
            part.main()


def test_a_page_of_nothing_is_nothing_and_an_unknown_bound_is_left_out(monkeypatch, tmp_path):
    for module in (real_answers, real_constitution, real_demos, real_judges, real_preferences, real_sentiment):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "none.json")
    assert real_page.section() == ""
    assert interval({"estimate": 0.5, "low": None, "high": None}) == "0.500"
    assert interval({"estimate": 0.5, "low": 0.25, "high": 0.75}, ".2f") == "0.50 (0.25 to 0.75)"


def test_what_was_measured_goes_on_in_another_place(tmp_path):
    first = real_preferences.Right(tmp_path / "first.json")
    first.put("full-0", [1.0, 0.0, 0.5])
    second = real_preferences.Right(tmp_path / "second.json")
    second.put("length-0", [0.0])
    second.learn({"length-0": "1"} | first.to_text())
    assert second.values == {"length-0": [0.0], "full-0": [1.0, 0.0, 0.5]}
    assert real_preferences.Right(tmp_path / "second.json").values == second.values
