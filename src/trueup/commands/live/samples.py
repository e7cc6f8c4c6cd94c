"""``samples.jsonl`` as a book: which steps it has, the answers of one step, one prompt through all steps, a search.

Only places are held in memory; texts are read from the file when somebody looks.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trueup.commands.live.cursor import Generations
from trueup.errors import UsageError
from trueup.ledger import iterate_lines, parse_line
from trueup.ledger.columns import as_json, number_of

SORTS = ("probe", "reward", "reward-low", "typical", "kl", "kl-low", "length", "length-short")
LAYERS = ("log_ratio", "entropy")
"""What may be known of each token of an answer."""
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
    """What the reward said of the answer; in the run of a reward model, what that says of it by now."""
    log_ratio: float | None
    """How much more likely the answer is than to the reference, in nats: one draw of the KL."""
    labelled: bool
    """Whether the answer is one of the data, with a label; those of one prompt come from the best to the worst."""
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
        numbers = number_of(row.get("score", row.get("reward"))), number_of(row.get("log_ratio"))
        length = len(_text(row, "completion").split())
        places.append(Place(self._offset, len(line), prompt, turn, *numbers, "label" in row, length))

    @property
    def steps(self) -> list[int]:
        """Steps that have samples."""
        return sorted(self._steps)

    def summary(self) -> list[dict[str, Any]]:
        """For each step: answers, mean, p10, median and p90 of their scores, mean log-ratio, margin and words."""
        return [_summary(step, self._steps[step]) for step in self.steps]

    def page(self, step: int, *, sort: str = "probe", offset: int = 0, limit: int = 20) -> dict[str, Any]:
        """Answers of one step, those to one prompt together, each with the answer to that prompt at the step before it
        and at the first step of all.

        Raises:
            UsageError: The run has no such step, or there is no such order.
        """
        if step not in self._steps:
            raise UsageError(f"there are no samples at step {step}", where="step", expected=self._expected())
        if sort not in SORTS:
            raise UsageError(f"no order is called {sort!r}", where="sort", expected=" or ".join(SORTS))
        places = _ordered(self._steps[step], sort)
        earlier = [other for other in self.steps if other < step]
        before, start = (earlier[-1], earlier[0]) if earlier else (None, None)
        rows = []
        for place in places[offset : offset + limit]:
            row = self._row(step, place)
            others = {"before": self._earlier(place, before), "start": self._earlier(place, start)}
            rows.append(row | {name: other for name, other in others.items() if other is not None})
        return {"step": step, "previous": before, "start": start, "total": len(places), "offset": offset, "rows": rows}

    def history(self, prompt: str) -> list[dict[str, Any]]:
        """The answers to one prompt at every step, oldest first.

        Raises:
            UsageError: The run has no such prompt.
        """
        wanted = [(s, p) for s in self.steps for p in self._steps[s] if p.prompt.startswith(prompt)]
        if not wanted or not prompt:
            raise UsageError(f"no sampled prompt is {prompt!r}", where="prompt", expected="12 hex digits of a prompt")
        return [self._row(step, place) for step, place in wanted]

    def beside(self, step: int, other: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Lines of a step, each with that of the answer to the same prompt at another step; ``turn`` is in both."""
        old = {(place.prompt, place.turn): place for place in self._steps.get(other, ())}
        pairs = [(place, old.get((place.prompt, place.turn))) for place in self._steps.get(step, ())]
        return [
            (self._line(new) | {"turn": new.turn}, self._line(before) | {"turn": new.turn})
            for new, before in pairs
            if before is not None
        ]

    def raw(self, step: int, prompt: str, turn: int = 0) -> dict[str, Any]:
        """One sample with all that its line holds.

        Raises:
            UsageError: There is none.
        """
        places = [p for p in self._steps.get(step, ()) if p.prompt.startswith(prompt) and p.turn == turn]
        if not places or not prompt:
            raise UsageError(
                f"no sample of step {step} has the prompt {prompt!r} and number {turn}",
                where="prompt",
                expected=self._expected(),
            )
        # What is no number in JSON is a text here, as everywhere on the page.
        row: dict[str, Any] = json.loads(json.dumps(self._line(places[0])), parse_constant=str)
        return row

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

    def _row(self, step: int, place: Place) -> dict[str, Any]:
        row = self._line(place)
        shown = _shown(step, place, row)
        tokens = _tokens(row.get("tokens"))
        return shown | ({} if tokens is None else {"tokens": tokens})

    def _earlier(self, place: Place, step: int | None) -> dict[str, Any] | None:
        """The answer to the same prompt at another step, if there is one."""
        same = () if step is None else self._steps[step]
        old = next((other for other in same if (other.prompt, other.turn) == (place.prompt, place.turn)), None)
        row = None if old is None else self._read(old)
        return None if step is None or old is None or row is None else _shown(step, old, row)

    def _line(self, place: Place) -> dict[str, Any]:
        row = self._read(place)
        if row is None:
            raise UsageError("the samples changed while they were read", where=str(self._file), fix="ask again")
        return row

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
    """Places in an order; those without what it goes by come last. Answers to one prompt stay together, where the
    first of them comes."""
    middle = _typical(places)
    keys: dict[str, Callable[[Place], Any]] = {
        "reward": lambda p: (p.score is None, -(p.score or 0.0)),
        "reward-low": lambda p: (p.score is None, p.score or 0.0),
        "typical": lambda p: (middle(p) is None, middle(p) or 0.0),
        "kl": lambda p: (p.log_ratio is None, -(p.log_ratio or 0.0)),
        "kl-low": lambda p: (p.log_ratio is None, p.log_ratio or 0.0),
        "length": lambda p: -p.length,
        "length-short": lambda p: p.length,
    }
    ordered = sorted(places, key=keys[sort]) if sort in keys else list(places)
    groups: dict[str, list[Place]] = {}
    for place in ordered:
        groups.setdefault(place.prompt, []).append(place)
    return [place for group in groups.values() for place in group]


def _typical(places: Sequence[Place]) -> Callable[[Place], float | None]:
    """How far from the middle of its step an answer is: by score, else by log-ratio, else by length."""
    kinds: tuple[Callable[[Place], float | None], ...] = (lambda p: p.score, lambda p: p.log_ratio, lambda p: p.length)
    for of in kinds:
        known = [value for place in places if (value := of(place)) is not None and np.isfinite(value)]
        if known:
            middle = float(np.median(known))
            return lambda place: None if (value := of(place)) is None else abs(value - middle)
    return lambda place: None


def _shown(step: int, place: Place, row: Mapping[str, Any]) -> dict[str, Any]:
    parts = row.get("parts")
    return {
        "step": step,
        "prompt": place.prompt,
        "turn": place.turn,
        "question": _text(row, "question") or _text(row, "prompt"),
        "text": _text(row, "completion"),
        "score": None if place.score is None else as_json(place.score),
        "log_ratio": None if place.log_ratio is None else as_json(place.log_ratio),
        "label": _text(row, "label"),
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


def _tokens(value: Any) -> dict[str, Any] | None:
    """Texts of the tokens and what is known of each, where the run writes that."""
    texts = value.get("text") if isinstance(value, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return None
    layers: dict[str, list[float | str]] = {}
    for name in LAYERS:
        numbers = [number_of(one) for one in value[name]] if isinstance(value.get(name), list) else []
        if len(numbers) == len(texts) and None not in numbers:
            layers[name] = [as_json(number) for number in numbers if number is not None]
    return {"text": texts, **layers} if layers else None


def _summary(step: int, places: Sequence[Place]) -> dict[str, Any]:
    scores = [p.score for p in places if p.score is not None and np.isfinite(p.score)]
    ratios = [p.log_ratio for p in places if p.log_ratio is not None and np.isfinite(p.log_ratio)]
    margins = _margins(places)
    low, middle, high = np.quantile(scores, (0.1, 0.5, 0.9)) if scores else (None, None, None)
    return {
        "step": step,
        "answers": len(places),
        "mean": float(np.mean(scores)) if scores else None,
        "p10": None if low is None else float(low),
        "median": None if middle is None else float(middle),
        "p90": None if high is None else float(high),
        "log_ratio": float(np.mean(ratios)) if ratios else None,
        "margin": float(np.mean(margins)) if margins else None,
        "words": float(np.mean([p.length for p in places])),
    }


def _margins(places: Sequence[Place]) -> list[float]:
    """By how much the best labelled answer to each prompt is scored above the worst one."""
    groups: dict[str, list[float]] = {}
    for place in places:
        if place.labelled and place.score is not None and np.isfinite(place.score):
            groups.setdefault(place.prompt, []).append(place.score)
    return [scores[0] - scores[-1] for scores in groups.values() if len(scores) > 1]
