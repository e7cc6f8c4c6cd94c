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
LAYERS = ("log_ratio", "entropy")
"""What may be known of each token of an answer."""
_HITS = 100
"""Answers that a search shows."""


class Samples:
    """The samples of one run, as of the last ``refresh`` or ``look``."""

    def __init__(self, folder: Path) -> None:
        self._reader = SampleReader(folder)
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
        at = {"before": before, "start": start}
        rows = []
        for place in places[offset : offset + limit]:
            row = self._row(step, place)
            others = {name: self._earlier(place, at[name], old) for name, old in by_name.items()}
            rows.append(row | {name: other for name, other in others.items() if other is not None})
        return {"step": step, "previous": before, "start": start, "total": len(places), "offset": offset, "rows": rows}

    def history(self, prompt: str) -> list[dict[str, Any]]:
        """The answers to one prompt at every step, oldest first.

        Raises:
            NotHere: The run has no such prompt.
        """
        known = self._reader.places
        wanted = [(s, p) for s in known.steps_of(prompt) for p in known.of(s) if p.prompt.startswith(prompt)]
        if not wanted:
            raise NotHere(f"no sampled prompt is {prompt!r}", where="prompt", expected="12 hex digits of a prompt")
        return [self._row(step, place) for step, place in wanted]

    def beside(self, step: int, other: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Lines of a step, each with that of the answer to the same prompt at another step; ``turn`` is in both."""
        known = self._reader.places
        old = _by_prompt(known, other)
        pairs = [(place, old.get((place.prompt, place.turn))) for place in known.of(step)]
        return [
            (self._line(step, new) | {"turn": new.turn}, self._line(other, before) | {"turn": new.turn})
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
        row: dict[str, Any] = json.loads(json.dumps(self._line(step, places[0])), parse_constant=str)
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
            hits += [_shown(step, place, self._line(step, place)) for place in places[: limit - len(hits)]]
        return {"total": int(holds_N.sum()), "rows": hits}

    def _expected(self) -> str:
        steps = self.steps
        return f"one of the {len(steps)} probe steps from {steps[0]} to {steps[-1]}" if steps else "a run with probes"

    def _row(self, step: int, place: Place) -> dict[str, Any]:
        row = self._line(step, place)
        shown = _shown(step, place, row)
        tokens = _tokens(row.get("tokens"))
        return shown | ({} if tokens is None else {"tokens": tokens})

    def _earlier(
        self, place: Place, step: int | None, places: Mapping[tuple[str, int], Place]
    ) -> dict[str, Any] | None:
        """The answer to the same prompt at another step, whose places these are, if there is one."""
        old = places.get((place.prompt, place.turn))
        return None if step is None or old is None else _shown(step, old, self._line(step, old))

    def _line(self, step: int, place: Place) -> dict[str, Any]:
        """What a line holds; it must still be that answer."""
        try:
            with open(self._file, "rb") as handle:
                handle.seek(place.offset)
                row = parse_sample(handle.read(place.size))
        except FileNotFoundError:
            row = None
        if row is None or row["step"] != step or prompt_key(row) != place.prompt:
            raise self._changed()
        return row

    def _changed(self) -> UsageError:
        return UsageError("the samples changed while they were read", where=str(self._file), fix="ask again")


def _by_prompt(places: Places, step: int | None) -> dict[tuple[str, int], Place]:
    """The answers of a step by prompt and turn."""
    return {} if step is None else {(place.prompt, place.turn): place for place in places.of(step)}


def _shown(step: int, place: Place, row: Mapping[str, Any]) -> dict[str, Any]:
    parts = row.get("parts")
    return {
        "step": step,
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
