"""From rewards to advantages. Twin of ``spec.advantage``. Legend: B rollouts, T positions, G prompts, K samples.

Masks are right-padded. Padded slots are ignored whatever they hold, and come out as 0.
"""

from __future__ import annotations

import torch

from trueup.errors import ConfigError
from trueup.losses.shapes import require_same

EQUAL = 1e-6
"""Spread, as a share of the mean or of 1, up to which the scores of a group count as equal."""
STD_FLOOR = 1e-4
"""Added to a group's standard deviation before it divides."""


def shaped_rewards(score_B: torch.Tensor, kl_BT: torch.Tensor, mask_BT: torch.Tensor, beta: float) -> torch.Tensor:
    """Reward of each token [B, T] (Ziegler et al. 2019, eq. 2): -beta * kl, plus the score on the last valid token.

    A row without valid tokens has nowhere to put its score and gives zeros.
    """
    require_same(kl_BT=kl_BT, mask_BT=mask_BT)
    require_same(score_B=score_B, **{"mask_BT[:, 0]": mask_BT[:, 0]})
    count_B = mask_BT.sum(-1)
    place_BT = torch.arange(mask_BT.shape[1], device=mask_BT.device)[None, :] == (count_B - 1)[:, None]
    rewards_BT = torch.where(mask_BT, -beta * kl_BT, torch.zeros_like(kl_BT))
    return rewards_BT + torch.where(place_BT, score_B[:, None], torch.zeros_like(rewards_BT))


def gae(
    rewards_BT: torch.Tensor,
    values_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    gamma: float,
    lam: float,
    bootstrap_B: torch.Tensor | None = None,
    dones_BT: torch.Tensor | None = None,
) -> torch.Tensor:
    """Generalised advantage estimates [B, T] (Schulman et al. 2016, eq. 16).

    Args:
        rewards_BT: Rewards.
        values_BT: V of the state in which each token was chosen.
        mask_BT: True for valid steps.
        gamma: Discount.
        lam: Decay of the trace.
        bootstrap_B: V after the last valid step of a row that was cut off; 0 (the row ended) if absent.
        dones_BT: True where an episode ends inside a row; nothing flows back across it.
    """
    require_same(rewards_BT=rewards_BT, values_BT=values_BT, mask_BT=mask_BT, dones_BT=dones_BT)
    reward_BT = torch.where(mask_BT, rewards_BT, torch.zeros_like(rewards_BT))
    value_BT = torch.where(mask_BT, values_BT, torch.zeros_like(values_BT))
    after_B = torch.zeros_like(value_BT[:, 0]) if bootstrap_B is None else bootstrap_B
    trace_B = torch.zeros_like(value_BT[:, 0])
    steps = []
    for t in reversed(range(reward_BT.shape[1])):
        here_B = mask_BT[:, t]
        alive_B = torch.ones_like(trace_B) if dones_BT is None else (~dones_BT[:, t]).to(trace_B.dtype)
        delta_B = reward_BT[:, t] + gamma * after_B * alive_B - value_BT[:, t]
        now_B = delta_B + gamma * lam * alive_B * trace_B
        # Padding is to the right: it passes the bootstrap value through to the last valid step.
        trace_B = torch.where(here_B, now_B, trace_B)
        after_B = torch.where(here_B, value_BT[:, t], after_B)
        steps.append(torch.where(here_B, now_B, torch.zeros_like(now_B)))
    return torch.stack(steps[::-1], dim=1)


def returns(advantages_BT: torch.Tensor, values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Targets of the value function [B, T]: A + V, before any whitening."""
    require_same(advantages_BT=advantages_BT, values_BT=values_BT, mask_BT=mask_BT)
    return torch.where(mask_BT, advantages_BT + values_BT, torch.zeros_like(values_BT))


def discounted_returns(rewards_BT: torch.Tensor, mask_BT: torch.Tensor, gamma: float) -> torch.Tensor:
    """Sum of discounted rewards from each step on [B, T]."""
    require_same(rewards_BT=rewards_BT, mask_BT=mask_BT)
    return gae(rewards_BT, torch.zeros_like(rewards_BT), mask_BT, gamma, 1.0)


def whiten(x_BT: torch.Tensor, mask_BT: torch.Tensor, shift_mean: bool = True) -> torch.Tensor:
    """Scale to variance 1 (population) and, unless ``shift_mean`` is off, mean 0 over the valid slots [B, T].

    Equal values, or a single one, have no scale: they come out as 0 (or unscaled when the mean is kept).
    """
    require_same(x_BT=x_BT, mask_BT=mask_BT)
    valid_N = x_BT[mask_BT]
    if valid_N.numel() == 0:
        return torch.zeros_like(x_BT)
    mean = valid_N.mean()
    std = (valid_N - mean).pow(2).mean().sqrt()
    flat = bool(std <= 1e-7 * (1 + mean.abs()))
    scale = torch.ones_like(std) if flat else std
    centred_BT = torch.zeros_like(x_BT) if flat else (x_BT - mean) / scale
    white_BT = centred_BT if shift_mean else centred_BT + mean
    return torch.where(mask_BT, white_BT, torch.zeros_like(x_BT))


def rloo(scores_GK: torch.Tensor, valid_GK: torch.Tensor | None = None) -> torch.Tensor:
    """Leave-one-out advantages [G, K] (Ahmadian et al. 2024): r_i - mean of the others = k/(k-1) (r_i - mean).

    Scores that are not valid count nowhere and have advantage 0; so have all of a dead group (``dead_groups``).
    """
    centred_GK, count_G1 = _centred(scores_GK, valid_GK)
    return centred_GK * count_G1 / (count_G1 - 1).clamp(min=1)


def group_advantages(scores_GK: torch.Tensor, scale: bool = True, valid_GK: torch.Tensor | None = None) -> torch.Tensor:
    """Group-relative advantages [G, K] (GRPO, Shao et al. 2024): (r - mean) / (std + 1e-4).

    The standard deviation is the sample's (over k - 1). Without ``scale`` they are those of Dr. GRPO (Liu et al. 2025),
    r - mean. Scores that are not valid count nowhere and have advantage 0; so have all of a dead group.
    """
    centred_GK, count_G1 = _centred(scores_GK, valid_GK)
    if not scale:
        return centred_GK
    std_G1 = (centred_GK.pow(2).sum(-1, keepdim=True) / (count_G1 - 1).clamp(min=1)).sqrt()
    return centred_GK / (std_G1 + STD_FLOOR)


def dead_groups(scores_GK: torch.Tensor, valid_GK: torch.Tensor | None = None) -> torch.Tensor:
    """Groups that teach nothing [G]: all valid scores equal, or fewer than two of them.

    Equal is a spread of at most 1e-6 max(1, |mean|): what floating-point noise makes of one and the same answer.
    """
    _group_size(scores_GK)
    valid_GK = torch.ones_like(scores_GK, dtype=torch.bool) if valid_GK is None else valid_GK
    require_same(scores_GK=scores_GK, valid_GK=valid_GK)
    count_G = valid_GK.sum(-1)
    mean_G = torch.where(valid_GK, scores_GK, torch.zeros_like(scores_GK)).sum(-1) / count_G.clamp(min=1)
    high_G = torch.where(valid_GK, scores_GK, torch.full_like(scores_GK, -torch.inf)).amax(-1)
    low_G = torch.where(valid_GK, scores_GK, torch.full_like(scores_GK, torch.inf)).amin(-1)
    return (count_G < 2) | (high_G - low_G <= EQUAL * mean_G.abs().clamp(min=1))


def overlong_penalty(lengths_B: torch.Tensor, limit: int, buffer: int) -> torch.Tensor:
    """What an answer near the length limit loses [B] (DAPO, Yu et al. 2025, eq. 13): 0 up to ``limit - buffer`` tokens,
    then linearly up to 1 at ``limit``, and 1 beyond."""
    if not 0 < buffer <= limit:
        raise ConfigError(f"buffer is {buffer}", where="buffer", expected=f"from 1 to {limit} tokens")
    return ((lengths_B - (limit - buffer)) / buffer).clamp(0.0, 1.0)


def _centred(scores_GK: torch.Tensor, valid_GK: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores minus the mean of their group's valid ones [G, K], 0 where dead or not valid; valid ones [G, 1]."""
    valid_GK = torch.ones_like(scores_GK, dtype=torch.bool) if valid_GK is None else valid_GK
    counts_GK = valid_GK & ~dead_groups(scores_GK, valid_GK)[:, None]
    zero_GK = torch.zeros_like(scores_GK)
    count_G1 = valid_GK.sum(-1, keepdim=True)
    mean_G1 = torch.where(valid_GK, scores_GK, zero_GK).sum(-1, keepdim=True) / count_G1.clamp(min=1)
    return torch.where(counts_GK, scores_GK - mean_G1, zero_GK), count_G1


def _group_size(scores_GK: torch.Tensor) -> int:
    k = int(scores_GK.shape[-1])
    if scores_GK.ndim != 2 or k < 2:
        raise ConfigError(
            f"scores have shape {tuple(scores_GK.shape)}", where="scores_GK", expected="[groups, k] with k at least 2"
        )
    return k
