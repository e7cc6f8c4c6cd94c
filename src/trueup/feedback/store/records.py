"""Plain rows that leave the store: what quality, aggregation and the snapshot read. No database, no HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from trueup.types import Prompt

T = TypeVar("T")

STREAMS = ("main", "gold", "calibration", "attention", "repeat", "adjudication", "holdout", "spotcheck")
"""Why an item is in the queue. Only ``main`` and ``holdout`` items may ever reach training or test files."""

DEFAULT_METHOD = "ability"
"""How votes become soft labels where nobody says otherwise; one of ``quality.consensus.METHODS``."""

TRAINABLE = ("main", "holdout")


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """One response: an id, its text and where it came from (never shown to annotators)."""

    id: str
    text: str
    generator: str = ""
    generator_kind: str = "model"  # model | human | reference


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One thing to judge. ``responses`` is in canonical order; ``split`` belongs to the prompt."""

    id: str
    kind: str
    stream: str
    split: str
    prompt_id: str
    prompt: Prompt
    responses: tuple[ResponseRow, ...]
    repeat_of: str | None = None
    gold: Mapping[str, Any] | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    """Kind-specific extras, such as the principle of a constitutional review."""


@dataclass(frozen=True, slots=True)
class JudgmentRow:
    """One current judgment (the last revision), with how it was made."""

    id: str
    item: str
    annotator: str
    """Pseudonym."""
    answer: Mapping[str, Any] | None
    """JSON of an ``answers.Answer``; None when skipped."""
    shown: tuple[str, ...]
    """Response ids in the order shown, first is left or top."""
    created_at: str
    """UTC, ISO 8601."""
    active_ms: int | None = None
    revision: int = 1
    surplus: bool = False
    simulated: bool = False
    skip_reason: str | None = None
    rationale: str = ""
    guideline: str | None = None
    """SHA-256 of the guideline version acknowledged."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A project read out whole: items by id, judgments in order of time. Its rows never change."""

    project: str
    items: Mapping[str, ItemRow]
    judgments: tuple[JudgmentRow, ...]
    simulated: bool = False
    _derived: dict[Any, Any] = field(default_factory=dict, repr=False, init=False)  # not copied by `replace`

    def without_surplus(self) -> Judged:
        """The same without answers that came after their seat was taken back: they are no votes."""

        def left() -> Judged:
            return replace(self, judgments=tuple(row for row in self.judgments if not row.surplus))

        return self.once("without surplus", left) if self.surplus else self

    @property
    def surplus(self) -> int:
        """How many answers came after their seat was taken back."""
        return sum(row.surplus for row in self.judgments)

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make`` gives, computed the first time ``key`` is asked for: several pages read the same numbers."""
        if key not in self._derived:
            self._derived[key] = make()
        value: T = self._derived[key]
        return value
