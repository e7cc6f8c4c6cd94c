"""What is gained for how much KL: the front, best-of-n, fits that recover what was planted, where gold turns over."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import ShapeError
from trueup.evaluation.overoptimization import bon_form, rl_form, turning_interval
from trueup.evaluation.tradeoff import Path, Point, at_equal_kl, best_of_n_curve, fit_points, front, path_gains


def point(kl, quality, name="x"):
    return Point(name, kl, (0.0, 0.0, 0.0), (quality, quality, quality))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_point_beats(pairs):
    points = [point(float(kl), float(quality)) for kl, quality in pairs]
    kept = {(one.kl, one.quality) for one in front(points)}
    wanted = {
        (a.kl, a.quality)
        for a in points
        if not any(b.kl <= a.kl and b.quality >= a.quality and (b.kl, b.quality) != (a.kl, a.quality) for b in points)
    }
    assert kept == wanted
    assert front([]) == []


def test_quality_is_gold_where_it_is_known():
    assert Point("x", 1.0, (0.3, 0.2, 0.4), None).quality == 0.3
    assert Point("x", 1.0, (0.3, 0.2, 0.4), (0.9, 0.8, 1.0)).quality == 0.9


@pytest.mark.parametrize(("form", "law"), [("rl", rl_form), ("bon", bon_form)])
def test_fits_recover_what_was_planted(form, law):
    kl = np.linspace(0.0, 12.0, 15)
    fit = fit_points(kl, law(np.sqrt(kl), 0.5, 0.2), form)
    assert (fit.alpha.estimate, fit.beta.estimate) == (pytest.approx(0.5), pytest.approx(0.2))
    assert fit_points([0.0, 1.0, 2.0], [0.0, 0.1, 0.2], form) is None
    assert fit_points([0.0, 1.0, 1.0, 1.0], [0.0, 0.1, 0.2, 0.1], form) is None
    assert fit_points([-0.01, *kl], [0.0, *law(np.sqrt(kl), 0.5, 0.2)], form) is not None


def path(gold_K, proxy_K, kl_K, seeds=3, prompts=24, noise=0.05):
    rng = np.random.default_rng(0)
    shape = (seeds, len(gold_K), prompts)
    gold = np.asarray(gold_K)[None, :, None] + rng.normal(0, noise, shape)
    proxy = np.asarray(proxy_K)[None, :, None] + rng.normal(0, noise, shape)
    return Path("x", tuple(range(0, 2 * len(gold_K), 2)), np.tile(kl_K, (seeds, 1)), proxy, gold)


KL = np.linspace(0.1, 6.0, 14)
RISING = np.linspace(0, 2, 14)


def test_a_planted_turn_is_found_within_its_interval():
    steps = np.arange(14)
    gold = np.where(steps < 7, 0.3 + 0.04 * steps, 0.3 + 0.04 * 7 - 0.05 * (steps - 7))
    one = path(gold, RISING, KL)
    turn = turning_interval(one.proxy_SKP, one.gold_SKP, one.steps, resamples=80)
    assert turn.point.found
    assert turn.share >= 0.95
    assert turn.at.low <= 14 <= turn.at.high
    assert turn.to_dict()["at"]["method"].startswith("percentile")


def test_gold_that_rises_does_not_turn_and_a_doubtful_turn_has_no_bounds():
    one = path(0.3 + 0.02 * np.arange(14), RISING, KL)
    turn = turning_interval(one.proxy_SKP, one.gold_SKP, one.steps, resamples=40)
    assert not turn.point.found
    assert turn.at is None
    noisy = path(0.5 - 0.004 * np.arange(14), RISING, KL, noise=0.15)
    doubtful = turning_interval(noisy.proxy_SKP, noisy.gold_SKP, noisy.steps, resamples=80)
    assert doubtful.share < 0.95
    assert doubtful.at is None or not doubtful.at.known
    with pytest.raises(ShapeError):
        turning_interval(np.zeros((2, 3)), np.zeros((2, 3)), [0, 1, 2])


def test_points_of_a_path_hold_the_lowest_and_the_highest_seed():
    one = path([0.1, 0.2], [0.5, 0.6], [0.2, 1.0], noise=0.1)
    first = one.points()[0]
    by_seed = one.gold_SKP.mean(2)[:, 0]
    assert first.gold == (pytest.approx(by_seed.mean()), by_seed.min(), by_seed.max())
    assert first.kl == pytest.approx(0.2)


def test_gains_are_counted_from_the_first_answers_only_where_those_are_near_the_start():
    near, far = path([0.1, 0.2, 0.3], [0] * 3, [0.2, 1.0, 2.0]), path([0.1, 0.2, 0.3], [0] * 3, [0.9, 1.0, 2.0])
    kl, gain = path_gains(near)
    assert (len(kl), gain[0]) == (9, 0.0)
    assert gain[2] == pytest.approx(near.gold_SKP.mean(2)[0, 2] - near.gold_SKP.mean(2)[0, 0])
    assert path_gains(far) is None


def rows(rewards, golds):
    return [
        {"model": "sft", "prompt_id": f"p{i}", "prompt": "q", "completion": "a", "reward": r, "gold": g, "sample": j}
        for i, (several, truths) in enumerate(zip(rewards, golds, strict=True))
        for j, (r, g) in enumerate(zip(several, truths, strict=True))
    ]


def test_best_of_n_is_the_mean_over_all_subsets():
    rng = np.random.default_rng(0)
    rewards, golds = rng.normal(0, 1, (3, 5)), rng.normal(0, 1, (3, 5))
    curve = best_of_n_curve(rows(rewards, golds))
    assert [one.n for one in curve] == [1, 2, 4, 5]
    for one in curve:
        subsets = list(itertools.combinations(range(5), one.n))
        wanted = [
            np.mean([g[max(s, key=lambda i: r[i])] for s in subsets]) for r, g in zip(rewards, golds, strict=True)
        ]
        assert one.gold.estimate == pytest.approx(float(np.mean(wanted)))
        assert one.kl == pytest.approx(math.log(one.n) - (one.n - 1) / one.n)
    assert all(a.proxy.estimate < b.proxy.estimate for a, b in itertools.pairwise(curve))


def test_best_of_n_needs_as_many_answers_of_each():
    assert best_of_n_curve(rows([[1.0]], [[1.0]])) == []
    assert best_of_n_curve([]) == []
    with pytest.raises(ShapeError, match="1 to 2 answers"):
        best_of_n_curve(rows([[1.0, 2.0], [1.0]], [[1.0, 2.0], [1.0]]))


def test_paths_are_compared_where_they_spent_the_same():
    one = path([0.1, 0.3, 0.2, 0.5], [0] * 4, [0.5, 1.0, 1.5, 2.0], noise=0.0)
    other = Path("y", one.steps, one.kl_SK + 0.5, one.proxy_SKP, one.gold_SKP + 0.1)
    levels, qualities, heights = at_equal_kl([one, other])
    assert levels == [0.5, 1.0, 2.0]
    assert qualities["x"] == pytest.approx([0.1, 0.3, 0.5])
    assert qualities["y"][0] is None  # it was never so near
    assert qualities["y"][1:] == pytest.approx([0.2, 0.5])
    # Over [1, 2]: x goes from 0.3 to 0.5 in a line; y from 0.2 over (1.5, 0.4) to 0.5.
    assert heights["x"] == pytest.approx(0.4)
    assert heights["y"] == pytest.approx((0.3 + 0.45) / 2)
    assert at_equal_kl([]) == ([], {}, {})
