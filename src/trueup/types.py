"""The nouns of trueup. Frozen, free of torch, and small enough to read in one sitting.

``Judgment`` (what a person, a simulated annotator or a constitution said; never edited)
-> ``Comparison`` (two responses and an outcome) -> ``PreferencePair`` (what training reads).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Prompt: TypeAlias = str | tuple[Message, ...]
"""What comes before the response: plain text, used verbatim, or chat turns, rendered by a chat template."""


def prompt_json(prompt: Prompt) -> Any:
    """The JSON form of a prompt: a string, or a list of ``{"role", "content"}``."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": m.role, "content": m.content} for m in prompt]


def prompt_text(prompt: Prompt) -> str:
    """A readable single string for people, reports and hashing; never fed to a model."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{m.role}: {m.content}" for m in prompt)


def content_id(*parts: Any) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON of ``parts``."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Outcome(StrEnum):
    """Result of a comparison of responses a and b."""

    A = "a"
    B = "b"
    TIE = "tie"

    def swap(self) -> Outcome:
        """The same verdict with the two sides exchanged."""
        return {Outcome.A: Outcome.B, Outcome.B: Outcome.A, Outcome.TIE: Outcome.TIE}[self]


class StopReason(StrEnum):
    """Why a sampled completion ended."""

    EOS = "eos"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Pairwise:
    """Judgment: one of two responses is better, with a probability in [0, 1] that ``a`` is."""

    annotator: str
    prompt: Prompt
    a: str
    b: str
    p_a: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Judgment: tiers of responses, best first; responses in the same tier are tied."""

    annotator: str
    prompt: Prompt
    tiers: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Binary:
    """Judgment: a response is acceptable or not."""

    annotator: str
    prompt: Prompt
    response: str
    acceptable: bool


@dataclass(frozen=True, slots=True)
class Rating:
    """Judgment: a response on a scale ``low..high`` for one axis, such as ``helpful``."""

    annotator: str
    prompt: Prompt
    response: str
    axis: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Critique:
    """Judgment: free text on a response and, if given, a better response."""

    annotator: str
    prompt: Prompt
    response: str
    critique: str
    revision: str | None = None


Judgment: TypeAlias = Pairwise | Ranking | Binary | Rating | Critique


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to one prompt and who won; ``swap()`` exchanges the sides and keeps the meaning."""

    prompt: Prompt
    a: str
    b: str
    outcome: Outcome
    strength: float = 1.0
    origin: tuple[str, ...] = ()

    def swap(self) -> Comparison:
        """The same comparison seen from the other side."""
        return replace(self, a=self.b, b=self.a, outcome=self.outcome.swap())


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """What preference training reads.

    ``strength`` is the probability that ``chosen`` is the better one, in [0.5, 1]: 1 is a hard label,
    0.5 a tie. ``origin`` names the judgments it came from. ``pair_id`` is derived from the content.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    strength: float = 1.0
    origin: tuple[str, ...] = ()
    pair_id: str = field(default="")

    def __post_init__(self) -> None:
        if not 0.5 <= self.strength <= 1.0:
            from trueup.errors import DataError

            raise DataError(
                f"strength is {self.strength!r}",
                where="strength",
                expected="a probability in [0.5, 1]",
                fix="swap chosen and rejected if the other side is preferred",
            )
        if not self.pair_id:
            object.__setattr__(self, "pair_id", content_id(prompt_json(self.prompt), self.chosen, self.rejected))


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and a completion to imitate (SFT). ``prompt`` may be empty text for plain language modelling."""

    prompt: Prompt
    completion: str
    origin: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Labelled:
    """One response with a yes/no label and no partner (KTO)."""

    prompt: Prompt
    completion: str
    desirable: bool
    origin: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranked:
    """Responses to one prompt with ranks; 0 is best, equal ranks are ties."""

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    origin: tuple[str, ...] = ()
