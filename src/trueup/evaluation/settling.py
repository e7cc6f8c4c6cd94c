"""Where a series ended, and whether it still moves: a mean over its last part hides both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trueup.errors import ShapeError
from trueup.evaluation.frontier import linear_fit
from trueup.evaluation.intervals import Interval

TAIL = 0.3
"""Share of a run's steps that is looked at."""
LAST = 5
"""Steps whose mean is where it ended."""
FEWEST = 6
"""Steps of a tail from which on its slope is told."""


@dataclass(frozen=True, slots=True)
class Settling:
    """The end of a series against a band."""

    low: float
    high: float
    steps: int
    """Length of the tail."""
    mean: float
    """Over the tail."""
    end: float
    """Mean of the last ``LAST`` steps."""
    slope: Interval | None
    """Per step over the tail; None with too few steps."""
    moving: bool | None
    """Whether the slope is off zero beyond its noise; None where it is not known."""
    inside: bool
    """The mean, the end, and what the end comes to at this pace over as many steps again, are all in the band."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "low": self.low,
            "high": self.high,
            "steps": self.steps,
            "mean": self.mean,
            "end": self.end,
            "slope": self.slope.to_dict() if self.slope else None,
            "moving": self.moving,
            "inside": self.inside,
        }


def settling(values: Sequence[float], low: float, high: float) -> Settling:
    """The last ``TAIL`` of ``values`` against the band from ``low`` to ``high``.

    The slope is a least-squares line's; its error is widened for residuals that follow one another, by
    sqrt((1 + r) / (1 - r)) for their correlation r at lag 1, because steps of a run are not independent.

    Raises:
        ShapeError: There are no values.
    """
    if not len(values):
        raise ShapeError("there are no values", where="settling", expected="at least one")
    tail = np.asarray(values, dtype=np.float64)[-max(1, round(TAIL * len(values))) :]
    mean, end = float(tail.mean()), float(tail[-LAST:].mean())
    slope = _slope(tail)
    moving = None if slope is None else (slope.excludes(0.0) if slope.known else slope.estimate != 0.0)
    ahead = end + slope.estimate * len(tail) if slope is not None and moving else end
    inside = all(low <= value <= high for value in (mean, end, ahead))
    return Settling(low, high, len(tail), mean, end, slope, moving, inside)


def _slope(tail: np.ndarray[Any, np.dtype[np.float64]]) -> Interval | None:
    if len(tail) < FEWEST:
        return None
    at = np.arange(len(tail), dtype=np.float64)
    fit = linear_fit(at, tail)
    assert fit is not None
    residual = tail - fit.intercept - fit.slope.estimate * at
    total = float(residual @ residual)
    if not fit.slope.known or total == 0:
        return fit.slope
    follow = min(0.95, max(0.0, float(residual[1:] @ residual[:-1]) / total))
    half = (fit.slope.high - fit.slope.estimate) * math.sqrt((1 + follow) / (1 - follow))
    centre = fit.slope.estimate
    return Interval(centre, centre - half, centre + half, len(tail), fit.slope.level, "least squares, lag-1 corrected")
