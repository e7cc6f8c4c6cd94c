"""``trueup trace``: one pair's whole life, from the judgments behind it to what each run made of it.

The three ledgers meet by id: a snapshot's row names its judgments (``origin``), a run's ``pairs.jsonl`` names its
pairs. Where one of them is not at hand, the rest is shown and what is missing is said.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trueup.data.read import read_pairs
from trueup.errors import UsageError
from trueup.feedback.reading import read_judgments
from trueup.feedback.store import Store
from trueup.ledger import read_run
from trueup.types import prompt_text

SHOWN = 8
"""Steps that are printed of each run: the first, the last, and some between."""


@dataclass(frozen=True, slots=True)
class Voice:
    """One judgment of the pair, said in terms of its sides."""

    judgment: str
    annotator: str
    verdict: str
    """``chosen``, ``rejected``, ``tie``, ``skipped``, or ``revised`` if a later revision replaced it."""
    strength: int
    shown_first: str
    """``chosen`` or ``rejected``: which side stood left or on top."""
    created_at: str
    simulated: bool
    active_seconds: float | None = None
    rationale: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """One training step of a run that saw the pair."""

    step: int
    epoch: float | None
    chosen_reward: float
    rejected_reward: float
    margin: float


@dataclass(frozen=True)
class Life:
    """What is known of one pair."""

    pair_id: str
    prompt: str
    chosen: str
    rejected: str
    strength: float
    origin: tuple[str, ...]
    source: str
    voices: tuple[Voice, ...] = ()
    runs: dict[str, tuple[Passage, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def trace(pair: str, runs: Sequence[Path], *, db: str | None = None) -> Life:
    """Follow a pair.

    Args:
        pair: Its id, or the beginning of it.
        runs: Runs on pairs (``trueup reward`` or ``trueup dpo``); the first one's data file holds the pair.
        db: The feedback store that the data came from.

    Raises:
        UsageError: No run, no such pair in the data, or several that begin so.
    """
    if not runs:
        raise UsageError(
            "no run was given", where="trace", fix="name at least one run directory: trueup trace ID runs/dpo"
        )
    record = read_run(runs[0])
    source = str(record["config"].get("data", ""))
    options = {name: record["config"]["read"][name] for name in ("columns", "split")}
    found = [p for p in read_pairs(source, on_bad="skip", **options).items if p.pair_id.startswith(pair)]
    if len({p.pair_id for p in found}) != 1:
        some = ", ".join(sorted({p.pair_id for p in found})[:5])
        raise UsageError(
            f"{len({p.pair_id for p in found})} pairs have an id that begins with {pair!r}"
            + (f": {some}" if some else ""),
            where=source,
            expected="one",
            fix="ids are in the data file (pair_id) and in metrics.jsonl and pairs.jsonl of a run",
        )
    one = found[0]
    missing: list[str] = []
    voices: tuple[Voice, ...] = ()
    if db is None:
        missing.append("judgments: give the feedback store with --db")
    elif not one.origin:
        missing.append("judgments: the data file does not say which it came from (origin)")
    else:
        with Store(db) as store:
            voices = _voices(store, one.origin, one.chosen, one.rejected)
        lost = set(one.origin) - {voice.judgment for voice in voices}
        if lost:
            missing.append(f"{len(lost)} of {len(one.origin)} judgments are not in {db}")
    passages = {str(run): _passages(run, one.pair_id) for run in runs}
    missing += [f"{run}: no step of it saw this pair" for run, steps in passages.items() if not steps]
    return Life(
        one.pair_id,
        prompt_text(one.prompt),
        one.chosen,
        one.rejected,
        one.strength,
        one.origin,
        source,
        voices,
        passages,
        tuple(missing),
    )


def _voices(store: Store, ids: Sequence[str], chosen: str, rejected: str) -> tuple[Voice, ...]:
    voices = []
    for row in read_judgments(store, ids):
        sides = {
            name: "chosen" if text == chosen else "rejected" if text == rejected else "?" for name, text in row.texts
        }
        answer = row.answer or {}
        if row.superseded:
            verdict = "revised"
        elif row.answer is None:
            verdict = "skipped"
        elif answer.get("tiers"):
            verdict = _of_ranking(answer["tiers"], sides)
        else:
            verdict = sides.get(str(answer.get("preferred")), "tie")
        seconds = row.active_ms / 1000 if row.active_ms is not None else None
        first = sides.get(row.shown[0], "?") if row.shown else "?"
        voices.append(
            Voice(
                row.id,
                row.annotator,
                verdict,
                int(answer.get("strength", 0)),
                first,
                row.created_at,
                row.simulated,
                seconds,
                row.rationale,
            )
        )
    return tuple(voices)


def _of_ranking(tiers: Sequence[Sequence[str]], sides: dict[str, str]) -> str:
    place = {sides.get(name): number for number, tier in enumerate(tiers) for name in tier}
    if "chosen" not in place or "rejected" not in place:
        return "not ranked"
    gap = place["rejected"] - place["chosen"]
    return "chosen" if gap > 0 else "rejected" if gap < 0 else "tie"


def _passages(run: Path, pair_id: str) -> tuple[Passage, ...]:
    file = run / "pairs.jsonl"
    if not file.exists():
        return ()
    epochs = {}
    metrics = run / "metrics.jsonl"
    if metrics.exists():
        with open(metrics, encoding="utf-8") as handle:
            for line in handle:
                row = json.loads(line)
                epochs[row["step"]] = row.get("epoch")
    found = []
    with open(file, encoding="utf-8") as handle:
        for line in handle:
            if pair_id in line:
                row = json.loads(line)
                values = (float(row[name]) for name in ("chosen_reward", "rejected_reward", "margin"))
                found.append(Passage(row["step"], epochs.get(row["step"]), *values))
    return tuple(found)


def format_text(life: Life) -> str:
    """For people."""
    lines = [
        f"pair {life.pair_id}, from {life.source}",
        f"  prompt:   {_short(life.prompt)}",
        f"  chosen:   {_short(life.chosen)}",
        f"  rejected: {_short(life.rejected)}",
        f"  strength: {life.strength:.3f} (probability that chosen is better)",
    ]
    if life.voices:
        lines.append(f"judged {len(life.voices)} times:")
        for voice in life.voices:
            extras = [f"{voice.active_seconds:.0f} s"] if voice.active_seconds is not None else []
            extras += ["simulated"] if voice.simulated else []
            said = f" {_short(voice.rationale, 60)!r}" if voice.rationale else ""
            lines.append(
                f"  {voice.created_at[:16]}  {voice.annotator}: {voice.verdict}"
                + (f" (strength {voice.strength})" if voice.strength else "")
                + f"; {voice.shown_first} was shown first"
                + (f"; {', '.join(extras)}" if extras else "")
                + said
            )
    for run, steps in life.runs.items():
        if not steps:
            continue
        lines.append(f"{run}: seen {len(steps)} times")
        for one in _some(steps):
            epoch = f"epoch {one.epoch:.2f}  " if one.epoch is not None else ""
            lines.append(
                f"  step {one.step:>6}  {epoch}margin {one.margin:+.3f}"
                f"  (chosen {one.chosen_reward:+.3f}, rejected {one.rejected_reward:+.3f})"
            )
        last = steps[-1].margin
        verdict = "agrees with" if last > 0 else "goes against" if last < 0 else "does not decide"
        lines.append(f"  in the end the model {verdict} the label")
    lines += [f"not shown: {what}" for what in life.missing]
    return "\n".join(lines)


def _some(steps: Sequence[Passage]) -> list[Passage]:
    if len(steps) <= SHOWN:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (SHOWN - 1))] for i in range(SHOWN)]


def _short(text: str, room: int = 100) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= room else flat[: room - 3] + "..."
