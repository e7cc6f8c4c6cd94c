"""Policy-gradient losses, value and gradient. Legend: B rollouts, T positions, V vocabulary."""

from __future__ import annotations

import numpy as np

from trueup.errors import ConfigError
from trueup.spec.logprob import log_softmax
from trueup.spec.shapes import Array, Mask, require_same

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are held within this before exp."""


def ppo_clip(
    new_logps_BT: Array,
    old_logps_BT: Array,
    advantages_BT: Array,
    clip_range: float,
    clip_high: float | None = None,
    dual_clip: float | None = None,
) -> Array:
    """max(-r A, -clip(r, 1-e, 1+e_high) A) [B, T], r = new / old (Schulman et al. 2017, eq. 7, as a loss).

    ``clip_high`` is e where absent; with ``dual_clip`` = c the loss of A < 0 is at most -c A (Ye et al. 2020, eq. 5).
    """
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, advantages_BT=advantages_BT)
    ratio_BT = _ratio(new_logps_BT, old_logps_BT)
    near_BT = np.clip(ratio_BT, 1 - clip_range, 1 + _high(clip_range, clip_high))
    loss_BT: Array = np.maximum(-ratio_BT * advantages_BT, -near_BT * advantages_BT)
    if dual_clip is None:
        return loss_BT
    if dual_clip <= 1:
        raise ConfigError(f"dual_clip is {dual_clip}", where="dual_clip", expected="above 1, or None")
    return np.where(advantages_BT < 0, np.minimum(loss_BT, -dual_clip * advantages_BT), loss_BT)


def ppo_clip_grad(
    new_logps_BT: Array,
    old_logps_BT: Array,
    advantages_BT: Array,
    clip_range: float,
    clip_high: float | None = None,
    dual_clip: float | None = None,
) -> tuple[Array]:
    """-r A, but 0 where the clipped branch is the larger: A > 0 and r > 1+e_high, or A < 0 and r < 1-e [B, T].

    Being outside the band is not enough: with A < 0 and r > 1+e the loss still pulls r back, up to ``dual_clip``.
    """
    stopped_BT = clip_stops(new_logps_BT, old_logps_BT, advantages_BT, clip_range, clip_high)
    ratio_BT = _ratio(new_logps_BT, old_logps_BT)
    stopped_BT = stopped_BT | (np.abs(new_logps_BT - old_logps_BT) > LOG_RATIO_LIMIT)
    if dual_clip is not None:
        stopped_BT = stopped_BT | ((advantages_BT < 0) & (ratio_BT > dual_clip))
    return (np.where(stopped_BT, 0.0, -ratio_BT * advantages_BT),)


def clip_stops(
    new_logps_BT: Array,
    old_logps_BT: Array,
    advantages_BT: Array,
    clip_range: float,
    clip_high: float | None = None,
) -> Mask:
    """A > 0 and r > 1 + e_high, or A < 0 and r < 1 - e [B, T]."""
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, advantages_BT=advantages_BT)
    ratio_BT = _ratio(new_logps_BT, old_logps_BT)
    up_BT: Mask = (advantages_BT > 0) & (ratio_BT > 1 + _high(clip_range, clip_high))
    return up_BT | ((advantages_BT < 0) & (ratio_BT < 1 - clip_range))


def cispo(new_logps_BT: Array, old_logps_BT: Array, advantages_BT: Array, clip_range: float, clip_high: float) -> Array:
    """-w A log p [B, T] with the weight w = clip(r, 1-e, 1+e_high), held fixed (arXiv:2506.13585, eq. 4)."""
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, advantages_BT=advantages_BT)
    weight_BT = np.clip(_ratio(new_logps_BT, old_logps_BT), 1 - clip_range, 1 + clip_high)
    return -weight_BT * advantages_BT * new_logps_BT


def cispo_grad(
    new_logps_BT: Array, old_logps_BT: Array, advantages_BT: Array, clip_range: float, clip_high: float
) -> tuple[Array]:
    """-w A [B, T]: the gradient with w held fixed, which is never 0 for want of room in the band."""
    weight_BT = np.clip(_ratio(new_logps_BT, old_logps_BT), 1 - clip_range, 1 + clip_high)
    return (-weight_BT * advantages_BT,)


def gspo(
    new_logps_BT: Array,
    old_logps_BT: Array,
    advantages_B: Array,
    mask_BT: Mask,
    clip_range: float,
    clip_high: float | None = None,
) -> Array:
    """max(-s A, -clip(s, 1-e, 1+e_high) A) [B], s the geometric mean of the ratios of an answer (arXiv:2507.18071)."""
    out_B: Array = np.zeros(len(advantages_B))
    s_B = sequence_ratio(new_logps_BT, old_logps_BT, mask_BT)
    require_same(advantages_B=advantages_B, s_B=s_B)
    for row, (s, a) in enumerate(zip(s_B, advantages_B, strict=True)):
        if mask_BT[row].any():
            out_B[row] = max(-s * a, -min(max(s, 1 - clip_range), 1 + _high(clip_range, clip_high)) * a)
    return out_B


def gspo_grad(
    new_logps_BT: Array,
    old_logps_BT: Array,
    advantages_B: Array,
    mask_BT: Mask,
    clip_range: float,
    clip_high: float | None = None,
) -> tuple[Array]:
    """-s A / T on each of an answer's T tokens [B, T]; 0 on all of them where the clipped branch is the larger."""
    s_B = sequence_ratio(new_logps_BT, old_logps_BT, mask_BT)
    out_BT: Array = np.zeros_like(new_logps_BT)
    for row, (s, a) in enumerate(zip(s_B, advantages_B, strict=True)):
        stopped = (a > 0 and s > 1 + _high(clip_range, clip_high)) or (a < 0 and s < 1 - clip_range)
        if not stopped and mask_BT[row].any():
            out_BT[row] = np.where(mask_BT[row], -s * a / mask_BT[row].sum(), 0.0)
    return (out_BT,)


def sequence_ratio(new_logps_BT: Array, old_logps_BT: Array, mask_BT: Mask) -> Array:
    """(product of the ratios of the T valid tokens)^(1/T) [B]; 1 where there are none."""
    require_same(new_logps_BT=new_logps_BT, old_logps_BT=old_logps_BT, mask_BT=mask_BT)
    return np.array(
        [
            float(np.exp(np.clip((new[mask] - old[mask]).mean(), -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)))
            if mask.any()
            else 1.0
            for new, old, mask in zip(new_logps_BT, old_logps_BT, mask_BT, strict=True)
        ]
    )


def truncated_importance(old_logps_BT: Array, sampler_logps_BT: Array, cap: float) -> Array:
    """Truncated importance weights [B, T] of tokens that another sampler drew: min(pi_old / mu, cap)."""
    require_same(old_logps_BT=old_logps_BT, sampler_logps_BT=sampler_logps_BT)
    return np.minimum(_ratio(old_logps_BT, sampler_logps_BT), cap)


def answer_weights(mask_BT: Mask, normalise: str, limit: int) -> Array:
    """Weights [B, T] whose sum with token losses is the mean over answers of token means (``answer``), the mean over
    tokens (``token``), or the mean over answers of token sums (``sum``), divided by ``limit`` (``constant``)."""
    out_BT: Array = np.zeros(mask_BT.shape)
    answers = sum(bool(row.any()) for row in mask_BT)
    for row, mask in enumerate(mask_BT):
        if mask.any():
            parts = {
                "answer": answers * mask.sum(),
                "token": mask_BT.sum(),
                "constant": answers * limit,
                "sum": answers,
            }
            if normalise not in parts:
                raise ConfigError(
                    f"normalise is {normalise!r}", where="normalise", expected="answer, token, constant or sum"
                )
            out_BT[row, mask] = 1.0 / parts[normalise]
    return out_BT


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


def _ratio(new_logps_BT: Array, old_logps_BT: Array) -> Array:
    out_BT: Array = np.exp(np.clip(new_logps_BT - old_logps_BT, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
    return out_BT


def _high(clip_range: float, clip_high: float | None) -> float:
    return clip_range if clip_high is None else clip_high
