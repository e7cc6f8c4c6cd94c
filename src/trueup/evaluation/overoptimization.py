"""Over-optimisation: the laws of Gao et al. 2022 (arXiv 2210.10760) and the point where gold turns over.

d = sqrt(KL(policy || initial policy)); R is the gold score gained over the initial policy, so R(0) = 0.
    best-of-n:  R = d (alpha - beta d)       peak at d = alpha / (2 beta), R = alpha^2 / (4 beta)
    RL:         R = d (alpha - beta ln d)    peak at d = exp(alpha / beta - 1), R = beta d

Shapes: N points, R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from trueup.config.seeds import derive
from trueup.errors import ShapeError
from trueup.evaluation.frontier import linear_fit
from trueup.evaluation.intervals import Floats, Interval, bootstrap

Form = Literal["bon", "rl"]
MIN_SEGMENT = 4
KINK_LEVEL = 0.01


def bon_form(d: npt.ArrayLike, alpha: float, beta: float) -> Floats:
    """Gold gain of best-of-n at distance ``d`` (eq. 1 for BoN); 0 at d = 0."""
    d_N = _distances(d)
    return d_N * (alpha - beta * d_N)


def rl_form(d: npt.ArrayLike, alpha: float, beta: float) -> Floats:
    """Gold gain of RL at distance ``d`` (eq. 1 for RL); 0 at d = 0, the limit of d ln d."""
    d_N = _distances(d)
    return alpha * d_N - beta * _d_log_d(d_N)


def _d_log_d(d_N: Floats) -> Floats:
    safe_N = np.where(d_N > 0, d_N, 1.0)
    return d_N * np.log(safe_N)


@dataclass(frozen=True, slots=True)
class GaoFit:
    """Fitted coefficients with 95 % intervals; the peak is None where the fit does not turn over."""

    form: Form
    alpha: Interval
    beta: Interval
    r2: float | None
    peak_d: float | None
    peak_gain: float | None

    def predict(self, d: npt.ArrayLike) -> Floats:
        """Gold gain at distances ``d``."""
        form = bon_form if self.form == "bon" else rl_form
        return form(d, self.alpha.estimate, self.beta.estimate)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "form": self.form,
            "alpha": self.alpha.to_dict(),
            "beta": self.beta.to_dict(),
            "r2": self.r2,
            "peak_d": self.peak_d,
            "peak_gain": self.peak_gain,
        }


def fit_gao(d: npt.ArrayLike, gain: npt.ArrayLike, form: Form, *, resamples: int = 2000, seed: int = 0) -> GaoFit:
    """Least-squares fit of one of the two forms; points are resampled for the intervals.

    Raises:
        ShapeError: fewer than 4 points, or fewer than 3 distances above 0: two coefficients cannot be told apart.
    """
    d_N = _distances(d)
    gain_N = np.asarray(gain, dtype=np.float64)
    if gain_N.shape != d_N.shape or len(d_N) < 4 or len(np.unique(d_N[d_N > 0])) < 3:
        raise ShapeError(
            f"{len(d_N)} distances and {gain_N.size} gains", expected="at least 4 points, 3 of them at different d > 0"
        )
    bend_N = -(d_N**2) if form == "bon" else -_d_log_d(d_N)

    def solve(weights_RN: Floats) -> tuple[Floats, Floats]:
        s11, s12, s22 = weights_RN @ (d_N * d_N), weights_RN @ (d_N * bend_N), weights_RN @ (bend_N * bend_N)
        t1, t2 = weights_RN @ (d_N * gain_N), weights_RN @ (bend_N * gain_N)
        determinant = s11 * s22 - s12 * s12
        # A resample of one distinct distance has no unique fit; least norm there.
        scale = np.maximum(s11 * s22, 1e-300)
        determinant = np.where(determinant < 1e-12 * scale, np.inf, determinant)
        return (s22 * t1 - s12 * t2) / determinant, (s11 * t2 - s12 * t1) / determinant

    options: dict[str, Any] = {"resamples": resamples, "seed": seed, "method": "percentile"}
    alpha = bootstrap(lambda weights: solve(weights)[0], len(d_N), **options)
    beta = bootstrap(lambda weights: solve(weights)[1], len(d_N), **options)
    a, b = alpha.estimate, beta.estimate
    residual = gain_N - (a * d_N + b * bend_N)
    total = float(((gain_N - gain_N.mean()) ** 2).sum())
    peak = _peak(form, a, b)
    return GaoFit(form, alpha, beta, 1 - float(residual @ residual) / total if total > 0 else None, *peak)


def _peak(form: Form, alpha: float, beta: float) -> tuple[float | None, float | None]:
    if beta <= 0 or (form == "bon" and alpha <= 0):
        return None, None
    if form == "bon":
        return alpha / (2 * beta), alpha**2 / (4 * beta)
    if alpha / beta > 50:
        return None, None
    peak = math.exp(alpha / beta - 1)
    return peak, beta * peak


@dataclass(frozen=True, slots=True)
class TurningPoint:
    """Whether, and where, gold begins to fall while the proxy goes on rising.

    ``correlation`` is Pearson's between proxy and gold, None if either is constant. Slopes are those after the
    turning point if one was found, else over all points.
    """

    found: bool
    index: int | None
    at: float | None
    proxy_slope: Interval | None
    gold_slope: Interval | None
    correlation: float | None
    gold_lost: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "found": self.found,
            "index": self.index,
            "at": self.at,
            "proxy_slope": self.proxy_slope.to_dict() if self.proxy_slope else None,
            "gold_slope": self.gold_slope.to_dict() if self.gold_slope else None,
            "correlation": self.correlation,
            "gold_lost": self.gold_lost,
        }


def turning_point(proxy: npt.ArrayLike, gold: npt.ArrayLike, at: npt.ArrayLike | None = None) -> TurningPoint:
    """Detect over-optimisation in two curves measured at the same points.

    A continuous two-piece line is fitted to gold. The point counts when the kink beats one straight line
    (F test, 1 %), gold falls after it and the proxy rises after it (both 95 % intervals off zero). Gold that falls
    all along turns at the first point.

    Args:
        proxy: What was optimised, N values.
        gold: What was wanted, N values.
        at: Steps or distances of the measurements, rising; by default 0, 1, 2, ...

    Raises:
        ShapeError: unequal lengths, or ``at`` does not rise.
    """
    proxy_N, gold_N = np.asarray(proxy, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    at_N = np.arange(len(proxy_N), dtype=np.float64) if at is None else np.asarray(at, dtype=np.float64)
    if proxy_N.ndim != 1 or not proxy_N.shape == gold_N.shape == at_N.shape:
        raise ShapeError(
            f"proxy {proxy_N.shape}, gold {gold_N.shape}, at {at_N.shape}", expected="three equally long series"
        )
    if not np.isfinite(np.stack([proxy_N, gold_N, at_N])).all() or (np.diff(at_N) <= 0).any():
        raise ShapeError("values are not finite, or `at` does not rise", expected="finite values at rising points")
    constant = len(proxy_N) < 2 or np.ptp(proxy_N) == 0 or np.ptp(gold_N) == 0
    correlation = None if constant else float(np.corrcoef(proxy_N, gold_N)[0, 1])
    for index in _candidates(at_N, gold_N):
        proxy_fit, gold_fit = linear_fit(at_N[index:], proxy_N[index:]), linear_fit(at_N[index:], gold_N[index:])
        if proxy_fit and gold_fit and _rises(proxy_fit.slope) and _falls(gold_fit.slope):
            lost = float(-gold_fit.slope.estimate * (at_N[-1] - at_N[index]))
            return TurningPoint(True, index, float(at_N[index]), proxy_fit.slope, gold_fit.slope, correlation, lost)
    proxy_all, gold_all = (linear_fit(at_N, y) if len(at_N) else None for y in (proxy_N, gold_N))
    slopes = (proxy_all.slope if proxy_all else None, gold_all.slope if gold_all else None)
    return TurningPoint(False, None, None, *slopes, correlation, None)


@dataclass(frozen=True, slots=True)
class TurningInterval:
    """The turning point of mean curves, and where it lies when seeds and prompts are drawn again.

    The bounds are the points before and after those of the percentiles: between two points nobody looked.
    ``share`` is how often a resample has such a point at all; ``at`` has no bounds where that is below 95 %.
    """

    point: TurningPoint
    at: Interval | None
    share: float

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"point": self.point.to_dict(), "at": self.at.to_dict() if self.at else None, "share": self.share}


def turning_interval(
    proxy_SKP: npt.ArrayLike, gold_SKP: npt.ArrayLike, at: npt.ArrayLike, *, resamples: int = 300, seed: int = 0
) -> TurningInterval:
    """Where gold begins to fall while the proxy rises, with a percentile interval over seeds and prompts.

    Shapes: S seeds, K points along training, P prompts that are the same for all.

    Args:
        proxy_SKP: What was optimised.
        gold_SKP: What was wanted.
        at: The K points, rising.
        resamples: Draws of seeds and of prompts, both with replacement.
        seed: Names the draws.

    Raises:
        ShapeError: The shapes do not fit.
    """
    proxy, gold = np.asarray(proxy_SKP, dtype=np.float64), np.asarray(gold_SKP, dtype=np.float64)
    if proxy.ndim != 3 or proxy.shape != gold.shape or not proxy.size:
        raise ShapeError(f"proxy {proxy.shape}, gold {gold.shape}", expected="the same shape [seeds, points, prompts]")
    point = turning_point(proxy.mean((0, 2)), gold.mean((0, 2)), at)
    rng = np.random.default_rng(derive(seed, "turning point"))
    at_K, places = np.asarray(at, dtype=np.float64), list[int]()
    for _ in range(resamples):
        rows = rng.integers(0, proxy.shape[0], proxy.shape[0])
        columns = rng.integers(0, proxy.shape[2], proxy.shape[2])
        drawn_proxy, drawn_gold = (array[rows][:, :, columns].mean((0, 2)) for array in (proxy, gold))
        if (place := turning_point(drawn_proxy, drawn_gold, at_K).index) is not None:
            places.append(place)
    share = len(places) / resamples
    if point.at is None:
        return TurningInterval(point, None, share)
    low = high = float("nan")
    if share >= 0.95:
        first, last = np.quantile(places, [0.025, 0.975], method="nearest")
        low, high = at_K[max(0, int(first) - 1)], at_K[min(len(at_K) - 1, int(last) + 1)]
    method = f"percentile bootstrap over {proxy.shape[0]} seeds and {proxy.shape[2]} prompts"
    if share < 0.95:
        method = f"none: {share:.0%} of the resamples have such a point"
    interval = Interval(point.at, float(low), float(high), proxy.shape[2], 0.95, method)
    return TurningInterval(point, interval, share)


def _rises(slope: Interval) -> bool:
    """Off zero; points exactly on a line leave no doubt of its direction, though none of them has an interval."""
    return slope.above(0) if slope.known else slope.estimate > 0


def _falls(slope: Interval) -> bool:
    return slope.below(0) if slope.known else slope.estimate < 0


def _candidates(at_N: Floats, gold_N: Floats) -> list[int]:
    """Where gold may turn: the best kink if it is a real one; the first point if gold falls from there."""
    count = len(at_N)
    if count < MIN_SEGMENT:
        return []
    line = np.stack([np.ones(count), at_N], axis=1)
    straight = _squares(line, gold_N)
    kinks = range(MIN_SEGMENT - 1, count - MIN_SEGMENT + 1)
    fits = {k: _squares(np.column_stack([line, np.maximum(0.0, at_N - at_N[k])]), gold_N) for k in kinks}
    if fits and count > 4:
        best = min(fits, key=lambda k: fits[k])
        freedom = count - 4  # two levels, one kink slope, one kink position
        scale = max(fits[best] / freedom, 1e-300)
        f_value = (straight - fits[best]) / 2 / scale
        before = linear_fit(at_N[: best + 1], gold_N[: best + 1])
        falls_before = before is not None and _falls(before.slope)
        if float(stats.f.sf(f_value, 2, freedom)) < KINK_LEVEL and not falls_before:
            return [best]
    return [0]


def _squares(design: Floats, y_N: Floats) -> float:
    solution, *_ = np.linalg.lstsq(design, y_N, rcond=None)
    return float(((y_N - design @ solution) ** 2).sum())


def _distances(d: npt.ArrayLike) -> Floats:
    d_N = np.asarray(d, dtype=np.float64)
    if (d_N < 0).any() or not np.isfinite(d_N).all():
        raise ShapeError("a distance sqrt(KL) is negative or not finite", expected="d >= 0")
    return d_N
