"""Judges side by side, clustered errors, reference answers, and what is said of answers that nobody judged."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.test_evaluation import rows
from trueup.errors import DataError, ShapeError, UsageError
from trueup.evaluation.answers import LOOPING, describe_answers, distinct, repetition, same_opening
from trueup.evaluation.compare import Judging, compare
from trueup.evaluation.intervals import SHARE, clustered_error, mean_interval
from trueup.evaluation.judge import JudgedPair, judge_answers, judge_models, report_on, verdict_of
from trueup.evaluation.reference_answers import best, exact, f1, rouge
from trueup.evaluation.sentences import quality
from trueup.types import Outcome

WORDS = st.lists(st.sampled_from("the a cat dog sat on mat , . red Blue".split()), max_size=8).map(" ".join)


def plain_rows(model, texts, **more):
    return [
        {"model": model, "prompt_id": f"p{i}", "prompt": f"q{i}", "question": f"q{i}", "sample": 0, "completion": text}
        | {name: values[i] for name, values in more.items()}
        for i, text in enumerate(texts)
    ]


# Clustered errors -----------------------------------------------------------------------------------------------------


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_clustered_error_is_that_of_its_formula(clusters, size, seed):
    rng = np.random.default_rng(seed)
    values, names = rng.normal(size=clusters * size), [f"c{i // size}" for i in range(clusters * size)]
    mean, total = values.mean(), 0.0
    for name in set(names):
        inside = [v - mean for v, n in zip(values, names, strict=True) if n == name]
        total += sum(a * b for a, b in itertools.product(inside, inside))
    wanted = math.sqrt(clusters / (clusters - 1) * total) / len(values)
    assert clustered_error(values, names) == pytest.approx(wanted)


def test_copies_of_an_answer_make_nobody_surer():
    values, names = [0.0, 1.0, 1.0, 0.0, 1.0], list("abcde")
    assert clustered_error(values * 3, names * 3) == pytest.approx(clustered_error(values, names))
    once, thrice = mean_interval(values, names, bounds=SHARE), mean_interval(values * 3, names * 3, bounds=SHARE)
    assert (once.low, once.high) == pytest.approx((thrice.low, thrice.high))


@pytest.mark.parametrize(("values", "names"), [([1.0, 0.0], ["a", "a"]), ([0.5] * 4, list("abcd")), ([1.0], ["a"])])
def test_an_error_that_nobody_knows_is_none(values, names):
    assert clustered_error(values, names) is None


# Judges ---------------------------------------------------------------------------------------------------------------


def test_several_judges_stand_side_by_side_with_their_agreement():
    told = compare(
        rows("sft", [0.1, 0.9, 0.2, 0.8], reward=[0.0, 0.0, 0.0, 0.0])
        + rows("dpo", [0.2, 0.8, 0.3, 0.9], reward=[1.0, 1.0, 1.0, 0.0]),
        judges=[Judging("gold"), Judging("reward", "reward")],
        score="gold",
        resamples=200,
    )
    gold, reward = told["judges"]
    assert gold["models"]["dpo"]["win_rate"]["rate"]["estimate"] == 0.75
    assert reward["models"]["dpo"]["win_rate"]["rate"]["estimate"] == 0.875
    assert gold["models"]["dpo"]["difference"]["estimate"] == pytest.approx(0.05)
    assert gold["models"]["dpo"]["by_kind"]["chat"]["prompts"] == 2
    assert told["models"]["dpo"]["win_rate"] == gold["models"]["dpo"]["win_rate"]
    (agreement,) = told["agreement"]
    assert agreement["raw"]["estimate"] == 0.5  # p0 and p2 alike, p1 opposed, p3 a tie for one
    assert any("same verdict on 50.0% of 4 pairs" in line for line in quality(told))


def test_a_judge_that_likes_the_first_answer_gives_half_and_says_so():
    both = rows("sft", [0.1] * 6) + rows("dpo", [0.9] * 6)
    pairs = {"dpo": judge_answers(both, "dpo", "sft", lambda prompt, first, second: Outcome.A)}
    told = compare(both, judges=[Judging("first", "python", pairs=pairs)], score=None, resamples=100)
    entry = told["judges"][0]["models"]["dpo"]
    assert (entry["win_rate"]["rate"]["estimate"], entry["win_rate"]["ties"]) == (0.5, 6)
    assert (entry["consistency"]["estimate"], entry["first_position"]) == (0.0, 1.0)
    assert entry["win_rate"]["rate"]["low"] < 0.5 < entry["win_rate"]["rate"]["high"]
    assert "score" not in entry
    assert "gold" not in told["models"]["dpo"]


@given(st.lists(st.sampled_from(list(Outcome)), min_size=2, max_size=12))
@settings(max_examples=30, deadline=None)
def test_no_win_rate_is_certain(outcomes):
    pairs = [JudgedPair("a", "b", f"p{i}", 0, None, o, None, 0.0) for i, o in enumerate(outcomes)]
    rate = report_on(pairs, resamples=100).win_rate.rate
    assert rate.low < rate.high
    swapped = [JudgedPair("a", "b", p.prompt, 0, None, p.first.swap(), None, 0.0) for p in pairs]
    assert report_on(swapped, resamples=100).win_rate.rate.estimate == pytest.approx(1 - rate.estimate)


def test_verdicts_survive_the_file():
    pair = JudgedPair("a", "b", "p", 1, "fact", Outcome.A, Outcome.TIE, -3.0)
    assert JudgedPair.of(pair.to_dict(), "x:1") == pair
    assert pair.outcome is Outcome.TIE
    for broken in ({}, {**pair.to_dict(), "first": "c"}, {**pair.to_dict(), "length": None}):
        with pytest.raises(DataError, match="x:1"):
            JudgedPair.of(broken, "x:1")


def test_models_with_unequal_samples_cannot_be_paired():
    with pytest.raises(ShapeError, match="prompt p0"):
        judge_models(rows("a", [0.1]) * 2 + rows("b", [0.1]), "a", "b", lambda *texts: Outcome.A)


@pytest.mark.parametrize("said", ["maybe", None, 1, "A better"])
def test_a_verdict_that_is_none_is_refused(said):
    with pytest.raises(UsageError, match="judge x"):
        verdict_of(said, "judge x")


def test_with_two_models_the_figure_at_equal_length_is_said_to_extrapolate():
    two = rows("sft", [0.1, 0.9] * 4, range(8)) + rows("dpo", [0.2, 0.8] * 4, [9, 0] * 4)
    assert any("extrapolates" in line for line in quality(compare(two, resamples=100)))
    third = rows("ppo", [0.3, 0.7] * 4, [0, 9] * 4)
    assert not any("extrapolates" in line for line in quality(compare(two + third, resamples=100)))


# Reference answers ----------------------------------------------------------------------------------------------------


def subsequence(a, b):
    """Longest common subsequence by trying all of the shorter one's."""
    for size in range(len(a), 0, -1):
        for chosen in itertools.combinations(a, size):
            rest = iter(b)
            if all(word in rest for word in chosen):
                return size
    return 0


@given(WORDS, WORDS)
@settings(max_examples=80, deadline=None)
def test_reference_measures(answer, reference):
    from trueup.evaluation.reference_answers import words

    ours, theirs = words(answer), words(reference)
    if ours or theirs:
        assert rouge(answer, reference) == pytest.approx(2 * subsequence(ours, theirs) / (len(ours) + len(theirs)))
        shared = sum(min(ours.count(word), theirs.count(word)) for word in set(ours))
        assert f1(answer, reference) == pytest.approx(2 * shared / (len(ours) + len(theirs)))
    assert exact(answer, reference) == (ours == theirs)
    assert exact(answer, reference) <= rouge(answer, reference) <= f1(answer, reference) <= 1
    assert f1(answer, reference) == f1(reference, answer)


def test_the_nearest_reference_counts():
    assert exact("The cat!", "a Cat") == 1
    assert best("f1", "red cat", ["dog", "a red cat"]) == 1
    assert best("exact", "red cat", ["dog", "cat"]) == 0


# Answers that nobody judged -------------------------------------------------------------------------------------------


def test_repetition_distinctness_and_openings():
    assert repetition("one two") is None
    assert repetition("a b c d e") == 0
    assert repetition("go on go on go on go on") == pytest.approx(4 / 6)
    assert distinct(["a b", "a b"], 1) == 0.5
    assert distinct(["", "a"], 2) is None
    assert same_opening(["I am so glad", "i AM so sad", "You"]) == pytest.approx(2 / 3)
    assert same_opening(["", " "]) is None


def test_answers_are_described_without_a_judge():
    texts = ["I'm sorry, but I can't help with that.", "word " * 20, "Boil the egg for six minutes.", ""]
    told = describe_answers(plain_rows("a", texts, safe=[True, True, False, False], stop=["eos"] * 4), resamples=200)
    assert told["refusals"]["full"]["estimate"] == 0.25
    assert told["over_refusal"]["estimate"] == 0.5
    assert told["compliance"]["estimate"] == 1.0
    assert told["looping"]["estimate"] == pytest.approx(1 / 3)
    assert LOOPING < 1
    assert (told["empty"], told["answers"], told["eos"]["estimate"]) == (1, 4, 1.0)
    assert told["compliance"]["low"] < 1  # two prompts make nobody certain
    assert "kl" not in told
    assert "over_refusal" not in describe_answers(plain_rows("a", texts), resamples=50)


def test_without_a_judge_nothing_is_said_of_quality():
    both = plain_rows("sft", ["yes it is", "no"]) + plain_rows("dpo", ["no it is not", "yes"])
    told = compare(both, score=None, resamples=50)
    assert (told["judges"], told["agreement"], told["score"]) == ([], [], None)
    assert "win_rate" not in told["models"]["dpo"]
    assert list(quality(told)) == []
