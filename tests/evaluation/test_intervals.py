"""Intervals of samples in which everything is alike: never of width 0, and honest about what was not drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tests.evaluation.test_evaluation import rows
from trueup.errors import ShapeError
from trueup.evaluation.baselines import bag_of_words, length_only
from trueup.evaluation.compare import compare
from trueup.evaluation.frontier import linear_fit
from trueup.evaluation.intervals import (
    SHARE,
    exact_binomial,
    hierarchical_mean,
    mean_interval,
    paired_difference,
    t_interval,
    wilson,
)
from trueup.evaluation.length_control import length_controlled
from trueup.evaluation.winrate import win_rate, win_rate_of_outcomes
from trueup.types import Outcome, PreferencePair


def test_sixteen_ties_are_not_certain():
    """With confidence 97.5 % less than 20.6 % of all prompts are won, and as few are lost."""
    tied = rows("a", [0.5] * 16) + rows("b", [0.5] * 16)
    rate = win_rate(tied, "a", "b").rate
    hidden = 1 - 0.025 ** (1 / 16)
    assert (rate.estimate, rate.low, rate.high) == pytest.approx((0.5, 0.5 - hidden / 2, 0.5 + hidden / 2))


@pytest.mark.parametrize("n", [2, 5, 16, 100])
def test_all_won_has_the_interval_of_clopper_and_pearson(n):
    won = rows("a", [1.0] * n) + rows("b", [0.0] * n)
    rate = win_rate(won, "a", "b").rate
    assert rate.low == pytest.approx(exact_binomial(n, n).low)
    assert rate.high == 1.0
    lost = win_rate(won, "b", "a").rate
    assert (lost.low, lost.high) == pytest.approx((0.0, 1 - rate.low))
    outcomes = win_rate_of_outcomes([Outcome.A] * n, [str(i) for i in range(n)]).rate
    assert (outcomes.low, outcomes.high) == (rate.low, rate.high)


def test_one_win_among_ties_keeps_what_was_not_seen_in_the_interval():
    nearly = rows("a", [1.0] + [0.5] * 15) + rows("b", [0.5] * 16)
    rate = win_rate(nearly, "a", "b").rate
    assert rate.low < 0.42
    assert not rate.above(0.5)


def test_a_share_is_covered_as_often_as_promised_even_near_its_end():
    """True rate .97 of wins, the rest losses, 30 prompts: mostly samples without any loss."""
    rng, hits = np.random.default_rng(0), 0
    for trial in range(200):
        values = (rng.random(30) < 0.97).astype(float)
        found = mean_interval(values, resamples=300, seed=trial, bounds=SHARE)
        hits += found.low <= 0.97 <= found.high
    assert hits / 200 >= 0.93


def test_length_control_of_ties_and_of_wins_is_not_certain():
    tokens = list(range(10, 30))
    tied = rows("a", [0.5] * 20, tokens) + rows("b", [0.5] * 20, tokens[::-1])
    rate = length_controlled(tied, "a", "b", resamples=50).rate
    assert (rate.estimate, rate.high - rate.low) == (pytest.approx(0.5), pytest.approx(1 - 0.025 ** (1 / 20)))
    won = rows("a", [1.0] * 20, tokens) + rows("b", [0.0] * 20, tokens[::-1])
    assert length_controlled(won, "a", "b", resamples=50).rate.low < 0.9


def test_values_without_bounds_that_are_all_alike_have_no_interval():
    found = mean_interval([64.0] * 12)
    assert (found.estimate, found.known, found.to_dict()["low"]) == (64.0, False, None)
    assert "alike" in found.method
    ids = [str(i) for i in range(12)]
    assert not paired_difference([0.2] * 12, ids, [0.1] * 12, ids).known
    bounded = paired_difference([1.0] * 12, ids, [1.0] * 12, ids, bounds=SHARE)
    assert (bounded.low, bounded.high) == pytest.approx((-1 + 0.025 ** (1 / 12), 1 - 0.025 ** (1 / 12)))
    assert not hierarchical_mean([1.0] * 6, [0, 0, 1, 1, 2, 2], [0, 1] * 3).known
    assert not t_interval([0.7] * 3).known
    assert not t_interval([0.7]).known


def test_one_prompt_says_nothing_whatever_is_measured():
    one = rows("a", [0.9]) + rows("b", [0.1])
    assert not win_rate(one, "a", "b").rate.known
    assert not mean_interval([1.0, 0.0, 1.0], ["p", "p", "p"], bounds=SHARE).known
    entry = compare(rows("sft", [0.5]) + rows("ppo", [0.6]), "sft")["models"]["ppo"]
    assert entry["win_rate"]["rate"]["low"] is None


def test_a_line_without_noise_has_no_interval_of_its_slope():
    assert not linear_fit([0, 1, 2, 3], [1, 1, 1, 1]).slope.known
    exact = linear_fit([0, 1, 2, 3], [0, 1, 2, 3])
    assert (exact.slope.estimate, exact.slope.known) == (pytest.approx(1), False)
    assert linear_fit([0, 1, 2, 3], [0, 1, 2.1, 3]).slope.known


def test_values_beyond_their_bounds_are_refused():
    with pytest.raises(ShapeError, match="all within 0 to 1"):
        mean_interval([0.5, 1.5], bounds=SHARE)


def test_plain_samples_keep_the_interval_that_they_had():
    """Where the sample reaches both bounds nothing is added."""
    values = np.tile([0.0, 1.0], 100)
    plain, bounded = mean_interval(values), mean_interval(values, bounds=SHARE)
    assert (plain.low, plain.high) == (bounded.low, bounded.high)
    near = stats.norm.ppf(0.975) * 0.5 / math.sqrt(200)
    assert bounded.high - 0.5 == pytest.approx(near, rel=0.15)
    assert wilson(100, 200).high == pytest.approx(bounded.high, abs=0.01)


def test_baselines_that_are_always_right_or_never_are_not_certain():
    pairs = [PreferencePair(f"q{i}", f"yes {i} and more", f"no {i}") for i in range(12)]
    for baseline in (length_only(pairs, pairs), bag_of_words(pairs, pairs)):
        assert baseline.accuracy.estimate == 1.0
        assert baseline.accuracy.low == pytest.approx(exact_binomial(12, 12).low)
        assert list(baseline.right_P) == [1.0] * 12


def test_pairs_of_one_prompt_are_one_cluster():
    pairs = [PreferencePair("the only question", f"yes {i} and more", f"no {i}") for i in range(12)]
    assert not length_only(pairs, pairs).accuracy.known
