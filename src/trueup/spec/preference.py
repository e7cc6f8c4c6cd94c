"""Losses on preferences, value and gradient. Legend: B pairs or responses, K candidates.

Sequence log-probs are sums over tokens, in nats; each function returns one loss per pair. Writing s for the logistic
function, h for the gap of log-ratios (chosen minus rejected) and softplus(-x) = -log s(x), nothing here ever takes the
log of a saturated probability.

``strength_B`` is the probability p in [0.5, 1] that the label is right, 1 if absent. A loss L(x) of a label becomes its
expectation p L + (1 - p) L', L' being the loss of the opposite label; so does its gradient.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trueup.errors import ConfigError
from trueup.spec.shapes import Array, Mask, require_same, sigmoid, softplus

Pair: TypeAlias = tuple[Array, Array]


def bradley_terry(
    chosen_B: Array, rejected_B: Array, strength_B: Array | None = None, margin_B: Array | None = None
) -> Array:
    """-p log s(d - m) - (1-p) log s(-d - m) [B], d = chosen - rejected (Bradley and Terry 1952)."""
    require_same(chosen_B=chosen_B, rejected_B=rejected_B, strength_B=strength_B, margin_B=margin_B)
    d_B, m_B = chosen_B - rejected_B, np.zeros_like(chosen_B) if margin_B is None else margin_B
    p_B = _label(strength_B, d_B)
    return p_B * softplus(m_B - d_B) + (1.0 - p_B) * softplus(m_B + d_B)


def bradley_terry_grad(
    chosen_B: Array, rejected_B: Array, strength_B: Array | None = None, margin_B: Array | None = None
) -> Pair:
    """(1-p) s(d + m) - p s(m - d) for chosen, its negative for rejected [B], [B]; without margin s(d) - p."""
    d_B, m_B = chosen_B - rejected_B, np.zeros_like(chosen_B) if margin_B is None else margin_B
    p_B = _label(strength_B, d_B)
    slope_B = (1.0 - p_B) * sigmoid(d_B + m_B) - p_B * sigmoid(m_B - d_B)
    return slope_B, -slope_B


def plackett_luce(scores_BK: Array, ranks_BK: NDArray[np.int64], mask_BK: Mask | None = None) -> Array:
    """Sum over candidates of logsumexp(scores still open) - score [B] (Plackett 1975); ties by Breslow's rule."""
    require_same(scores_BK=scores_BK, ranks_BK=ranks_BK, mask_BK=mask_BK)
    valid_BK = np.ones_like(scores_BK, dtype=bool) if mask_BK is None else mask_BK
    safe_BK, open_BKK = _open(scores_BK, ranks_BK, valid_BK)
    field_BKK = np.where(open_BKK, safe_BK[:, None, :], -np.inf)
    top_BK1 = field_BKK.max(-1, keepdims=True)
    field_BK = top_BK1[..., 0] + np.log(np.exp(field_BKK - top_BK1).sum(-1))
    out_B: Array = np.where(valid_BK, field_BK - safe_BK, 0.0).sum(-1)
    return out_B


def plackett_luce_grad(scores_BK: Array, ranks_BK: NDArray[np.int64], mask_BK: Mask | None = None) -> tuple[Array]:
    """For each candidate, its probability in every choice it was open for, minus 1 for its own [B, K]."""
    valid_BK = np.ones_like(scores_BK, dtype=bool) if mask_BK is None else mask_BK
    safe_BK, open_BKK = _open(scores_BK, ranks_BK, valid_BK)
    field_BKK = np.where(open_BKK, safe_BK[:, None, :], -np.inf)
    share_BKK = np.exp(field_BKK - field_BKK.max(-1, keepdims=True))
    share_BKK /= share_BKK.sum(-1, keepdims=True)
    grad_BK = np.where(valid_BK[:, :, None], share_BKK, 0.0).sum(1) - 1.0
    return (np.where(valid_BK, grad_BK, 0.0),)


def implicit_reward(policy_B: Array, reference_B: Array, beta: float) -> Array:
    """beta * (log policy - log reference) [B] (Rafailov et al. 2023, eq. 5, without the constant of the prompt)."""
    require_same(policy_B=policy_B, reference_B=reference_B)
    return beta * (policy_B - reference_B)


def implicit_reward_grad(policy_B: Array, reference_B: Array, beta: float) -> Pair:
    """(beta, -beta) [B], [B]."""
    return np.full_like(policy_B, beta), np.full_like(policy_B, -beta)


def dpo(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    beta: float,
    label_smoothing: float = 0.0,
    strength_B: Array | None = None,
) -> Array:
    """-q log s(beta h) - (1-q) log s(-beta h) [B] (Rafailov et al. 2023, eq. 7), q the smoothed label."""
    h_B = _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    return _cross_entropy(beta * h_B, _smoothed(strength_B, label_smoothing, h_B))


def dpo_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    beta: float,
    label_smoothing: float = 0.0,
    strength_B: Array | None = None,
) -> Pair:
    """beta (s(beta h) - q) for chosen, its negative for rejected [B], [B]."""
    h_B = _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    slope_B = beta * _cross_entropy_slope(beta * h_B, _smoothed(strength_B, label_smoothing, h_B))
    return slope_B, -slope_B


def robust_dpo(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    beta: float,
    flip_rate: float,
    strength_B: Array | None = None,
) -> Array:
    """((p-e) L(h) + (1-p-e) L(-h)) / (1-2e) [B] (Chowdhury et al. 2024): its mean over flips is the clean loss."""
    if not 0 <= flip_rate < 0.5:
        raise ConfigError(f"flip_rate is {flip_rate}", where="flip_rate", expected="at least 0 and below 0.5")
    margin_B = beta * _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    p_B = _label(strength_B, margin_B)
    value_B = (p_B - flip_rate) * softplus(-margin_B) + (1 - p_B - flip_rate) * softplus(margin_B)
    return value_B / (1 - 2 * flip_rate)


def robust_dpo_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    beta: float,
    flip_rate: float,
    strength_B: Array | None = None,
) -> Pair:
    """beta ((p-e)(s-1) + (1-p-e) s) / (1-2e) for chosen, its negative for rejected [B], [B]."""
    margin_B = beta * _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    won_B = sigmoid(margin_B)
    p_B = _label(strength_B, margin_B)
    pull_B = (1 - p_B - flip_rate) * won_B - (p_B - flip_rate) * (1 - won_B)
    slope_B = beta * pull_B / (1 - 2 * flip_rate)
    return slope_B, -slope_B


def ipo(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    tau: float,
    strength_B: Array | None = None,
) -> Array:
    """(h - (2p-1)/(2 tau))^2 + p (1-p) / tau^2 [B] (Azar et al. 2023, eq. 17, its mean over the label)."""
    h_B = _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    p_B = _label(strength_B, h_B)
    out_B: Array = (h_B - (2.0 * p_B - 1.0) / (2.0 * tau)) ** 2 + p_B * (1.0 - p_B) / tau**2
    return out_B


def ipo_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    tau: float,
    strength_B: Array | None = None,
) -> Pair:
    """2 (h - (2p-1)/(2 tau)) for chosen, its negative for rejected [B], [B]."""
    h_B = _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    slope_B = 2.0 * (h_B - (2.0 * _label(strength_B, h_B) - 1.0) / (2.0 * tau))
    return slope_B, -slope_B


def hinge(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    beta: float,
    strength_B: Array | None = None,
) -> Array:
    """p max(0, 1 - beta h) + (1-p) max(0, 1 + beta h) [B] (Zhao et al. 2023; Liu et al. 2024)."""
    margin_B = beta * _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    p_B = _label(strength_B, margin_B)
    out_B: Array = p_B * np.maximum(0.0, 1.0 - margin_B) + (1.0 - p_B) * np.maximum(0.0, 1.0 + margin_B)
    return out_B


def hinge_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    beta: float,
    strength_B: Array | None = None,
) -> Pair:
    """-p beta for chosen while beta h < 1, and (1-p) beta while beta h > -1 [B], [B]."""
    margin_B = beta * _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    p_B = _label(strength_B, margin_B)
    slope_B = np.where(margin_B < 1.0, -p_B * beta, 0.0) + np.where(margin_B > -1.0, (1.0 - p_B) * beta, 0.0)
    return slope_B, -slope_B


def length_normalised_dpo(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    chosen_tokens_B: Array,
    rejected_tokens_B: Array,
    beta: float,
    label_smoothing: float = 0.0,
    strength_B: Array | None = None,
) -> Array:
    """DPO with each log-ratio divided by its token count [B] (Lambert et al. 2024)."""
    h_B = _mean_gap(
        policy_chosen_B - reference_chosen_B,
        policy_rejected_B - reference_rejected_B,
        chosen_tokens_B,
        rejected_tokens_B,
    )
    return _cross_entropy(beta * h_B, _smoothed(strength_B, label_smoothing, h_B))


def length_normalised_dpo_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    chosen_tokens_B: Array,
    rejected_tokens_B: Array,
    beta: float,
    label_smoothing: float = 0.0,
    strength_B: Array | None = None,
) -> Pair:
    """As for DPO, each side divided by its own token count [B], [B]."""
    h_B = _mean_gap(
        policy_chosen_B - reference_chosen_B,
        policy_rejected_B - reference_rejected_B,
        chosen_tokens_B,
        rejected_tokens_B,
    )
    slope_B = beta * _cross_entropy_slope(beta * h_B, _smoothed(strength_B, label_smoothing, h_B))
    return slope_B / chosen_tokens_B, -slope_B / rejected_tokens_B


def dpo_nll(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    chosen_tokens_B: Array,
    beta: float,
    nll_weight: float,
    label_smoothing: float = 0.0,
    strength_B: Array | None = None,
) -> Array:
    """DPO - nll_weight * log policy(chosen) / tokens [B] (Pang et al. 2024)."""
    require_same(policy_chosen_B=policy_chosen_B, chosen_tokens_B=chosen_tokens_B)
    contrast_B = dpo(
        policy_chosen_B,
        policy_rejected_B,
        reference_chosen_B,
        reference_rejected_B,
        beta,
        label_smoothing,
        strength_B,
    )
    return contrast_B - nll_weight * policy_chosen_B / chosen_tokens_B


def dpo_nll_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    chosen_tokens_B: Array,
    beta: float,
    nll_weight: float,
    label_smoothing: float = 0.0,
    strength_B: Array | None = None,
) -> Pair:
    """DPO's gradient, and -nll_weight / tokens more for chosen [B], [B]."""
    chosen_grad_B, rejected_grad_B = dpo_grad(
        policy_chosen_B,
        policy_rejected_B,
        reference_chosen_B,
        reference_rejected_B,
        beta,
        label_smoothing,
        strength_B,
    )
    return chosen_grad_B - nll_weight / chosen_tokens_B, rejected_grad_B


def simpo(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    chosen_tokens_B: Array,
    rejected_tokens_B: Array,
    beta: float,
    gamma: float,
    strength_B: Array | None = None,
) -> Array:
    """-p log s(beta g - gamma) - (1-p) log s(-beta g - gamma) [B], g the gap of means (Meng et al. 2024, eq. 6)."""
    reward_B = beta * _mean_gap(policy_chosen_B, policy_rejected_B, chosen_tokens_B, rejected_tokens_B)
    p_B = _label(strength_B, reward_B)
    return p_B * softplus(gamma - reward_B) + (1.0 - p_B) * softplus(gamma + reward_B)


def simpo_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    chosen_tokens_B: Array,
    rejected_tokens_B: Array,
    beta: float,
    gamma: float,
    strength_B: Array | None = None,
) -> Pair:
    """beta ((1-p) s(gamma + beta g) - p s(gamma - beta g)) / tokens for chosen, its negative for rejected [B], [B]."""
    reward_B = beta * _mean_gap(policy_chosen_B, policy_rejected_B, chosen_tokens_B, rejected_tokens_B)
    p_B = _label(strength_B, reward_B)
    slope_B = beta * ((1.0 - p_B) * sigmoid(gamma + reward_B) - p_B * sigmoid(gamma - reward_B))
    return slope_B / chosen_tokens_B, -slope_B / rejected_tokens_B


def orpo(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    chosen_tokens_B: Array,
    rejected_tokens_B: Array,
    weight: float,
    strength_B: Array | None = None,
) -> Array:
    """-mean chosen - weight * (p log s(x) + (1-p) log s(-x)) [B], x the log odds ratio (Hong et al. 2024, eq. 6).

    The odds are of the geometric mean likelihood per token, P / (1 - P).
    """
    odds_B = _log_odds(policy_chosen_B / chosen_tokens_B) - _log_odds(policy_rejected_B / rejected_tokens_B)
    return -policy_chosen_B / chosen_tokens_B + weight * _cross_entropy(odds_B, strength_B)


def orpo_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    chosen_tokens_B: Array,
    rejected_tokens_B: Array,
    weight: float,
    strength_B: Array | None = None,
) -> Pair:
    """d log-odds / d mean = 1 / (1 - P), so the pull is weight (s(x) - p) / (1 - P) per mean log-prob [B], [B]."""
    chosen_B, rejected_B = policy_chosen_B / chosen_tokens_B, policy_rejected_B / rejected_tokens_B
    pull_B = weight * _cross_entropy_slope(_log_odds(chosen_B) - _log_odds(rejected_B), strength_B)
    return (
        (-1.0 + pull_B * _log_odds_slope(chosen_B)) / chosen_tokens_B,
        -pull_B * _log_odds_slope(rejected_B) / rejected_tokens_B,
    )


def cpo(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    chosen_tokens_B: Array,
    beta: float,
    nll_weight: float,
    strength_B: Array | None = None,
) -> Array:
    """-p log s(beta d) - (1-p) log s(-beta d) - w chosen / tokens [B] (Xu et al. 2024), d = chosen - rejected."""
    require_same(policy_chosen_B=policy_chosen_B, policy_rejected_B=policy_rejected_B, chosen_tokens_B=chosen_tokens_B)
    contrast_B = _cross_entropy(beta * (policy_chosen_B - policy_rejected_B), strength_B)
    return contrast_B - nll_weight * policy_chosen_B / chosen_tokens_B


def cpo_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    chosen_tokens_B: Array,
    beta: float,
    nll_weight: float,
    strength_B: Array | None = None,
) -> Pair:
    """beta (s(beta d) - p) - nll_weight / tokens for chosen, beta (p - s(beta d)) for rejected [B], [B]."""
    pull_B = beta * _cross_entropy_slope(beta * (policy_chosen_B - policy_rejected_B), strength_B)
    return pull_B - nll_weight / chosen_tokens_B, -pull_B


def apo_zero(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    beta: float,
    strength_B: Array | None = None,
) -> Array:
    """1 - (2p-1) (s(a) - s(b)) [B] (D'Oosterlinck et al. 2024, eq. 7, plus 1), a and b beta times the log-ratios."""
    _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)  # shapes
    a_B, b_B = beta * (policy_chosen_B - reference_chosen_B), beta * (policy_rejected_B - reference_rejected_B)
    sure_B = 2.0 * _label(strength_B, a_B) - 1.0
    return 1.0 - sure_B * (sigmoid(a_B) - sigmoid(b_B))


def apo_zero_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    beta: float,
    strength_B: Array | None = None,
) -> Pair:
    """-(2p-1) beta s'(a) for chosen, (2p-1) beta s'(b) for rejected [B], [B]: each fades away from its reference."""
    a_B, b_B = beta * (policy_chosen_B - reference_chosen_B), beta * (policy_rejected_B - reference_rejected_B)
    pull_B = beta * (2.0 * _label(strength_B, a_B) - 1.0)
    return -pull_B * _bend(a_B), pull_B * _bend(b_B)


def apo_down(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    beta: float,
    strength_B: Array | None = None,
) -> Array:
    """p (s(a) + s(b - a)) + (1-p) (s(b) + s(a - b)) [B] (D'Oosterlinck et al. 2024, eq. 8, plus 1); a, b as above."""
    d_B = beta * _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    a_B, b_B = beta * (policy_chosen_B - reference_chosen_B), beta * (policy_rejected_B - reference_rejected_B)
    p_B = _label(strength_B, d_B)
    return p_B * (sigmoid(a_B) + sigmoid(-d_B)) + (1.0 - p_B) * (sigmoid(b_B) + sigmoid(d_B))


def apo_down_grad(
    policy_chosen_B: Array,
    policy_rejected_B: Array,
    reference_chosen_B: Array,
    reference_rejected_B: Array,
    beta: float,
    strength_B: Array | None = None,
) -> Pair:
    """beta (p s'(a) - (2p-1) s'(a - b)) for chosen, beta ((1-p) s'(b) + (2p-1) s'(a - b)) for rejected [B], [B]."""
    a_B, b_B = beta * (policy_chosen_B - reference_chosen_B), beta * (policy_rejected_B - reference_rejected_B)
    p_B = _label(strength_B, a_B)
    apart_B = (2.0 * p_B - 1.0) * _bend(a_B - b_B)
    return beta * (p_B * _bend(a_B) - apart_B), beta * ((1.0 - p_B) * _bend(b_B) + apart_B)


# A mean log-prob nearer to 0 than this leaves 1 - P to rounding; odds are held there.
_CERTAIN = -1e-7


def _log_odds(mean_B: Array) -> Array:
    held_B = np.minimum(mean_B, _CERTAIN)
    near_B = held_B > -math.log(2)
    log1mexp_B = np.where(near_B, np.log(-np.expm1(held_B)), np.log1p(-np.exp(np.where(near_B, -math.log(2), held_B))))
    return mean_B - log1mexp_B


def _log_odds_slope(mean_B: Array) -> Array:
    held_B = np.minimum(mean_B, _CERTAIN)
    return np.where(mean_B < _CERTAIN, 1.0 / -np.expm1(held_B), 1.0)


def _bend(x_B: Array) -> Array:
    """s'(x) = s(x) s(-x), by logarithms, so that it does not round to 0 before it must [B]."""
    out_B: Array = np.exp(-softplus(x_B) - softplus(-x_B))
    return out_B


def _label(strength_B: Array | None, like_B: Array) -> Array:
    """Probability that the label is right [B]."""
    if strength_B is None:
        return np.ones_like(like_B)
    require_same(like_B=like_B, strength_B=strength_B)
    return strength_B


def _gap(
    policy_chosen_B: Array, policy_rejected_B: Array, reference_chosen_B: Array, reference_rejected_B: Array
) -> Array:
    require_same(
        policy_chosen_B=policy_chosen_B,
        policy_rejected_B=policy_rejected_B,
        reference_chosen_B=reference_chosen_B,
        reference_rejected_B=reference_rejected_B,
    )
    return (policy_chosen_B - reference_chosen_B) - (policy_rejected_B - reference_rejected_B)


def _mean_gap(chosen_B: Array, rejected_B: Array, chosen_tokens_B: Array, rejected_tokens_B: Array) -> Array:
    require_same(
        chosen_B=chosen_B, rejected_B=rejected_B, chosen_tokens_B=chosen_tokens_B, rejected_tokens_B=rejected_tokens_B
    )
    return chosen_B / chosen_tokens_B - rejected_B / rejected_tokens_B


def _smoothed(strength_B: Array | None, label_smoothing: float, like_B: Array) -> Array | None:
    if not 0 <= label_smoothing <= 0.5:
        raise ConfigError(
            f"label_smoothing is {label_smoothing}", where="label_smoothing", expected="between 0 and 0.5"
        )
    if strength_B is None:
        return np.full_like(like_B, 1.0 - label_smoothing) if label_smoothing else None
    require_same(policy_chosen_B=like_B, strength_B=strength_B)
    return strength_B * (1.0 - label_smoothing) + (1.0 - strength_B) * label_smoothing


def _cross_entropy(logit_B: Array, target_B: Array | None) -> Array:
    if target_B is None:
        return softplus(-logit_B)
    return target_B * softplus(-logit_B) + (1.0 - target_B) * softplus(logit_B)


def _cross_entropy_slope(logit_B: Array, target_B: Array | None) -> Array:
    # s(x) - 1 = -s(-x) keeps the last digits where s(x) is all but 1.
    return -sigmoid(-logit_B) if target_B is None else sigmoid(logit_B) - target_B


def _open(scores_BK: Array, ranks_BK: NDArray[np.int64], valid_BK: Mask) -> tuple[Array, Mask]:
    safe_BK = np.where(valid_BK, scores_BK, 0.0)
    open_BKK = (ranks_BK[:, None, :] >= ranks_BK[:, :, None]) & valid_BK[:, None, :]
    return safe_BK, open_BKK | np.eye(scores_BK.shape[1], dtype=bool)[None]
