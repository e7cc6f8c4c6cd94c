"""Candidates for training rows: what the judgments of a project say, one row a pair, label, ranking or demonstration.

No method may write a side that nobody chose: whatever an aggregation believes, a pair's chosen side was chosen, a label
was given and an order was stated by at least one judgment that counts. Ties, "both bad" and skips choose nothing. A
candidate that cannot be written carries the reason, and is counted under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trueup.errors import ConfigError, UsageError, nearest
from trueup.feedback.quality.comparisons import COMPARED, REFUSED, PairVote, answer_of, by_pair, votes_of
from trueup.feedback.quality.consensus import METHODS, Estimate, estimates
from trueup.feedback.snapshot.adjudicated import Settled
from trueup.feedback.store.answers import Edit, named_responses
from trueup.feedback.store.records import DEFAULT_METHOD, ItemRow, Judged, JudgmentRow
from trueup.types import Prompt, content_id, prompt_json

FORMATS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "preference": ("pairs", (*COMPARED, "rating")),
    "kto": ("labels", ("binary", "rating")),
    "ranking": ("rankings", ("ranking",)),
    "sft": ("demonstrations", ("edit", "rating")),
}
"""Format -> (name of its files, kinds of items it is made of)."""

TIE = "a tie"
BOTH_BAD = "both bad"
UNCHOSEN = "the method names a side that nobody chose"
SAME_TEXT = "same text on both sides"
FEW = "too few votes"


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """What to take.

    Attributes:
        format: One of ``FORMATS``.
        method: How votes are aggregated; one of ``METHODS``.
        min_votes: Fewest votes a pair needs; an adjudicated answer needs none.
        min_strength: Pairs whose better side is less probable than this are ties. 0.5 keeps all but exact ties.
        drop_annotators: Pseudonyms whose judgments are not used.
        axes: Axes of ratings with their weights; none means all, alike. A weight below 0: fewer points are better.
        surplus: Count judgments as votes that came after their seat was taken back.
    """

    format: str = "preference"
    method: str = DEFAULT_METHOD
    min_votes: int = 1
    min_strength: float = 0.5
    drop_annotators: tuple[str, ...] = ()
    axes: tuple[tuple[str, float], ...] = ()
    surplus: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"{self.format!r}", where="format", expected=nearest(self.format, FORMATS))
        if self.method not in METHODS:
            raise UsageError(f"{self.method!r}", where="method", expected=nearest(self.method, METHODS))
        if self.min_votes < 1:
            raise ConfigError(f"{self.min_votes}", where="min_votes", expected="1 or more")
        if not 0.5 <= self.min_strength < 1.0:
            raise ConfigError(f"{self.min_strength}", where="min_strength", expected="a probability in [0.5, 1)")

    def counts(self, row: JudgmentRow) -> bool:
        """Whether a judgment is a vote."""
        return row.annotator not in self.drop_annotators and (self.surplus or not row.surplus)


@dataclass
class Candidate:
    """One row that could be written, and what is needed to decide."""

    items: tuple[ItemRow, ...]
    row: dict[str, Any]
    texts: frozenset[str]
    reason: str = ""


def prompt_key(prompt: Prompt) -> str:
    """What makes two prompts the same one: plain text and a single user turn with that text are."""
    turns = prompt_json(prompt)
    if isinstance(turns, list) and len(turns) == 1 and turns[0]["role"] == "user":
        turns = turns[0]["content"]
    return content_id(" ".join(turns.split()) if isinstance(turns, str) else turns)


def voted(
    judged: Judged,
    settings: SnapshotSettings,
    used: set[str],
    cast: Sequence[PairVote],
    settled: Mapping[str, Settled],
    method: str,
) -> Iterator[Candidate]:
    """Pairs or labels from votes.

    Args:
        judged: The project.
        settings: What to take; its ``format`` is ``preference`` or ``kto``.
        used: Items that may be used.
        cast: Their votes.
        settled: Item -> final answer, which overrides the votes.
        method: How votes are aggregated, one of ``METHODS``.
    """
    groups = by_pair(cast)
    labels = {estimate.pair: estimate for estimate in estimates(cast, method)}
    final: dict[tuple[str, str, str], tuple[tuple[str, ...], PairVote]] = {}
    for name in sorted(used & set(settled)):
        origin, answer = settled[name]
        row = JudgmentRow("", name, "", answer.model_dump(mode="json"), (), "")
        for vote in votes_of(judged.items[name], row):
            final[vote.pair] = origin, vote
    build = _label if settings.format == "kto" else _pair
    for pair in dict.fromkeys((*labels, *final)):
        group = groups.get(pair, [])
        label = labels.get(pair) or Estimate(*pair, 0.5, 0.0, 1.0, 0, 0.0, 1.0)
        origin, deciding = tuple(sorted({v.judgment for v in group})), group
        if pair in final:
            origin, verdict = final[pair]
            p, deciding = 0.5 + 0.5 * verdict.sign, [verdict]
            label = Estimate(*pair, p, p, p, label.n_votes, label.n_eff, label.weight)
        candidate = build(judged.items[pair[0]], label, origin, pair in final)
        if not candidate.reason:
            candidate.reason = _why_not(label, deciding, settings, pair in final)
        yield candidate


def _why_not(label: Estimate, deciding: Sequence[PairVote], settings: SnapshotSettings, final: bool) -> str:
    """Why a label must not be written; empty if it may be."""
    strength = max(label.p_first, 1 - label.p_first)
    if not final and label.n_votes < settings.min_votes:
        return FEW
    if not any(vote.sign for vote in deciding):
        return BOTH_BAD if 2 * sum(vote.both_bad for vote in deciding) > len(deciding) else TIE
    if round(strength, 6) <= 0.5 or strength < settings.min_strength:
        return TIE
    side = 1 if label.p_first > 0.5 else -1
    return "" if any(vote.sign == side for vote in deciding) else UNCHOSEN


def _pair(item: ItemRow, label: Estimate, origin: tuple[str, ...], final: bool) -> Candidate:
    texts = {r.id: r.text for r in item.responses}
    if label.p_first < 0.5:
        label = label.swap()
    chosen, rejected = texts[label.first], texts[label.second]
    row = {
        "prompt": prompt_json(item.prompt),
        "chosen": chosen,
        "rejected": rejected,
        "strength": round(label.p_first, 12),
        "low": round(label.low, 6),
        "high": round(label.high, 6),
        "n_votes": label.n_votes,
        "n_eff": round(label.n_eff, 6),
        "weight": round(label.weight, 6),
        "pair_id": content_id(prompt_json(item.prompt), chosen, rejected),
        "origin": list(origin),
        "item": item.id,
        "adjudicated": final,
    }
    same = chosen.strip() == rejected.strip()
    return Candidate((item,), row, frozenset((chosen, rejected)), SAME_TEXT if same else "")


def _label(item: ItemRow, label: Estimate, origin: tuple[str, ...], final: bool) -> Candidate:
    text = next(r.text for r in item.responses if r.id == label.first)
    row = {
        "prompt": prompt_json(item.prompt),
        "completion": text,
        "label": label.p_first > 0.5,
        "strength": round(max(label.p_first, 1 - label.p_first), 12),
        "n_votes": label.n_votes,
        "n_eff": round(label.n_eff, 6),
        "weight": 1.0,
        "label_id": content_id(prompt_json(item.prompt), text),
        "origin": list(origin),
        "item": item.id,
        "adjudicated": final,
    }
    return Candidate((item,), row, frozenset((text, REFUSED)))


def edited(judged: Judged, used: set[str]) -> Iterator[Candidate]:
    """Demonstrations from edits."""
    for judgment in judged.judgments:
        if judgment.item not in used:
            continue
        item = judged.items[judgment.item]
        answer = answer_of(item, judgment)
        if not isinstance(answer, Edit):
            continue
        original = next(r.text for r in item.responses if r.id in named_responses(answer))
        row = demonstration(item, answer.text, (judgment.id,), 1)
        same = answer.text.strip() == original.strip()
        yield Candidate((item,), row, frozenset((answer.text,)), SAME_TEXT if same else "")


def demonstration(item: ItemRow, text: str, origin: Sequence[str], votes: int) -> dict[str, Any]:
    """The row of a demonstration."""
    return {
        "prompt": prompt_json(item.prompt),
        "completion": text,
        "n_votes": votes,
        "weight": 1.0,
        "demonstration_id": content_id(prompt_json(item.prompt), text),
        "origin": list(origin),
        "item": item.id,
    }
