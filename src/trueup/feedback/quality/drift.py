"""Change over time: fatigue inside a session, drift between weeks, consistency with oneself on repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trueup.errors import ShapeError
from trueup.feedback.quality.bias import Coefficient, logistic
from trueup.feedback.quality.gold import wilson_interval


@dataclass(frozen=True, slots=True)
class Consistency:
    """Same answer to the same item, sides swapped; None where nothing was repeated."""

    same: int
    repeated: int
    share: float | None
    low: float | None
    high: float | None


def fatigue(right: Sequence[bool], position: Sequence[int], annotators: Sequence[str]) -> Coefficient:
    """Log-odds of a right (or agreeing) answer per hundred positions in a session, annotators as clusters.

    Raises:
        ShapeError: Fewer than two annotators, or no variation to explain.
    """
    if len(set(position)) < 2:
        raise ShapeError("all judgments have one position", where="fatigue", expected="sessions of several judgments")
    features = np.column_stack([np.ones(len(right)), np.asarray(position, dtype=np.float64) / 100])
    coefficients = logistic(features, np.asarray(right, dtype=np.float64), annotators, ["start", "per 100 judgments"])
    return coefficients[1]


def consistency(pairs: Sequence[tuple[float, float]]) -> Consistency:
    """From (first answer, repeated answer), both named by response and so free of sides."""
    same, repeated = sum(a == b for a, b in pairs), len(pairs)
    if not repeated:
        return Consistency(0, 0, None, None, None)
    return Consistency(same, repeated, same / repeated, *wilson_interval(same, repeated))


def change_point(values: Sequence[float]) -> tuple[int, float] | None:
    """Where the mean of a series shifts most, and the two-sided p-value of that shift by permutation; None if short.

    The statistic is the largest standardised difference of the means before and after a cut, each side of at least
    three values; 2,000 seeded permutations give its distribution without change.
    """
    series = np.asarray(values, dtype=np.float64)
    if len(series) < 6 or float(series.std()) == 0.0:
        return None

    def best(row: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[int, float]:
        cuts = np.arange(3, len(row) - 2)
        before = np.cumsum(row)[cuts - 1] / cuts
        after = (row.sum() - np.cumsum(row)[cuts - 1]) / (len(row) - cuts)
        size = np.abs(before - after) / np.sqrt(1 / cuts + 1 / (len(row) - cuts))
        at = int(size.argmax())
        return int(cuts[at]), float(size[at])

    at, size = best(series)
    draw = np.random.default_rng(0)
    beaten = sum(best(draw.permutation(series))[1] >= size for _ in range(2000))
    return at, (beaten + 1) / 2001
