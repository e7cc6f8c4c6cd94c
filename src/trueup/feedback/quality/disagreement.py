"""Pairs that people see differently, with what both sides said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trueup.feedback.quality.comparisons import by_pair, votes
from trueup.feedback.quality.consensus import estimates
from trueup.feedback.store.records import DEFAULT_METHOD, Judged, ResponseRow
from trueup.types import Prompt, prompt_shown

Side = Literal["first", "second", "tie"]
SIDES: Mapping[int, Side] = {1: "first", -1: "second", 0: "tie"}


@dataclass(frozen=True, slots=True)
class Rationale:
    """One annotator's verdict on a pair in their own words."""

    annotator: str
    strength: int
    rationale: str


@dataclass(frozen=True, slots=True)
class DisputedPair:
    """A pair that people see differently; entropy is in bits, 1 where all is open."""

    item: str
    kind: str
    prompt: Prompt
    first: ResponseRow
    second: ResponseRow
    p_first: float
    entropy: float
    rationales: Mapping[Side, tuple[Rationale, ...]]
    """Everybody's, by the side that they chose."""

    @property
    def votes(self) -> dict[Side, int]:
        """How many chose each side."""
        return {side: len(rows) for side, rows in self.rationales.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without what made the responses."""
        return {
            "item": self.item,
            "kind": self.kind,
            "prompt": prompt_shown(self.prompt),
            "first": {"id": self.first.id, "text": self.first.text},
            "second": {"id": self.second.id, "text": self.second.text},
            "p_first": self.p_first,
            "entropy": self.entropy,
            "votes": self.votes,
            "rationales": {side: [asdict(row) for row in rows] for side, rows in self.rationales.items()},
        }


@dataclass(frozen=True, slots=True)
class DisagreementReport:
    """Pairs that people see differently, the most open first, out of all that several people judged."""

    rows: tuple[DisputedPair, ...]
    pairs: int
    unanimous: int
    simulated: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "pairs": self.pairs,
            "unanimous": self.unanimous,
            "simulated": self.simulated,
        }


def disagreement_report(judged: Judged, *, method: str = DEFAULT_METHOD, most: int = 100) -> DisagreementReport:
    """Pairs that people see differently, the most open first, with the rationales of both sides.

    Args:
        judged: The project.
        method: How the probability is made; see ``aggregate``.
        most: Longest list.
    """
    cast = votes(judged)
    groups = by_pair(cast)
    rationale = {row.id: row.rationale for row in judged.judgments}
    rows = []
    for label in estimates(cast, method):
        group = groups[label.pair]
        if len({v.sign for v in group}) < 2:
            continue
        item = judged.items[label.item]
        responses = {r.id: r for r in item.responses}
        sides: dict[Side, list[Rationale]] = {"first": [], "second": [], "tie": []}
        for vote in group:
            sides[SIDES[vote.sign]].append(Rationale(vote.annotator, abs(vote.outcome), rationale[vote.judgment]))
        rows.append(
            DisputedPair(
                item=item.id,
                kind=item.kind,
                prompt=item.prompt,
                first=responses[label.first],
                second=responses[label.second],
                p_first=label.p_first,
                entropy=_entropy(label.p_first),
                rationales={side: tuple(verdicts) for side, verdicts in sides.items()},
            )
        )
    rows.sort(key=lambda row: (-round(row.entropy, 9), row.item, row.first.id, row.second.id))
    shared = [g for g in groups.values() if len(g) > 1]
    unanimous = sum(len({v.sign for v in g}) == 1 for g in shared)
    return DisagreementReport(tuple(rows[:most]), len(shared), unanimous, judged.simulated)


def _entropy(p: float) -> float:
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)
