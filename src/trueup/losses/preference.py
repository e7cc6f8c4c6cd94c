"""Losses on preferences. Twin of ``spec.preference``. Legend: B pairs or responses, K candidates.

All take sequence log-probs as sums over tokens, in nats, and return one loss per pair; nothing is averaged.

``strength_B`` is the probability p that the label is right (chosen is the better side; a response is what its label
says), in [0.5, 1] and 1 if absent. Every loss with a label takes it the same way: as its expectation over that label,
p L + (1 - p) L', where L' is the loss of the opposite label. At p = 1/2 no side is pulled up over the other.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from trueup.errors import ConfigError
from trueup.losses.shapes import require_same


def bradley_terry(
    chosen_B: torch.Tensor,
    rejected_B: torch.Tensor,
    strength_B: torch.Tensor | None = None,
    margin_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """Bradley-Terry cross-entropy [B]: -p log s(d - m) - (1-p) log s(-d - m), d = chosen - rejected.

    Args:
        chosen_B: Rewards of the preferred side.
        rejected_B: Rewards of the other side.
        strength_B: Probability p that chosen is better; 1 if absent, 0.5 is a tie.
        margin_B: m, by how much the better side should lead (Touvron et al. 2023); 0 if absent.
    """
    require_same(chosen_B=chosen_B, rejected_B=rejected_B, strength_B=strength_B, margin_B=margin_B)
    d_B = chosen_B - rejected_B
    if margin_B is None:
        return _cross_entropy(d_B, strength_B)
    return _expected(_softplus(margin_B - d_B), _softplus(margin_B + d_B), strength_B)


def plackett_luce(scores_BK: torch.Tensor, ranks_BK: torch.Tensor, mask_BK: torch.Tensor | None = None) -> torch.Tensor:
    """Negative log-likelihood of a ranking [B] (Plackett 1975; Luce 1959); K = 2 is Bradley-Terry.

    Each candidate is chosen from those ranked no better than it. Tied candidates share the same set (Breslow's
    rule), so the order among them does not matter; the last tier is certain only if it has one member.

    Args:
        scores_BK: Scores.
        ranks_BK: Ranks, lower is better, equal is tied.
        mask_BK: True for real candidates; all if absent.
    """
    require_same(scores_BK=scores_BK, ranks_BK=ranks_BK, mask_BK=mask_BK)
    valid_BK = torch.ones_like(scores_BK, dtype=torch.bool) if mask_BK is None else mask_BK
    safe_BK = torch.where(valid_BK, scores_BK, torch.zeros_like(scores_BK))
    # open_BKK[b, i, j]: candidate j was still to be placed when i was.
    open_BKK = (ranks_BK[:, None, :] >= ranks_BK[:, :, None]) & valid_BK[:, None, :]
    open_BKK = open_BKK | torch.eye(scores_BK.shape[1], dtype=torch.bool, device=scores_BK.device)
    field_BK = torch.where(open_BKK, safe_BK[:, None, :], -math.inf).logsumexp(-1)
    terms_BK = torch.where(valid_BK, field_BK - safe_BK, torch.zeros_like(safe_BK))
    return terms_BK.sum(-1)


def implicit_reward(policy_B: torch.Tensor, reference_B: torch.Tensor, beta: float) -> torch.Tensor:
    """The reward that a policy implies [B]: beta * log(policy / reference), up to a constant of the prompt."""
    require_same(policy_B=policy_B, reference_B=reference_B)
    return beta * (policy_B - reference_B)


def dpo(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    reference_chosen_B: torch.Tensor,
    reference_rejected_B: torch.Tensor,
    beta: float,
    label_smoothing: float = 0.0,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """DPO [B] (Rafailov et al. 2023, eq. 7), conservative with ``label_smoothing`` (Mitchell 2023).

    The target of the logistic loss is p (1 - e) + (1 - p) e for strength p and smoothing e, so it is stationary
    where the margin is its log-odds.
    """
    h_B = _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    return _cross_entropy(beta * h_B, _smoothed(strength_B, label_smoothing, h_B))


def robust_dpo(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    reference_chosen_B: torch.Tensor,
    reference_rejected_B: torch.Tensor,
    beta: float,
    flip_rate: float,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """Robust DPO [B] (Chowdhury et al. 2024, eq. 12): unbiased for the loss on clean labels; can be negative.

    With a strength p the label that flips at ``flip_rate`` e is right with probability p: the clean probability that
    the loss then stands for is (p - e) / (1 - 2 e).
    """
    if not 0 <= flip_rate < 0.5:
        raise ConfigError(f"flip_rate is {flip_rate}", where="flip_rate", expected="at least 0 and below 0.5")
    margin_B = beta * _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    kept_B, flipped_B = _softplus(-margin_B), _softplus(margin_B)
    right_B = ((1 - flip_rate) * kept_B - flip_rate * flipped_B) / (1 - 2 * flip_rate)
    wrong_B = ((1 - flip_rate) * flipped_B - flip_rate * kept_B) / (1 - 2 * flip_rate)
    return _expected(right_B, wrong_B, strength_B)


def ipo(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    reference_chosen_B: torch.Tensor,
    reference_rejected_B: torch.Tensor,
    tau: float,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """IPO [B] (Azar et al. 2023, eq. 17): (h - 1 / (2 tau))^2 for the gap h of log-ratios.

    With a strength p it is least at h = (p - 1/2) / tau, where the population loss (their eq. 10) is.
    """
    h_B = _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    target = 1.0 / (2.0 * tau)
    return _expected((h_B - target) ** 2, (-h_B - target) ** 2, strength_B)


def hinge(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    reference_chosen_B: torch.Tensor,
    reference_rejected_B: torch.Tensor,
    beta: float,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """Hinge on the margin [B] (Zhao et al. 2023, normalised as in Liu et al. 2024): max(0, 1 - beta h)."""
    h_B = _gap(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    return _expected(torch.relu(1.0 - beta * h_B), torch.relu(1.0 + beta * h_B), strength_B)


def length_normalised_dpo(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    reference_chosen_B: torch.Tensor,
    reference_rejected_B: torch.Tensor,
    chosen_tokens_B: torch.Tensor,
    rejected_tokens_B: torch.Tensor,
    beta: float,
    label_smoothing: float = 0.0,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """DPO on log-ratios per token [B] (Lambert et al. 2024, Tulu 3, eq. 6)."""
    require_same(policy_chosen_B=policy_chosen_B, chosen_tokens_B=chosen_tokens_B, rejected_tokens_B=rejected_tokens_B)
    chosen_B = (policy_chosen_B - reference_chosen_B) / chosen_tokens_B
    rejected_B = (policy_rejected_B - reference_rejected_B) / rejected_tokens_B
    return _cross_entropy(beta * (chosen_B - rejected_B), _smoothed(strength_B, label_smoothing, chosen_B))


def dpo_nll(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    reference_chosen_B: torch.Tensor,
    reference_rejected_B: torch.Tensor,
    chosen_tokens_B: torch.Tensor,
    beta: float,
    nll_weight: float,
    label_smoothing: float = 0.0,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """DPO plus ``nll_weight`` times the chosen response's negative log-likelihood per token [B] (Pang et al. 2024)."""
    require_same(policy_chosen_B=policy_chosen_B, chosen_tokens_B=chosen_tokens_B)
    contrast_B = dpo(
        policy_chosen_B,
        policy_rejected_B,
        reference_chosen_B,
        reference_rejected_B,
        beta,
        label_smoothing=label_smoothing,
        strength_B=strength_B,
    )
    return contrast_B - nll_weight * policy_chosen_B / chosen_tokens_B


def simpo(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    chosen_tokens_B: torch.Tensor,
    rejected_tokens_B: torch.Tensor,
    beta: float,
    gamma: float,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """SimPO [B] (Meng et al. 2024, eq. 6): mean log-probs as rewards, target margin gamma, no reference."""
    require_same(
        policy_chosen_B=policy_chosen_B,
        policy_rejected_B=policy_rejected_B,
        chosen_tokens_B=chosen_tokens_B,
        rejected_tokens_B=rejected_tokens_B,
    )
    gap_B = policy_chosen_B / chosen_tokens_B - policy_rejected_B / rejected_tokens_B
    return _expected(_softplus(gamma - beta * gap_B), _softplus(gamma + beta * gap_B), strength_B)


def orpo(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    chosen_tokens_B: torch.Tensor,
    rejected_tokens_B: torch.Tensor,
    weight: float,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """ORPO [B] (Hong et al. 2024, eq. 6): mean NLL of chosen + weight * -log s(log odds ratio of mean likelihoods).

    The strength is of the odds-ratio term, as DPO's is beside a likelihood term: what is imitated is the chosen side.
    """
    require_same(
        policy_chosen_B=policy_chosen_B,
        policy_rejected_B=policy_rejected_B,
        chosen_tokens_B=chosen_tokens_B,
        rejected_tokens_B=rejected_tokens_B,
    )
    chosen_B = policy_chosen_B / chosen_tokens_B
    rejected_B = policy_rejected_B / rejected_tokens_B
    odds_B = (chosen_B - _log1mexp(chosen_B)) - (rejected_B - _log1mexp(rejected_B))
    return -chosen_B + weight * _cross_entropy(odds_B, strength_B)


def cpo(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    chosen_tokens_B: torch.Tensor,
    beta: float,
    nll_weight: float,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """CPO [B] (Xu et al. 2024, arXiv:2401.08417): DPO with a uniform reference, plus NLL of chosen per token.

    The paper writes the likelihood of the whole response; per token is the practice (TRL), as for DPO + NLL. The
    strength is of the contrast: what is imitated is the chosen side.
    """
    require_same(policy_chosen_B=policy_chosen_B, policy_rejected_B=policy_rejected_B, chosen_tokens_B=chosen_tokens_B)
    contrast_B = _cross_entropy(beta * policy_chosen_B - beta * policy_rejected_B, strength_B)
    return contrast_B + nll_weight * (-policy_chosen_B / chosen_tokens_B)


def apo_zero(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    reference_chosen_B: torch.Tensor,
    reference_rejected_B: torch.Tensor,
    beta: float,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """APO-zero [B] (D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7, plus 1): s(-a) + s(b).

    a and b are the implicit rewards of chosen and rejected. Chosen becomes likelier than under the reference and
    rejected less likely, each by a pull that fades on its own.
    """
    a_B, b_B = _implicit(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B, beta)
    right_B = torch.sigmoid(-a_B) + torch.sigmoid(b_B)
    wrong_B = torch.sigmoid(-b_B) + torch.sigmoid(a_B)
    return _expected(right_B, wrong_B, strength_B)


def apo_down(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    reference_chosen_B: torch.Tensor,
    reference_rejected_B: torch.Tensor,
    beta: float,
    strength_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """APO-down [B] (D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 8, plus 1): s(a) + s(b - a).

    a and b are the implicit rewards of chosen and rejected. Both become less likely than under the reference, rejected
    more so: for pairs whose chosen side is worse than what the model would say.
    """
    a_B, b_B = _implicit(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B, beta)
    right_B = torch.sigmoid(a_B) + torch.sigmoid(b_B - a_B)
    wrong_B = torch.sigmoid(b_B) + torch.sigmoid(a_B - b_B)
    return _expected(right_B, wrong_B, strength_B)


# Below this a mean log-prob is so close to 0 that 1 - exp(x) is all rounding; the odds stay finite.
_CERTAIN = -1e-7


def _log1mexp(x_B: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(x)) for x < 0 without cancellation (Maechler 2012); x is held at most at -1e-7."""
    x_B = x_B.clamp(max=_CERTAIN)
    return torch.where(
        x_B > -math.log(2), torch.log(-torch.expm1(x_B)), torch.log1p(-torch.exp(x_B.clamp(max=-math.log(2))))
    )


def _gap(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    reference_chosen_B: torch.Tensor,
    reference_rejected_B: torch.Tensor,
) -> torch.Tensor:
    require_same(
        policy_chosen_B=policy_chosen_B,
        policy_rejected_B=policy_rejected_B,
        reference_chosen_B=reference_chosen_B,
        reference_rejected_B=reference_rejected_B,
    )
    return (policy_chosen_B - reference_chosen_B) - (policy_rejected_B - reference_rejected_B)


def _implicit(
    policy_chosen_B: torch.Tensor,
    policy_rejected_B: torch.Tensor,
    reference_chosen_B: torch.Tensor,
    reference_rejected_B: torch.Tensor,
    beta: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Implicit rewards of both sides [B], [B]."""
    require_same(policy_chosen_B=policy_chosen_B, policy_rejected_B=policy_rejected_B)
    return (
        implicit_reward(policy_chosen_B, reference_chosen_B, beta),
        implicit_reward(policy_rejected_B, reference_rejected_B, beta),
    )


def _smoothed(strength_B: torch.Tensor | None, label_smoothing: float, like_B: torch.Tensor) -> torch.Tensor | None:
    if not 0 <= label_smoothing <= 0.5:
        raise ConfigError(
            f"label_smoothing is {label_smoothing}", where="label_smoothing", expected="between 0 and 0.5"
        )
    if strength_B is None:
        return torch.full_like(like_B, 1.0 - label_smoothing) if label_smoothing else None
    require_same(policy_chosen_B=like_B, strength_B=strength_B)
    return strength_B * (1.0 - label_smoothing) + (1.0 - strength_B) * label_smoothing


def _cross_entropy(logit_B: torch.Tensor, target_B: torch.Tensor | None) -> torch.Tensor:
    """-p log s(x) - (1-p) log s(-x), exact at any x."""
    if target_B is None:
        return _softplus(-logit_B)
    return target_B * _softplus(-logit_B) + (1.0 - target_B) * _softplus(logit_B)


def _expected(right_B: torch.Tensor, wrong_B: torch.Tensor, strength_B: torch.Tensor | None) -> torch.Tensor:
    """p * loss of the label + (1 - p) * loss of the opposite one."""
    if strength_B is None:
        return right_B
    require_same(right_B=right_B, strength_B=strength_B)
    return strength_B * right_B + (1.0 - strength_B) * wrong_B


def _softplus(x_B: torch.Tensor) -> torch.Tensor:
    """-log s(-x) to the last digit; torch's own softplus takes x for it, and 1 for its slope, above 20."""
    return -F.logsigmoid(-x_B)
