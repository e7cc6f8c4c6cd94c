"""What a reward model learned, corrected for chance, beside baselines; and where a KL ended."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trueup.errors import ShapeError
from trueup.evaluation.settling import settling
from trueup.evaluation.skill import learned_share, reward_skill


def sample(share, pairs=800, seed=0):
    return (np.random.default_rng(seed).random(pairs) < share).astype(float)


PROMPTS = [f"p{i // 2}" for i in range(800)]


def test_a_coin_has_learned_nothing_and_the_ceiling_everything():
    ceiling = sample(0.8)
    coin = reward_skill(sample(0.5, seed=1), PROMPTS, ceiling_P=ceiling)
    assert coin.learned.low < 0 < coin.learned.high
    assert coin.accuracy.estimate / coin.ceiling.estimate > 0.6  # what the plain ratio would have said
    best = learned_share(ceiling, ceiling, PROMPTS)
    assert best.estimate == pytest.approx(1.0)


def test_the_share_is_the_formula_and_its_interval_is_over_prompts():
    right, ceiling = sample(0.7, seed=2), sample(0.8, seed=3)
    found = learned_share(right, ceiling, PROMPTS)
    assert found.estimate == pytest.approx((right.mean() - 0.5) / (ceiling.mean() - 0.5))
    assert found.low < found.estimate < found.high
    assert found.n == 400
    twice = learned_share(np.repeat(right, 4), np.repeat(ceiling, 4), list(np.repeat(PROMPTS, 4)))
    assert twice.high - twice.low == pytest.approx(found.high - found.low, rel=0.1)


def test_leads_over_baselines_are_paired():
    right = sample(0.75)
    nearly, far = right.copy(), sample(0.55, seed=5)
    nearly[np.flatnonzero(right == 1)[:20]] = 0.0  # the same but for 20 pairs: 2.5 points
    found = reward_skill(right, PROMPTS, baselines={"words": nearly, "length": far})
    assert found.leads["words"].low > 0
    assert found.leads["words"].high - found.leads["words"].low < 0.05  # unpaired it would be .085
    assert found.leads["length"].estimate == pytest.approx(right.mean() - far.mean())
    assert (found.ceiling, found.learned) == (None, None)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_ceiling_that_may_be_a_coin_has_no_share():
    assert learned_share([1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0], list("abcd")) is None
    found = reward_skill([1.0] * 3, list("abc"), ceiling_P=[0.5] * 3)
    assert found.learned is None
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(ShapeError):
        reward_skill([1.0], ["a", "b"])


def noisy(path, scale=0.3, seed=0):
    return list(np.asarray(path) + np.random.default_rng(seed).normal(0, scale, len(path)))


def test_a_kl_that_ends_beyond_its_band_and_still_rises_is_not_inside_it():
    """Its mean over the last third is in the band; where it ended is not."""
    found = settling(noisy([3.0] * 70 + list(np.linspace(3.6, 8.2, 30))), 4.8, 7.2)
    assert 4.8 < found.mean < 7.2
    assert found.end > 7.2
    assert found.moving
    assert found.slope.low > 0
    assert not found.inside


def test_a_kl_on_its_way_out_is_not_inside_though_it_has_not_left_yet():
    found = settling(noisy([5.0] * 70 + list(np.linspace(5.0, 7.0, 30)), 0.1), 4.8, 7.2)
    assert 4.8 < found.mean < found.end < 7.2
    assert (found.moving, found.inside) == (True, False)


def test_a_kl_that_stays_and_one_that_creeps_are_inside():
    still = settling(noisy([6.0] * 100), 4.8, 7.2)
    assert (still.moving, still.inside) == (False, True)
    creeping = settling(noisy(np.linspace(5.8, 6.2, 100), 0.01), 4.8, 7.2)
    assert (creeping.moving, creeping.inside) == (True, True)
    assert settling([6.0] * 50, 4.8, 7.2).inside  # no noise at all


def test_falling_below_the_band_counts_as_much():
    found = settling(noisy([6.0] * 70 + list(np.linspace(6.8, 3.5, 30)), 0.1), 4.8, 7.2)
    assert found.end < 4.8
    assert (found.moving, found.inside) == (True, False)


def test_steps_that_follow_one_another_are_not_taken_for_independent():
    """A series that wanders about its mean seldom has a slope; plain least squares would find one most of the time."""
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        series, value = [], 0.0
        for _ in range(100):
            value = 0.8 * value + rng.normal(0, 0.3)
            series.append(6.0 + value)
        found += bool(settling(series, 4.8, 7.2).moving)
    assert found <= 20


def test_too_few_steps_say_nothing_of_motion():
    found = settling([6.0, 6.5, 7.0], 4.8, 7.2)
    assert (found.slope, found.moving, found.end) == (None, None, 7.0)
    with pytest.raises(ShapeError):
        settling([], 0.0, 1.0)
