"""The marginal model of annotators: gradient, symmetry, and intervals that cover what was planted."""

import math
from dataclasses import replace

import numpy as np
import pytest

from trueup.errors import ShapeError
from trueup.feedback.quality.comparisons import votes
from trueup.feedback.quality.judges import _Table, fit_judges, objective
from trueup.feedback.simulate import Memory, Planted, crowd, plant, work


def judged(seed, items=300, odd=(), overlap=4, count=8, **world):
    made = plant(items, seed=seed, **world)
    people = crowd(count, seed=seed, odd=odd)
    memory = Memory(made, overlap=overlap, seed=seed)
    work(made, people, memory, seed=seed)
    return memory.judged(), people, made


def test_the_gradient_is_that_of_the_value():
    found, _, _ = judged(0, items=40, odd=(Planted("ties", ties=0.7),))
    table = _Table.of(votes(found))
    x = np.random.default_rng(0).normal(1, 1, 2 * len(table.names))
    _, slope = objective(x, table)
    step = 1e-5
    central = [
        (objective(x + step * e, table)[0] - objective(x - step * e, table)[0]) / (2 * step) for e in np.eye(len(x))
    ]
    np.testing.assert_allclose(slope, central, atol=1e-6)


def test_the_covariance_is_that_of_the_curvature():
    found, _, _ = judged(1, items=60, count=4)
    fit = fit_judges(votes(found))
    table = _Table.of(votes(found))
    x = np.concatenate([fit.ability_J, fit.side_J])
    step = 1e-4
    curve = np.array(
        [(objective(x + step * e, table)[1] - objective(x - step * e, table)[1]) / (2 * step) for e in np.eye(len(x))]
    )
    np.testing.assert_allclose(np.linalg.inv(fit.covariance), curve, rtol=1e-4, atol=1e-4)


def test_swapping_pairs_changes_nothing_about_annotators():
    found, _, _ = judged(2, items=60, count=4)
    rows = votes(found)
    turned = [
        replace(v, first=v.second, second=v.first, outcome=-v.outcome, shown_first=not v.shown_first)
        if int(v.item[-1]) % 2
        else v
        for v in rows
    ]
    one, other = fit_judges(rows), fit_judges(turned)
    np.testing.assert_allclose(one.ability_J, other.ability_J, atol=1e-3)
    np.testing.assert_allclose(one.side_J, other.side_J, atol=1e-3)
    for place, pair in enumerate(one.pairs):
        p = other.probability(place)[0]
        assert one.probability(place)[0] == pytest.approx(1 - p if int(pair[0][-1]) % 2 else p, abs=1e-3)


def test_intervals_cover_planted_abilities_and_sides():
    """Ten crowds of eight: 95 % intervals cover at least 88 % (a binomial lower bound at 80 trials is 89 %)."""
    ability, side = [], []
    for seed in range(10):
        found, people, _ = judged(seed, items=400)
        fit = fit_judges(votes(found))
        for who in people:
            _, low, high = fit.ability(who.name)
            ability.append(low <= who.ability * 1.5 * math.sqrt(2) <= high)  # the gap's standard deviation
            _, low, high = fit.side(who.name)
            side.append(low <= who.side <= high)
    assert np.mean(ability) >= 0.88
    assert np.mean(side) >= 0.88


def test_nothing_judged_is_said():
    with pytest.raises(ShapeError, match="no votes"):
        fit_judges([])
