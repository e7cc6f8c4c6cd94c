"""How well predictions meet ratings: RMSE, R^2 and Pearson's correlation, with intervals over prompts.

Plain numbers in and out. Shapes: N responses, K prompts.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trueup.errors import ShapeError
from trueup.recipes.agreement import NORMAL, ratio_interval

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RatingFit:
    """Figures by name, and their bounds at 95 %, None where nothing is known."""

    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float] | None]


def rating_fit(
    predicted: Sequence[float],
    ratings: Sequence[float],
    *,
    baseline: float,
    weight: Sequence[float],
    prompts: Sequence[Hashable],
) -> RatingFit:
    """Compare predictions with ratings, both in the data's own units.

    ``rmse`` stands beside ``mean_rmse``, which is that of predicting ``baseline`` for everything. ``r2`` is 1 less the
    ratio of the two mean squares, so below 0 is worse than the mean of the training data; it is left out where the
    baseline makes no error. ``pearson`` is left out where either side is constant.

    Args:
        predicted: What the model says.
        ratings: What the data says.
        baseline: The mean of the training ratings.
        weight: How much each counts.
        prompts: What each is an answer to; the answers to one prompt count together in the intervals.

    Raises:
        ShapeError: Not equally many, or none.
    """
    if not len(ratings) == len(predicted) == len(weight) == len(prompts) or not len(ratings):
        raise ShapeError(f"{len(predicted)} predictions of {len(ratings)} ratings", expected="equally many, at least 1")
    predicted_N, rating_N, weight_N = (np.asarray(side, dtype=np.float64) for side in (predicted, ratings, weight))
    error_N, spread_N = (predicted_N - rating_N) ** 2, (baseline - rating_N) ** 2
    total = float(weight_N.sum())
    error, spread = float(weight_N @ error_N) / total, float(weight_N @ spread_N) / total
    figures = {"rmse": error**0.5, "mean_rmse": spread**0.5}
    bounds = ratio_interval(weight_N * error_N, weight_N, prompts)
    intervals = {"rmse": None if bounds is None else (max(0.0, bounds[0]) ** 0.5, bounds[1] ** 0.5)}
    if spread > 0:
        figures["r2"] = 1.0 - error / spread
        bounds = ratio_interval(weight_N * error_N, weight_N * spread_N, prompts)
        intervals["r2"] = None if bounds is None else (1.0 - bounds[1], 1.0 - bounds[0])
    together = _pearson(predicted_N, rating_N, weight_N / total, prompts)
    if together is not None:
        figures["pearson"], intervals["pearson"] = together
    return RatingFit(figures, intervals)


def _pearson(
    a_N: Array, b_N: Array, share_N: Array, prompts: Sequence[Hashable]
) -> tuple[float, tuple[float, float] | None] | None:
    """Correlation and its interval: linearised over prompts, on Fisher's scale (1921), where it is symmetric.

    The influence of a response on r is z_a z_b - r (z_a^2 + z_b^2) / 2.
    """
    sides = []
    for side_N in (a_N, b_N):
        centred_N = side_N - share_N @ side_N
        spread = float(share_N @ centred_N**2) ** 0.5
        if spread <= 1e-12 * max(1.0, float(np.abs(side_N).max())):
            return None
        sides.append(centred_N / spread)
    r = float(np.clip(share_N @ (sides[0] * sides[1]), -1.0, 1.0))
    influence_N = share_N * (sides[0] * sides[1] - r * (sides[0] ** 2 + sides[1] ** 2) / 2)
    numbers: dict[Hashable, int] = {}
    index_N = np.array([numbers.setdefault(prompt, len(numbers)) for prompt in prompts])
    sum_K = np.bincount(index_N, influence_N)
    count = len(numbers)
    if count < 4 or 1.0 - r * r <= 1e-12:
        return r, None
    half = NORMAL * (float(sum_K @ sum_K) * count / (count - 1)) ** 0.5 / (1.0 - r * r)
    return r, (float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)))
