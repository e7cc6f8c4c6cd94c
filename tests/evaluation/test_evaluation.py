"""Evaluation as pure analysis: intervals, win-rates, over-optimisation, hacking signs, baselines, comparison."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trueup.errors import DataError, ShapeError, UsageError
from trueup.evaluation.baselines import bag_of_words, length_only
from trueup.evaluation.bestofn import best_of_n, best_weights, kl_bound
from trueup.evaluation.compare import compare
from trueup.evaluation.hacking import canary, hacking_rate
from trueup.evaluation.intervals import holm, mean_interval, paired_difference, wilson
from trueup.evaluation.judge import judge_pair, score_judge
from trueup.evaluation.length_control import length_controlled
from trueup.evaluation.overoptimization import fit_gao, rl_form, turning_point
from trueup.evaluation.rows import column, read_rows, same_prompts, write_rows
from trueup.evaluation.winrate import win_rate
from trueup.types import Outcome, PreferencePair


def rows(model, golds, tokens=None, **more):
    return [
        {
            "model": model,
            "prompt_id": f"p{i}",
            "prompt": f"q{i}",
            "question": f"q{i}",
            "completion": f"answer {i} of {model}",
            "gold": g,
            "gold_parts": {"helpful": g},
            "kind": "fact" if i % 2 else "chat",
            "tokens": tokens[i] if tokens is not None else 10,
            "stop": "eos",
            **{k: v[i] for k, v in more.items()},
        }
        for i, g in enumerate(golds)
    ]


def test_prompts_are_resampled_and_coverage_holds():
    """Property 99."""
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        centres = rng.normal(0, 1, 40)
        values = np.repeat(centres, 5) + rng.normal(0, 0.2, 200)
        clusters = np.repeat(np.arange(40), 5).tolist()
        found = mean_interval(values, clusters, resamples=400, seed=trial)
        hits += found.low <= 0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99
    naive = mean_interval(values, None, resamples=400)
    assert naive.high - naive.low < 0.7 * (found.high - found.low)


def test_wilson_and_holm_known_answers():
    found = wilson(8, 10)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_paired_difference_is_narrower_than_the_two_means():
    rng = np.random.default_rng(1)
    base = rng.normal(0, 1, 200)
    better = base + 0.1 + rng.normal(0, 0.05, 200)
    ids = [str(i) for i in range(200)]
    found = paired_difference(better, ids, base, ids)
    assert found.low > 0.05
    assert found.high - found.low < 0.1


def test_win_rate_is_antisymmetric_and_a_model_against_itself_ties():
    """Property 97."""
    rng = np.random.default_rng(2)
    both = rows("a", rng.random(60)) + rows("b", rng.random(60))
    ab, ba = win_rate(both, "a", "b"), win_rate(both, "b", "a")
    assert ab.rate.estimate + ba.rate.estimate == pytest.approx(1)
    same = rows("a", [0.5] * 30) + rows("b", [0.5] * 30)
    tied = win_rate(same, "a", "b")
    assert (tied.rate.estimate, tied.ties) == (0.5, 30)


def test_length_control_takes_out_a_pure_length_effect():
    """Property 98."""
    rng = np.random.default_rng(3)
    lengths_a, lengths_b = rng.integers(20, 60, 400), rng.integers(10, 50, 400)
    both = rows("a", lengths_a / 100.0, lengths_a) + rows("b", lengths_b / 100.0, lengths_b)
    assert win_rate(both, "a", "b").rate.estimate > 0.65
    fair = length_controlled(both, "a", "b", resamples=100)
    assert fair.rate.estimate == pytest.approx(0.5, abs=0.08)
    back = length_controlled(both, "b", "a", resamples=100)
    assert fair.rate.estimate + back.rate.estimate == pytest.approx(1, abs=1e-6)


def test_comparisons_need_the_same_prompts_and_no_gaps():
    with pytest.raises(DataError, match="one model only"):
        same_prompts(rows("a", [1.0, 2.0]), rows("b", [1.0]))
    torn = rows("a", [1.0, 2.0])
    torn[1]["gold"] = None
    with pytest.raises(DataError, match="missing in 1 of 2"):
        column(torn, "gold")
    with pytest.raises(UsageError, match="no rows of model"):
        compare(rows("a", [1.0, 2.0]), "sft")


def test_rows_round_trip(tmp_path):
    given = rows("a", [0.1, 0.2])
    write_rows(given, tmp_path / "eval.jsonl")
    assert read_rows(tmp_path / "eval.jsonl") == given
    (tmp_path / "bad.jsonl").write_text('{"model": "a"}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:1"):
        read_rows(tmp_path / "bad.jsonl")


def test_the_turning_point_is_found_and_constants_have_no_correlation():
    """Property 94."""
    at = np.arange(30.0)
    rng = np.random.default_rng(4)
    gold = np.where(at < 15, at, 30 - at) / 15 + rng.normal(0, 0.02, 30)
    found = turning_point(at / 30, gold, at)
    assert found.found
    assert abs(found.index - 15) <= 1
    assert turning_point(at, np.ones(30)).correlation is None
    assert not turning_point(at, at).found
    with pytest.raises(ShapeError):
        turning_point(at, gold[:-1])


def test_the_gao_fit_recovers_what_was_put_in():
    """Property 95."""
    d = np.linspace(0.2, 6, 40)
    gain = rl_form(d, 1.2, 0.5) + np.random.default_rng(5).normal(0, 0.02, 40)
    fit = fit_gao(d, gain, "rl", resamples=300)
    assert fit.alpha.low <= 1.2 <= fit.alpha.high
    assert fit.beta.low <= 0.5 <= fit.beta.high
    assert rl_form([0.0], 1.2, 0.5)[0] == 0


def test_best_of_n_weights_and_bound():
    weights = best_weights(5, 2)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == 0
    assert weights[-1] == pytest.approx(2 / 5)
    perfect = np.array([[0.0, 1.0, 2.0, 3.0]] * 6)
    assert best_of_n(perfect, perfect, 4).estimate == pytest.approx(3)
    assert best_of_n(perfect, perfect, 1).estimate == pytest.approx(1.5)
    assert kl_bound(4) == pytest.approx(math.log(4) - 3 / 4)


def test_a_judge_that_likes_the_first_answer_ties_everything():
    """Property 97."""
    verdict = judge_pair(lambda prompt, first, second: Outcome.A, "q", "x", "y")
    assert verdict.outcome is Outcome.TIE
    honest = score_judge(lambda prompt, response: float(len(response)))
    assert judge_pair(honest, "q", "longer", "short").outcome is Outcome.A


def test_a_flipped_reward_is_seen():
    """Property 91."""
    good, bad = np.arange(50) / 50 + 1, np.arange(50) / 50
    assert not canary(good, bad).flipped
    assert canary(-good, -bad).flipped
    assert not canary([1.0, 0.0], [0.0, 1.0]).flipped
    with pytest.raises(ShapeError):
        canary([1.0], [])


def test_the_hacking_rate_counts_gains_in_reward_that_gold_does_not_share():
    """Property 92."""
    before = rows("sft", [0.5] * 20, reward=[0.0] * 20)
    gamed = rows("ppo", [0.1] * 20, reward=list(range(20)))
    assert hacking_rate(gamed, before) == 1.0
    assert hacking_rate(rows("ppo", [0.9] * 20, reward=list(range(20))), before) == 0.0
    assert hacking_rate(rows("ppo", [0.9] * 20), before) is None


def test_compare_has_every_column():
    found = compare(rows("sft", [0.2, 0.4, 0.6, 0.5]) + rows("dpo", [0.9, 0.8, 0.7, 0.9]), resamples=200)
    entry = found["models"]["dpo"]
    assert entry["win_rate"]["rate"]["estimate"] == 1.0
    assert set(entry["by_kind"]) == {"fact", "chat"}
    assert entry["parts"]["helpful"] == pytest.approx(0.825)
    assert "win_rate" not in found["models"]["sft"]
    assert found["prompts"] == 4


def test_baselines_learn_what_words_and_length_can_tell():
    nouns = [f"thing{i}" for i in range(60)]
    pairs = [PreferencePair(n, f"a good {n}", f"a really bad {n}") for n in nouns]
    words = bag_of_words(pairs[:40], pairs[40:])
    assert words.accuracy.estimate == 1.0
    shorter = length_only(pairs[:40], pairs[40:])
    assert (shorter.name, shorter.accuracy.estimate) == ("shorter wins", 1.0)
    noise = [PreferencePair(n, f"x {n} {i % 7}", f"y {n} {i % 5}") for i, n in enumerate(nouns)]
    swapped = [PreferencePair(p.prompt, p.rejected, p.chosen) if i % 2 else p for i, p in enumerate(noise)]
    assert bag_of_words(swapped[:40], swapped[40:]).accuracy.estimate < 0.8
    with pytest.raises(DataError):
        length_only([], pairs)
