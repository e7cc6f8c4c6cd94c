"""What lists and pages show of a project: plain values, and JSON at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list or page shows, as plain values."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ProjectSummary(Summary):
    """A project with its counts."""

    id: str
    name: str
    state: str
    simulated: bool
    items: int
    satisfied: int
    judgments: int
    my_judgments: int


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """Counts of one stream."""

    stream: str
    items: int
    satisfied: int
    judgments: int


@dataclass(frozen=True, slots=True)
class DayCount:
    """Judgments of one day, UTC."""

    day: str
    judgments: int


@dataclass(frozen=True, slots=True)
class Progress(Summary):
    """How far a project is."""

    by_stream: list[StreamProgress]
    per_day: list[DayCount]
    eta_hours: float | None


@dataclass(frozen=True, slots=True)
class GuidelineVersion(Summary):
    """A version of a guideline, and whether somebody has accepted it."""

    id: str
    number: int
    markdown: str
    sha256: str
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class TemplateSummary:
    """A way of asking."""

    id: str
    name: str
    kind: str
    config: Mapping[str, Any]
    problem: str | None
    """What is wrong with the settings that are stored."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON; ``problem`` only where there is one."""
        shown = {"id": self.id, "name": self.name, "kind": self.kind, "config": self.config}
        return shown if self.problem is None else shown | {"problem": self.problem}


@dataclass(frozen=True, slots=True)
class PersonSummary(Summary):
    """Somebody with an account."""

    id: str
    handle: str
    pseudonym: str
    role: str
    active: bool
    simulated: bool
    created_at: str
    may_sign_in: bool


@dataclass(frozen=True, slots=True)
class GoldItem(Summary):
    """An item with a known answer: ``right`` counts those of ``answered`` that are, None where no answer is known."""

    item: str
    kind: str
    stream: str
    prompt: str
    exposures: int
    answered: int
    right: int | None
    explanation: str
    retired_at: str | None


@dataclass(frozen=True, slots=True)
class AuditEvent(Summary):
    """One event of the audit log; the fields are its columns."""

    seq: int
    at: str
    actor: str
    action: str
    object: str
    detail: str
    previous: str
    hash: str
