"""Means over training seeds and prompts that are crossed: every seed answers the same prompts.

Resampling seeds and then prompts takes the prompts of one seed for other prompts than those of the next, and of three
seeds it draws a third too little spread: where seeds differ, its 95 % cover 73 % (``tests/evaluation/test_crossed``).
Here the variance of the mean is that of the two-way model with random seeds and prompts (Searle et al. 1992, ch. 4):

    m_sp = m + a_s + b_p + e_sp                V = V_s + V_p - V_e
    V_s = var_s(m_s.) / S   V_p = var_p(m_.p) / P   V_e = sum (m_sp - m_s. - m_.p + m)^2 / ((S-1) (P-1) S P)

V is at least the greater of V_s and V_p. The interval is Student's with Satterthwaite's degrees of freedom,
V^2 / (V_s^2 / (S-1) + V_p^2 / (P-1) + V_e^2 / ((S-1) (P-1))).

Shapes: S seeds, P prompts, N rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from trueup.errors import ShapeError
from trueup.evaluation.intervals import Floats, Interval, cluster_codes

LEVEL = 0.95


def cells(values: npt.ArrayLike, seeds: Sequence[Hashable], prompts: Sequence[Hashable]) -> Floats:
    """Means [S, P] of N values by seed and prompt, both in order of first appearance.

    Raises:
        ShapeError: Unequal lengths, nothing, or a seed without a value for a prompt that another seed has.
    """
    array_N = np.asarray(values, dtype=np.float64)
    if array_N.ndim != 1 or not len(array_N) == len(seeds) == len(prompts) or not len(array_N):
        raise ShapeError(
            f"{array_N.size} values, {len(seeds)} seeds, {len(prompts)} prompts", expected="equally many, at least one"
        )
    rows_N, seed_count = cluster_codes(seeds)
    columns_N, prompt_count = cluster_codes(prompts)
    sums_SP, counts_SP = np.zeros((seed_count, prompt_count)), np.zeros((seed_count, prompt_count))
    np.add.at(sums_SP, (rows_N, columns_N), array_N)
    np.add.at(counts_SP, (rows_N, columns_N), 1.0)
    if not counts_SP.all():
        raise ShapeError(
            f"{int((counts_SP == 0).sum())} of {counts_SP.size} pairs of seed and prompt have no value",
            expected="the same prompts for every seed",
        )
    means_SP: Floats = sums_SP / counts_SP
    return means_SP


def crossed_mean(means_SP: npt.ArrayLike, *, level: float = LEVEL) -> Interval:
    """Mean over seeds and prompts; ``n`` is the number of seeds. Of one seed it says nothing about others.

    Raises:
        ShapeError: Not two dimensions, or empty.
    """
    array_SP = np.asarray(means_SP, dtype=np.float64)
    if array_SP.ndim != 2 or not array_SP.size:
        raise ShapeError(f"values of shape {array_SP.shape}", expected="[seeds, prompts], at least one of each")
    seeds, prompts = array_SP.shape
    mean = float(array_SP.mean())
    centred_SP = array_SP - array_SP.mean(1, keepdims=True) - array_SP.mean(0) + mean
    # Of the means of seeds, of the means of prompts, and of what neither explains; with one of either, only the other.
    by_seed, by_prompt = _variance(array_SP.mean(1)), _variance(array_SP.mean(0))
    freedoms = (seeds - 1, prompts - 1, (seeds - 1) * (prompts - 1))
    rest = float((centred_SP**2).sum()) / freedoms[2] / array_SP.size if freedoms[2] else 0.0
    if by_seed + by_prompt <= 1e-24 * max(1.0, mean * mean):
        nothing = "one value" if array_SP.size == 1 else "all values are alike"
        return Interval(mean, float("nan"), float("nan"), seeds, level, f"none: {nothing}")
    variance = max(by_seed + by_prompt - rest, by_seed, by_prompt)
    parts = zip((by_seed, by_prompt, rest), freedoms, strict=True)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts if degrees)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * variance**0.5
    over = f"{seeds} seeds and {prompts} prompts" if seeds > 1 else f"{prompts} prompts of one seed"
    return Interval(mean, mean - half, mean + half, seeds, level, f"student t over {over}")


def _variance(values_K: Floats) -> float:
    """Of the mean of K values."""
    return float(values_K.var(ddof=1) / len(values_K)) if len(values_K) > 1 else 0.0
