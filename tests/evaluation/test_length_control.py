"""Length control: an independent fit, the properties it must have, and nine published leaderboard rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tests.published import DATA, rows
from trueup.errors import ShapeError
from trueup.evaluation.length_control import (
    RIDGE_DIFFICULTY,
    RIDGE_LENGTH,
    RIDGE_MODEL,
    bounded,
    of_contest,
    of_contests,
)
from trueup.evaluation.winrate import Contest


def contests(seed, models=3, prompts=40, samples=1, length=1.0, levels=None):
    """Contests with one baseline, in which length is worth ``length`` logits and prompts differ in difficulty."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 1, prompts)
    made = []
    for number in range(models):
        level = (levels or [0.5 * n - 0.5 for n in range(models)])[number]
        names = [f"p{i}" for i in range(prompts) for _ in range(samples)]
        gap = rng.normal(8 * number, 20, prompts * samples)
        logit = level + length * np.tanh(gap / gap.std()) + np.repeat(hard, samples)
        won = (rng.random(len(gap)) < 1 / (1 + np.exp(-logit))).astype(float)
        made.append(Contest(f"m{number}", "base", won, gap, tuple(names)))
    return made


def oracle(made):
    """The same penalised likelihood, minimised by another method and without eliminating anything."""
    names = sorted({prompt for one in made for prompt in one.prompts})
    model = np.repeat(np.arange(len(made)), [len(one.prompts) for one in made])
    prompt = np.array([names.index(p) for one in made for p in one.prompts])
    x = np.concatenate([bounded(one.length_N) for one in made])
    y = np.concatenate([one.outcome_N for one in made])
    share = np.array([1 / sum((model == m) & (prompt == p)) for m, p in zip(model, prompt, strict=True)])

    def loss(values):
        levels, slope, hard = values[: len(made)], values[len(made)], values[len(made) + 1 :]
        logit = levels[model] + slope * x + hard[prompt]
        fit = (share * (np.logaddexp(0, logit) - y * logit)).sum()
        penalty = RIDGE_MODEL * levels @ levels + RIDGE_LENGTH * slope**2 + RIDGE_DIFFICULTY * hard @ hard
        return fit + penalty / 2

    best = minimize(loss, np.zeros(len(made) + 1 + len(names)), method="BFGS", options={"gtol": 1e-9}).x
    hard = best[len(made) + 1 :]
    rates = [(1 / (1 + np.exp(-(level + hard)))).mean() for level in best[: len(made)]]
    return rates, best[len(made)]


@pytest.mark.parametrize(("seed", "samples"), [(0, 1), (1, 1), (2, 2)])
def test_the_joint_fit_is_the_minimum_of_its_likelihood(seed, samples):
    made = contests(seed, prompts=15, samples=samples)
    rates, slope = oracle(made)
    fitted = of_contests(made, resamples=2)
    assert [fitted[one.a].rate.estimate for one in made] == pytest.approx(rates, abs=1e-5)
    assert fitted["m0"].length_weight == pytest.approx(slope, abs=1e-4)


@given(st.integers(0, 10_000), st.integers(2, 4))
@settings(max_examples=15, deadline=None)
def test_exchanging_all_sides_gives_one_minus_each_rate(seed, models):
    made = contests(seed, models, prompts=12)
    back = [Contest(c.a, c.b, 1 - c.outcome_N, -c.length_N, c.prompts) for c in made]
    one, other = of_contests(made, resamples=2), of_contests(back, resamples=2)
    for name in one:
        assert one[name].rate.estimate == pytest.approx(1 - other[name].rate.estimate, abs=1e-7)


@given(st.integers(0, 10_000), st.floats(0.1, 50))
@settings(max_examples=10, deadline=None)
def test_the_unit_of_length_and_the_order_of_models_do_not_matter(seed, unit):
    made = contests(seed, prompts=12)
    other = [Contest(c.a, c.b, c.outcome_N, unit * c.length_N, c.prompts) for c in reversed(made)]
    one, same = of_contests(made, resamples=2), of_contests(other, resamples=2)
    for name in one:
        assert one[name].rate.estimate == pytest.approx(same[name].rate.estimate, abs=1e-7)


def test_a_pure_length_judge_finds_equal_models_equal():
    made = contests(3, prompts=300, levels=[0.0, 0.0, 0.0], length=3.0)
    raw = made[2].win_rate(resamples=200).rate
    fair = of_contests(made, resamples=100)
    assert raw.low > 0.5  # longer answers win
    assert all(one.rate.low < 0.5 < one.rate.high for one in fair.values())
    assert all(one.identified and not one.extrapolates for one in fair.values())


def test_models_that_are_always_the_longer_ones_cannot_be_told_from_length():
    made = [Contest(c.a, c.b, c.outcome_N, np.abs(c.length_N) + 1, c.prompts) for c in contests(4)]
    assert not any(one.identified for one in of_contests(made, resamples=2).values())


def test_intervals_are_never_of_no_width_and_one_prompt_has_none():
    won = [Contest(c.a, c.b, np.ones(len(c.prompts)), c.length_N, c.prompts) for c in contests(5)]
    for one in of_contests(won, resamples=50).values():
        assert one.rate.low < one.rate.estimate <= one.rate.high
    single = [Contest(c.a, c.b, c.outcome_N[:1], c.length_N[:1], c.prompts[:1]) for c in contests(6)]
    assert not any(one.rate.known for one in of_contests(single, resamples=5).values())


def test_two_models_are_one_contest_which_extrapolates():
    (one,) = contests(7, models=1)
    alone = of_contests([one], resamples=20)["m0"]
    assert alone.extrapolates
    assert alone.rate == of_contest(one, resamples=20).rate


def test_contests_with_several_baselines_are_refused():
    one, other = contests(8, models=2)
    with pytest.raises(ShapeError, match="2 contests"):
        of_contests([one, Contest(other.a, "another", other.outcome_N, other.length_N, other.prompts)])
    with pytest.raises(ShapeError):
        of_contests([])


def test_a_model_that_was_asked_fewer_prompts_counts_on_those():
    made = contests(9)
    short = Contest("m9", "base", np.ones(10), np.linspace(-9, 9, 10), made[0].prompts[:10])
    assert of_contests([*made, short], resamples=5)["m9"].rate.estimate > 0.8


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.exists(), reason="the published verdicts are not here")
def test_the_joint_fit_comes_near_the_published_figures():
    """Nine models of AlpacaEval 2 (evaluation only, CC BY-NC 4.0); the figures are those of docs/evaluate.md."""
    published = rows("real", "noncommercial/alpaca_eval/published_leaderboard")
    made = []
    for model in published:
        verdicts = rows("real", f"noncommercial/alpaca_eval/{model['model']}")
        outcome = np.array([row["preference"] - 1 for row in verdicts])
        length = np.array([row["len_model"] - row["len_reference"] for row in verdicts], dtype=np.float64)
        prompts = tuple(f"{row['dataset']} {row['instruction']}" for row in verdicts)
        made.append(Contest(model["model"], "reference", outcome, length, prompts))
    wanted = np.array([model["length_controlled_winrate"] for model in published])
    alone = np.array([100 * of_contest(one, resamples=2).rate.estimate for one in made]) - wanted
    joint = of_contests(made, resamples=2)
    off = np.array([100 * joint[one.a].rate.estimate for one in made]) - wanted
    assert (np.abs(alone).mean(), np.abs(alone).max()) == pytest.approx((5.12, 14.95), abs=0.01)
    assert (np.abs(off).mean(), np.abs(off).max()) == pytest.approx((0.95, 2.79), abs=0.01)
