"""What else is known of a run's reward over KL: gold, points of evaluations, and best-of-n of its reference.

All of it was recorded below one folder by ``trueup evaluate``, a stage of that kind or ``trueup frontier``; nothing
is measured here. KL of best-of-n is the bound log n - (n - 1) / n, as everywhere (``evaluation.tradeoff``).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import TrueupError
from trueup.evaluation.rows import Row, column, models, of_model, read_rows

INSIDE = frozenset({"checkpoints", "final", "adapter", "cache", "export", "node_modules", ".git"})
"""Folders of a run in which nothing of other runs lies."""


def folders_of(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """``root`` and the folders below it in which runs and their evaluations may lie, with the names of their files."""
    for place, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in INSIDE and not f.endswith(".tmp"))
        yield Path(place), files


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What one evaluation measured: models by name with where they lay, a point of each, and the curve of best-of-n."""

    paths: Mapping[str, str]
    points: Mapping[str, dict[str, float | None]]
    best_of_n: Sequence[Mapping[str, Any]]


class Plane:
    """Evaluations and frontiers below a folder, read when they are first asked for and when they were written again.

    Args:
        root: The folder; of a run alone, the folder around it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve().parent if (root / "run.json").exists() else root
        self._read: dict[Path, tuple[tuple[int, int], Evaluated]] = {}

    def of_run(self, name: str, folder: Path) -> dict[str, Any]:
        """What is known of one run, in JSON form.

        ``gold`` are points along training, ``evaluated`` points of evaluations, ``best_of_n`` the newest curve of its
        reference; ``problems`` says what could not be read.
        """
        evaluated: list[dict[str, Any]] = []
        gold: list[dict[str, Any]] = []
        curves: list[tuple[float, dict[str, Any]]] = []
        problems: list[str] = []
        for place in self._places("eval.jsonl"):
            try:
                measured = self._evaluation(place)
                own = next((model for model, path in measured.paths.items() if _is(path, folder, name)), None)
                if own is None:
                    continue
            except (TrueupError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                problems.append(f"{self._called(place)} cannot be read: {error}")
                continue
            evaluated += [{"source": self._called(place), **measured.points[own]}] if own in measured.points else []
            if measured.best_of_n:
                curves.append((_written(place / "eval.jsonl"), _curve(self._called(place), measured.best_of_n)))
        for place in self._places("summary.json"):
            try:
                drawn = json.loads((place / "summary.json").read_text(encoding="utf-8"))
                points = [p for p in drawn.get("points", ()) if p["name"] in (name, folder.resolve().name)]
                gold = gold or [
                    {"step": int(p["step"]), "kl": _finite(p["kl"]), "gold": _finite(p["gold"][0])}
                    for p in points
                    if p["step"] is not None and p["gold"] is not None
                ]
                if points and drawn.get("best_of_n"):
                    curve = _curve(self._called(place), drawn["best_of_n"])
                    curves.append((_written(place / "summary.json"), curve))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
                continue  # another command's summary
        best = max(curves, key=lambda curve: curve[0])[1] if curves else None
        return {"gold": gold, "evaluated": evaluated, "best_of_n": best, "problems": problems}

    def _places(self, file: str) -> Iterator[Path]:
        """Folders that hold a file of this name and no run."""
        for place, files in folders_of(self._root):
            if file in files and "run.json" not in files:
                yield place

    def _called(self, place: Path) -> str:
        return place.relative_to(self._root).as_posix() if place != self._root else place.name

    def _evaluation(self, place: Path) -> Evaluated:
        status = (place / "eval.jsonl").stat()
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._read.get(place)
        if known is None or known[0] != stamp:
            known = self._read[place] = (stamp, _evaluated(place))
        return known[1]


def _evaluated(place: Path) -> Evaluated:
    # They load scipy.stats: 60 MB and half a second that a folder without evaluations is spared.
    from trueup.evaluation.tradeoff import best_of
    from trueup.reports.build import evaluated_models

    rows = read_rows(place / "eval.jsonl")
    points = {name: point for name in models(rows) if (point := _point(of_model(rows, name))) is not None}
    return Evaluated(evaluated_models(place), points, [one.to_dict() for one in best_of(rows)])


def _point(rows: Sequence[Row]) -> dict[str, float | None] | None:
    """Means of KL, reward and gold of a model; None where it has no KL, or neither of the others."""
    measured = {field: column(rows, field)[0] for field in ("kl", "reward", "gold")}
    means = {field: float(values.mean()) if len(values) else None for field, values in measured.items()}
    return means if means["kl"] is not None and (means["reward"], means["gold"]) != (None, None) else None


def _is(path: str, folder: Path, name: str) -> bool:
    """Whether an evaluated model is that of a run: it lay there, or, on another computer, in a folder of this name."""
    model = Path(path)
    if model.exists():
        return model.resolve() in (folder.resolve(), (folder / "final").resolve())
    parts = model.parts[:-1] if model.name == "final" else model.parts
    own = Path(name).parts
    return bool(own) and parts[-len(own) :] == own


def _curve(source: str, best: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    points = [
        {
            "n": int(one["n"]),
            "kl": _finite(one["kl"]),
            "reward": _finite(one["proxy"]["estimate"]),
            "gold": None if one["gold"] is None else _finite(one["gold"]["estimate"]),
        }
        for one in best
    ]
    return {"source": source, "points": points}


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is no finite number")
    return float(value)


def _written(file: Path) -> float:
    return file.stat().st_mtime
