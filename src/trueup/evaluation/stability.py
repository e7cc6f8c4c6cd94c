"""How steady a run was: its last part with an interval, whether a series rose, steps whose gradient jumped."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from trueup.errors import ShapeError
from trueup.evaluation.intervals import Floats, Interval

TAIL = 0.3
"""Share of a run's steps that is its end; of its first steps, its beginning."""
SPIKE = 4.0
"""A gradient norm above so many medians of the steps before it is a spike."""
BEFORE, FEWEST_BEFORE = 50, 5
"""Steps before a step that it is compared with, and from how many on."""


def tail(values: Sequence[float]) -> Sequence[float]:
    """The last part of a series, at least one value of it."""
    return values[-max(1, round(TAIL * len(values))) :]


def series_mean(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Mean of values that follow one another; the error is widened by sqrt((1 + r) / (1 - r)), r their correlation at
    lag 1, which is taken within 0 and 0.95.

    Raises:
        ShapeError: There are no values.
    """
    if not len(values):
        raise ShapeError("there are no values", where="series_mean", expected="at least one")
    array_N = np.asarray(values, dtype=np.float64)
    mean, count = float(array_N.mean()), len(array_N)
    error = _error(array_N)
    if error is None or error == 0:
        return Interval(mean, float("nan"), float("nan"), count, level, "none: too few steps, or all alike")
    half = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    return Interval(mean, mean - half, mean + half, count, level, "student t over steps, lag-1 corrected")


def rise(values: Sequence[float], *, level: float = 0.95) -> Interval | None:
    """Mean of the last part of a series minus that of its first; None where each has fewer than 3 steps.

    Welch's interval, each error widened as in ``series_mean``; a straight line through each part is taken out first,
    because where a series goes is not its noise.
    """
    count = max(1, round(TAIL * len(values)))
    if count < 3:
        return None
    first, last = (np.asarray(part, dtype=np.float64) for part in (values[:count], values[-count:]))
    difference = float(last.mean() - first.mean())
    errors = [_error(_without_line(part), lost=2) or 0.0 for part in (first, last)]
    total = sum(error**2 for error in errors)
    if total == 0:
        return Interval(difference, float("nan"), float("nan"), 2 * count, level, "none: all values are alike")
    freedom = total**2 / sum(error**4 / (count - 2) for error in errors)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(total)
    return Interval(difference, difference - half, difference + half, 2 * count, level, "welch, lag-1 corrected")


def _without_line(array_N: Floats) -> Floats:
    at_N = np.arange(len(array_N), dtype=np.float64)
    slope, intercept = np.polyfit(at_N, array_N, 1)
    rest: Floats = array_N - slope * at_N - intercept
    return rest


def _error(array_N: Floats, lost: int = 1) -> float | None:
    """Standard error of the mean of a series with ``lost`` degrees of freedom taken; None of fewer than 3 values."""
    if len(array_N) < 3:
        return None
    centred = array_N - array_N.mean()
    total = float(centred @ centred)
    if total <= 1e-24 * max(1.0, float(array_N @ array_N)):
        return 0.0
    follow = min(0.95, max(0.0, float(centred[1:] @ centred[:-1]) / total))
    return math.sqrt(total / (len(array_N) - lost) / len(array_N) * (1 + follow) / (1 - follow))


def spikes(norms: Sequence[float]) -> list[int]:
    """Indices of gradient norms that jump: above ``SPIKE`` medians of up to ``BEFORE`` steps before, at least
    ``FEWEST_BEFORE`` of them. What is not finite is a spike wherever it stands, and is compared with nothing."""
    found = []
    for index, norm in enumerate(norms):
        if not math.isfinite(norm):
            found.append(index)
            continue
        before = [value for value in norms[max(0, index - BEFORE) : index] if math.isfinite(value)]
        if len(before) >= FEWEST_BEFORE and norm > SPIKE * float(np.median(before)) > 0:
            found.append(index)
    return found
