"""``samples.jsonl`` as a book: which steps it has, the answers of one step, one prompt through all steps, a search.

Only places are held in memory; texts are read from the file when somebody looks.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trueup.commands.live.cursor import Generations
from trueup.errors import UsageError
from trueup.ledger import iterate_lines, parse_line
from trueup.ledger.columns import as_json, number_of

SORTS = ("probe", "reward", "reward-low", "length", "length-short")
_HITS = 100
"""Answers that a search shows."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one sample stands in the file, and what lists are made from."""

    offset: int
    size: int
    prompt: str
    """12 hex digits of the prompt's hash."""
    turn: int
    """Which of the step's answers to that prompt it is, from 0."""
    score: float | None
    length: int
    """Words of the answer."""


class Samples:
    """The samples of one run."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "samples.jsonl"
        self._generations = Generations(folder)
        self._lock = threading.Lock()
        self._forget(("", 0))

    def _forget(self, generation: tuple[str, int]) -> None:
        self._generation, self._offset = generation, 0
        self._steps: dict[int, list[Place]] = {}
        self.left_out = 0

    def refresh(self) -> None:
        """Read what is new."""
        with self._lock:
            generation = self._generations.read()
            size = self._file.stat().st_size if self._file.exists() else 0
            if generation != self._generation or size < self._offset:
                self._forget(generation)
            for _, line in iterate_lines(self._file, offset=self._offset):
                self._note(line)
                self._offset += len(line) + 1

    def _note(self, line: bytes) -> None:
        row = _parse(line)
        if row is None:
            self.left_out += bool(line.strip())
            return
        places = self._steps.setdefault(row["step"], [])
        prompt = prompt_key(row)
        turn = sum(place.prompt == prompt for place in places)
        length = len(_text(row, "completion").split())
        places.append(Place(self._offset, len(line), prompt, turn, number_of(row.get("score")), length))

    @property
    def steps(self) -> list[int]:
        """Steps that have samples."""
        return sorted(self._steps)

    def summary(self) -> list[dict[str, Any]]:
        """For each step: answers, mean, p10, median and p90 of their scores, mean words."""
        return [_summary(step, self._steps[step]) for step in self.steps]

    def page(self, step: int, *, sort: str = "probe", offset: int = 0, limit: int = 20) -> dict[str, Any]:
        """Answers of one step, each beside the answer to the same prompt at the step before it.

        Raises:
            UsageError: The run has no such step, or there is no such order.
        """
        if step not in self._steps:
            raise UsageError(f"there are no samples at step {step}", where="step", expected=self._expected())
        if sort not in SORTS:
            raise UsageError(f"no order is called {sort!r}", where="sort", expected=" or ".join(SORTS))
        places = _ordered(self._steps[step], sort)
        before = self._before(step)
        rows = [self._row(step, place, before) for place in places[offset : offset + limit]]
        return {"step": step, "previous": before, "total": len(places), "offset": offset, "rows": rows}

    def history(self, prompt: str) -> list[dict[str, Any]]:
        """The answers to one prompt at every step, oldest first.

        Raises:
            UsageError: The run has no such prompt.
        """
        wanted = [(s, p) for s in self.steps for p in self._steps[s] if p.prompt.startswith(prompt)]
        if not wanted or not prompt:
            raise UsageError(f"no sampled prompt is {prompt!r}", where="prompt", expected="12 hex digits of a prompt")
        return [self._row(step, place, None) for step, place in wanted]

    def search(self, text: str, *, limit: int = _HITS) -> dict[str, Any]:
        """Answers whose prompt or text holds ``text``, whatever the case; the newest first."""
        wanted, total = text.casefold(), 0
        hits: list[dict[str, Any]] = []
        for step in reversed(self.steps):
            for place in self._steps[step]:
                row = self._read(place)
                if row is None or wanted not in f"{_text(row, 'prompt')}\n{_text(row, 'completion')}".casefold():
                    continue
                total += 1
                if len(hits) < limit:
                    hits.append(_shown(step, place, row))
        return {"total": total, "rows": hits}

    def _expected(self) -> str:
        steps = self.steps
        return f"one of the {len(steps)} probe steps from {steps[0]} to {steps[-1]}" if steps else "a run with probes"

    def _before(self, step: int) -> int | None:
        earlier = [other for other in self.steps if other < step]
        return earlier[-1] if earlier else None

    def _row(self, step: int, place: Place, before: int | None) -> dict[str, Any]:
        row = self._read(place)
        if row is None:
            raise UsageError("the samples changed while they were read", where=str(self._file), fix="ask again")
        shown = _shown(step, place, row)
        same = [] if before is None else self._steps[before]
        old = next((other for other in same if (other.prompt, other.turn) == (place.prompt, place.turn)), None)
        earlier = None if old is None else self._read(old)
        if before is not None and old is not None and earlier is not None:
            shown["before"] = _shown(before, old, earlier)
        return shown

    def _read(self, place: Place) -> dict[str, Any] | None:
        with open(self._file, "rb") as handle:
            handle.seek(place.offset)
            return _parse(handle.read(place.size))


def prompt_key(row: Mapping[str, Any]) -> str:
    """12 hex digits that name a prompt: of its text, so that they are the same in every run."""
    return hashlib.sha256(_text(row, "prompt").encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_line(line)
    except ValueError:
        return None
    return row if isinstance(row.get("step"), int) and isinstance(row.get("completion"), str) else None


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    return value if isinstance(value, str) else str(value)


def _ordered(places: Sequence[Place], sort: str) -> list[Place]:
    """Places in an order; those without a score come last."""
    keys = {
        "reward": lambda p: (p.score is None, -(p.score or 0.0)),
        "reward-low": lambda p: (p.score is None, p.score or 0.0),
        "length": lambda p: -p.length,
        "length-short": lambda p: p.length,
    }
    return sorted(places, key=keys[sort]) if sort in keys else list(places)


def _shown(step: int, place: Place, row: Mapping[str, Any]) -> dict[str, Any]:
    parts = row.get("parts")
    return {
        "step": step,
        "prompt": place.prompt,
        "turn": place.turn,
        "question": _text(row, "question") or _text(row, "prompt"),
        "text": _text(row, "completion"),
        "score": None if place.score is None else as_json(place.score),
        "words": place.length,
        "stop": _text(row, "stop"),
        "parts": dict(_weighted(parts)) if isinstance(parts, dict) else {},
    }


def _weighted(parts: Mapping[str, Any]) -> Iterator[tuple[str, float | str]]:
    """What each part of the reward added, where the run writes that."""
    for name, part in parts.items():
        value = number_of(part.get("weighted")) if isinstance(part, dict) else None
        if value is not None:
            yield name, as_json(value)


def _summary(step: int, places: Sequence[Place]) -> dict[str, Any]:
    scores = [p.score for p in places if p.score is not None and np.isfinite(p.score)]
    low, middle, high = np.quantile(scores, (0.1, 0.5, 0.9)) if scores else (None, None, None)
    return {
        "step": step,
        "answers": len(places),
        "mean": float(np.mean(scores)) if scores else None,
        "p10": None if low is None else float(low),
        "median": None if middle is None else float(middle),
        "p90": None if high is None else float(high),
        "words": float(np.mean([p.length for p in places])),
    }
