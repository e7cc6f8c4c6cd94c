"""The marginal model of annotators: gradient, symmetry, and intervals that cover what was planted."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from tests.published import SOURCES, rows
from trueup.collectors.planted import plant, planted_annotator, planted_panel
from trueup.collectors.simulated import MemoryQueue, collect_answers
from trueup.errors import ShapeError
from trueup.feedback.quality.comparisons import PairVote, votes
from trueup.feedback.quality.consensus import estimates
from trueup.feedback.quality.judges import _better, _Table, fit_judges, negative_log_marginal


def judged(seed, items=300, odd=(), overlap=4, count=8, **world):
    made = plant(items, seed=seed, **world)
    people = planted_panel(count, seed=seed, odd=odd)
    memory = MemoryQueue(made.rows, overlap=overlap, seed=seed)
    collect_answers(people, memory, worth=made.worth, seed=seed)
    return memory.judged(), people, made


def test_the_gradient_equals_central_differences_of_the_value():
    found, _, _ = judged(0, items=40, odd=(planted_annotator("ties", ties=0.7),))
    table = _Table.of(votes(found))
    x = np.random.default_rng(0).normal(1, 1, 2 * len(table.names))
    _, slope = negative_log_marginal(x, table)
    step = 1e-5
    central = [
        (negative_log_marginal(x + step * e, table)[0] - negative_log_marginal(x - step * e, table)[0]) / (2 * step)
        for e in np.eye(len(x))
    ]
    np.testing.assert_allclose(slope, central, atol=1e-6)


def test_the_covariance_equals_the_inverse_curvature():
    found, _, _ = judged(1, items=60, count=4)
    fit = fit_judges(votes(found))
    table = _Table.of(votes(found))
    x = np.concatenate([fit.ability_J, fit.side_J])
    step = 1e-4
    curve = np.array(
        [
            (negative_log_marginal(x + step * e, table)[1] - negative_log_marginal(x - step * e, table)[1]) / (2 * step)
            for e in np.eye(len(x))
        ]
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


@pytest.mark.slow
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
            side.append(low <= who.side_bias <= high)
    assert np.mean(ability) >= 0.88
    assert np.mean(side) >= 0.88


def test_the_error_of_a_probability_follows_from_its_slope_in_every_parameter():
    found, _, _ = judged(3, items=40, count=4)
    table = _Table.of(votes(found))
    draw = np.random.default_rng(1)
    x = draw.normal(1, 0.5, 2 * len(table.names))
    step = 1e-5
    # Besides single parameters, mixed directions: only they see the sign of one parameter against another.
    for axis in (*np.eye(len(x)), *draw.normal(size=(4, len(x)))):
        ends = [special.logit(_better(x + sign * step * axis, table, np.eye(len(x)))[0]) for sign in (1, -1)]
        _, error_P = _better(x, table, np.outer(axis, axis))
        np.testing.assert_allclose(error_P, np.abs(ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_probabilities_are_as_often_right_as_they_say():
    """2,400 planted pairs with three votes each: of pairs at 80 to 90 %, that many are right (error about 1.5 %)."""
    sure, right = [], []
    for seed in range(4):
        found, _, made = judged(seed, items=600, overlap=3, odd=(planted_annotator("random", ability=0.0),))
        fit = fit_judges(votes(found))
        for place, (item, first, second) in enumerate(fit.pairs):
            p, low, high = fit.probability(place)
            assert low <= p <= high
            text = {r.id: r.text for r in found.items[item].responses}
            sure.append(max(p, 1 - p))
            right.append((p > 0.5) == (made.utility[text[first]][0] > made.utility[text[second]][0]))
    sure, right = np.array(sure), np.array(right)
    for low, high in ((0.5, 0.7), (0.7, 0.85), (0.85, 0.95), (0.95, 1.0)):
        here = (sure >= low) & (sure < high)
        assert here.sum() > 100
        assert right[here].mean() == pytest.approx(sure[here].mean(), abs=0.06)


@pytest.mark.parametrize("source", SOURCES)
def test_on_votes_of_known_truth_it_is_the_least_wrong_about_itself(source):
    """Five labels by strangers for each of 1,000 real items: Dawid-Skene is 97 % sure and right seven times in ten.

    "Yes" is taken to stand first for everybody, so that a habit of saying it counts as a side.
    """
    labels = rows(source, "annotators/crowd_labels_1000")
    truth = {row["item"]: row["truth"] for row in labels}
    cast = [
        PairVote(str(n), row["item"], row["worker"], "yes", "no", 1 if row["label"] else -1, 1.0, True, "")
        for n, row in enumerate(labels)
    ]
    surprise = {}
    for method in ("ability", "dawid_skene", "majority"):
        told = [(min(0.999, max(0.001, one.p_first)), truth[one.item]) for one in estimates(cast, method)]
        surprise[method] = -float(np.mean([math.log(p if yes else 1 - p) for p, yes in told]))
    assert surprise["ability"] < min(surprise["majority"], surprise["dawid_skene"])
    assert surprise["ability"] < 0.75
    if source == "own":
        return
    assert surprise["majority"] > 1.0
    assert surprise["dawid_skene"] > 1.5


def test_a_fit_without_votes_is_refused():
    with pytest.raises(ShapeError, match="no votes"):
        fit_judges([])
