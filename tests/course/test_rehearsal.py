"""RLHF in miniature: the closed form and the target are reached, hacking is detected and held back by the KL."""

from __future__ import annotations

import numpy as np
import pytest

from trueup.course import AdaptiveKLController, analyze_reward_hacking
from trueup.course.rehearsal import LENGTH, Rehearsal
from trueup.spec import logprob


@pytest.mark.slow
def test_ppo_reaches_the_tilted_reference():
    """Property 90. The reward is additive over words, so the optimum is p_ref e^(r / beta) / Z at the last position."""
    run = Rehearsal(seed=0, kl_coef=0.5)
    for _ in range(120):
        run.update(rollouts=128)
    # For the previous words' rows the future counts too; the last position's optimum depends on the word alone only
    # where rows are alike, as they nearly are here: compare the mean over rows, in probability.
    found_V = np.exp(logprob.log_softmax(run.policy.weights_VV[None])[0]).mean(0)
    tilted_VV = np.exp(run.reference_VV)
    tilted_VV[:, 1] *= np.exp(1 / 0.5)
    expected_V = (tilted_VV / tilted_VV.sum(-1, keepdims=True)).mean(0)
    assert 0.5 * np.abs(found_V - expected_V).sum() < 0.06
    before_V = np.exp(run.reference_VV).mean(0)
    assert 0.5 * np.abs(before_V - expected_V).sum() > 0.3


def test_transitions_are_stored_as_sampled():
    run = Rehearsal(seed=3)
    buffer = run.collect(rollouts=4)
    batch = buffer.get_batch()
    assert len(buffer) == 4 * LENGTH
    np.testing.assert_allclose(run.logps(batch), batch["old_log_probs"])
    assert buffer.dones == [False] * (LENGTH - 1) + [True] + [False] * (LENGTH - 1) + [True] + buffer.dones[10:]
    assert (batch["actions"] != 0).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_a_kl_penalty_the_reward_is_gamed(seed):
    """Property 92."""
    found = {}
    for coefficient in (0.0, 0.5):
        run = Rehearsal(seed, coefficient)
        history = [run.update() for _ in range(100)][::4]
        found[coefficient] = analyze_reward_hacking(
            [e.reward for e in history], [e.quality for e in history], kl=[e.kl for e in history]
        )
    assert found[0.0]["is_hacking"]
    assert found[0.0]["correlation_after"] < 0 < found[0.0]["correlation_before"]
    assert 0 < found[0.0]["kl_at_divergence"] < 3
    assert not found[0.5]["is_hacking"]
    assert found[0.5]["quality_change"] > 0


def test_the_controller_holds_the_kl_near_its_target():
    """Property 86."""
    run = Rehearsal(0, AdaptiveKLController(0.5, target=1.0, horizon=1000))
    drifts = [run.update().kl for _ in range(150)]
    assert np.mean(drifts[-40:]) == pytest.approx(1.0, abs=0.15)


def test_same_seed_same_run():
    assert Rehearsal(5, 0.1).update() == Rehearsal(5, 0.1).update()
    assert Rehearsal(5, 0.1).update() != Rehearsal(6, 0.1).update()
