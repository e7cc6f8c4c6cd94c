"""Steadiness of a run: its end, its rise, its spikes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import ShapeError
from trueup.evaluation.stability import SPIKE, rise, series_mean, spikes, tail

NORMS = st.lists(st.floats(0.01, 10), min_size=1, max_size=40)


@settings(deadline=None)
@given(NORMS)
def test_spikes_are_those_of_the_definition(norms):
    wanted = [
        i for i, norm in enumerate(norms) if i >= 5 and norm > SPIKE * float(np.median(norms[max(0, i - 50) : i]))
    ]
    assert spikes(norms) == wanted


@settings(deadline=None)
@given(NORMS, st.floats(0.1, 10))
def test_spikes_do_not_depend_on_the_unit(norms, factor):
    far = [norm for norm in norms if all(abs(norm - SPIKE * other) > 1e-6 for other in norms)]
    assert spikes([factor * norm for norm in far]) == spikes(far)


def test_what_is_no_number_is_a_spike_and_no_measure_of_others():
    norms = [1.0] * 6 + [math.nan, 1.0, math.inf, 5.0, 1.0]
    assert spikes(norms) == [6, 8, 9]


def test_a_correlated_series_is_known_less_well():
    """Coverage of a mean over AR(1) noise: without the correction about two thirds."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        noise = rng.normal(0, 1, 60)
        for i in range(1, 60):
            noise[i] += 0.6 * noise[i - 1]
        interval = series_mean(noise.tolist())
        hits += interval.low <= 0 <= interval.high
    assert 0.85 <= hits / 300 <= 0.99


def test_a_rise_is_seen_and_noise_is_not():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (200, 60))
    assert all(rise((row + np.linspace(0, 4, 60)).tolist()).above(0) for row in noise[:20])
    assert sum(rise(row.tolist()).excludes(0) for row in noise) / 200 <= 0.1
    assert rise([1.0] * 5) is None
    assert not rise([1.0] * 30).known


def test_the_tail_has_at_least_one_value():
    assert list(tail([1.0])) == [1.0]
    assert list(tail([float(i) for i in range(10)])) == [7.0, 8.0, 9.0]
    with pytest.raises(ShapeError):
        series_mean([])
    assert not series_mean([1.0, 2.0]).known
