"""How well rewards order pairs: accuracy with ties half, margin, loss, calibration. Plain numbers in and out."""

from __future__ import annotations

from collections.abc import Sequence
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
