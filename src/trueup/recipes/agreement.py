"""How well rewards order pairs: accuracy with ties half, margin, loss, calibration. Plain numbers in and out.

Shapes: B rows, K clusters.

Means over pairs are weighted by the pairs' weights: sum(w * value) / sum(w).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trueup.errors import ShapeError
from trueup.spec.preference import bradley_terry
from trueup.spec.shapes import Array


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Agreement of rewards with preferences over a set of pairs."""

    accuracy: float
    strict_accuracy: float
    tie_rate: float
    margin: float
    loss: float
    calibration_error: float
    intervals: Mapping[str, tuple[float, float] | None]
    """Bounds at 95 % of ``heldout_accuracy`` and ``heldout_margin``; None where nothing is known."""


def agreement(
    chosen: Sequence[float],
    rejected: Sequence[float],
    bins: int = 10,
    *,
    strength: Sequence[float] | None = None,
    weight: Sequence[float] | None = None,
    prompts: Sequence[Hashable] | None = None,
) -> PairAgreement:
    """Compare the rewards of chosen and rejected responses.

    ``loss`` is the cross-entropy of P(chosen wins) = sigmoid(margin) against the pairs' strength. ``calibration_error``
    is the expected calibration error of the same probability, folded to the model's own favourite: |how often it is
    right, by the pairs' strength - its mean confidence| over ``bins`` of confidence.

    Args:
        chosen: Rewards of the chosen sides.
        rejected: Rewards of the rejected sides.
        bins: Bins of confidence.
        strength: Probability that chosen is the better one; 1 if absent.
        weight: How much each pair counts; all alike if absent.
        prompts: What each pair is an answer to; pairs of one prompt count together in the interval. All differ if
            absent.

    Raises:
        ShapeError: Not equally many, or none.
    """
    counts = {len(side) for side in (chosen, rejected, strength, weight, prompts) if side is not None}
    if len(counts) != 1 or not len(chosen):
        raise ShapeError(
            f"{len(chosen)} chosen and {len(rejected)} rejected rewards", expected="equally many, at least 1"
        )
    margin_B = np.asarray(chosen, dtype=np.float64) - np.asarray(rejected, dtype=np.float64)
    label_B = np.ones_like(margin_B) if strength is None else np.asarray(strength, dtype=np.float64)
    weight_B = np.ones_like(margin_B) if weight is None else np.asarray(weight, dtype=np.float64)
    right_B = ordered_right(margin_B)
    confidence_B = 1.0 / (1.0 + np.exp(-np.abs(margin_B)))
    favourite_B = favourite_right(margin_B, label_B)
    index_B = np.minimum(((confidence_B - 0.5) * 2 * bins).astype(int), bins - 1)
    clusters = range(len(right_B)) if prompts is None else prompts
    total, error = weight_B.sum(), 0.0
    for index in range(bins):
        inside = index_B == index
        if inside.any():
            error += abs(float(weight_B[inside] @ (favourite_B - confidence_B)[inside]))
    loss_B = bradley_terry(margin_B, np.zeros_like(margin_B), label_B)
    return PairAgreement(
        accuracy=float(weight_B @ right_B / total),
        strict_accuracy=float(weight_B @ (margin_B > 0) / total),
        tie_rate=float(weight_B @ (margin_B == 0) / total),
        margin=float(weight_B @ margin_B / total),
        loss=float(weight_B @ loss_B / total),
        calibration_error=float(error / total),
        intervals={
            "heldout_accuracy": share_interval(right_B, weight_B, clusters),
            "heldout_margin": ratio_interval(weight_B * margin_B, weight_B, clusters),
        },
    )


def ordered_right(margin_B: Array) -> Array:
    """1 where chosen is rewarded more [B], 1/2 on a tie, 0 elsewhere."""
    return np.where(margin_B > 0, 1.0, np.where(margin_B < 0, 0.0, 0.5))


def favourite_right(margin_B: Array, strength_B: Array) -> Array:
    """Probability that the side with the larger reward is the better one [B], by the pairs' strength; ties half."""
    right_B = ordered_right(margin_B)
    probability_B: Array = strength_B * right_B + (1.0 - strength_B) * (1.0 - right_B)
    return probability_B


NORMAL = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def share_interval(values: npt.ArrayLike, weight: npt.ArrayLike, clusters: Sequence[Hashable]) -> tuple[float, float]:
    """95 % interval of a weighted share whose values within one cluster are not independent.

    Wilson's interval (1927) with the effective number of clusters in place of n, which is p (1 - p) over the variance
    of the share, linearised over cluster sums (Dean and Pagano 2015); at most the number of clusters, and that number
    where all values agree. So it never has width 0.

    Args:
        values: In [0, 1], one for each row.
        weight: How much each row counts.
        clusters: Which rows belong together.

    >>> [round(bound, 3) for bound in share_interval([1, 1, 1, 0], [1, 1, 1, 1], "abcd")]
    [0.301, 0.954]
    """
    values_B, weight_B = np.asarray(values, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    share, count, variance = _clustered(values_B * weight_B, weight_B, clusters)
    spread = share * (1.0 - share)
    n = min(float(count), spread / variance) if variance > 0 and spread > 0 else float(count)
    centre = (share + NORMAL**2 / (2 * n)) / (1 + NORMAL**2 / n)
    half = NORMAL / (1 + NORMAL**2 / n) * (spread / n + NORMAL**2 / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def ratio_interval(
    totals: npt.ArrayLike, weight: npt.ArrayLike, clusters: Sequence[Hashable]
) -> tuple[float, float] | None:
    """95 % interval of ``sum(totals) / sum(weight)``, by the normal distribution over cluster sums.

    None where there is a single cluster, or nothing varies: then nothing is known.
    """
    weight_B = np.asarray(weight, dtype=np.float64)
    ratio, count, variance = _clustered(np.asarray(totals, dtype=np.float64), weight_B, clusters)
    half = NORMAL * variance**0.5
    return (ratio - half, ratio + half) if count > 1 and half > 0 else None


def _clustered(
    totals_B: npt.NDArray[np.float64], weight_B: npt.NDArray[np.float64], clusters: Sequence[Hashable]
) -> tuple[float, int, float]:
    """A ratio of sums, the number of clusters, and the ratio's variance, linearised over cluster sums."""
    numbers: dict[Hashable, int] = {}
    index_B = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    count, total = len(numbers), float(weight_B.sum())
    ratio = float(totals_B.sum()) / total
    residual_K = np.bincount(index_B, totals_B - ratio * weight_B, minlength=count)
    return ratio, count, float(residual_K @ residual_K) / total**2 * (count / (count - 1) if count > 1 else 0.0)


@dataclass(frozen=True, slots=True)
class SeenPair:
    """What a model made of one pair: the (implicit) rewards of its sides and, with a reference, their log-ratios."""

    pair_id: str
    key: str
    chosen: float
    rejected: float
    chosen_ratio: float | None = None
    rejected_ratio: float | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class SeenResponse:
    """What a model made of one labelled response: its implicit reward."""

    key: str
    desirable: bool
    reward: float


class Named(Protocol):
    """A pair, as what it is known: what the data calls it, and the hash of its content."""

    @property
    def pair_id(self) -> str:
        """What the data calls it."""

    @property
    def key(self) -> str:
        """Hash of its content."""


def in_order(seen: Iterable[SeenPair], pairs: Sequence[Named]) -> list[SeenPair]:
    """``seen`` in the order of ``pairs``, however they were cut. Names may repeat, so content decides before them."""
    place = {(pair.key, pair.pair_id): number for number, pair in enumerate(pairs)}
    return sorted(seen, key=lambda pair: place[pair.key, pair.pair_id])


def label(pair: Named) -> str:
    """For messages: what the data calls a pair, and its key, which is no other pair's."""
    return pair.key if pair.pair_id == pair.key else f"{pair.pair_id} ({pair.key})"


def pair_metrics(seen: Sequence[SeenPair]) -> dict[str, float]:
    """The metrics of a step over pairs."""
    weights = [p.weight for p in seen]
    total = sum(weights)
    figures = agreement([p.chosen for p in seen], [p.rejected for p in seen], weight=weights)
    metrics = {
        "accuracy": figures.accuracy,
        "strict_accuracy": figures.strict_accuracy,
        "margin": figures.margin,
        "chosen_reward": sum(p.weight * p.chosen for p in seen) / total,
        "rejected_reward": sum(p.weight * p.rejected for p in seen) / total,
    }
    for name in ("chosen", "rejected"):
        ratios = [(p.weight, ratio) for p in seen if (ratio := getattr(p, f"{name}_ratio")) is not None]
        if ratios:
            metrics[f"{name}_logratio"] = sum(w * ratio for w, ratio in ratios) / sum(w for w, _ in ratios)
    return metrics


def pair_intervals(
    seen: Sequence[SeenPair], prompts: Mapping[str, Hashable]
) -> Mapping[str, tuple[float, float] | None]:
    """Intervals of accuracy and margin on held-out pairs; ``prompts`` maps the pairs' keys to their prompts."""
    figures = agreement(
        [p.chosen for p in seen],
        [p.rejected for p in seen],
        weight=[p.weight for p in seen],
        prompts=[prompts[p.key] for p in seen],
    )
    return figures.intervals
