"""Uncertainty: bootstrap over prompts, exact and Wilson intervals for shares, t over seeds, Holm.

Rows of one prompt are not independent, so whole prompts (clusters) are resampled (Miller 2024, arXiv 2411.00640).
A statistic is written as a function of cluster weights, which makes resampling, the jackknife and the
estimate itself the same computation.

Resampling cannot draw what the sample lacks: sixteen ties, or sixteen wins, would come out as certain. Where values
have known bounds, an interval is widened by what K clusters can hide (``bounds``); where they have none and the
resamples do not differ, nothing is known and the bounds are NaN. No interval here has width 0.

Shapes: R resamples, K clusters, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from trueup.config.seeds import derive
from trueup.errors import ShapeError, UsageError

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Cluster weights [R, K] to values [R]."""
SHARE = (0.0, 1.0)
"""The bounds of a share, of a win (1), a tie (1/2) and a loss (0)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with a confidence interval.

    ``low`` and ``high`` are NaN where nothing can be said: one cluster, or values without bounds that are all equal.
    """

    estimate: float
    low: float
    high: float
    n: int
    level: float
    method: str

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def excludes(self, value: float) -> bool:
        """Whether ``value`` is outside; False where there is no interval."""
        return self.known and not self.low <= value <= self.high

    def above(self, value: float) -> bool:
        """Whether the whole interval is above ``value``."""
        return self.known and self.low > value

    def below(self, value: float) -> bool:
        """Whether the whole interval is below ``value``."""
        return self.known and self.high < value

    def to_dict(self) -> dict[str, Any]:
        """JSON form; an unknown bound is null."""
        return {
            "estimate": self.estimate,
            "low": self.low if np.isfinite(self.low) else None,
            "high": self.high if np.isfinite(self.high) else None,
            "n": self.n,
            "level": self.level,
            "method": self.method,
        }


@dataclass(frozen=True, slots=True)
class Unseen:
    """How far beyond the lowest and the highest value of a sample values could still lie, by their known bounds.

    If the lowest of K clusters has the value m, then the share of clusters below m is at most 1 - (tail)^(1/K) with
    confidence 1 - tail, and such clusters lower the mean by at most that share of (m - bound). Of K equal successes
    it gives the interval of Clopper and Pearson.
    """

    below: float
    above: float

    @classmethod
    def of(cls, means_K: Floats, bounds: tuple[float, float]) -> Unseen:
        """From the mean [K] of each cluster."""
        low, high = float(means_K.min()), float(means_K.max())
        if low < bounds[0] - 1e-9 or high > bounds[1] + 1e-9:
            raise ShapeError(f"values from {low:g} to {high:g}", expected=f"all within {bounds[0]:g} to {bounds[1]:g}")
        return cls(max(0.0, low - bounds[0]), max(0.0, bounds[1] - high))


def bootstrap(
    statistic: Statistic,
    clusters: int,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: str = "bca",
    unseen: Unseen | None = None,
) -> Interval:
    """Interval of a statistic when ``clusters`` units are resampled with replacement.

    Args:
        statistic: Maps cluster weights [R, K] to values [R]; weights of 1 give the estimate.
        clusters: Number of units K.
        level: Confidence level in (0, 1).
        resamples: Bootstrap samples R.
        seed: Names the draws.
        method: ``bca`` (Efron 1987: corrected for bias and skewness) or ``percentile``.
        unseen: For a mean of values with bounds, how far beyond the sample they could lie.
    """
    if clusters < 1:
        raise ShapeError("nothing to resample", expected="at least one cluster")
    if not 0 < level < 1 or method not in ("bca", "percentile"):
        raise UsageError(f"level {level}, method {method!r}", expected="level in (0, 1), method bca or percentile")
    estimate = float(statistic(np.ones((1, clusters)))[0])
    if clusters == 1:
        return Interval(estimate, float("nan"), float("nan"), 1, level, "none: one cluster")
    values_R = np.sort(statistic(resampled(clusters, resamples, seed)))
    tail = (1 - level) / 2
    shares = np.array([tail, 1 - tail])
    if method == "bca":
        shares = _bca_shares(statistic, clusters, estimate, values_R, shares)
    return interval_of(estimate, values_R, clusters, shares, level=level, method=method, unseen=unseen)


def resampled(clusters: int, resamples: int, seed: int) -> Floats:
    """Weights [R, K] of K clusters in R draws with replacement; the same for everything that is compared."""
    rng = np.random.default_rng(derive(seed, "bootstrap"))
    return rng.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=resamples).astype(np.float64)


def interval_of(
    estimate: float,
    values_R: Floats,
    clusters: int,
    shares: Floats,
    *,
    level: float,
    method: str,
    unseen: Unseen | None = None,
) -> Interval:
    """The interval between two quantiles of resampled values; see ``bootstrap``.

    Args:
        estimate: On the sample itself.
        values_R: On each resample.
        clusters: Number of units K.
        shares: The two quantile levels.
        level: Confidence level.
        method: How the levels were chosen.
        unseen: How far beyond the sample values could lie.
    """
    low, high = (float(bound) for bound in np.quantile(values_R, shares))
    if unseen is not None:
        # With confidence 1 - tail, no more than this share of all clusters lies beyond the lowest (highest) one drawn.
        hidden = 1 - ((1 - level) / 2) ** (1 / clusters)
        low, high = low - hidden * unseen.below, high + hidden * unseen.above
    if high - low <= 1e-12 * max(1.0, abs(estimate)):
        return Interval(
            estimate, float("nan"), float("nan"), clusters, level, f"none: all {clusters} clusters are alike"
        )
    return Interval(estimate, low, high, clusters, level, f"{method} bootstrap over {clusters} clusters")


def _bca_shares(statistic: Statistic, clusters: int, estimate: float, values_R: Floats, shares: Floats) -> Floats:
    """Quantile levels corrected for median bias and acceleration; plain ones where both are undefined."""
    below = float((values_R < estimate).mean() + 0.5 * (values_R == estimate).mean())
    left_out_K = statistic(1.0 - np.eye(clusters))
    centred_K = left_out_K.mean() - left_out_K
    spread = float((centred_K**2).sum())
    if spread <= 1e-24 or not 0 < below < 1:
        return shares
    acceleration = float((centred_K**3).sum()) / (6 * spread**1.5)
    bias = float(special.ndtri(below))
    z = bias + special.ndtri(shares)
    corrected: Floats = special.ndtr(bias + z / (1 - acceleration * z))
    return corrected


def cluster_codes(clusters: Sequence[Hashable]) -> tuple[npt.NDArray[np.int64], int]:
    """Integer code of each row's cluster, in order of first appearance, and their number."""
    known: dict[Hashable, int] = {}
    codes = [known.setdefault(name, len(known)) for name in clusters]
    return np.asarray(codes, dtype=np.int64), len(known)


def cluster_sums(values: npt.ArrayLike, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Sums [K] and row counts [K] by cluster; without clusters each row is its own."""
    array_N = np.asarray(values, dtype=np.float64)
    if array_N.ndim != 1 or not array_N.size:
        raise ShapeError(f"values of shape {array_N.shape}", expected="one dimension, at least one value")
    if clusters is None:
        return array_N, np.ones_like(array_N)
    if len(clusters) != len(array_N):
        raise ShapeError(f"{len(array_N)} values and {len(clusters)} clusters", expected="one cluster for each value")
    codes_N, count = cluster_codes(clusters)
    sums_K = np.bincount(codes_N, array_N, count).astype(np.float64)
    return sums_K, np.bincount(codes_N, minlength=count).astype(np.float64)


def mean_interval(
    values: npt.ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: str = "bca",
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Mean of N values with an interval from resampling clusters (prompts); ``bounds`` are those of the values."""
    sums_K, counts_K = cluster_sums(values, clusters)
    unseen = Unseen.of(sums_K / counts_K, bounds) if bounds else None

    def mean(weights_RK: Floats) -> Floats:
        means_R: Floats = (weights_RK @ sums_K) / (weights_RK @ counts_K)
        return means_R

    return bootstrap(mean, len(sums_K), level=level, resamples=resamples, seed=seed, method=method, unseen=unseen)


def clustered_error(values: npt.ArrayLike, clusters: Sequence[Hashable] | None = None) -> float | None:
    """Standard error of a mean of N values whose rows within a cluster are not independent.

    SE = sqrt(C / (C - 1) * sum_c (sum_{i in c} (s_i - mean))^2) / N over C clusters (Miller 2024, arXiv 2411.00640,
    with the correction for few clusters). None where it is not known: one cluster, or clusters that are all alike.
    """
    sums_K, counts_K = cluster_sums(values, clusters)
    count, total = len(sums_K), float(counts_K.sum())
    off_K = sums_K - counts_K * (sums_K.sum() / total)
    squares = float(off_K @ off_K)
    if count < 2 or squares <= 1e-24 * max(1.0, float(sums_K @ sums_K)):
        return None
    return float(np.sqrt(count / (count - 1) * squares)) / total


def paired_difference(
    a_values: npt.ArrayLike,
    a_clusters: Sequence[Hashable],
    b_values: npt.ArrayLike,
    b_clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: str = "bca",
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """mean(a) - mean(b) on the same clusters, which are resampled together; ``bounds`` are those of either's values.

    Raises:
        ShapeError: the two sides do not have the same clusters.
    """
    if set(a_clusters) != set(b_clusters):
        raise ShapeError("the two sides have different clusters", expected="values of both on the same prompts")
    order = {name: index for index, name in enumerate(dict.fromkeys(a_clusters))}
    sides: list[tuple[Floats, Floats]] = []
    for values, clusters in ((a_values, a_clusters), (b_values, b_clusters)):
        array_N = np.asarray(values, dtype=np.float64)
        if array_N.shape != (len(clusters),):
            raise ShapeError(f"values {array_N.shape}, {len(clusters)} clusters", expected="one cluster for each value")
        codes_N = np.array([order[name] for name in clusters], dtype=np.int64)
        counts_K = np.bincount(codes_N, minlength=len(order)).astype(np.float64)
        sides.append((np.bincount(codes_N, array_N, len(order)).astype(np.float64), counts_K))
    (a_sum, a_count), (b_sum, b_count) = sides
    unseen = None
    if bounds:
        reach = bounds[1] - bounds[0]
        unseen = Unseen.of(a_sum / a_count - b_sum / b_count, (-reach, reach))

    def difference(weights_RK: Floats) -> Floats:
        differences_R: Floats = (weights_RK @ a_sum) / (weights_RK @ a_count) - (weights_RK @ b_sum) / (
            weights_RK @ b_count
        )
        return differences_R

    return bootstrap(difference, len(order), level=level, resamples=resamples, seed=seed, method=method, unseen=unseen)


def hierarchical_mean(
    values: npt.ArrayLike,
    seeds: Sequence[Hashable],
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean over training seeds: seeds are resampled, then prompts within each drawn seed (percentile interval)."""
    array_N = np.asarray(values, dtype=np.float64)
    if not len(array_N) == len(seeds) == len(clusters):
        raise ShapeError(
            f"{len(array_N)} values, {len(seeds)} seeds, {len(clusters)} clusters", expected="equally many"
        )
    codes_N, count = cluster_codes(seeds)
    groups = []
    for index in range(count):
        rows = np.flatnonzero(codes_N == index).tolist()
        groups.append(cluster_sums(array_N[rows], [clusters[row] for row in rows]))
    estimate = float(np.mean([sums.sum() / counts.sum() for sums, counts in groups]))
    if count == 1:
        return Interval(estimate, float("nan"), float("nan"), 1, level, "none: one seed")
    rng = np.random.default_rng(derive(seed, "hierarchical bootstrap"))
    means_RS = np.empty((resamples, count))
    drawn_RS = rng.integers(0, count, size=(resamples, count))
    for index, (sums_K, counts_K) in enumerate(groups):
        where = np.argwhere(drawn_RS == index)
        size = len(sums_K)
        weights = rng.multinomial(size, np.full(size, 1.0 / size), size=len(where))
        means_RS[where[:, 0], where[:, 1]] = (weights @ sums_K) / (weights @ counts_K)
    low, high = np.quantile(means_RS.mean(1), [(1 - level) / 2, (1 + level) / 2])
    if high - low <= 1e-12 * max(1.0, abs(estimate)):
        return Interval(estimate, float("nan"), float("nan"), count, level, f"none: all {count} seeds are alike")
    return Interval(estimate, float(low), float(high), count, level, f"hierarchical bootstrap over {count} seeds")


def wilson(successes: float, n: int, *, level: float = 0.95) -> Interval:
    """Wilson score interval of a share (Wilson 1927); half counts (ties) are allowed."""
    _check_share(successes, n)
    z = float(special.ndtri((1 + level) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n, level, "wilson")


def exact_binomial(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Clopper-Pearson interval of a share: never covers less than ``level``."""
    _check_share(successes, n)
    tail = (1 - level) / 2
    low = float(special.betaincinv(successes, n - successes + 1, tail)) if successes > 0 else 0.0
    high = float(special.betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Interval(successes / n, low, high, n, level, "clopper-pearson")


def _check_share(successes: float, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ShapeError(f"{successes} of {n}", expected="0 <= successes <= n and n >= 1")


def t_interval(values: npt.ArrayLike, *, level: float = 0.95) -> Interval:
    """Student's interval of a mean over few independent values, such as training seeds."""
    array_N = np.asarray(values, dtype=np.float64)
    if array_N.ndim != 1 or not array_N.size:
        raise ShapeError(f"values of shape {array_N.shape}", expected="one dimension, at least one value")
    mean = float(array_N.mean())
    if array_N.size == 1:
        return Interval(mean, float("nan"), float("nan"), 1, level, "none: one value")
    if np.ptp(array_N) == 0:
        nothing = f"none: all {array_N.size} values are equal"
        return Interval(mean, float("nan"), float("nan"), array_N.size, level, nothing)
    half = float(special.stdtrit(array_N.size - 1, (1 + level) / 2) * array_N.std(ddof=1) / array_N.size**0.5)
    return Interval(mean, mean - half, mean + half, array_N.size, level, "student t")


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that control the chance of any false finding among all of them (Holm 1979)."""
    if any(not 0 <= p <= 1 for p in p_values):
        raise ShapeError(f"p-values {list(p_values)}", expected="all in [0, 1]")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
