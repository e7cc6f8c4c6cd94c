"""The three signs of reward hacking: planted ones are found, healthy curves are not called so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.course import analyze_reward_hacking
from trueup.errors import ShapeError
from trueup.evaluation.hacking import KL_LIMIT, SYMPTOMS, change, find_hacking

RISING = np.linspace(0, 3, 24)
FLAT = np.full(24, 0.5)


def noisy(values, seed, size=0.02):
    return np.asarray(values) + np.random.default_rng(seed).normal(0, size, len(values))


def test_quality_decides():
    turned = np.where(np.arange(24) < 10, np.arange(24), 20 - np.arange(24)) / 10
    found = find_hacking(RISING, turned)
    assert (found.verdict, found.quality, found.degeneration, found.divergence) == ("hacking", True, None, None)
    assert abs(found.point - 10) <= 1
    assert found.quality_lost == pytest.approx(turned[found.point] - turned[-1])
    assert any("checkpoint" in line for line in found.advice)


@pytest.mark.parametrize(
    ("quality", "outputs", "kl", "verdict"),
    [
        (None, None, None, "none"),
        (None, {"diversity": [0.8] * 12 + [0.3] * 12}, None, "suspected"),
        (None, None, np.linspace(0, 40, 24), "suspected"),
        (FLAT, {"diversity": [0.8] * 12 + [0.3] * 12}, None, "suspected"),
        (FLAT, {"diversity": [0.8] * 12 + [0.3] * 12}, np.linspace(0, 40, 24), "hacking"),
        (FLAT, {"diversity": [0.8] * 24}, np.linspace(0, 4, 24), "none"),
        (RISING, {"diversity": [0.8] * 12 + [0.3] * 12}, np.linspace(0, 40, 24), "none"),
    ],
)
def test_degeneration_and_divergence_count_where_quality_does_not_rise(quality, outputs, kl, verdict):
    assert find_hacking(RISING, quality, outputs=outputs, kl=kl).verdict == verdict
    assert find_hacking(-RISING, None, outputs=outputs, kl=kl).verdict == "none"  # a reward that falls is not gamed


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("diversity", 0.9, 0.4),
        ("distinct_2", 0.6, 0.3),
        ("repetition", 0.02, 0.3),
        ("same_opening", 0.1, 0.9),
        ("completion_length", 30.0, 90.0),
        ("eos_rate", 1.0, 0.5),
        ("refusals", 0.1, 0.8),
    ],
)
def test_every_symptom_is_seen_and_its_reverse_is_not(name, start, end):
    assert name in SYMPTOMS
    curve = noisy(np.linspace(start, end, 24), 1, 0.01 * max(start, end))
    found = find_hacking(RISING, outputs={name: curve})
    assert list(found.symptoms) == [name]
    assert found.advice == (SYMPTOMS[name].help,)
    assert find_hacking(RISING, outputs={name: curve[::-1]}).symptoms == {}
    assert find_hacking(RISING, outputs={name: noisy(np.full(24, start), 2, 0.1 * start)}).symptoms == {}


def test_what_was_not_measured_is_said_to_be_unknown():
    told = " ".join(find_hacking(RISING).sentences)
    assert "Quality was not measured" in told
    assert "nothing was measured of the outputs" in told
    assert "the KL was not measured" in told


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_run_that_gets_better_is_never_called_hacking(seed):
    quality = noisy(np.linspace(0, 1, 24), seed, 0.1)
    found = find_hacking(noisy(RISING, seed + 1, 0.1), quality, kl=np.linspace(0, 8, 24))
    assert found.verdict == "none"


@pytest.mark.parametrize("bad", [[], [1.0], [1.0, float("nan")], [[1.0, 2.0]]])
def test_series_that_say_nothing_are_refused(bad):
    with pytest.raises(ShapeError):
        change(bad)


def test_names_and_lengths_are_checked():
    with pytest.raises(ShapeError, match="outputs"):
        find_hacking(RISING, outputs={"colour": FLAT})
    with pytest.raises(ShapeError, match="the same evaluations"):
        find_hacking(RISING, FLAT[:5])
    assert find_hacking(RISING, FLAT[:5], judged_reward=RISING[:5]).quality is False


def test_the_course_uses_all_three_signs():
    reward, quality = [0.0, 1.0, 2.0, 3.0], [0.5, 0.5, 0.5, 0.5]
    told = analyze_reward_hacking(reward, quality, kl=[0.0, 5.0, 20.0, 60.0], diversity=[0.9, 0.8, 0.4, 0.1])
    assert told["signs"] == {"quality": False, "degeneration": True, "divergence": True}
    assert told["is_hacking"]
    assert told["divergence_point"] is None
    near = analyze_reward_hacking(reward, quality, kl=[0.0, 1.0, 2.0, 3.0], diversity=[0.9, 0.8, 0.4, 0.1])
    assert (near["is_hacking"], near["verdict"]) == (False, "suspected")
    assert near["advice"] == [SYMPTOMS["diversity"].help]
    far = analyze_reward_hacking(reward, quality, kl=[0.0, 1.0, 2.0, 3.0], kl_limit=2.0)
    assert far["signs"] == {"quality": False, "degeneration": None, "divergence": True}
    assert KL_LIMIT == 12.0
    assert analyze_reward_hacking(reward, quality)["signs"]["divergence"] is None
