"""Means over crossed seeds and prompts: an independent derivation, invariances, and whether the intervals cover."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trueup.errors import ShapeError
from trueup.evaluation.crossed import cells, crossed_mean
from trueup.evaluation.intervals import hierarchical_mean


def derived(table):
    """The interval by plain sums, as the docstring of the module has it."""
    seeds, prompts = len(table), len(table[0])
    flat = [value for row in table for value in row]
    mean = sum(flat) / len(flat)
    by_seed = statistics.variance([sum(row) / prompts for row in table]) / seeds
    by_prompt = statistics.variance([sum(row[p] for row in table) / seeds for p in range(prompts)]) / prompts
    rest = 0.0
    for row in table:
        for p, value in enumerate(row):
            rest += (value - sum(row) / prompts - sum(other[p] for other in table) / seeds + mean) ** 2
    cells_free = (seeds - 1) * (prompts - 1)
    rest /= cells_free * seeds * prompts
    variance = max(by_seed + by_prompt - rest, by_seed, by_prompt)
    freedom = variance**2 / (
        by_seed**2 / (seeds - 1) + by_prompt**2 / (prompts - 1) + rest**2 / cells_free
    )  # fmt: skip
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
    return mean, mean - half, mean + half


NUMBERS = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
TABLES = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=2, max_size=4)
)


@settings(deadline=None)
@given(TABLES)
def test_the_interval_is_the_one_of_the_formulas(table):
    interval = crossed_mean(table)
    if not interval.known:
        assert np.ptp(np.mean(table, 0)) < 1e-9
        assert np.ptp(np.mean(table, 1)) < 1e-9
        return
    assert (interval.estimate, interval.low, interval.high) == pytest.approx(derived(table), rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(TABLES, st.floats(0.1, 10), st.floats(-5, 5), st.randoms())
def test_units_and_order_do_not_matter(table, factor, shift, random):
    interval = crossed_mean(table)
    rows = [list(row) for row in table]
    random.shuffle(rows)
    moved = crossed_mean(factor * np.array(rows) + shift)
    if interval.known and moved.known:
        wanted = [factor * bound + shift for bound in (interval.estimate, interval.low, interval.high)]
        assert [moved.estimate, moved.low, moved.high] == pytest.approx(wanted, rel=1e-6, abs=1e-5)


@pytest.mark.parametrize(
    ("seeds", "of_seed", "of_prompt"), [(3, 0.0, 0.3), (3, 0.05, 0.3), (3, 0.3, 0.1), (5, 0.1, 0.1)]
)
def test_it_covers_where_resampling_seeds_does_not(seeds, of_seed, of_prompt):
    rng = np.random.default_rng(0)
    prompts, trials = 40, 300
    hits = 0
    for _ in range(trials):
        table = (
            rng.normal(0, of_seed, (seeds, 1)) + rng.normal(0, of_prompt, (1, prompts))
        ) + rng.normal(0, 0.3, (seeds, prompts))  # fmt: skip
        interval = crossed_mean(table)
        hits += interval.low <= 0 <= interval.high
    assert 0.92 <= hits / trials <= 0.995


def test_three_seeds_that_differ_are_not_known_well():
    rng = np.random.default_rng(1)
    table = rng.normal(0, 1, (3, 1)) + rng.normal(0, 0.1, (3, 30))
    seeds, prompts = np.repeat(range(3), 30).tolist(), np.tile(range(30), 3).tolist()
    resampled = hierarchical_mean(table.ravel(), seeds, prompts, resamples=200)
    interval = crossed_mean(table)
    assert interval.high - interval.low > 1.5 * (resampled.high - resampled.low)


def test_one_seed_is_over_prompts_and_one_prompt_over_seeds():
    values = [0.1, 0.4, 0.3, 0.8]
    half = float(stats.t.ppf(0.975, 3)) * statistics.stdev(values) / 2
    for table in ([values], [[value] for value in values]):
        interval = crossed_mean(table)
        assert interval.high - interval.estimate == pytest.approx(half)
    assert "of one seed" in crossed_mean([values]).method


@pytest.mark.parametrize("table", [[[1.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0]]])
def test_what_does_not_vary_has_no_interval(table):
    interval = crossed_mean(table)
    assert not interval.known
    assert interval.method.startswith("none")


def test_samples_of_one_prompt_are_averaged_first():
    means = cells([1.0, 3.0, 5.0, 7.0, 9.0], [0, 0, 0, 1, 1], ["a", "a", "b", "b", "a"])
    assert means.tolist() == [[2.0, 5.0], [9.0, 7.0]]


@pytest.mark.parametrize(
    ("values", "seeds", "prompts"),
    [([1.0], [0, 1], ["a"]), ([], [], []), ([1.0, 2.0, 3.0], [0, 0, 1], ["a", "b", "a"])],
)
def test_what_is_not_crossed_is_refused(values, seeds, prompts):
    with pytest.raises(ShapeError):
        cells(values, seeds, prompts)
    with pytest.raises(ShapeError):
        crossed_mean([])
