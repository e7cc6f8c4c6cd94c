"""The logistic function and what the preference losses build from it. Legend: B pairs or responses.

Nothing here takes the log of a saturated probability: softplus(-x) = -log s(x) is exact at any x.
"""

from __future__ import annotations

import math

import numpy as np

from trueup.errors import ConfigError
from trueup.spec.shapes import Array, require_probability, require_same


def softplus(x: Array) -> Array:
    """log(1 + e^x) = -log s(-x), exact at any x."""
    out: Array = np.logaddexp(0.0, x)
    return out


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x) without overflow."""
    out: Array = np.exp(-np.logaddexp(0.0, -x))
    return out


def smoothed(strength_B: Array | None, label_smoothing: float, like_B: Array) -> Array | None:
    """Target p (1 - e) + (1 - p) e of the logistic loss [B]; None for plain labels, whose target is 1."""
    if not 0 <= label_smoothing <= 0.5:
        raise ConfigError(
            f"label_smoothing is {label_smoothing}", where="label_smoothing", expected="between 0 and 0.5"
        )
    if strength_B is None:
        return np.full_like(like_B, 1.0 - label_smoothing) if label_smoothing else None
    require_same(policy_chosen_B=like_B, strength_B=strength_B)
    require_probability(strength_B=strength_B)
    return strength_B * (1.0 - label_smoothing) + (1.0 - strength_B) * label_smoothing


def cross_entropy(logit_B: Array, target_B: Array | None) -> Array:
    """-p log s(x) - (1-p) log s(-x) [B]; p = 1 without a target."""
    if target_B is None:
        return softplus(-logit_B)
    return target_B * softplus(-logit_B) + (1.0 - target_B) * softplus(logit_B)


def cross_entropy_slope(logit_B: Array, target_B: Array | None) -> Array:
    """s(x) - p [B]."""
    # s(x) - 1 = -s(-x) keeps the last digits where s(x) is all but 1.
    return -sigmoid(-logit_B) if target_B is None else sigmoid(logit_B) - target_B


# A mean log-prob nearer to 0 than this leaves 1 - P to rounding; odds are held there.
_CERTAIN = -1e-7


def log_odds(mean_B: Array) -> Array:
    """log(P / (1 - P)) [B] from log P <= 0, without cancellation near 0 (Maechler 2012); 1 - P is held at 1e-7."""
    held_B = np.minimum(mean_B, _CERTAIN)
    near_B = held_B > -math.log(2)
    log1mexp_B = np.where(near_B, np.log(-np.expm1(held_B)), np.log1p(-np.exp(np.where(near_B, -math.log(2), held_B))))
    return mean_B - log1mexp_B


def log_odds_slope(mean_B: Array) -> Array:
    """1 / (1 - P) [B]; 1 where the odds are held."""
    held_B = np.minimum(mean_B, _CERTAIN)
    return np.where(mean_B < _CERTAIN, 1.0 / -np.expm1(held_B), 1.0)
