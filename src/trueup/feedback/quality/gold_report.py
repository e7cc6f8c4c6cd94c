"""Each item with a known answer: how often shown, how often right, and whether its key can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trueup.feedback.quality.gold import wilson_interval
from trueup.feedback.store.judgments import is_right
from trueup.feedback.store.records import Judged, JudgmentRow
from trueup.types import Prompt, prompt_shown

BURNED_EXPOSURES = 50
"""A gold item shown more often than this is taken to be known by word of mouth."""


@dataclass(frozen=True, slots=True)
class GoldItem:
    """One known item: how often shown, how often answered right.

    It is *burned* once it was shown to more people than the limit. Its key is *doubtful* when even the upper end of the
    interval of right answers lies below one half: then the crowd, not the annotator, contradicts it.
    """

    item: str
    stream: str
    kind: str
    prompt: Prompt
    exposure: int
    answered: int
    right: int
    low: float | None
    high: float | None
    burned: bool

    @property
    def accuracy(self) -> float | None:
        """Share of right answers; None where nobody answered."""
        return self.right / self.answered if self.answered else None

    @property
    def doubtful(self) -> bool:
        """Whether most annotators contradict the key."""
        return self.high is not None and self.high < 0.5

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "item": self.item,
            "stream": self.stream,
            "kind": self.kind,
            "prompt": prompt_shown(self.prompt),
            "exposure": self.exposure,
            "answered": self.answered,
            "right": self.right,
            "accuracy": self.accuracy,
            "low": self.low,
            "high": self.high,
            "burned": self.burned,
            "doubtful": self.doubtful,
        }


@dataclass(frozen=True, slots=True)
class GoldReport:
    """Every known item, the most often shown first."""

    rows: tuple[GoldItem, ...]
    limit: int
    simulated: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"rows": [row.to_dict() for row in self.rows], "limit": self.limit, "simulated": self.simulated}


def gold_report(judged: Judged, *, limit: int = BURNED_EXPOSURES) -> GoldReport:
    """Each gold, calibration and attention item; shown to more than ``limit`` people it is burned."""
    answered: dict[str, list[JudgmentRow]] = {}
    for judgment in judged.judgments:
        answered.setdefault(judgment.item, []).append(judgment)
    rows = []
    for item in judged.items.values():
        if item.stream not in ("gold", "calibration", "attention") or item.gold is None:
            continue
        shown = answered.get(item.id, [])
        marks = [is_right(row.answer, item.gold) for row in shown if row.answer is not None]
        low, high = wilson_interval(sum(marks), len(marks)) if marks else (None, None)
        rows.append(
            GoldItem(
                item.id,
                item.stream,
                item.kind,
                item.prompt,
                exposure=len(shown),
                answered=len(marks),
                right=sum(marks),
                low=low,
                high=high,
                burned=len(shown) > limit,
            )
        )
    rows.sort(key=lambda row: (-row.exposure, row.item))
    return GoldReport(tuple(rows), limit, judged.simulated)
