"""From rewards to advantages. Legend: B rollouts, T positions, G prompts, K samples of one prompt.

Masks are right-padded; padded slots are ignored whatever they hold, and come out as 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trueup.errors import ConfigError
from trueup.spec.shapes import Array, Mask, require_same


def shaped_rewards(score_B: Array, kl_BT: Array, mask_BT: Mask, beta: float) -> Array:
    """-beta kl_t, plus the score on the last valid token [B, T] (Ziegler et al. 2019, eq. 2)."""
    require_same(kl_BT=kl_BT, mask_BT=mask_BT)
    require_same(score_B=score_B, **{"mask_BT[:, 0]": mask_BT[:, 0]})
    rewards_BT: Array = np.where(mask_BT, -beta * kl_BT, 0.0)
    for row, count in enumerate(mask_BT.sum(-1)):
        if count:
            rewards_BT[row, count - 1] += score_B[row]
    return rewards_BT


def gae(
    rewards_BT: Array,
    values_BT: Array,
    mask_BT: Mask,
    gamma: float,
    lam: float,
    bootstrap_B: Array | None = None,
    dones_BT: Mask | None = None,
) -> Array:
    """sum_k (gamma lam)^k delta_{t+k} [B, T] (Schulman et al. 2016, eq. 16), delta_t = r_t + gamma V_{t+1} - V_t.

    V after a row's last step is ``bootstrap_B`` (the row was cut off) or 0 (it ended); after a done it is 0, and
    nothing flows back across it.
    """
    require_same(rewards_BT=rewards_BT, values_BT=values_BT, mask_BT=mask_BT, dones_BT=dones_BT)
    out_BT: Array = np.zeros_like(rewards_BT)
    for row, count in enumerate(mask_BT.sum(-1)):
        after = 0.0 if bootstrap_B is None else float(bootstrap_B[row])
        trace = 0.0
        for t in reversed(range(int(count))):
            alive = 0.0 if dones_BT is not None and dones_BT[row, t] else 1.0
            delta = rewards_BT[row, t] + gamma * after * alive - values_BT[row, t]
            trace = delta + gamma * lam * alive * trace
            out_BT[row, t] = trace
            after = float(values_BT[row, t])
    return out_BT


def returns(advantages_BT: Array, values_BT: Array, mask_BT: Mask) -> Array:
    """A + V [B, T], before any whitening."""
    require_same(advantages_BT=advantages_BT, values_BT=values_BT, mask_BT=mask_BT)
    return np.where(mask_BT, advantages_BT + values_BT, 0.0)


def discounted_returns(rewards_BT: Array, mask_BT: Mask, gamma: float) -> Array:
    """sum_k gamma^k r_{t+k} [B, T]."""
    require_same(rewards_BT=rewards_BT, mask_BT=mask_BT)
    return gae(rewards_BT, np.zeros_like(rewards_BT), mask_BT, gamma, 1.0)


def whiten(x_BT: Array, mask_BT: Mask, shift_mean: bool = True) -> Array:
    """(x - mean) / std over the valid slots, population std [B, T]; equal values have no scale and give 0."""
    require_same(x_BT=x_BT, mask_BT=mask_BT)
    if not mask_BT.any():
        return np.zeros_like(x_BT)
    valid_N = x_BT[mask_BT]
    mean, std = float(valid_N.mean()), float(valid_N.std())
    if std <= 1e-7 * (1 + abs(mean)):
        return np.where(mask_BT, 0.0 if shift_mean else mean, 0.0)
    safe_BT = np.where(mask_BT, x_BT, mean)
    return np.where(mask_BT, (safe_BT - mean) / std + (0.0 if shift_mean else mean), 0.0)


def rloo(scores_GK: Array, valid_GK: Mask | None = None) -> Array:
    """r_i minus the mean of the other valid samples of its prompt [G, K] (Ahmadian et al. 2024); 0 in a dead group."""
    out_GK: Array = np.zeros_like(scores_GK)
    for group, members, scores in _live(scores_GK, valid_GK):
        for member, score in zip(members, scores, strict=True):
            out_GK[group, member] = score - np.delete(scores, list(members).index(member)).mean()
    return out_GK


def group_advantages(scores_GK: Array, scale: bool = True, valid_GK: Mask | None = None) -> Array:
    """(r - mean) / (std + 1e-4) of the prompt's valid samples [G, K] (Shao et al. 2024); undivided without ``scale``.

    The standard deviation divides by k - 1. A dead group has advantage 0.
    """
    out_GK: Array = np.zeros_like(scores_GK)
    for group, members, scores in _live(scores_GK, valid_GK):
        out_GK[group, members] = (scores - scores.mean()) / (scores.std(ddof=1) + 1e-4 if scale else 1.0)
    return out_GK


def dead_groups(scores_GK: Array, valid_GK: Mask | None = None) -> Mask:
    """Groups with fewer than two valid scores, or with max - min <= 1e-6 max(1, |mean|) of them [G]."""
    _group_size(scores_GK)
    live = [group for group, _, _ in _live(scores_GK, valid_GK)]
    return np.array([group not in live for group in range(len(scores_GK))])


def overlong_penalty(lengths_B: Array, limit: int, buffer: int) -> Array:
    """0 up to ``limit - buffer`` tokens, linear to 1 at ``limit``, 1 beyond [B] (DAPO, Yu et al. 2025, eq. 13)."""
    if not 0 < buffer <= limit:
        raise ConfigError(f"buffer is {buffer}", where="buffer", expected=f"from 1 to {limit} tokens")
    return np.interp(lengths_B, [limit - buffer, limit], [0.0, 1.0])


def _live(scores_GK: Array, valid_GK: Mask | None) -> Iterator[tuple[int, NDArray[np.intp], Array]]:
    """(group, its valid members, their scores) of every group that is not dead."""
    _group_size(scores_GK)
    for group, row in enumerate(scores_GK):
        members = np.arange(len(row)) if valid_GK is None else np.flatnonzero(valid_GK[group])
        scores = row[members]
        if len(scores) >= 2 and np.ptp(scores) > 1e-6 * max(1.0, abs(scores.mean())):
            yield group, members, scores


def _group_size(scores_GK: Array) -> int:
    if scores_GK.ndim != 2 or scores_GK.shape[-1] < 2:
        raise ConfigError(
            f"scores have shape {scores_GK.shape}", where="scores_GK", expected="[groups, k] with k at least 2"
        )
    return int(scores_GK.shape[-1])
