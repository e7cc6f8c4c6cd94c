"""What moves judgments besides quality: the side a response was shown on, its length, its markup, the slice it is in.

Shapes: N judgments, P coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from trueup.errors import ShapeError
from trueup.feedback.quality.gold import wilson_interval

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SideShare:
    """A share with a Wilson interval and the exact two-sided binomial test of one half; ties are left out."""

    name: str
    count: int
    total: int
    share: float | None
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True, slots=True)
class Coefficient:
    """Log-odds per unit of one feature, with cluster-robust standard error and two-sided normal p-value."""

    name: str
    estimate: float
    error: float
    low: float
    high: float
    p: float


def first_share(name: str, wins: Sequence[float]) -> SideShare:
    """How often the response shown first wins. ``wins`` holds 1, 0, and 0.5 for ties, which are left out."""
    decided = [w for w in wins if w != 0.5]
    count, total = sum(w == 1.0 for w in decided), len(decided)
    if total == 0:
        return SideShare(name, 0, 0, None, None, None, None)
    low, high = wilson_interval(count, total)
    return SideShare(name, count, total, count / total, low, high, float(stats.binomtest(count, total, 0.5).pvalue))


def logistic(
    features_NP: Floats, outcome_N: Floats, clusters: Sequence[Hashable], names: Sequence[str]
) -> list[Coefficient]:
    """Logistic regression by Newton's method, with standard errors robust to dependence inside clusters.

    The sandwich covariance is B^-1 (sum over clusters of s s') B^-1, with s the summed scores of a cluster and B the
    information, times G / (G - 1) * (N - 1) / (N - P) for G clusters (Liang and Zeger 1986; Cameron and Miller 2015).
    An intercept is one of the features, if it is wanted.

    Raises:
        ShapeError: Sizes differ, there is one cluster only, or the outcome is separable so that no maximum exists.
    """
    features_NP = np.asarray(features_NP, dtype=np.float64)
    outcome_N = np.asarray(outcome_N, dtype=np.float64)
    count, width = features_NP.shape
    groups = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    if len(outcome_N) != count or len(clusters) != count or len(names) != width:
        raise ShapeError("features, outcomes, clusters and names differ in length", where="logistic")
    if len(groups) < 2:
        raise ShapeError("all judgments are of one annotator", where="logistic", expected="two clusters or more")
    beta_P = np.zeros(width)
    for _ in range(100):
        p_N = special.expit(features_NP @ beta_P)
        information_PP = (features_NP * (p_N * (1 - p_N))[:, None]).T @ features_NP
        try:
            step_P = np.linalg.solve(information_PP, features_NP.T @ (outcome_N - p_N))
        except np.linalg.LinAlgError:
            step_P = np.full(width, np.inf)
        if not np.isfinite(step_P).all() or np.abs(beta_P + step_P).max() > 50:
            raise ShapeError(
                "the features separate the outcomes, or one repeats another: there is no estimate",
                where="logistic",
                fix="collect more judgments, or leave a feature out",
            )
        beta_P = beta_P + step_P
        if float(np.abs(step_P).max()) < 1e-10:
            break
    p_N = special.expit(features_NP @ beta_P)
    inverse_PP = np.linalg.inv((features_NP * (p_N * (1 - p_N))[:, None]).T @ features_NP)
    scores_GP = np.zeros((len(groups), width))
    np.add.at(scores_GP, [groups[name] for name in clusters], features_NP * (outcome_N - p_N)[:, None])
    correction = len(groups) / (len(groups) - 1) * (count - 1) / max(1, count - width)
    covariance_PP = correction * inverse_PP @ (scores_GP.T @ scores_GP) @ inverse_PP
    coefficients = []
    for name, estimate, variance in zip(names, beta_P, np.diag(covariance_PP), strict=True):
        error = math.sqrt(max(0.0, float(variance)))
        half = 1.959963984540054 * error
        p = 2 * float(stats.norm.sf(abs(estimate) / error)) if error > 0 else 1.0
        value = float(estimate)
        coefficients.append(Coefficient(name, value, error, value - half, value + half, p))
    return coefficients


def benjamini_hochberg(p_values: Sequence[float], rate: float = 0.05) -> list[bool]:
    """Which hypotheses to reject so that the expected share of false ones among them is at most ``rate`` (1995)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    last = max((k for k, i in enumerate(order, 1) if p_values[i] <= rate * k / len(p_values)), default=0)
    rejected = set(order[:last])
    return [i in rejected for i in range(len(p_values))]


@dataclass(frozen=True, slots=True)
class SliceGap:
    """How a slice's share differs from the rest, with a two-proportion z-test and the Benjamini-Hochberg decision."""

    name: str
    share: float
    rest: float
    total: int
    p: float
    stands_out: bool


def slice_gaps(
    outcomes: Sequence[bool], slices: Sequence[str], *, least: int = 5, rate: float = 0.05
) -> list[SliceGap]:
    """Each slice against all others; slices or remainders with fewer than ``least`` outcomes are left out."""
    rows: list[tuple[str, float, float, int, float]] = []
    for name in dict.fromkeys(slices):
        inside = [o for o, s in zip(outcomes, slices, strict=True) if s == name]
        rest = [o for o, s in zip(outcomes, slices, strict=True) if s != name]
        if len(inside) < least or len(rest) < least:
            continue
        a, b = sum(inside) / len(inside), sum(rest) / len(rest)
        pooled = (sum(inside) + sum(rest)) / (len(inside) + len(rest))
        error = math.sqrt(pooled * (1 - pooled) * (1 / len(inside) + 1 / len(rest)))
        p = 2 * float(stats.norm.sf(abs(a - b) / error)) if error > 0 else 1.0
        rows.append((name, a, b, len(inside), p))
    decisions = benjamini_hochberg([row[4] for row in rows], rate)
    return [SliceGap(*row, stands_out) for row, stands_out in zip(rows, decisions, strict=True)]
