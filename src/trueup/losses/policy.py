"""Policy-gradient losses per token. Twin of ``spec.policy``. Legend: B rollouts, T positions, V vocabulary."""

from __future__ import annotations

import torch

from trueup.errors import ConfigError
from trueup.losses.logprob import log_softmax
from trueup.losses.shapes import require_same


def ppo_clip(
    new_logps_BT: torch.Tensor, old_logps_BT: torch.Tensor, advantages_BT: torch.Tensor, clip_range: float
) -> torch.Tensor:
    """Clipped surrogate, to minimise [B, T] (Schulman et al. 2017, eq. 7): max(-r A, -clip(r) A).

    The gradient is -r A, and 0 only where clipping makes the loss worse: A > 0 with r > 1 + e, A < 0 with r < 1 - e.
    """
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, advantages_BT=advantages_BT)
    ratio_BT = (new_logps_BT - old_logps_BT).exp()
    free_BT = -ratio_BT * advantages_BT
    clipped_BT = -ratio_BT.clamp(1 - clip_range, 1 + clip_range) * advantages_BT
    return torch.where(clipped_BT > free_BT, clipped_BT, free_BT)  # at the kink the unclipped side has the gradient


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
