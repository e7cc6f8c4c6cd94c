"""A reward of several parts along a run: what each measured and what it added, at the beginning and at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trueup.reports import figures
from trueup.reports.figures import Figure
from trueup.reports.logs import RunLog

_SHARE = 10
"""Beginning and end are the mean of a tenth of the steps."""


def part_names(log: RunLog) -> list[str]:
    """Names of the parts whose metrics a run has, in their order."""
    names = [key.removeprefix("reward/") for row in log.metrics for key in row if key.startswith("reward/")]
    return list(dict.fromkeys(name for name in names if "/" not in name))


def reward_parts(log: RunLog) -> list[dict[str, Any]]:
    """A row for each part: name, kind, weight, its value at first and at last, what it adds, answers dropped."""
    names, settings = part_names(log), log.record["config"].get("reward")
    known = settings if isinstance(settings, list) and len(settings) == len(names) else [{}] * len(names)
    return [
        _row(name, part if isinstance(part, Mapping) else {}, log.metrics)
        for name, part in zip(names, known, strict=True)
    ]


def _row(name: str, part: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    key = f"reward/{name}"
    dropped = _values(rows, f"{key}/dropped")
    return {
        "name": name,
        "kind": part.get("kind"),
        "weight": part.get("weight"),
        "first": _end(_values(rows, key), first=True),
        "last": _end(_values(rows, key)),
        "sd": _end(_values(rows, f"{key}/sd")),
        "weighted": _end(_values(rows, f"{key}/weighted")),
        "weighted_sd": _end(_values(rows, f"{key}/weighted_sd")),
        "dropped": int(sum(dropped)),
    }


def _values(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [float(row[key]) for row in rows if isinstance(row.get(key), int | float)]


def _end(values: Sequence[float], *, first: bool = False) -> float | None:
    """Mean of the first or the last tenth; None of nothing."""
    count = max(1, len(values) // _SHARE)
    some = values[:count] if first else values[-count:]
    return sum(some) / len(some) if some else None


def part_figure(name: str, log: RunLog) -> Figure | None:
    """What each part measured, step by step; None for a reward of one piece."""
    wanted = [(f"reward/{part}", part) for part in part_names(log)]
    caption = (
        "Each part of the reward as it was measured, before its scale and weight; higher is better. A part that falls "
        "while the others rise is what they are bought with."
    )
    return figures.panels(f"parts-{name}", f"{name}: the reward, part by part", caption, log.metrics, wanted)
