"""What a run left behind, read without trusting it: damaged lines are left out and named, the rest is used."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.ledger import REWOUND, Damage, Stream, StreamError, positions_of, read_lines, read_run

_GAPS = ("nan", "inf", "-inf")
_NAME = re.compile(r"step-[0-9]{8,18}")
_SHOWN = 5
"""Damaged lines of one file that are named; more are counted."""


@dataclass(frozen=True, slots=True)
class RunLog:
    """The record of a run, its usable rows, and one sentence for each thing that is wrong with them."""

    record: dict[str, Any]
    metrics: tuple[dict[str, Any], ...]
    timing: tuple[dict[str, Any], ...]
    evaluation: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]


def read_log(path: str | Path) -> RunLog:
    """Read a run's directory.

    Raises:
        UsageError: It is not a run directory.
        RunError: Its run.json is damaged: without it nobody can tell what the run is.
    """
    folder = Path(path)
    record = read_run(folder)
    rows, problems = {}, []
    for name, needed in (("metrics", ("step",)), ("timing", ("step", "seconds")), ("eval", ("step",))):
        file = folder / f"{name}.jsonl"
        damaged: list[Damage] = []
        try:
            read, _ = read_lines(file, damaged=damaged)
        except OSError as error:
            read = []
            problems.append(f"{file} cannot be read: {error.strerror}; the report goes without it.")
        rows[name] = tuple(row for row in map(_typed_gaps, read) if _is_numeric(row, needed))
        problems += _sentences(file, damaged, len(read) - len(rows[name]))
    problems += _changed(folder)
    if "defaults" not in record:
        problems.append(f"{folder}: run.json does not hold the defaults, so settings that differ cannot be marked.")
    return RunLog(record, rows["metrics"], rows["timing"], rows["eval"], tuple(problems))


def _typed_gaps(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as runs write it: other writers put a bare NaN or Infinity where the value is no number."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def _is_numeric(row: Mapping[str, Any], needed: Sequence[str]) -> bool:
    """Whether a row holds numbers, or the typed gaps for what is none, ids and intervals; and what it must hold."""
    values = {name: value for name, value in row.items() if name not in ("ids", "intervals")}
    fine = all(value in _GAPS if isinstance(value, str) else _is_number(value) for value in values.values())
    return fine and _are_intervals(row.get("intervals", {})) and all(_is_number(row.get(name)) for name in needed)


def _are_intervals(value: Any) -> bool:
    """Whether it is an object of pairs of numbers."""
    return isinstance(value, dict) and all(
        isinstance(bounds, list) and len(bounds) == 2 and all(map(_is_number, bounds)) for bounds in value.values()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sentences(file: Path, damaged: Sequence[Damage], odd: int) -> list[str]:
    sentences = [f"{damage}; the line is left out." for damage in damaged[:_SHOWN]]
    if len(damaged) > _SHOWN:
        sentences.append(f"{file}: {len(damaged) - _SHOWN} more damaged lines are left out.")
    if odd:
        sentences.append(f"{file}: {odd} lines hold something else than numbers and are left out.")
    return sentences


def _changed(folder: Path) -> list[str]:
    """Logs that are not what the newest checkpoint knew of them, though their lines may well be readable."""
    try:
        name = (folder / "checkpoints" / "latest").read_text(encoding="utf-8").strip()
        if not _NAME.fullmatch(name):
            return []  # resuming says more about it
        state = json.loads((folder / "checkpoints" / name / "state.json").read_text(encoding="utf-8"))
        positions = positions_of(state["positions"], REWOUND)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    sentences = []
    for stream in ("metrics", "timing", "eval"):
        try:
            Stream(folder / f"{stream}.jsonl").verify(positions[stream])
        except StreamError as error:
            sentences.append(f"{error.where} is not what checkpoint {name} knew: {error.what}.")
        except OSError:
            continue  # said where its lines are read
    return sentences
