"""Advantages and losses of online methods: properties 88 and 89, the written rules for degenerate groups."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trueup.errors import ConfigError, ShapeError
from trueup.losses import advantage as torch_advantage
from trueup.losses import policy as torch_policy
from trueup.spec import advantage, policy
from trueup.spec.shapes import Array

SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 6))
SCORES = SHAPES.flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=st.floats(-50, 50)))
FORMS = {
    "rloo": lambda side, scores, valid=None: side.rloo(scores, valid),
    "grpo": lambda side, scores, valid=None: side.group_advantages(scores, True, valid),
    "dr-grpo": lambda side, scores, valid=None: side.group_advantages(scores, False, valid),
}


def both(call: Any, *arguments: Any) -> Array:
    """What spec gives, after torch has given the same."""
    found: Array = call(advantage, *arguments)
    tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    np.testing.assert_allclose(call(torch_advantage, *tensors).numpy(), found, rtol=1e-9, atol=1e-9)
    return found


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, deadline=None)
@given(scores=SCORES, shift=st.floats(-30, 30))
def test_advantages_sum_to_zero_and_a_constant_for_a_prompt_changes_nothing(
    form: str, scores: Array, shift: float
) -> None:
    found = both(FORMS[form], scores)
    scale = 1 + np.abs(found).max()
    np.testing.assert_allclose(found.sum(-1), 0, atol=1e-9 * scale)
    if not advantage.dead_groups(scores).any() and not advantage.dead_groups(scores + shift).any():
        np.testing.assert_allclose(both(FORMS[form], scores + shift), found, atol=1e-6 * scale)


@settings(max_examples=40, deadline=None)
@given(scores=SCORES, factor=st.floats(0.5, 20))
def test_scale_passes_through_rloo_and_not_through_grpo(scores: Array, factor: float) -> None:
    scores = scores + np.arange(scores.shape[1])  # a spread far above the floor of 1e-4 and the rule for equal ones
    scores = np.where(advantage.dead_groups(scores)[:, None], np.arange(scores.shape[1]), scores)
    np.testing.assert_allclose(both(FORMS["rloo"], factor * scores), factor * both(FORMS["rloo"], scores), atol=1e-6)
    std = scores.std(-1, ddof=1).min()
    close = 1e-4 / std * 4 + 1e-6
    np.testing.assert_allclose(both(FORMS["grpo"], factor * scores), both(FORMS["grpo"], scores), atol=3 * close)


@settings(max_examples=30, deadline=None)
@given(scores=SCORES, seed=st.integers(0, 10**6))
def test_the_order_of_answers_is_nothing_and_rloo_is_dr_grpo_times_k_over_k_minus_1(scores: Array, seed: int) -> None:
    k = scores.shape[1]
    order = np.random.default_rng(seed).permutation(k)
    for form in FORMS.values():
        np.testing.assert_allclose(both(form, scores[:, order]), both(form, scores)[:, order], atol=1e-9)
    np.testing.assert_allclose(both(FORMS["rloo"], scores), both(FORMS["dr-grpo"], scores) * k / (k - 1), atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("level", [0.0, 0.3, -7.0, 1234.5])
def test_identical_answers_have_advantage_zero_whatever_noise_their_scores_carry(form: str, level: float) -> None:
    """An epsilon of 1e-9 makes |A| = 2 of noise of 1e-7."""
    noise = np.array([[0.0, 4e-7, -3e-7, 1e-7]]) * max(1.0, abs(level))
    assert (both(FORMS[form], level + noise) == 0).all()
    narrow = torch.full((1, 4), level, dtype=torch.float32) + torch.from_numpy(noise).float()
    assert (FORMS[form](torch_advantage, narrow) == 0).all()
    assert advantage.dead_groups(level + noise).all()
    apart = level + noise + np.array([[0.0, 0.0, 0.0, 1e-3]]) * max(1.0, abs(level))
    assert not advantage.dead_groups(apart).any()


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30, deadline=None)
@given(scores=SCORES, poison=st.sampled_from([math.nan, math.inf, -1e30]), seed=st.integers(0, 10**6))
def test_a_dropped_answer_moves_nobody_and_has_no_advantage(form: str, scores: Array, poison: float, seed: int) -> None:
    """A rejected sample must not shift the baseline of its siblings, nor a NaN their mean."""
    valid = np.random.default_rng(seed).random(scores.shape) < 0.7
    found = both(FORMS[form], np.where(valid, scores, poison), valid)
    assert (found[~valid] == 0).all()
    for group, row in enumerate(valid):
        alone = scores[group, row][None]
        wanted = both(FORMS[form], alone)[0] if alone.shape[1] > 1 else np.zeros(alone.shape[1])
        np.testing.assert_allclose(found[group, row], wanted, atol=1e-9)


@pytest.mark.parametrize("side", [advantage, torch_advantage])
def test_one_answer_is_no_group(side: ModuleType) -> None:
    one = np.zeros((3, 1)) if side is advantage else torch.zeros(3, 1)
    for function in (side.rloo, side.group_advantages, side.dead_groups):
        with pytest.raises(ConfigError, match="k at least 2"):
            function(one)


def test_the_baseline_does_not_bias_the_gradient() -> None:
    """Property 88: E[baseline * score] = 0, exactly, over all pairs of answers of a three-armed policy."""
    p, reward = np.array([0.5, 0.3, 0.2]), np.array([1.0, -2.0, 4.0])
    jacobian = np.eye(3) - p[None]  # d log p(arm) / d logits
    truth = (p * reward) @ jacobian
    total = np.zeros(3)
    for first in range(3):
        for second in range(3):
            gains = advantage.rloo(np.array([[reward[first], reward[second]]]))[0]
            total += p[first] * p[second] * (gains[0] * jacobian[first] + gains[1] * jacobian[second]) / 2
    np.testing.assert_allclose(total, truth, atol=1e-12)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_an_overlong_answer_loses_linearly(lengths: list[int]) -> None:
    found = both(lambda side, x: side.overlong_penalty(x, 20, 5), np.array(lengths, dtype=float))
    for length, share in zip(lengths, found, strict=True):
        assert share == pytest.approx(0.0 if length <= 15 else min(1.0, (length - 15) / 5))
    for side, array in ((advantage, np.zeros(1)), (torch_advantage, torch.zeros(1))):
        for buffer in (0, 21):
            with pytest.raises(ConfigError, match="buffer"):
                side.overlong_penalty(array, 20, buffer)


def _mask(*lengths: int, width: int = 5) -> np.ndarray:
    return np.arange(width)[None] < np.array(lengths)[:, None]


@pytest.mark.parametrize("normalise", ["answer", "token", "constant", "sum"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_weights_add_token_losses_up_as_they_say(normalise: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask, loss = _mask(*rng.integers(0, 6, 4)), rng.standard_normal((4, 5))
    weights = policy.answer_weights(mask, normalise, 7)
    np.testing.assert_allclose(
        torch_policy.answer_weights(torch.from_numpy(mask), normalise, 7).numpy(), weights, rtol=1e-6
    )
    sums, counts = (loss * mask).sum(-1), mask.sum(-1)
    answers = max(1, int((counts > 0).sum()))
    wanted = {
        "answer": sum(s / n for s, n in zip(sums, counts, strict=True) if n) / answers,
        "token": sums.sum() / max(1, counts.sum()),
        "constant": sums.sum() / answers / 7,
        "sum": sums.sum() / answers,
    }[normalise]
    assert float((weights * loss).sum()) == pytest.approx(wanted)


def test_token_and_answer_means_agree_where_lengths_are_equal_and_only_there() -> None:
    """Property 89."""
    equal, unequal = _mask(3, 3), _mask(1, 5)
    np.testing.assert_allclose(
        policy.answer_weights(equal, "answer", 5), policy.answer_weights(equal, "token", 5), rtol=1e-12
    )
    assert policy.answer_weights(unequal, "answer", 5)[0, 0] == 5 * policy.answer_weights(unequal, "answer", 5)[1, 0]
    with pytest.raises(ConfigError, match="normalise"):
        policy.answer_weights(equal, "rows", 5)
    with pytest.raises(ConfigError, match="normalise"):
        torch_policy.answer_weights(torch.from_numpy(equal), "rows", 5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_cispo_is_reinforce_with_a_fixed_bounded_weight(seed: int) -> None:
    """The weight has no gradient: differences are taken with it held where it is."""
    rng = np.random.default_rng(seed)
    new, old, gain = (rng.standard_normal((3, 4)) * 2 for _ in range(3))
    weight = np.clip(np.exp(new - old), 0.0, 6.0)
    (grad,) = policy.cispo_grad(new, old, gain, 1.0, 5.0)
    np.testing.assert_allclose(policy.cispo(new, old, gain, 1.0, 5.0), policy.reinforce(new, gain * weight))
    h = 1e-6
    fixed = (policy.reinforce(new + h, gain * weight) - policy.reinforce(new - h, gain * weight)) / (2 * h)
    np.testing.assert_allclose(fixed, grad, atol=1e-6)
    tensor = torch.tensor(new, requires_grad=True)
    value = torch_policy.cispo(tensor, torch.tensor(old), torch.tensor(gain), 1.0, 5.0)
    np.testing.assert_allclose(value.detach().numpy(), policy.cispo(new, old, gain, 1.0, 5.0))
    np.testing.assert_allclose(torch.autograd.grad(value.sum(), tensor)[0].numpy(), grad)
    assert ((grad != 0) | (gain == 0)).all()  # no token loses its gradient


def test_on_policy_all_of_them_are_reinforce() -> None:
    """Property 68: before the first update the ratio is 1, and every loss has the plain policy gradient."""
    rng = np.random.default_rng(0)
    logp, gain_B, mask = rng.standard_normal((2, 5)), rng.standard_normal(2), _mask(5, 3)
    gain = np.repeat(gain_B[:, None], 5, 1)
    plain = policy.reinforce_grad(logp, gain)[0]
    np.testing.assert_allclose(policy.ppo_clip_grad(logp, logp, gain, 0.2, 0.28, 3.0)[0], plain)
    np.testing.assert_allclose(policy.cispo_grad(logp, logp, gain, 1.0, 5.0)[0], plain)
    mean = np.where(mask, plain / mask.sum(-1, keepdims=True), 0.0)
    np.testing.assert_allclose(policy.gspo_grad(logp, logp, gain_B, mask, 3e-4, 4e-4)[0], mean)


def test_a_band_as_wide_as_that_of_tokens_never_clips_an_answer() -> None:
    """Of token log-ratios with deviation .05, the mean over 300 has .003."""
    rng = np.random.default_rng(0)
    old = rng.standard_normal((64, 300))
    new, mask = old + 0.05 * rng.standard_normal(old.shape), np.ones(old.shape, dtype=bool)
    gap = policy.sequence_ratio(new, old, mask) - 1
    assert np.abs(gap).max() < 0.02
    assert (np.abs(gap) > 4e-4).mean() > 0.5


@pytest.mark.parametrize(("gain", "ratio", "loss"), [(-1.0, 10.0, 3.0), (-1.0, 2.0, 2.0), (1.0, 10.0, -1.28)])
def test_the_dual_clip_bounds_what_a_bad_token_costs(gain: float, ratio: float, loss: float) -> None:
    arguments = [np.array([[v]]) for v in (math.log(ratio), 0.0, gain)]
    assert policy.ppo_clip(*arguments, 0.2, 0.28, 3.0)[0, 0] == pytest.approx(loss)
    assert policy.ppo_clip_grad(*arguments, 0.2, 0.28, 3.0)[0][0, 0] == (0.0 if ratio == 10 else pytest.approx(2.0))
    for side, values in ((policy, arguments), (torch_policy, [torch.tensor(a) for a in arguments])):
        with pytest.raises(ConfigError, match="dual_clip"):
            side.ppo_clip(*values, 0.2, None, 1.0)


@pytest.mark.parametrize("gap", [-800.0, 800.0])
def test_a_ratio_that_would_overflow_is_held(gap: float) -> None:
    new, old, gain = (torch.full((1, 2), v) for v in (gap, 0.0, -1.0))
    new.requires_grad_(True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    for loss in (
        torch_policy.ppo_clip(new, old, gain, 0.2),
        torch_policy.ppo_clip(new, old, gain, 0.2, dual_clip=3.0),
        torch_policy.cispo(new, old, gain, 1.0, 5.0),
        torch_policy.gspo(new, old, gain[:, 0], mask, 3e-4),
    ):
        (grad,) = torch.autograd.grad(loss.sum(), new)
        assert loss.isfinite().all()
        assert grad.isfinite().all()


def test_an_answer_without_tokens_costs_nothing_and_padding_cannot_poison() -> None:
    new = torch.full((2, 3), math.nan)
    new[1, :2] = -1.0
    new.requires_grad_(True)
    old, mask = torch.full((2, 3), -1.0), torch.from_numpy(_mask(0, 2, width=3))
    loss = torch_policy.gspo(new, old, torch.tensor([5.0, 2.0]), mask, 3e-4, 4e-4)
    (grad,) = torch.autograd.grad(loss.sum(), new)
    np.testing.assert_allclose(loss.detach().numpy(), [0.0, -2.0])
    np.testing.assert_allclose(grad[mask].numpy(), [-1.0, -1.0])
    assert (grad[~mask] == 0).all()


def test_importance_weights_are_ratios_up_to_their_cap() -> None:
    old, drawn = np.log([[0.2, 0.5, 0.1, 0.3]]), np.log([[0.2, 0.25, 0.01, 0.6]])
    np.testing.assert_allclose(policy.truncated_importance(old, drawn, 3.0), [[1.0, 2.0, 3.0, 0.5]])
    np.testing.assert_allclose(
        torch_policy.truncated_importance(torch.from_numpy(old), torch.from_numpy(drawn), 3.0).numpy(),
        policy.truncated_importance(old, drawn, 3.0),
    )
    extreme = policy.truncated_importance(np.zeros((1, 1)), np.full((1, 1), -800.0), 2.0)
    assert extreme[0, 0] == 2.0
    with pytest.raises(ShapeError):
        policy.truncated_importance(old, drawn[:, :2], 2.0)
