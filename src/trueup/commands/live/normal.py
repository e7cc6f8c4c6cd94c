"""A run's metrics beside what measured clean runs of the sandbox showed: a range along the run, and where it was left.

A curve is smoothed as the chart's *A little* does before it is compared, here and in the measurement. It is outside
after three smoothed values in a row and inside again after five, as alerts open and close; it is no alert.

N   values of one metric
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trueup.ledger.alerts import CLEAR, HELD, START, spans
from trueup.ledger.columns import Columns
from trueup.metrics import COMPARABLE, Band, bands

WEIGHT = 0.6
"""Of what came before, in the moving average."""
PARTS = 5
"""Parts of a run that have a range each; between their middles it goes straight."""
_TAPS = 48
"""Values that the moving average looks back on; what lies before them weighs 2e-11."""
_SLACK = 1e-9

Floats = npt.NDArray[np.float64]


def smoothed(values_N: Floats) -> Floats:
    """Exponential moving average from the first value on, as the page draws it."""
    kernel = WEIGHT ** np.arange(_TAPS)
    sums = np.convolve(values_N, kernel)[: len(values_N)]
    weights = np.cumsum(np.pad(kernel, (0, max(len(values_N) - _TAPS, 0))))[: len(values_N)]
    averages: Floats = sums / weights
    return averages


def comparable(columns: Columns, name: str) -> tuple[npt.NDArray[np.int64], Floats, float] | None:
    """Steps and smoothed values of a metric as they are compared, and what they were divided by.

    None where there are no values, or not yet a start that they can be divided by.
    """
    steps, values = columns.curve(name)
    if COMPARABLE[name].form == "value":
        return (steps, smoothed(values), 1.0) if len(values) else None
    unit = float(values[:START].mean()) if len(values) >= START else 0.0
    return (steps, smoothed(values) / unit, unit) if unit > 0 else None


def planned_steps(record: Mapping[str, Any]) -> int | None:
    """How many steps a run will take, from its ``run.json``; None where it does not know yet."""
    steps = record["config"].get("steps")
    steps = steps if isinstance(steps, int) else record.get("facts", {}).get("steps")
    return steps if isinstance(steps, int) and not isinstance(steps, bool) else None


def share_done(steps_N: npt.NDArray[np.int64], steps: int) -> Floats:
    """How much of a run of ``steps`` steps is over in the middle of each step."""
    shares: Floats = (steps_N + 0.5) / steps
    return shares


def beside_clean_runs(
    columns: Columns, kind: str, config: Mapping[str, Any], steps: int | None
) -> dict[str, dict[str, Any]]:
    """By metric, the range of clean runs and how this run's curve lies to it; only metrics that have one.

    Args:
        columns: The run's numbers so far.
        kind: Its method.
        config: Its settings.
        steps: Steps that it will take; None where nobody knows: then its range is that of whole runs.
    """
    known = bands(kind, config)
    return {name: _beside(columns, name, known[name], steps) for name in columns.names if name in known}


def _beside(columns: Columns, name: str, band: Band, steps: int | None) -> dict[str, Any]:
    told = {
        "runs": band.runs,
        "run_steps": band.steps,
        "form": COMPARABLE[name].form,
        "odd": COMPARABLE[name].odd,
        "depends": COMPARABLE[name].depends,
        "low": min(band.low),
        "high": max(band.high),
        "end": [band.low[-1], band.high[-1]],
    }
    curve = comparable(columns, name)
    if curve is None:
        return {**told, "range": None, "state": "early", "since": None, "left": None}
    at, values, unit = curve
    low, high = limits(band, at, steps)
    ends = np.array([at[0], *_middles(int(at[0]), int(at[-1]), steps), at[-1]])
    drawn_low, drawn_high = limits(band, ends, steps)
    drawn = {"steps": ends.tolist(), "low": (unit * drawn_low).tolist(), "high": (unit * drawn_high).tolist()}
    return {**told, "range": drawn, **_standing(at, values, low, high)}


def limits(band: Band, steps_N: npt.NDArray[np.int64], steps: int | None) -> tuple[Floats, Floats]:
    """The range at each of some steps of a run."""
    if not steps:
        return np.full(len(steps_N), min(band.low)), np.full(len(steps_N), max(band.high))
    middles = (np.arange(PARTS) + 0.5) / PARTS
    shares = share_done(steps_N, steps)
    return np.interp(shares, middles, band.low), np.interp(shares, middles, band.high)


def _middles(first: int, last: int, steps: int | None) -> list[int]:
    """Steps between two at which the range bends."""
    bends = [] if not steps else [round(steps * (part + 0.5) / PARTS - 0.5) for part in range(PARTS)]
    return [step for step in bends if first < step < last]


def _standing(at: npt.NDArray[np.int64], values: Floats, low: Floats, high: Floats) -> dict[str, Any]:
    """Whether the curve is outside now and since when, or the newest stretch in which it was."""
    slack = _SLACK * (1 + np.abs(values))
    stretches: list[tuple[int, int | None, str]] = []
    for side, outside in (("above", values > high + slack), ("below", values < low - slack)):
        stretches += [(opened - HELD + 1, closed, side) for opened, closed in spans(outside, ~outside)]
    inside: dict[str, Any] = {"state": "inside", "since": None, "left": None}
    if not stretches:
        return inside
    first, closed, side = max(stretches, key=lambda stretch: stretch[0])
    if closed is None:
        return inside | {"state": side, "since": int(at[first])}
    return inside | {"left": {"side": side, "first": int(at[first]), "last": int(at[closed - CLEAR])}}
