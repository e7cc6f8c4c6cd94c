"""How well rewards order pairs: accuracy with ties half, margin, loss, calibration. Plain numbers in and out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


def agreement(chosen: Sequence[float], rejected: Sequence[float], bins: int = 10) -> PairAgreement:
    """Compare the rewards of chosen and rejected responses.

    ``calibration_error`` is the expected calibration error of P(chosen wins) = sigmoid(margin), folded to the
    model's own favourite: |share of pairs where it was right - its mean confidence| over ``bins`` of confidence.
    """
    if len(chosen) != len(rejected) or not len(chosen):
        raise ShapeError(
            f"{len(chosen)} chosen and {len(rejected)} rejected rewards", expected="equally many, at least 1"
        )
    margin_B = np.asarray(chosen, dtype=np.float64) - np.asarray(rejected, dtype=np.float64)
    right_B = np.where(margin_B > 0, 1.0, np.where(margin_B < 0, 0.0, 0.5))
    confidence_B = 1.0 / (1.0 + np.exp(-np.abs(margin_B)))
    index_B = np.minimum(((confidence_B - 0.5) * 2 * bins).astype(int), bins - 1)
    error = 0.0
    for index in range(bins):
        inside = index_B == index
        if inside.any():
            error += inside.mean() * abs(right_B[inside].mean() - confidence_B[inside].mean())
    return PairAgreement(
        accuracy=float(right_B.mean()),
        strict_accuracy=float((margin_B > 0).mean()),
        tie_rate=float((margin_B == 0).mean()),
        margin=float(margin_B.mean()),
        loss=float(np.logaddexp(0.0, -margin_B).mean()),
        calibration_error=float(error),
    )


@dataclass(frozen=True, slots=True)
class SeenPair:
    """What a model made of one pair: the (implicit) rewards of its sides and, with a reference, their log-ratios."""

    pair_id: str
    chosen: float
    rejected: float
    chosen_ratio: float | None = None
    rejected_ratio: float | None = None


def in_order(seen: Iterable[SeenPair], ids: Sequence[str]) -> list[SeenPair]:
    """``seen`` in the order of ``ids``, however the batch was cut."""
    place = {pair_id: number for number, pair_id in enumerate(ids)}
    return sorted(seen, key=lambda pair: place[pair.pair_id])


def pair_metrics(seen: Sequence[SeenPair]) -> dict[str, float]:
    """The metrics of a step over pairs."""
    found = agreement([p.chosen for p in seen], [p.rejected for p in seen])
    metrics = {
        "accuracy": found.accuracy,
        "strict_accuracy": found.strict_accuracy,
        "margin": found.margin,
        "chosen_reward": sum(p.chosen for p in seen) / len(seen),
        "rejected_reward": sum(p.rejected for p in seen) / len(seen),
    }
    for name in ("chosen", "rejected"):
        ratios = [ratio for p in seen if (ratio := getattr(p, f"{name}_ratio")) is not None]
        if ratios:
            metrics[f"{name}_logratio"] = sum(ratios) / len(ratios)
    return metrics
