"""Figures and intervals of ratings against plain formulas, scipy and resampling."""

import numpy as np
import pytest
from scipy import stats

from trueup.errors import ShapeError
from trueup.recipes.rating_fit import rating_fit


def sides(count=200, seed=0):
    draw = np.random.default_rng(seed)
    ratings = draw.normal(3.0, 1.0, count)
    return 0.6 * ratings + draw.normal(1.0, 0.7, count), ratings


def fit(predicted, ratings, baseline=3.0, weight=None, prompts=None):
    count = len(ratings)
    return rating_fit(
        list(predicted),
        list(ratings),
        baseline=baseline,
        weight=[1.0] * count if weight is None else weight,
        prompts=range(count) if prompts is None else prompts,
    )


def test_figures_are_those_of_their_formulas():
    predicted, ratings = sides()
    figures = fit(predicted, ratings).figures
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean((predicted - ratings) ** 2)))
    assert figures["mean_rmse"] == pytest.approx(np.sqrt(np.mean((3.0 - ratings) ** 2)))
    assert figures["r2"] == pytest.approx(1 - (figures["rmse"] / figures["mean_rmse"]) ** 2)
    assert figures["pearson"] == pytest.approx(stats.pearsonr(predicted, ratings)[0])


def test_the_mean_itself_explains_nothing_and_has_no_correlation():
    _, ratings = sides()
    measured = fit(np.full(len(ratings), 3.0), ratings)
    assert measured.figures["r2"] == 0.0
    assert "pearson" not in measured.figures
    assert "r2" not in fit([1.0, 2.0], [3.0, 3.0]).figures


def test_a_weight_of_two_is_the_row_twice():
    predicted, ratings = sides(40)
    twice = fit([*predicted, *predicted[:20]], [*ratings, *ratings[:20]])
    weighed = fit(predicted, ratings, weight=[2.0] * 20 + [1.0] * 20)
    assert weighed.figures == pytest.approx(twice.figures)


@pytest.mark.parametrize("name", ["rmse", "r2", "pearson"])
def test_intervals_are_as_wide_as_resampled_prompts_say(name):
    predicted, ratings = sides(240)
    prompts = [number // 3 for number in range(240)]
    low, high = fit(predicted, ratings, prompts=prompts).intervals[name]
    draw, values = np.random.default_rng(1), []
    for _ in range(400):
        rows = np.concatenate([[3 * k, 3 * k + 1, 3 * k + 2] for k in draw.integers(0, 80, 80)])
        values.append(fit(predicted[rows], ratings[rows]).figures[name])
    assert high - low == pytest.approx(3.92 * np.std(values), rel=0.2)
    assert low < fit(predicted, ratings).figures[name] < high


def test_answers_to_one_prompt_count_together():
    predicted, ratings = sides(60)
    four, sixty = [np.repeat(side, 4) for side in (predicted, ratings)], fit(predicted, ratings)
    together = fit(*four, prompts=np.repeat(np.arange(60), 4).tolist())
    for name in ("rmse", "r2", "pearson"):
        assert together.intervals[name] == pytest.approx(sixty.intervals[name])
    assert fit(predicted, ratings, prompts=[0] * 60).intervals["pearson"] is None


def test_nothing_and_unequal_sides_are_refused():
    with pytest.raises(ShapeError):
        fit([], [])
    with pytest.raises(ShapeError):
        fit([1.0], [1.0, 2.0])
