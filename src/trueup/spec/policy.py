"""Policy-gradient losses per token, value and gradient. Legend: B rollouts, T positions, V vocabulary."""

from __future__ import annotations

import numpy as np

from trueup.errors import ConfigError
from trueup.spec.logprob import log_softmax
from trueup.spec.shapes import Array, require_same


def ppo_clip(new_logps_BT: Array, old_logps_BT: Array, advantages_BT: Array, clip_range: float) -> Array:
    """max(-r A, -clip(r, 1-e, 1+e) A) [B, T], r = new / old (Schulman et al. 2017, eq. 7, as a loss)."""
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, advantages_BT=advantages_BT)
    ratio_BT = np.exp(new_logps_BT - old_logps_BT)
    return np.maximum(-ratio_BT * advantages_BT, -np.clip(ratio_BT, 1 - clip_range, 1 + clip_range) * advantages_BT)


def ppo_clip_grad(new_logps_BT: Array, old_logps_BT: Array, advantages_BT: Array, clip_range: float) -> tuple[Array]:
    """-r A, but 0 where the clipped branch is the larger: A > 0 and r > 1+e, or A < 0 and r < 1-e [B, T].

    Being outside the band is not enough: with A < 0 and r > 1+e the loss still pulls r back.
    """
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, advantages_BT=advantages_BT)
    ratio_BT = np.exp(new_logps_BT - old_logps_BT)
    stopped_BT = ((advantages_BT > 0) & (ratio_BT > 1 + clip_range)) | (
        (advantages_BT < 0) & (ratio_BT < 1 - clip_range)
    )
    return (np.where(stopped_BT, 0.0, -ratio_BT * advantages_BT),)


def reinforce(logps_BT: Array, advantages_BT: Array) -> Array:
    """-A log p [B, T] (Williams 1992)."""
    require_same(logps_BT=logps_BT, advantages_BT=advantages_BT)
    return -advantages_BT * logps_BT


def reinforce_grad(logps_BT: Array, advantages_BT: Array) -> tuple[Array]:
    """-A [B, T]."""
    return (-advantages_BT,)


def clipped_value(values_BT: Array, old_values_BT: Array, returns_BT: Array, clip_range: float | None) -> Array:
    """0.5 max((V - R)^2, (V_old + clip(V - V_old, -e, e) - R)^2) [B, T]; without clipping if ``clip_range`` is None."""
    require_same(values_BT=values_BT, old_values_BT=old_values_BT, returns_BT=returns_BT)
    free_BT: Array = (values_BT - returns_BT) ** 2
    if clip_range is None:
        return 0.5 * free_BT
    if clip_range <= 0:
        raise ConfigError(f"clip_range is {clip_range}", where="clip_range", expected="above 0, or None")
    near_BT = old_values_BT + np.clip(values_BT - old_values_BT, -clip_range, clip_range)
    return 0.5 * np.maximum(free_BT, (near_BT - returns_BT) ** 2)


def clipped_value_grad(
    values_BT: Array, old_values_BT: Array, returns_BT: Array, clip_range: float | None
) -> tuple[Array]:
    """V - R, but 0 where the clipped branch is strictly larger: it does not depend on V there [B, T]."""
    free_BT = values_BT - returns_BT
    if clip_range is None:
        return (free_BT,)
    near_BT = old_values_BT + np.clip(values_BT - old_values_BT, -clip_range, clip_range)
    outside_BT = np.abs(values_BT - old_values_BT) > clip_range
    return (np.where(outside_BT & ((near_BT - returns_BT) ** 2 > free_BT**2), 0.0, free_BT),)


def entropy(logits_BTV: Array) -> Array:
    """-sum p log p in nats [B, T], with 0 log 0 = 0."""
    logp_BTV = log_softmax(logits_BTV)
    p_BTV = np.exp(logp_BTV)
    out_BT: Array = -np.where(p_BTV > 0, p_BTV * np.where(p_BTV > 0, logp_BTV, 0.0), 0.0).sum(-1)
    return out_BT


def entropy_grad(logits_BTV: Array) -> tuple[Array]:
    """-p (log p + H) [B, T, V]."""
    logp_BTV = log_softmax(logits_BTV)
    p_BTV = np.exp(logp_BTV)
    safe_BTV = np.where(p_BTV > 0, logp_BTV, 0.0)
    return (-p_BTV * (safe_BTV + entropy(logits_BTV)[..., None]),)
