"""Losses on single responses: what they are at the reference, which way they pull, and at extreme rewards."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import ConfigError, ShapeError
from trueup.losses import unpaired as losses
from trueup.spec import preference
from trueup.spec import unpaired as spec
from trueup.spec.shapes import Array

floats = st.floats(-50, 50)


def one(*values: float) -> list[Array]:
    return [np.array([v]) for v in values]


def test_kto_starts_at_half_the_weight_pulls_by_the_label_and_refuses_a_negative_z0() -> None:
    """Property 61."""
    at_reference = spec.kto(*one(-5.0, -5.0), np.array([True]), 0.0, 0.1, 1.3)
    assert at_reference[0] == pytest.approx(0.65)
    assert spec.kto_grad(*one(-5.0, -6.0), np.array([True]), 0.2, 0.1)[0][0] < 0
    assert spec.kto_grad(*one(-5.0, -6.0), np.array([False]), 0.2, 0.1)[0][0] > 0
    for side, arrays in ((spec, one(0, 0)), (losses, [torch.zeros(1)] * 2)):
        with pytest.raises(ConfigError, match="z0"):
            side.kto(*arrays, torch.tensor([True]) if side is losses else np.array([True]), -0.1, 0.1)


@given(floats, floats, st.floats(0.5, 1.0), st.floats(0, 3))
def test_kto_with_a_strength_is_the_expectation_over_the_label(r: float, q: float, p: float, z0: float) -> None:
    good, bad = np.array([True]), np.array([False])
    weights = (1.3, 0.8)
    of = {flag: spec.kto(*one(r, q), label, z0, 0.1, *weights)[0] for flag, label in (("good", good), ("bad", bad))}
    soft = spec.kto(*one(r, q), good, z0, 0.1, *weights, np.array([p]))[0]
    assert soft == pytest.approx(p * of["good"] + (1 - p) * of["bad"])
    (slope,) = spec.kto_grad(*one(r, q), good, z0, 0.1, 1.0, 1.0, np.array([0.5]))
    assert slope[0] == pytest.approx(0, abs=1e-12)


def test_bco_starts_at_log_two_pulls_by_the_label_and_is_stationary_for_a_label_of_a_half() -> None:
    for label in (True, False):
        at_reference = spec.bco(*one(-5.0, -5.0), np.array([label]), 0.0, 0.1, 1.3, 1.3)
        assert at_reference[0] == pytest.approx(1.3 * math.log(2))
    assert spec.bco_grad(*one(-5.0, -6.0), np.array([True]), 0.2, 0.1)[0][0] < 0
    assert spec.bco_grad(*one(-5.0, -6.0), np.array([False]), 0.2, 0.1)[0][0] > 0
    (slope,) = spec.bco_grad(*one(-4.0, -6.0), np.array([True]), 0.2, 0.1, strength_B=np.array([0.5]))
    assert slope[0] == pytest.approx(0, abs=1e-12)  # the reward of 2 * 0.1 is the shift: a classifier that is at 0.5


@given(floats, floats, st.floats(0.5, 1.0), st.floats(-3, 3))
def test_bco_with_a_strength_is_the_expectation_over_the_label(r: float, q: float, p: float, shift: float) -> None:
    good, bad = (spec.bco(*one(r, q), np.array([label]), shift, 0.1, 1.3, 0.8)[0] for label in (True, False))
    for label, of in ((True, p * good + (1 - p) * bad), (False, p * bad + (1 - p) * good)):
        assert spec.bco(*one(r, q), np.array([label]), shift, 0.1, 1.3, 0.8, np.array([p]))[0] == pytest.approx(of)


@given(floats, floats, floats, floats, floats)
def test_bco_on_both_sides_of_a_pair_bounds_dpo_whatever_the_shift(
    chosen: float, rejected: float, chosen_before: float, rejected_before: float, shift: float
) -> None:
    """Theorem 1 of the paper: softplus(-a) + softplus(b) >= softplus(b - a), and the shift cancels in the gap."""
    both = spec.bco(*one(chosen, chosen_before), np.array([True]), shift, 0.3)[0]
    both += spec.bco(*one(rejected, rejected_before), np.array([False]), shift, 0.3)[0]
    sides = one(chosen, rejected, chosen_before, rejected_before)
    assert both >= preference.dpo(*sides, 0.3)[0] - 1e-9


@pytest.mark.parametrize("reward", [-1e5, -1e3, 1e3, 1e5])
def test_bco_is_finite_and_linear_where_the_classifier_is_sure(reward: float) -> None:
    for label in (True, False):
        wrong = (reward < 0) is label
        logp = torch.tensor([reward], dtype=torch.float64, requires_grad=True)
        loss_B = losses.bco(logp, torch.zeros(1).double(), torch.tensor([label]), 0.5, 1.0)
        (slope_B,) = torch.autograd.grad(loss_B.sum(), logp)
        expected = abs(reward - 0.5) if wrong else 0.0
        assert float(loss_B.detach()) == pytest.approx(expected)
        assert float(slope_B) == pytest.approx((-1.0 if label else 1.0) if wrong else 0.0)


@pytest.mark.parametrize("name", ["kto", "bco"])
@pytest.mark.parametrize("side", [spec, losses], ids=["spec", "losses"])
def test_what_does_not_belong_together_is_refused(side: Any, name: str) -> None:
    make: Any = np.zeros if side is spec else torch.zeros
    label = np.array([True]) if side is spec else torch.tensor([True])
    with pytest.raises(ShapeError):
        getattr(side, name)(make(1), make(2), label, 0.0, 0.1)
    with pytest.raises(ShapeError):
        getattr(side, name)(make(1), make(1), label, 0.0, 0.1, strength_B=make(3))


def test_a_larger_shift_asks_more_of_good_responses_and_less_of_bad_ones() -> None:
    shifts = (-1.0, 0.0, 2.0)
    good, bad = ([spec.bco(*one(1, 0), np.array([label]), s, 1.0)[0] for s in shifts] for label in (True, False))
    assert all(x < y for x, y in pairwise(good))
    assert all(x > y for x, y in pairwise(bad))
