"""``samples.jsonl`` as a book: which steps it has, the answers of one step, one prompt through all steps, a search.

Only places are held in memory; texts are read from the file when somebody looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trueup.commands.live.places import SORTS, Place, Places, ordered
from trueup.commands.live.sample_index import parse_sample, prompt_key, text_of
from trueup.commands.live.sample_reader import SampleReader
from trueup.commands.live.search import holding
from trueup.errors import NotHere, UsageError
from trueup.ledger.columns import as_json, number_of

__all__ = ["LAYERS", "SORTS", "Samples", "prompt_key"]
LAYERS = ("log_ratio", "entropy", "advantage", "clipped")
"""What may be known of each token of an answer."""
_HITS = 100
"""Answers that a search shows."""


class Samples:
    """The answers of one run to its fixed prompts (``of="probes"``), or some of those that it learned from
    (``of="training"``), as of the last ``refresh`` or ``look``."""

    def __init__(self, folder: Path, of: str = "probes") -> None:
        self._reader = SampleReader(folder, of)
        self._file = self._reader.file
        self._summaries: dict[int, tuple[bytes, dict[str, Any]]] = {}
        self._summarised: Places | None = None

    def refresh(self) -> None:
        """Read what is new."""
        self._reader.refresh()

    def look(self) -> bool:
        """Read what is new where that is little, else begin to; whether all of it was read."""
        return self._reader.look()

    @property
    def steps(self) -> list[int]:
        """Steps that have samples."""
        return self._reader.places.steps

    @property
    def left_out(self) -> int:
        """Damaged lines."""
        return self._reader.left_out

    @property
    def bytes(self) -> int:
        """Bytes that the index takes in memory."""
        return self._reader.places.records_N.nbytes

    def summary(self) -> list[dict[str, Any]]:
        """For each step: answers, mean, p10, median and p90 of their scores, mean log-ratio, margin and words."""
        places = self._reader.places
        if places is not self._summarised:
            old, now = self._summaries, {}
            for step in places.steps:  # a step whose records are the same bytes has the same summary
                digest = places.digest(step)
                known = old.get(step)
                now[step] = known if known and known[0] == digest else (digest, places.summary(step))
            self._summaries, self._summarised = now, places
        return [row for _, row in self._summaries.values()]

    def page(self, step: int, *, sort: str = "probe", offset: int = 0, limit: int = 20) -> dict[str, Any]:
        """Answers of one step, those to one prompt together, each with the answer to that prompt at the step before it
        and at the first step of all.

        Raises:
            NotHere: The run has no such step.
            UsageError: There is no such order.
        """
        known = self._reader.places
        if not known.count(step):
            raise NotHere(f"there are no samples at step {step}", where="step", expected=self._expected())
        if sort not in SORTS:
            raise UsageError(f"no order is called {sort!r}", where="sort", expected=" or ".join(SORTS))
        places = ordered(known.of(step), sort)
        earlier = known.steps[: known.steps.index(step)]
        before, start = (earlier[-1], earlier[0]) if earlier else (None, None)
        by_name = {"before": _by_prompt(known, before), "start": _by_prompt(known, start)}
        rows = []
        for place in places[offset : offset + limit]:
            earlier_places = {name: old.get((place.prompt, place.turn)) for name, old in by_name.items()}
            rows.append(self._row(place, earlier_places))
        return {"step": step, "previous": before, "start": start, "total": len(places), "offset": offset, "rows": rows}

    def history(self, prompt: str, *, offset: int = 0, limit: int = 20) -> dict[str, Any]:
        """The answers to one prompt along the run, oldest first, each with the one before it and the first one.

        Raises:
            NotHere: The run has no such prompt.
        """
        places = self._reader.places.answers_to(prompt)
        if not places:
            raise NotHere(f"no sampled prompt is {prompt!r}", where="prompt", expected="12 hex digits of a prompt")
        first: dict[tuple[str, int], Place] = {}
        last: dict[tuple[str, int], Place] = {}
        rows = []
        for number, place in enumerate(places[: offset + limit]):
            key = (place.prompt, place.turn)
            if number >= offset:
                rows.append(self._row(place, {"before": last.get(key), "start": first.get(key)}))
            first.setdefault(key, place)
            last[key] = place
        return {"total": len(places), "offset": offset, "rows": rows}

    def beside(self, step: int, other: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Lines of a step, each with that of the answer to the same prompt at another step; ``turn`` is in both."""
        known = self._reader.places
        old = _by_prompt(known, other)
        pairs = [(place, old.get((place.prompt, place.turn))) for place in known.of(step)]
        return [
            (self._line(new) | {"turn": new.turn}, self._line(before) | {"turn": new.turn})
            for new, before in pairs
            if before is not None
        ]

    def raw(self, step: int, prompt: str, turn: int = 0) -> dict[str, Any]:
        """One sample with all that its line holds.

        Raises:
            NotHere: There is none.
        """
        places = [p for p in self._reader.places.of(step) if p.prompt.startswith(prompt) and p.turn == turn]
        if not places or not prompt:
            raise NotHere(
                f"no sample of step {step} has the prompt {prompt!r} and number {turn}",
                where="prompt",
                expected=self._expected(),
            )
        # What is no number in JSON is a text here, as everywhere on the page.
        row: dict[str, Any] = json.loads(json.dumps(self._line(places[0])), parse_constant=str)
        return row

    def search(self, text: str, *, limit: int = _HITS) -> dict[str, Any]:
        """Answers whose prompt or text holds ``text``, whatever the case; the newest first."""
        known = self._reader.places
        if not known.steps:
            return {"total": 0, "rows": []}
        try:
            holds_N = holding(self._file, known.records_N, text)
        except (FileNotFoundError, ValueError) as error:
            raise self._changed() from error
        hits: list[dict[str, Any]] = []
        for step in reversed(known.steps):
            held = holds_N[known.rows(step)]
            if len(hits) >= limit:
                break
            places = [p for p, is_hit in zip(known.of(step), held, strict=True) if is_hit] if held.any() else []
            hits += [_shown(place, self._line(place)) for place in places[: limit - len(hits)]]
        return {"total": int(holds_N.sum()), "rows": hits}

    def _expected(self) -> str:
        steps = self.steps
        return f"one of the {len(steps)} probe steps from {steps[0]} to {steps[-1]}" if steps else "a run with probes"

    def _row(self, place: Place, earlier: Mapping[str, Place | None]) -> dict[str, Any]:
        """What is shown of an answer and its tokens, and of the earlier answers, by the name that they get in it."""
        row = self._line(place)
        tokens = _tokens(row.get("tokens"))
        shown = _shown(place, row) | ({} if tokens is None else {"tokens": tokens})
        return shown | {name: _shown(old, self._line(old)) for name, old in earlier.items() if old is not None}

    def _line(self, place: Place) -> dict[str, Any]:
        """What a line holds; it must still be that answer."""
        try:
            with open(self._file, "rb") as handle:
                handle.seek(place.offset)
                row = parse_sample(handle.read(place.size))
        except FileNotFoundError:
            row = None
        if row is None or row["step"] != place.step or prompt_key(row) != place.prompt:
            raise self._changed()
        return row

    def _changed(self) -> UsageError:
        return UsageError("the samples changed while they were read", where=str(self._file), fix="ask again")


def _by_prompt(places: Places, step: int | None) -> dict[tuple[str, int], Place]:
    """The answers of a step by prompt and turn."""
    return {} if step is None else {(place.prompt, place.turn): place for place in places.of(step)}


def _shown(place: Place, row: Mapping[str, Any]) -> dict[str, Any]:
    parts = row.get("parts")
    return {
        "step": place.step,
        "prompt": place.prompt,
        "turn": place.turn,
        "question": text_of(row, "question") or text_of(row, "prompt"),
        "text": text_of(row, "completion"),
        "score": None if place.score is None else as_json(place.score),
        "log_ratio": None if place.log_ratio is None else as_json(place.log_ratio),
        "label": text_of(row, "label"),
        "words": place.length,
        "stop": text_of(row, "stop"),
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
