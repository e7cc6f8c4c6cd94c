"""The nouns of trueup. Frozen, free of torch, and small enough to read in one sitting.

These are what is in flight from data to gradient: prompts and messages, pairs, demonstrations, labelled and ranked
answers, completions. What people answered in the feedback room has its own models, in ``feedback.store.answers``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    ``content`` is its text. ``turn`` is the whole turn as JSON where the data has more than a role and a text: tool
    calls, reasoning, a name, content in parts, a role under another name. A chat template is given all of it.
    ``context``, on the first turn, is what the row gives beside the turns: tools, documents, template variables.
    """

    role: Role
    content: str
    turn: str = ""
    context: str = ""

    @classmethod
    def of(cls, role: Role, content: str, turn: Mapping[str, Any]) -> Message:
        """A message from a turn of the data; ``turn`` is kept where it is more than ``role`` and ``content``.

        Keys without a value are left out, as ``apply_chat_template`` does.
        """
        kept = {key: value for key, value in turn.items() if value is not None}
        return cls(role, content, "" if kept == {"role": role, "content": content} else _compact(kept))

    def to_dict(self) -> dict[str, Any]:
        """The turn as a chat template is given it: ``role``, ``content`` and every other key."""
        turn: dict[str, Any] = json.loads(self.turn) if self.turn else {"role": self.role, "content": self.content}
        return turn


class AnswerText(str):
    """The text of an answer whose turn has more than text: ``turn`` is the whole turn as JSON.

    It reads as its text. Two are equal only if their turns are, so that answers which differ in a tool call alone are
    never taken for one another.
    """

    turn: str

    def __new__(cls, text: str, turn: str) -> AnswerText:
        answer = super().__new__(cls, text)
        answer.turn = turn
        return answer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnswerText) and str.__eq__(self, other) and self.turn == other.turn

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((str(self), self.turn))

    def __reduce__(self) -> tuple[Any, ...]:
        return AnswerText, (str(self), self.turn)


def answer_of(message: Message) -> str:
    """The answer that a turn of the assistant is: its text, or an ``AnswerText`` where the turn has more."""
    return AnswerText(message.content, message.turn) if message.turn else message.content


def answer_json(answer: str) -> Any:
    """The JSON form of an answer: its text, or a list with its one turn; readers take both."""
    return [json.loads(answer.turn)] if isinstance(answer, AnswerText) else answer


Prompt: TypeAlias = str | tuple[Message, ...]
"""What comes before the response: plain text, used verbatim, or chat turns, rendered by a chat template."""

CONTEXT = "row_context"
"""Key under which the first turn carries, in JSON, what its row gives beside the turns."""


def prompt_json(prompt: Prompt) -> Any:
    """The JSON form of a prompt: a string, or a list of turns, ``{"role", "content"}`` and what else they have.

    The first turn carries the row's tools and the like under ``row_context``; readers put them back.
    """
    if isinstance(prompt, str):
        return prompt
    return [m.to_dict() | ({CONTEXT: json.loads(m.context)} if m.context else {}) for m in prompt]


def prompt_shown(prompt: Prompt) -> Any:
    """A prompt as people are shown it: a string, or turns of a role and a text."""
    return prompt if isinstance(prompt, str) else [{"role": m.role, "content": m.content} for m in prompt]


def question(prompt: Prompt) -> str:
    """What was asked: the text itself, or what the last turn says."""
    return prompt if isinstance(prompt, str) else prompt[-1].content


def prompt_text(prompt: Prompt) -> str:
    """A readable single string for people, reports and hashing; never fed to a model."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(_readable(m) for m in prompt)


def _readable(message: Message) -> str:
    more = {k: v for k, v in message.to_dict().items() if k not in ("role", "content")}
    parts = [f"{message.role}: {message.content}", _compact(more) if more else "", message.context]
    return " ".join(part for part in parts if part)


def content_id(*parts: Any) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON of ``parts``."""
    plain = [answer_json(part) if isinstance(part, str) else part for part in parts]
    text = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def response_key(prompt: Prompt, completion: str) -> str:
    """Hash of a response and what it responds to."""
    return content_id(prompt_json(prompt), completion)


def _check_strength(strength: float, fix: str) -> None:
    from trueup.errors import DataError

    if not 0.5 <= strength <= 1.0:
        raise DataError(f"strength is {strength!r}", where="strength", expected="a probability in [0.5, 1]", fix=fix)


def _check_weight(weight: float) -> None:
    from trueup.errors import DataError

    if not 0.0 < weight < math.inf:
        raise DataError(f"weight is {weight!r}", where="weight", expected="a finite number above 0")


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


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
class Completion:
    """What a model answered: its text, the ids that were drawn (an end token included) and why it stopped."""

    text: str
    ids: tuple[int, ...]
    stop: StopReason

    @property
    def ended(self) -> bool:
        """Whether the model itself ended the answer; one that ran out of length is never shown with an end token."""
        return self.stop is StopReason.EOS


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """What preference training reads.

    ``strength`` is the probability that ``chosen`` is the better one, in [0.5, 1]: 1 is a hard label,
    0.5 a tie. ``origin`` names the judgments it came from. ``pair_id`` is what the data calls the pair, or ``key``
    where it has no name for it; data may call several pairs the same, so only ``key`` tells pairs apart.
    ``weight`` is how much the pair counts beside others: losses and metrics are sum(weight * value) / sum(weight).
    ``margin`` is by how much chosen is better, in the unit of whoever measured it; None where nobody did.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    strength: float = 1.0
    origin: tuple[str, ...] = ()
    pair_id: str = field(default="")
    weight: float = 1.0
    margin: float | None = None

    def __post_init__(self) -> None:
        _check_strength(self.strength, "swap chosen and rejected if the other side is preferred")
        _check_weight(self.weight)
        if not self.pair_id:
            object.__setattr__(self, "pair_id", self.key)

    @property
    def key(self) -> str:
        """Hash of the content: prompt, chosen and rejected."""
        return content_id(prompt_json(self.prompt), self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and a completion to imitate (SFT). ``prompt`` may be empty text for plain language modelling.

    ``weight`` is how much its tokens count beside those of others.
    """

    prompt: Prompt
    completion: str
    origin: tuple[str, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One response with a yes/no label and no partner (KTO).

    ``strength`` is the probability that the label is right, in [0.5, 1]; ``weight`` as for ``PreferencePair``.
    """

    prompt: Prompt
    completion: str
    desirable: bool
    origin: tuple[str, ...] = ()
    strength: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_strength(self.strength, "turn the label round if the other one is more probable")
        _check_weight(self.weight)

    @property
    def key(self) -> str:
        """Hash of prompt and completion; whoever labels the same response otherwise labels what has the same key."""
        return response_key(self.prompt, self.completion)


@dataclass(frozen=True, slots=True)
class Rated:
    """One response with ratings, one for each column that was asked for; None where the data has none."""

    prompt: Prompt
    completion: str
    ratings: tuple[float | None, ...]
    origin: tuple[str, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)

    @property
    def key(self) -> str:
        """Hash of prompt and completion."""
        return response_key(self.prompt, self.completion)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Responses to one prompt with ranks; 0 is best, equal ranks are ties. ``weight`` is that of each of its pairs."""

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    origin: tuple[str, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)
