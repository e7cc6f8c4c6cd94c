"""Which judgments become training rows, in which split, and why the others do not.

Nothing is left out silently: every item of the project and every pair made from it is either written or counted under a
reason. Hidden gold, calibration, attention, repeat and adjudication items never leave; a prompt is in one split only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from trueup.errors import ConfigError, UsageError, nearest
from trueup.feedback.adjudicated import Settled, adjudications, given
from trueup.feedback.answers import Edit, Ranking, named_responses
from trueup.feedback.quality.ability import Duel, fit_abilities
from trueup.feedback.quality.comparisons import COMPARED, REFUSED, Vote, answer_of, by_pair, votes, votes_of
from trueup.feedback.quality.consensus import METHODS, Estimate, estimates
from trueup.feedback.records import DEFAULT_METHOD, SPLITS, TRAINABLE, ItemRow, Judged, JudgmentRow
from trueup.types import Prompt, content_id, prompt_json

FORMATS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "preference": ("pairs", COMPARED),
    "kto": ("labels", ("binary",)),
    "ranking": ("rankings", ("ranking",)),
    "sft": ("demonstrations", ("edit",)),
}
"""Format -> (name of its files, kinds of items it is made of)."""

HIDDEN = ("gold", "calibration", "attention")
"""Streams whose very texts must not reach training, even where a main item repeats them."""

TIE = "a tie"
SAME_TEXT = "same text on both sides"
FEW = "too few votes"
SILENT = "no answer"
HIDDEN_TEXT = "same texts as a hidden test item"
DOUBLE = "same texts as another item"


@dataclass(frozen=True, slots=True)
class Settings:
    """What to take.

    Attributes:
        format: One of ``FORMATS``.
        method: How votes are aggregated; one of ``METHODS``.
        min_votes: Fewest votes a pair needs; an adjudicated answer needs none.
        min_strength: Pairs whose better side is less probable than this are ties. 0.5 keeps all but exact ties.
        drop_annotators: Pseudonyms whose judgments are not used.
    """

    format: str = "preference"
    method: str = DEFAULT_METHOD
    min_votes: int = 1
    min_strength: float = 0.5
    drop_annotators: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"{self.format!r}", where="format", expected=nearest(self.format, FORMATS))
        if self.method not in METHODS:
            raise UsageError(f"{self.method!r}", where="method", expected=nearest(self.method, METHODS))
        if self.min_votes < 1:
            raise ConfigError(f"{self.min_votes}", where="min_votes", expected="1 or more")
        if not 0.5 <= self.min_strength < 1.0:
            raise ConfigError(f"{self.min_strength}", where="min_strength", expected="a probability in [0.5, 1)")


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


@dataclass
class _Made:
    """One candidate row and what is needed to judge it."""

    item: ItemRow
    row: dict[str, Any]
    texts: frozenset[str]
    reason: str = ""


@dataclass
class _Count:
    items: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    dropped: list[tuple[str, str]] = field(default_factory=list)


def select_rows(
    judged: Judged, settings: Settings, adjudicated: Mapping[str, Mapping[str, Any]] | None = None
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
    settled = adjudications(judged) | given(judged, adjudicated or {})
    count = _Count()
    used = _usable_items(judged, settings, settled, count)
    made = list(_candidates(judged, settings, used, settled))
    _mark_hidden(judged, made)
    _mark_doubles(made)
    splits = split_of_prompts(judged)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    for one in made:
        own, whole = _own_split(one.item), splits[prompt_key(one.item.prompt)]
        reason = one.reason or ("" if own == whole else f"prompt is in the {whole} split too")
        if reason:
            count.pairs[reason] += 1
            count.dropped.append((one.item.id, reason))
        else:
            rows[whole].append(one.row)
    place = {name: number for number, name in enumerate(judged.items)}
    written = {
        name: tuple(sorted(held, key=lambda row: (place[row["item"]], _row_id(row)))) for name, held in rows.items()
    }
    return Selection(
        written,
        len(judged.items),
        len(used),
        dict(sorted(count.items.items())),
        len(made),
        dict(sorted(count.pairs.items())),
        sum(bool(row.get("adjudicated")) for held in written.values() for row in held),
        tuple(sorted(count.dropped)),
    )


def prompt_key(prompt: Prompt) -> str:
    """What makes two prompts the same one: plain text and a single user turn with that text are."""
    turns = prompt_json(prompt)
    if isinstance(turns, list) and len(turns) == 1 and turns[0]["role"] == "user":
        turns = turns[0]["content"]
    return content_id(" ".join(turns.split()) if isinstance(turns, str) else turns)


def split_of_prompts(judged: Judged) -> dict[str, str]:
    """Prompt -> its one split. A prompt that stands in several goes to the one furthest from training."""
    found: dict[str, str] = {}
    for item in judged.items.values():
        if item.stream in TRAINABLE:
            key, split = prompt_key(item.prompt), _own_split(item)
            found[key] = max(found.get(key, split), split, key=SPLITS.index)
    return found


def _own_split(item: ItemRow) -> str:
    """The random hold-out stream is the unbiased test set, whatever its prompts' split."""
    return "test" if item.stream == "holdout" else item.split


def _usable_items(judged: Judged, settings: Settings, settled: Mapping[str, Any], count: _Count) -> set[str]:
    kinds = FORMATS[settings.format][1]
    without = set(settings.drop_annotators)
    answered = {r.item for r in judged.judgments if r.answer is not None and r.annotator not in without}
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


def _candidates(judged: Judged, settings: Settings, used: set[str], settled: Mapping[str, Settled]) -> Iterator[_Made]:
    if settings.format == "sft":
        yield from _edits(judged, settings, used)
        return
    kinds = FORMATS[settings.format][1]
    cast = [v for v in votes(judged, kinds=kinds, without=settings.drop_annotators) if v.item in used]
    if settings.format == "ranking":
        yield from _rankings(judged, settings, used, cast, settled)
        return
    groups = by_pair(cast)
    labels = {one.pair: one for one in estimates(cast, settings.method)}
    final: dict[tuple[str, str, str], tuple[tuple[str, ...], int]] = {}
    for name in sorted(used & set(settled)):
        origin, answer = settled[name]
        row = JudgmentRow("", name, "", answer.model_dump(mode="json"), (), "")
        for vote in votes_of(judged.items[name], row):
            final[vote.pair] = origin, vote.sign
    for pair in dict.fromkeys((*labels, *final)):
        item = judged.items[pair[0]]
        group = groups.get(pair, [])
        label = labels.get(pair) or Estimate(*pair, 0.5, 0.0, 1.0, 0, 0.0, 1.0)
        if settings.format == "kto":
            yield _label(item, label, group, settings, final.get(pair))
        else:
            yield _pair(item, label, group, settings, final.get(pair))


def _pair(
    item: ItemRow,
    label: Estimate,
    group: Sequence[Vote],
    settings: Settings,
    final: tuple[tuple[str, ...], int] | None,
) -> _Made:
    texts = {r.id: r.text for r in item.responses}
    origin = final[0] if final else tuple(sorted({v.judgment for v in group}))
    if final:
        p = 0.5 + 0.5 * final[1]
        label = Estimate(*label.pair, p, p, p, label.n_votes, label.n_eff, label.weight)
    if label.p_first < 0.5:
        label = label.swap()
    chosen, rejected = texts[label.first], texts[label.second]
    strength = round(label.p_first, 12)
    row = {
        "prompt": prompt_json(item.prompt),
        "chosen": chosen,
        "rejected": rejected,
        "strength": strength,
        "low": round(label.low, 6),
        "high": round(label.high, 6),
        "n_votes": label.n_votes,
        "n_eff": round(label.n_eff, 6),
        "weight": round(label.weight, 6),
        "pair_id": content_id(prompt_json(item.prompt), chosen, rejected),
        "origin": list(origin),
        "item": item.id,
        "adjudicated": final is not None,
    }
    reason = ""
    if chosen.strip() == rejected.strip():
        reason = SAME_TEXT
    elif final is None and label.n_votes < settings.min_votes:
        reason = FEW
    elif round(strength, 6) <= 0.5 or strength < settings.min_strength:
        reason = TIE
    return _Made(item, row, frozenset((chosen, rejected)), reason)


def _label(
    item: ItemRow,
    label: Estimate,
    group: Sequence[Vote],
    settings: Settings,
    final: tuple[tuple[str, ...], int] | None,
) -> _Made:
    text = next(r.text for r in item.responses if r.id == label.first)
    p = 0.5 + 0.5 * final[1] if final else label.p_first
    strength = round(max(p, 1 - p), 12)
    row = {
        "prompt": prompt_json(item.prompt),
        "completion": text,
        "label": p > 0.5,
        "strength": strength,
        "n_votes": label.n_votes,
        "n_eff": round(label.n_eff, 6),
        "weight": 1.0,
        "label_id": content_id(prompt_json(item.prompt), text),
        "origin": list(final[0] if final else sorted({v.judgment for v in group})),
        "item": item.id,
        "adjudicated": final is not None,
    }
    few = final is None and label.n_votes < settings.min_votes
    tie = round(strength, 6) <= 0.5 or strength < settings.min_strength
    return _Made(item, row, frozenset((text, REFUSED)), FEW if few else TIE if tie else "")


def _rankings(
    judged: Judged,
    settings: Settings,
    used: set[str],
    cast: Sequence[Vote],
    settled: Mapping[str, Settled],
) -> Iterator[_Made]:
    by_item: dict[str, list[Vote]] = {}
    for vote in cast:
        by_item.setdefault(vote.item, []).append(vote)
    for name in sorted(used):
        item, group = judged.items[name], by_item.get(name, [])
        voters = {v.judgment for v in group}
        if name in settled:
            origin, answer = settled[name]
            place = {r: n for n, tier in enumerate(answer.tiers) for r in tier} if isinstance(answer, Ranking) else {}
        else:
            origin, place = tuple(sorted(voters)), _consensus_places(group)
        ranked = [r for r in item.responses if r.id in place]
        row = {
            "prompt": prompt_json(item.prompt),
            "responses": [r.text for r in ranked],
            "ranks": [place[r.id] for r in ranked],
            "n_votes": len(voters),
            "weight": 1.0,
            "ranking_id": content_id(prompt_json(item.prompt), [r.text for r in ranked]),
            "origin": list(origin),
            "item": name,
            "adjudicated": name in settled,
        }
        few = name not in settled and len(voters) < settings.min_votes
        tie = len(set(place.values())) < 2
        yield _Made(item, row, frozenset(r.text for r in ranked), FEW if few else TIE if tie else "")


def _consensus_places(group: Sequence[Vote]) -> dict[str, int]:
    """Response -> rank by Bradley-Terry strength over all votes of one item; equal strengths share a rank."""
    if not group:
        return {}
    table = [Duel(v.first, v.second, "all", 0.5 + 0.5 * v.sign, v.weight) for v in group]
    fit = fit_abilities(table, ridge=0.1, spread=0.02)
    strength = {str(name): round(float(q), 4) for name, q in zip(fit.things, fit.quality_M, strict=True)}
    order = sorted(set(strength.values()), reverse=True)
    return {name: order.index(value) for name, value in strength.items()}


def _edits(judged: Judged, settings: Settings, used: set[str]) -> Iterator[_Made]:
    without = set(settings.drop_annotators)
    for judgment in judged.judgments:
        if judgment.item not in used or judgment.annotator in without:
            continue
        item = judged.items[judgment.item]
        answer = answer_of(item, judgment)
        if not isinstance(answer, Edit):
            continue
        original = next(r.text for r in item.responses if r.id in named_responses(answer))
        row = {
            "prompt": prompt_json(item.prompt),
            "completion": answer.text,
            "n_votes": 1,
            "weight": 1.0,
            "demonstration_id": content_id(prompt_json(item.prompt), answer.text),
            "origin": [judgment.id],
            "item": item.id,
        }
        yield _Made(item, row, frozenset((answer.text,)), SAME_TEXT if answer.text.strip() == original.strip() else "")


def _mark_hidden(judged: Judged, made: Sequence[_Made]) -> None:
    """Main items that repeat the texts of a gold, calibration or attention item would give the answer away."""
    held = set()
    for item in judged.items.values():
        if item.stream in HIDDEN:
            key, texts = prompt_key(item.prompt), [r.text for r in item.responses]
            held |= {(key, frozenset(two)) for two in combinations(texts, 2)}
            held |= {(key, frozenset((text, REFUSED))) for text in texts if len(texts) == 1}
            held.add((key, frozenset(texts)))
    for one in made:
        key = prompt_key(one.item.prompt)
        told = {one.texts, *(frozenset(two) for two in combinations(sorted(one.texts), 2))}
        if not one.reason and any((key, texts) in held for texts in told):
            one.reason = HIDDEN_TEXT


def _mark_doubles(made: Sequence[_Made]) -> None:
    """Of several items with the same prompt and texts the one with most votes stays; an adjudicated one before all."""
    best: dict[tuple[str, frozenset[str]], _Made] = {}
    for one in sorted(
        (m for m in made if not m.reason),
        key=lambda m: (not m.row.get("adjudicated", False), -m.row["n_votes"], m.item.id, m.row["origin"]),
    ):
        key = prompt_key(one.item.prompt), one.texts
        if key in best:
            one.reason = DOUBLE
        else:
            best[key] = one


def _row_id(row: Mapping[str, Any]) -> str:
    return str(next(row[k] for k in ("pair_id", "label_id", "ranking_id", "demonstration_id") if k in row))
