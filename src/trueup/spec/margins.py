"""What the preference losses are functions of: leads, gaps of log-ratios, means per token, and who was still open.

Legend: B pairs or responses, K candidates.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trueup.errors import ConfigError
from trueup.spec.shapes import (
    Array,
    Mask,
    require_bool,
    require_not_negative,
    require_positive,
    require_probability,
    require_same,
    require_tokens,
)

Pair: TypeAlias = tuple[Array, Array]
"""One array for each side of a pair."""


def lead(chosen_B: Array, rejected_B: Array, strength_B: Array | None, margin_B: Array | None) -> Array:
    """chosen - rejected - margin [B], shapes and strengths checked."""
    require_same(chosen_B=chosen_B, rejected_B=rejected_B, strength_B=strength_B, margin_B=margin_B)
    require_probability(strength_B=strength_B)
    return chosen_B - rejected_B if margin_B is None else chosen_B - rejected_B - margin_B


def require_four(
    policy_chosen_B: Array, policy_rejected_B: Array, reference_chosen_B: Array, reference_rejected_B: Array
) -> None:
    """The four log-probs of a pair have the same shape."""
    require_same(
        policy_chosen_B=policy_chosen_B,
        policy_rejected_B=policy_rejected_B,
        reference_chosen_B=reference_chosen_B,
        reference_rejected_B=reference_rejected_B,
    )


def gap(
    policy_chosen_B: Array, policy_rejected_B: Array, reference_chosen_B: Array, reference_rejected_B: Array
) -> Array:
    """h = (log-ratio of chosen) - (log-ratio of rejected) [B]."""
    require_four(policy_chosen_B, policy_rejected_B, reference_chosen_B, reference_rejected_B)
    return (policy_chosen_B - reference_chosen_B) - (policy_rejected_B - reference_rejected_B)


def margin(pc_B: Array, pr_B: Array, rc_B: Array, rr_B: Array, beta: float) -> Array:
    """beta h [B]."""
    require_positive(beta=beta)
    return beta * gap(pc_B, pr_B, rc_B, rr_B)


def means(chosen_B: Array, rejected_B: Array, chosen_tokens_B: Array, rejected_tokens_B: Array) -> Pair:
    """Mean log-prob per token of the two sides [B], [B]."""
    require_same(
        policy_chosen_B=chosen_B,
        policy_rejected_B=rejected_B,
        chosen_tokens_B=chosen_tokens_B,
        rejected_tokens_B=rejected_tokens_B,
    )
    require_tokens(chosen_tokens_B=chosen_tokens_B, rejected_tokens_B=rejected_tokens_B)
    return chosen_B / chosen_tokens_B, rejected_B / rejected_tokens_B


def mean_gap(chosen_B: Array, rejected_B: Array, chosen_tokens_B: Array, rejected_tokens_B: Array) -> Array:
    """Difference of the two means [B]."""
    first_B, second_B = means(chosen_B, rejected_B, chosen_tokens_B, rejected_tokens_B)
    return first_B - second_B


def gain(policy_B: Array, reference_B: Array, desirable_B: Mask, z0: float, beta: float) -> Array:
    """beta (log-ratio - z0) [B]."""
    require_same(policy_B=policy_B, reference_B=reference_B, desirable_B=desirable_B)
    require_bool(desirable_B=desirable_B)
    require_positive(beta=beta)
    require_not_negative(z0=z0)
    return beta * (policy_B - reference_B - z0)


def require_flip_rate(flip_rate: float) -> None:
    """Flips below a half: at a half the labels say nothing, and 1 - 2e divides."""
    if not 0 <= flip_rate < 0.5:
        raise ConfigError(f"flip_rate is {flip_rate}", where="flip_rate", expected="at least 0 and below 0.5")


def still_open(scores_BK: Array, ranks_BK: NDArray[np.int64], mask_BK: Mask | None) -> tuple[Array, Mask, Mask]:
    """Scores with padding replaced, who is real, and [B, i, j]: was candidate j still to be placed when i was?"""
    require_same(scores_BK=scores_BK, ranks_BK=ranks_BK, mask_BK=mask_BK)
    require_bool(mask_BK=mask_BK)
    valid_BK = np.ones_like(scores_BK, dtype=bool) if mask_BK is None else mask_BK
    safe_BK = np.where(valid_BK, scores_BK, 0.0)
    open_BKK = (ranks_BK[:, None, :] >= ranks_BK[:, :, None]) & valid_BK[:, None, :]
    return safe_BK, valid_BK, open_BKK | np.eye(scores_BK.shape[1], dtype=bool)[None]
