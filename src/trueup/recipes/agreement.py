"""How well rewards order pairs: accuracy with ties half, margin, loss, calibration. Plain numbers in and out.

Means over pairs are weighted by the pairs' weights: sum(w * value) / sum(w).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trueup.errors import ShapeError


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Agreement of rewards with preferences over a set of pairs."""

    accuracy: float
    strict_accuracy: float
    tie_rate: float
    margin: float
    loss: float
    calibration_error: float


def agreement(
    chosen: Sequence[float],
    rejected: Sequence[float],
    bins: int = 10,
    *,
    strength: Sequence[float] | None = None,
    weight: Sequence[float] | None = None,
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

    Raises:
        ShapeError: Not equally many, or none.
    """
    counts = {len(side) for side in (chosen, rejected, strength, weight) if side is not None}
    if len(counts) != 1 or not len(chosen):
        raise ShapeError(
            f"{len(chosen)} chosen and {len(rejected)} rejected rewards", expected="equally many, at least 1"
        )
    margin_B = np.asarray(chosen, dtype=np.float64) - np.asarray(rejected, dtype=np.float64)
    label_B = np.ones_like(margin_B) if strength is None else np.asarray(strength, dtype=np.float64)
    weight_B = np.ones_like(margin_B) if weight is None else np.asarray(weight, dtype=np.float64)
    right_B = np.where(margin_B > 0, 1.0, np.where(margin_B < 0, 0.0, 0.5))
    confidence_B = 1.0 / (1.0 + np.exp(-np.abs(margin_B)))
    favourite_B = label_B * right_B + (1.0 - label_B) * (1.0 - right_B)
    index_B = np.minimum(((confidence_B - 0.5) * 2 * bins).astype(int), bins - 1)
    total, error = weight_B.sum(), 0.0
    for index in range(bins):
        inside = index_B == index
        if inside.any():
            error += abs(float(weight_B[inside] @ (favourite_B - confidence_B)[inside]))
    loss_B = label_B * np.logaddexp(0.0, -margin_B) + (1.0 - label_B) * np.logaddexp(0.0, margin_B)
    return PairAgreement(
        accuracy=float(weight_B @ right_B / total),
        strict_accuracy=float(weight_B @ (margin_B > 0) / total),
        tie_rate=float(weight_B @ (margin_B == 0) / total),
        margin=float(weight_B @ margin_B / total),
        loss=float(weight_B @ loss_B / total),
        calibration_error=float(error / total),
    )


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
