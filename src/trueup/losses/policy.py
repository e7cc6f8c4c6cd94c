"""Policy-gradient losses. Twin of ``spec.policy``. Legend: B rollouts, T positions, V vocabulary.

Per token and not reduced, but for ``gspo``, which has one loss for each answer. ``answer_weights`` says how tokens
add up.
"""

from __future__ import annotations

import torch

from trueup.errors import ConfigError
from trueup.losses.logprob import log_softmax
from trueup.losses.shapes import require_same

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are held within this before exp, which would overflow float32 at 88; ``UpdateStatistics`` counts them."""


def ppo_clip(
    new_logps_BT: torch.Tensor,
    old_logps_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    clip_range: float,
    clip_high: float | None = None,
    dual_clip: float | None = None,
) -> torch.Tensor:
    """Clipped surrogate, to minimise [B, T] (Schulman et al. 2017, eq. 7): max(-r A, -clip(r, 1 - e, 1 + e_high) A).

    The gradient is -r A, and 0 only where clipping makes the loss worse: A > 0 with r > 1 + e_high, or A < 0 with
    r < 1 - e.

    Args:
        new_logps_BT: Log-probs of the policy as it is.
        old_logps_BT: Those of the policy that drew the tokens.
        advantages_BT: Advantages.
        clip_range: e, and e_high unless that is given.
        clip_high: e_high, the other side of the band (DAPO, Yu et al. 2025: clip-higher).
        dual_clip: c > 1: for A < 0 the loss is at most -c A (Ye et al. 2020, eq. 5).
    """
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, advantages_BT=advantages_BT)
    ratio_BT = _ratio(new_logps_BT, old_logps_BT)
    free_BT = -ratio_BT * advantages_BT
    clipped_BT = -ratio_BT.clamp(1 - clip_range, 1 + _high(clip_range, clip_high)) * advantages_BT
    loss_BT = torch.where(clipped_BT > free_BT, clipped_BT, free_BT)  # at the kink the unclipped side has the gradient
    if dual_clip is None:
        return loss_BT
    if dual_clip <= 1:
        raise ConfigError(f"dual_clip is {dual_clip}", where="dual_clip", expected="above 1, or None")
    limit_BT = -dual_clip * advantages_BT
    return torch.where((advantages_BT < 0) & (loss_BT > limit_BT), limit_BT, loss_BT)


def clip_stops(
    new_logps_BT: torch.Tensor,
    old_logps_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    clip_range: float,
    clip_high: float | None = None,
) -> torch.Tensor:
    """Whether clipping takes the gradient of a token away [B, T]: A > 0 with r > 1 + e_high, A < 0 with r < 1 - e."""
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, advantages_BT=advantages_BT)
    ratio_BT = _ratio(new_logps_BT, old_logps_BT)
    above_BT, below_BT = ratio_BT > 1 + _high(clip_range, clip_high), ratio_BT < 1 - clip_range
    return (advantages_BT > 0) & above_BT | (advantages_BT < 0) & below_BT


def cispo(
    new_logps_BT: torch.Tensor,
    old_logps_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    clip_range: float,
    clip_high: float,
) -> torch.Tensor:
    """-sg(clip(r, 1 - e, 1 + e_high)) A log p [B, T] (CISPO, MiniMax 2025, arXiv:2506.13585, eq. 4).

    The clipped ratio is a weight without gradient, so that every token keeps its gradient, however far it has moved.
    """
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, advantages_BT=advantages_BT)
    weight_BT = _ratio(new_logps_BT, old_logps_BT).clamp(1 - clip_range, 1 + clip_high).detach()
    return -weight_BT * advantages_BT * new_logps_BT


def gspo(
    new_logps_BT: torch.Tensor,
    old_logps_BT: torch.Tensor,
    advantages_B: torch.Tensor,
    mask_BT: torch.Tensor,
    clip_range: float,
    clip_high: float | None = None,
) -> torch.Tensor:
    """One clipped loss for each answer [B] (GSPO, Zheng et al. 2025, arXiv:2507.18071, eq. 5): max(-s A, -clip(s) A).

    s is the geometric mean of the ratios of the answer's tokens, so its band is hundreds of times narrower than that of
    a token. An answer without tokens has loss 0.
    """
    s_B = sequence_ratio(new_logps_BT, old_logps_BT, mask_BT)
    require_same(advantages_B=advantages_B, s_B=s_B)
    free_B = -s_B * advantages_B
    clipped_B = -s_B.clamp(1 - clip_range, 1 + _high(clip_range, clip_high)) * advantages_B
    loss_B = torch.where(clipped_B > free_B, clipped_B, free_B)
    return torch.where(mask_BT.any(-1), loss_B, torch.zeros_like(loss_B))


def sequence_ratio(new_logps_BT: torch.Tensor, old_logps_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """exp of the mean log-ratio of the valid tokens [B]; 1 where there are none."""
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, mask_BT=mask_BT)
    gap_BT = torch.where(mask_BT, new_logps_BT - old_logps_BT, torch.zeros_like(new_logps_BT))
    mean_B = gap_BT.sum(-1) / mask_BT.sum(-1).clamp(min=1)
    return mean_B.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def truncated_importance(old_logps_BT: torch.Tensor, sampler_logps_BT: torch.Tensor, cap: float) -> torch.Tensor:
    """Truncated importance weights [B, T] of tokens that another sampler drew: min(pi_old / mu, cap).

    They multiply a token's loss and carry no gradient; the ratio that is clipped stays that of the new policy to the
    old one (Yao et al. 2025, On the Rollout-Training Mismatch in Modern RL Systems).

    Args:
        old_logps_BT: Log-probs by the policy as it was before the update, pi_old.
        sampler_logps_BT: Log-probs of the distribution that the tokens were drawn from, mu.
        cap: Largest weight.
    """
    require_same(old_logps_BT=old_logps_BT, sampler_logps_BT=sampler_logps_BT)
    return _ratio(old_logps_BT, sampler_logps_BT).clamp(max=cap)


def answer_weights(mask_BT: torch.Tensor, normalise: str, limit: int) -> torch.Tensor:
    """What each token counts [B, T], so that a step's loss is the sum of weight times token loss; 0 in the padding.

    Args:
        mask_BT: True for valid tokens; a row that has none is not counted as an answer.
        normalise: ``answer``: the mean over answers of their token means (GRPO); ``token``: the mean over all tokens
            (DAPO); ``constant``: the sum over an answer's tokens divided by ``limit``, and the mean of that over
            answers (Dr. GRPO), which favours neither short nor long answers; ``sum``: the same undivided, for which an
            answer is one action (RLOO).
        limit: Longest answer in tokens; read by ``constant`` only.
    """
    count_B1 = mask_BT.sum(-1, keepdim=True)
    answers = (count_B1 > 0).sum().clamp(min=1)
    if normalise == "answer":
        weight_BT = 1.0 / (count_B1.clamp(min=1) * answers).expand_as(mask_BT)
    elif normalise == "token":
        weight_BT = 1.0 / count_B1.sum().clamp(min=1).expand_as(mask_BT)
    elif normalise in ("constant", "sum"):
        weight_BT = 1.0 / (answers * (limit if normalise == "constant" else 1)).expand_as(mask_BT)
    else:
        raise ConfigError(f"normalise is {normalise!r}", where="normalise", expected="answer, token, constant or sum")
    return torch.where(mask_BT, weight_BT, torch.zeros_like(weight_BT))


def _ratio(new_logps_BT: torch.Tensor, old_logps_BT: torch.Tensor) -> torch.Tensor:
    return (new_logps_BT - old_logps_BT).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def _high(clip_range: float, clip_high: float | None) -> float:
    return clip_range if clip_high is None else clip_high


def reinforce(logps_BT: torch.Tensor, advantages_BT: torch.Tensor) -> torch.Tensor:
    """-A log p [B, T] (Williams 1992)."""
    require_same(logps_BT=logps_BT, advantages_BT=advantages_BT)
    return -advantages_BT * logps_BT


def clipped_value(
    values_BT: torch.Tensor,
    old_values_BT: torch.Tensor,
    returns_BT: torch.Tensor,
    clip_range: float | None,
) -> torch.Tensor:
    """Value loss [B, T]: 0.5 max((V - R)^2, (clip(V, V_old +- e) - R)^2); no clipping if ``clip_range`` is None."""
    require_same(values_BT=values_BT, old_values_BT=old_values_BT, returns_BT=returns_BT)
    free_BT = (values_BT - returns_BT) ** 2
    if clip_range is None:
        return 0.5 * free_BT
    if clip_range <= 0:
        raise ConfigError(f"clip_range is {clip_range}", where="clip_range", expected="above 0, or None")
    near_BT = old_values_BT + (values_BT - old_values_BT).clamp(-clip_range, clip_range)
    clipped_BT = (near_BT - returns_BT) ** 2
    return 0.5 * torch.where(clipped_BT > free_BT, clipped_BT, free_BT)


def entropy(logits_BTV: torch.Tensor) -> torch.Tensor:
    """Entropy of each position's distribution in nats [B, T]; uniform logits give ln V."""
    logp_BTV = log_softmax(logits_BTV)
    p_BTV = logp_BTV.exp()
    # 0 log 0 = 0: a forbidden token (logit -inf) adds nothing.
    return -torch.where(p_BTV > 0, p_BTV * logp_BTV, torch.zeros_like(p_BTV)).sum(-1)
