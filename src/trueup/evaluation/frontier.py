"""Reward against KL: the frontier of a sweep, comparison at equal KL, and the straight line in sqrt(KL).

KL is the sequence KL to the SFT reference in nats. KL of best-of-n and of RL are not comparable (Gao et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from trueup.errors import ShapeError
from trueup.evaluation.intervals import Floats, Interval


@dataclass(frozen=True, slots=True)
class Frontier:
    """Points not beaten by another one of no more KL; KL and quality both rise."""

    kl: tuple[float, ...]
    quality: tuple[float, ...]


def pareto(kl: npt.ArrayLike, quality: npt.ArrayLike) -> Frontier:
    """The upper-left envelope of points (KL, quality)."""
    kl_N, quality_N = _points(kl, quality)
    kept: list[tuple[float, float]] = []
    for x, y in sorted(zip(kl_N.tolist(), quality_N.tolist(), strict=True), key=lambda point: (point[0], -point[1])):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return Frontier(tuple(x for x, _ in kept), tuple(y for _, y in kept))


def at_kl(frontier: Frontier, kl: float) -> float | None:
    """Quality at this KL by linear interpolation; None outside the measured range, where nothing is known.

    Beyond the last point of the envelope spending more KL bought nothing, which the envelope cannot show,
    so the range ends there.
    """
    if not frontier.kl[0] <= kl <= frontier.kl[-1]:
        return None
    return float(np.interp(kl, frontier.kl, frontier.quality))


def area(frontier: Frontier, low: float, high: float) -> float | None:
    """Mean height of the frontier over [low, high]; None if the measured range does not cover it."""
    if not low < high:
        raise ShapeError(f"[{low}, {high}]", expected="low < high")
    left, right = at_kl(frontier, low), at_kl(frontier, high)
    if left is None or right is None:
        return None
    inside = [(x, y) for x, y in zip(frontier.kl, frontier.quality, strict=True) if low < x < high]
    x, y = zip((low, left), *inside, (high, right), strict=True)
    return float(np.trapezoid(y, x) / (high - low))


@dataclass(frozen=True, slots=True)
class LinearFit:
    """Least-squares line; ``r2`` is None where the values do not vary."""

    slope: Interval
    intercept: float
    r2: float | None


def linear_fit(x: npt.ArrayLike, y: npt.ArrayLike, *, level: float = 0.95) -> LinearFit | None:
    """Ordinary least squares with Student's interval of the slope; None if there are < 3 points or x is constant.

    Points that lie on a line exactly say nothing of the noise around it: the slope then has no interval.
    """
    x_N, y_N = _points(x, y)
    if len(x_N) < 3 or np.ptp(x_N) == 0:
        return None
    centred = x_N - x_N.mean()
    slope = float(centred @ y_N / (centred @ centred))
    intercept = float(y_N.mean() - slope * x_N.mean())
    residual = y_N - intercept - slope * x_N
    error = float(np.sqrt(residual @ residual / (len(x_N) - 2) / (centred @ centred)))
    half = float(special.stdtrit(len(x_N) - 2, (1 + level) / 2)) * error
    total = float(((y_N - y_N.mean()) ** 2).sum())
    if residual @ residual <= 1e-20 * total:
        half = float("nan")
    r2 = 1 - float(residual @ residual) / total if total > 0 else None
    return LinearFit(Interval(slope, slope - half, slope + half, len(x_N), level, "least squares"), intercept, r2)


def reward_vs_root_kl(kl: npt.ArrayLike, reward: npt.ArrayLike) -> LinearFit | None:
    """Reward against sqrt(KL): close to a line while optimisation goes well (Bai et al. 2022).

    Sampled KL can be slightly negative near 0; such points count as KL 0.
    """
    kl_N, reward_N = _points(kl, reward)
    return linear_fit(np.sqrt(np.maximum(kl_N, 0.0)), reward_N)


def _points(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
    x_N, y_N = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x_N.ndim != 1 or x_N.shape != y_N.shape or not x_N.size:
        raise ShapeError(f"shapes {x_N.shape} and {y_N.shape}", expected="equally many values, at least one")
    if not (np.isfinite(x_N).all() and np.isfinite(y_N).all()):
        raise ShapeError("some values are not finite", expected="finite numbers")
    return x_N, y_N
