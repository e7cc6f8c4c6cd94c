"""Properties of SCIENCE section 3, A and F: log-probs, PPO, advantages, KL. Numbers are the properties'."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import ConfigError, NonFiniteError, ShapeError
from trueup.losses import advantage as torch_advantage
from trueup.losses import logprob as torch_logprob
from trueup.losses import policy as torch_policy
from trueup.spec import advantage, kl, logprob, mlp, policy
from trueup.spec.shapes import Array


def test_sequence_logps_sum_over_the_mask_and_empty_rows_are_zero() -> None:
    """Properties 11 and 13."""
    rng = np.random.default_rng(0)
    logits, tokens = rng.standard_normal((2, 5, 7)), rng.integers(0, 7, (2, 5))
    mask = np.array([[True] * 3 + [False] * 2, [False] * 5])
    sums = logprob.sequence_logps(logits, tokens, mask)
    np.testing.assert_allclose(sums, [logprob.token_logps(logits, tokens)[0, :3].sum(), 0.0])
    assert logprob.sequence_logps(logits, tokens, mask, average=True)[0] == pytest.approx(sums[0] / 3)
    np.testing.assert_array_equal(logprob.sequence_logps_grad(logits, tokens, mask)[0][1], 0)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_masked_positions_cannot_poison(poison: float) -> None:
    """Property 12."""
    logits = torch.randn(1, 3, 4, dtype=torch.float64)
    logits[0, 2] = poison
    logits.requires_grad_(True)
    mask = torch.tensor([[True, True, False]])
    value = torch_logprob.sequence_logps(logits, torch.zeros(1, 3, dtype=torch.long), mask)
    (grad,) = torch.autograd.grad(value.sum(), logits)
    assert value.isfinite().all()
    assert grad.isfinite().all()
    assert grad[0, 2].abs().sum() == 0


def test_logits_are_scored_against_the_tokens_beside_them() -> None:
    """Property 9."""
    logits = np.full((1, 2, 3), -50.0)
    logits[0, 0, 1] = logits[0, 1, 2] = 50.0
    assert logprob.sequence_logps(logits, np.array([[1, 2]]))[0] == pytest.approx(0.0, abs=1e-30)
    assert logprob.sequence_logps(logits, np.array([[2, 1]]))[0] == pytest.approx(-200.0)


def test_bf16_logits_are_scored_in_float32() -> None:
    """Property 29."""
    logits = torch.randn(1, 2, 50_000)
    tokens = torch.tensor([[3, 4]])
    rounded = logits.bfloat16()
    exact = logprob.token_logps(rounded.double().numpy(), tokens.numpy())
    np.testing.assert_allclose(torch_logprob.token_logps(rounded, tokens).numpy(), exact, atol=1e-4)


@pytest.mark.parametrize("advantage_sign", [1.0, -1.0])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.5])
def test_the_clipped_gradient_is_right_in_all_six_cells(advantage_sign: float, ratio: float) -> None:
    """Property 69."""
    new, old, gain = (np.array([[v]]) for v in (math.log(ratio), 0.0, advantage_sign))
    stopped = (advantage_sign > 0 and ratio > 1.2) or (advantage_sign < 0 and ratio < 0.8)
    expected = 0.0 if stopped else -ratio * advantage_sign
    assert policy.ppo_clip_grad(new, old, gain, 0.2)[0][0, 0] == pytest.approx(expected)
    h = 1e-6
    slope = (policy.ppo_clip(new + h, old, gain, 0.2) - policy.ppo_clip(new - h, old, gain, 0.2)) / (2 * h)
    assert slope[0, 0] == pytest.approx(expected, abs=1e-8)
    tensor = torch.tensor(new, requires_grad=True)
    (auto,) = torch.autograd.grad(torch_policy.ppo_clip(tensor, *map(torch.tensor, (old, gain)), 0.2).sum(), tensor)
    assert auto.item() == pytest.approx(expected)


def test_the_first_pass_is_the_plain_policy_gradient() -> None:
    """Property 68."""
    rng = np.random.default_rng(0)
    logp, gain = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    np.testing.assert_allclose(policy.ppo_clip_grad(logp, logp, gain, 0.2)[0], policy.reinforce_grad(logp, gain)[0])


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_the_clipped_loss_is_never_below_the_unclipped_one(logratio: float, gain: float) -> None:
    """Property 70."""
    new, old, a = (np.array([[v]]) for v in (logratio, 0.0, gain))
    assert policy.ppo_clip(new, old, a, 0.2)[0, 0] >= -math.exp(logratio) * gain - 1e-12


def _mask(*lengths: int, width: int = 5) -> np.ndarray:
    return np.arange(width)[None] < np.array(lengths)[:, None]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_gae_has_its_limits_and_equals_the_sum_by_brute_force(seed: int) -> None:
    """Properties 72 and 73."""
    rng = np.random.default_rng(seed)
    rewards, values = rng.standard_normal((1, 5)), rng.standard_normal((1, 5))
    mask = _mask(5)
    to_go = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(advantage.gae(rewards, values, mask, 1.0, 1.0), to_go - values, atol=1e-12)
    following = np.concatenate([values[:, 1:], [[0.0]]], axis=1)
    delta = rewards + 0.9 * following - values
    np.testing.assert_allclose(advantage.gae(rewards, values, mask, 0.9, 0.0), delta, atol=1e-12)
    brute = np.array([[sum((0.9 * 0.7) ** k * delta[0, t + k] for k in range(5 - t)) for t in range(5)]])
    found = advantage.gae(rewards, values, mask, 0.9, 0.7)
    np.testing.assert_allclose(found, brute, atol=1e-12)
    np.testing.assert_allclose(advantage.returns(found, values, mask), found + values)
    np.testing.assert_allclose(advantage.discounted_returns(rewards, mask, 1.0), to_go, atol=1e-12)


def test_concatenated_episodes_are_separate() -> None:
    """Property 72."""
    rng = np.random.default_rng(1)
    r, v = rng.standard_normal((1, 5)), rng.standard_normal((1, 5))
    dones = np.array([[False, True, False, False, True]])
    whole = advantage.gae(r, v, _mask(5), 0.9, 0.8, dones_BT=dones)
    first = advantage.gae(r[:, :2], v[:, :2], _mask(2, width=2), 0.9, 0.8)
    second = advantage.gae(r[:, 2:], v[:, 2:], _mask(3, width=3), 0.9, 0.8)
    np.testing.assert_allclose(whole, np.concatenate([first, second], axis=1))


def test_termination_and_truncation_differ() -> None:
    """Property 74."""
    r, v, mask = np.zeros((1, 5)), np.zeros((1, 5)), _mask(3)
    ended = advantage.gae(r, v, mask, 1.0, 0.95)
    cut = advantage.gae(r, v, mask, 1.0, 0.95, bootstrap_B=np.array([2.0]))
    np.testing.assert_array_equal(ended, 0)
    np.testing.assert_allclose(cut[0, :3], [2 * 0.95**2, 2 * 0.95, 2.0])


def test_padding_values_change_nothing() -> None:
    """Property 75."""
    r, mask = np.ones((1, 5)), _mask(2)
    clean, dirty = np.zeros((1, 5)), np.where(mask, 0.0, 1e6)
    np.testing.assert_array_equal(advantage.gae(r, clean, mask, 1, 0.95), advantage.gae(r, dirty, mask, 1, 0.95))


def test_the_score_lands_once_on_the_last_valid_token() -> None:
    """Property 76."""
    score, gap = np.array([3.0, -1.0, 5.0]), np.full((3, 5), 0.5)
    found = advantage.shaped_rewards(score, gap, _mask(2, 5, 0), 0.1)
    np.testing.assert_allclose(found[0], [-0.05, 2.95, 0, 0, 0])
    np.testing.assert_allclose(found.sum(-1), [3.0 - 0.1, -1.0 - 0.25, 0.0])


def test_whitening_standardises_the_mask_alone_and_survives_constants() -> None:
    """Property 78."""
    rng = np.random.default_rng(0)
    x, mask = rng.standard_normal((3, 5)) * 4 + 7, _mask(5, 2, 0)
    white = advantage.whiten(np.where(mask, x, 1e9), mask)
    assert white[mask].mean() == pytest.approx(0, abs=1e-12)
    assert white[mask].std() == pytest.approx(1)
    assert (white[~mask] == 0).all()
    assert (advantage.whiten(np.full((1, 5), 3.0), _mask(5)) == 0).all()
    assert (advantage.whiten(x, _mask(1, 0, 0)) == 0).all()
    kept = advantage.whiten(x, mask, shift_mean=False)
    assert kept[mask].mean() == pytest.approx(x[mask].mean())
    assert not torch_advantage.whiten(torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool)).any()


def test_the_value_clip_is_pessimistic_and_a_range_of_zero_is_refused() -> None:
    """Property 80."""
    v, old, ret = (np.array([[x]]) for x in (1.0, 0.0, 2.0))
    assert policy.clipped_value(v, old, ret, 0.2)[0, 0] == pytest.approx(0.5 * 1.8**2)
    assert policy.clipped_value_grad(v, old, ret, 0.2)[0][0, 0] == 0
    assert policy.clipped_value_grad(v, old, ret, None)[0][0, 0] == -1
    with pytest.raises(ConfigError, match="clip_range"):
        policy.clipped_value(v, old, ret, 0.0)


def _pair(seed: int, size: int = 6) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return np.log(rng.dirichlet(np.ones(size))), np.log(rng.dirichlet(np.ones(size)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_kl_estimators_have_the_right_expectation(seed: int) -> None:
    """Properties 82 and 83."""
    logp, logq = _pair(seed)
    p = np.exp(logp)
    truth = kl.exact(logp[None, None], logq[None, None])[0, 0]
    assert truth >= -1e-12
    assert p @ kl.k1(logp[None], logq[None])[0] == pytest.approx(truth)
    assert p @ kl.k3(logp[None], logq[None])[0] == pytest.approx(truth)
    assert (kl.k3(logp[None], logq[None]) >= 0).all()
    near = logp + 0.01 * (logq - logp)
    near -= np.logaddexp.reduce(near)
    small = kl.exact(logp[None, None], near[None, None])[0, 0]
    assert p @ kl.k2(logp[None], near[None])[0] == pytest.approx(small, rel=0.2, abs=1e-9)


def test_exact_kl_of_impossible_tokens_is_zero_times_zero() -> None:
    with np.errstate(divide="ignore"):
        logp = np.log(np.array([[[0.5, 0.5, 0.0]]]))
    logq = np.log(np.array([[[0.25, 0.25, 0.5]]]))
    assert kl.exact(logp, logq)[0, 0] == pytest.approx(math.log(2))
    assert np.isfinite(kl.exact_grad(logp, logq)[0]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_where_an_estimator_stands_decides_what_it_minimises(seed: int) -> None:
    """Property 84."""
    theta, logq = _pair(seed)
    logp = theta - np.logaddexp.reduce(theta)
    p, q = np.exp(logp), np.exp(logq)
    jacobian = np.eye(len(p)) - p[None, :]  # d logp_v / d theta
    forward = p * ((logp - logq) - p @ (logp - logq))  # gradient of KL(p || q)
    reverse = p - q  # gradient of KL(q || p)
    for name, expected in (("k1", np.zeros_like(p)), ("k2", forward), ("k3", reverse)):
        slope = getattr(kl, f"{name}_grad")(logp[None], logq[None])[0][0]
        np.testing.assert_allclose((p * slope) @ jacobian, expected, atol=1e-12)
    in_reward = (p * (logp - logq)) @ jacobian  # score function with k1 as a cost
    np.testing.assert_allclose(in_reward, forward, atol=1e-12)


@given(st.floats(0.001, 100), st.floats(-5, 1000), st.integers(1, 100_000))
def test_the_adaptive_controller_moves_towards_its_target_by_bounded_steps(
    beta: float, measured: float, n: int
) -> None:
    """Property 86."""
    control = kl.AdaptiveController(0.1, target=6.0, horizon=10_000)
    after = control.update(beta, measured, n)
    assert after > 0
    assert control.update(beta, 6.0, n) == beta
    assert (after > beta) == (measured > 6.0 * (1 + 1e-12)) or math.isclose(after, beta, rel_tol=1e-9)
    assert control.update(beta, 1e9, 10_000) == pytest.approx(1.2 * beta)
    assert kl.FixedController(0.05).update(0.05, measured, n) == 0.05


@pytest.mark.parametrize(("field", "value"), [("beta", 0.0), ("target", -1.0), ("horizon", 0.0)])
def test_controllers_refuse_settings_that_cannot_work(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        kl.AdaptiveController(**{"beta": 0.1, "target": 6.0, "horizon": 100.0, field: value})
    with pytest.raises(ConfigError, match="beta"):
        kl.FixedController(-0.1)


@pytest.mark.parametrize("measured", [math.nan, math.inf])
def test_a_kl_that_is_no_number_never_moves_beta(measured: float) -> None:
    with pytest.raises(NonFiniteError, match="measured KL"):
        kl.AdaptiveController(0.1, 6.0, 100.0).update(0.1, measured, 10)


def test_entropy_of_equal_logits_is_the_log_of_their_number() -> None:
    """Property 87."""
    assert policy.entropy(np.zeros((1, 1, 8)))[0, 0] == pytest.approx(math.log(8))
    forbidden = torch.tensor([[[0.0, 0.0, -math.inf]]])
    assert torch_policy.entropy(forbidden).item() == pytest.approx(math.log(2))


def test_rloo_advantages_sum_to_zero_and_one_sample_is_refused() -> None:
    """Property 88."""
    scores = np.random.default_rng(0).standard_normal((3, 4))
    found = advantage.rloo(scores)
    np.testing.assert_allclose(found.sum(-1), 0, atol=1e-12)
    np.testing.assert_allclose(found, 4 / 3 * (scores - scores.mean(-1, keepdims=True)))
    for side in (advantage.rloo, advantage.group_advantages):
        with pytest.raises(ConfigError, match="k at least 2"):
            side(scores[:, :1])


def test_group_advantages_are_centred_and_scaled_within_the_group() -> None:
    """Property 89."""
    scores = np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
    np.testing.assert_allclose(advantage.group_advantages(scores), [[0, 0, 0], [-1 / 1.0001, 0, 1 / 1.0001]])
    np.testing.assert_allclose(advantage.group_advantages(scores * 5, scale=False), [[0, 0, 0], [-5, 0, 5]])


def test_the_gradient_of_the_whole_mlp_is_the_numerical_one() -> None:
    """Property 41."""
    rng = np.random.default_rng(0)
    parameters = mlp.init(3, 4, rng)
    x, weight = rng.standard_normal((5, 3)), rng.standard_normal((5, 1))
    value, cache = mlp.forward(parameters, x)
    assert value.shape == (5, 1)
    gradients, grad_x = mlp.backward(parameters, cache, weight)
    h = 1e-6
    for name, array in parameters.items():
        for at in np.ndindex(array.shape):
            ends = []
            for step in (h, -h):
                moved = {k: v.copy() for k, v in parameters.items()}
                moved[name][at] += step
                ends.append(float((mlp.forward(moved, x)[0] * weight).sum()))
            assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(gradients[name][at], abs=1e-6)
    moved_x = x.copy()
    moved_x[1, 2] += h
    slope = float(((mlp.forward(parameters, moved_x)[0] - value) * weight).sum()) / h
    assert slope == pytest.approx(grad_x[1, 2], abs=1e-5)
    with pytest.raises(ShapeError):
        mlp.forward(parameters, x[:, :2])
    with pytest.raises(ShapeError):
        mlp.backward(parameters, cache, weight[:, 0])
