"""Which judgments become training rows, in which split, and why the others do not.

Nothing is left out silently: every item of the project and every pair made from it is either written or counted under a
reason. Hidden gold, calibration, attention, repeat and adjudication items never leave; a prompt is in one split only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from trueup.data.splits import SPLITS
from trueup.errors import UsageError, nearest
from trueup.feedback.quality.comparisons import REFUSED, votes
from trueup.feedback.quality.consensus import usable_method
from trueup.feedback.snapshot.adjudicated import Settled, adjudications, adjudications_by_item
from trueup.feedback.snapshot.candidates import FORMATS, Candidate, SnapshotSettings, edited, prompt_key, voted
from trueup.feedback.snapshot.ranked import ranked
from trueup.feedback.snapshot.rated import rated_candidates
from trueup.feedback.store.records import TRAINABLE, ItemRow, Judged

HIDDEN = ("gold", "calibration", "attention")
"""Streams whose very texts must not reach training, even where a main item repeats them."""

SILENT = "no answer"
HIDDEN_TEXT = "same texts as a hidden test item"
DOUBLE = "same texts as another item"


@dataclass(frozen=True)
class Selection:
    """Rows by split, in the order of their items, and the account of everything else."""

    rows: Mapping[str, tuple[dict[str, Any], ...]]
    items: int
    items_used: int
    items_dropped: Mapping[str, int]
    """Reason -> items."""
    pairs: int
    """Pairs (or labels, rankings, demonstrations) made of the items used."""
    pairs_dropped: Mapping[str, int]
    """Reason -> pairs."""
    adjudicated: int
    dropped: tuple[tuple[str, str], ...]
    """(item, reason), every one of them, sorted."""
    method: str
    """How votes were aggregated: the method asked for, or the majority where that one has nothing to stand on."""
    notes: tuple[str, ...]
    """What a reader must know of the labels, in sentences."""


@dataclass
class _Count:
    items: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    dropped: list[tuple[str, str]] = field(default_factory=list)


def select_rows(
    judged: Judged, settings: SnapshotSettings, adjudicated: Mapping[str, Mapping[str, Any]] | None = None
) -> Selection:
    """Apply the settings to a project.

    Args:
        judged: The project.
        settings: What to take.
        adjudicated: Item -> final answer, beside those that the stream ``adjudication`` holds.

    Raises:
        UsageError: ``drop_annotators`` names somebody who judged nothing here.
    """
    known = {row.annotator for row in judged.judgments}
    for name in settings.drop_annotators:
        if name not in known:
            raise UsageError(f"{name!r} judged nothing", where="drop_annotators", expected=nearest(name, known))
    counted = replace(judged, judgments=tuple(filter(settings.counts, judged.judgments)))
    settled = adjudications(counted) | adjudications_by_item(judged, adjudicated or {})
    count = _Count()
    used = _usable_items(counted, settings, settled, count)
    candidates, method, notes = _candidates(counted, settings, used, settled)
    _mark_hidden(judged, candidates)
    _mark_doubles(candidates)
    splits = split_of_prompts(judged)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    for candidate in candidates:
        whole = splits[prompt_key(candidate.items[0].prompt)]
        apart = any(_own_split(item) != whole for item in candidate.items)
        reason = candidate.reason or (f"prompt is in the {whole} split too" if apart else "")
        if reason:
            count.pairs[reason] += 1
            count.dropped.append((candidate.items[0].id, reason))
        else:
            rows[whole].append(candidate.row)
    late = judged.surplus if not settings.surplus else 0
    if late:
        notes += (f"{late} surplus judgments, which came after their seat was taken back, are not counted as votes",)
    place = {name: number for number, name in enumerate(judged.items)}
    written = {
        name: tuple(sorted(unordered, key=lambda row: (place[row["item"]], _row_id(row))))
        for name, unordered in rows.items()
    }
    return Selection(
        written,
        len(judged.items),
        len(used),
        dict(sorted(count.items.items())),
        len(candidates),
        dict(sorted(count.pairs.items())),
        sum(bool(row.get("adjudicated")) for unordered in written.values() for row in unordered),
        tuple(sorted(count.dropped)),
        method,
        notes,
    )


def _candidates(
    judged: Judged, settings: SnapshotSettings, used: set[str], settled: Mapping[str, Settled]
) -> tuple[list[Candidate], str, tuple[str, ...]]:
    """Everything that could become a row, how votes were aggregated, and what to know of the labels."""
    kinds = FORMATS[settings.format][1]
    cast = [v for v in votes(judged, kinds=kinds) if v.item in used]
    candidates: list[Candidate] = []
    notes: tuple[str, ...]
    method, notes = settings.method, ()
    if settings.format == "sft":
        candidates += edited(judged, used)
    elif settings.format == "ranking":
        candidates += ranked(judged, settings, used, cast, settled)
    else:
        method, notes = usable_method(cast, settings.method)
        candidates += voted(judged, settings, used, cast, settled, method)
    if any(judged.items[name].kind == "rating" for name in used):
        pairs, of_ratings = rated_candidates(judged, settings, used, settled)
        candidates += pairs
        notes += of_ratings
    elif settings.axes:
        raise UsageError("nobody rated anything here", where="axes", expected="a project with items of the kind rating")
    return candidates, method, notes


def split_of_prompts(judged: Judged) -> dict[str, str]:
    """Prompt -> its one split. A prompt that stands in several goes to the one furthest from training."""
    splits: dict[str, str] = {}
    for item in judged.items.values():
        if item.stream in TRAINABLE:
            key, split = prompt_key(item.prompt), _own_split(item)
            splits[key] = max(splits.get(key, split), split, key=SPLITS.index)
    return splits


def _own_split(item: ItemRow) -> str:
    """The random hold-out stream is the unbiased test set, whatever its prompts' split."""
    return "test" if item.stream == "holdout" else item.split


def _usable_items(judged: Judged, settings: SnapshotSettings, settled: Mapping[str, Any], count: _Count) -> set[str]:
    kinds = FORMATS[settings.format][1]
    answered = {r.item for r in judged.judgments if r.answer is not None}
    used = set()
    for item in judged.items.values():
        if item.stream not in TRAINABLE:
            reason = f"stream {item.stream}"
        elif item.kind not in kinds:
            reason = f"kind {item.kind} has no place in the format {settings.format}"
        elif item.id not in answered and item.id not in settled:
            reason = SILENT
        else:
            used.add(item.id)
            continue
        count.items[reason] += 1
        count.dropped.append((item.id, reason))
    return used


def _mark_hidden(judged: Judged, candidates: Sequence[Candidate]) -> None:
    """Main items that repeat the texts of a gold, calibration or attention item would give the answer away."""
    hidden = set()
    for item in judged.items.values():
        if item.stream in HIDDEN:
            key, texts = prompt_key(item.prompt), [r.text for r in item.responses]
            hidden |= {(key, frozenset(two)) for two in combinations(texts, 2)}
            hidden |= {(key, frozenset((text, REFUSED))) for text in texts if len(texts) == 1}
            hidden.add((key, frozenset(texts)))
    for candidate in candidates:
        key = prompt_key(candidate.items[0].prompt)
        parts = {candidate.texts, *(frozenset(two) for two in combinations(sorted(candidate.texts), 2))}
        if len(candidate.items) > 1:  # made of items with one response each, any of which may repeat a hidden one
            parts |= {frozenset((text,)) for text in candidate.texts}
        if not candidate.reason and any((key, texts) in hidden for texts in parts):
            candidate.reason = HIDDEN_TEXT


def _mark_doubles(candidates: Sequence[Candidate]) -> None:
    """Of several items with the same prompt and texts the one with most votes stays; an adjudicated one before all."""
    best: dict[tuple[str, frozenset[str]], Candidate] = {}
    for candidate in sorted(
        (m for m in candidates if not m.reason),
        key=lambda m: (not m.row.get("adjudicated", False), -m.row["n_votes"], m.items[0].id, m.row["origin"]),
    ):
        key = prompt_key(candidate.items[0].prompt), candidate.texts
        if key in best:
            candidate.reason = DOUBLE
        else:
            best[key] = candidate


def _row_id(row: Mapping[str, Any]) -> str:
    return str(next(row[k] for k in ("pair_id", "label_id", "ranking_id", "demonstration_id") if k in row))
