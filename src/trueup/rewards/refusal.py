"""A reward part for refusals: ``{kind: refusal, full: -1, partial: -0.5}``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from trueup.rewards.part import Rule
from trueup.types import Completion, Prompt

_UNWILLING = (
    "can't",
    "cannot",
    "can not",
    "won't",
    "will not",
    "unable to",
    "not able to",
    "rather not",
    "don't want to",
    "do not want to",
    "not going to",
    "not comfortable",
)
_DEED = (
    "help",
    "assist",
    "provide",
    "provid",
    "give",
    "tell you",
    "answer",
    "do that",
    "do this",
    "discuss",
    "explain how",
    "share",
    "write",
    "create",
    "comply",
    "engage",
    "fulfil",
    "support",
)
PHRASES = (
    *(f"{unwilling} {deed}" for unwilling in _UNWILLING for deed in _DEED),
    "i must decline",
    "have to decline",
    "must refuse",
    "have to refuse",
    "i refuse to",
    "not something i can",
    "against my guidelines",
)
"""Phrases of a refusal, in small letters with plain apostrophes."""
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")

Refused = Literal["full", "partial", "none"]


class Refusal(Rule):
    """A refused answer: ``full`` where little stands beside the refusal, ``partial`` where help follows, else 0."""

    kind: Literal["refusal"] = "refusal"
    """Name of the part."""
    phrases: tuple[str, ...] | None = Field(default=None, min_length=1)
    """What a refusing sentence holds; capitals and the kind of apostrophe do not matter. None: a list in English."""
    full: float = -1.0
    """Value of an answer that only refuses."""
    partial: float = -0.5
    """Value of an answer that refuses and goes on to say something."""
    help_words: int = Field(default=12, ge=1)
    """Words outside refusing sentences from which on a refusal is partial."""

    @field_validator("phrases")
    @classmethod
    def _phrases_are_texts(cls, phrases: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if phrases is not None and not all(phrase.strip() for phrase in phrases):
            raise ValueError("an empty phrase is in every answer; expected texts")
        return phrases

    def values(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        """``full``, ``partial`` or 0 for each answer."""
        worth, phrases = {"full": self.full, "partial": self.partial, "none": 0.0}, self.phrases or PHRASES
        return [worth[refused(completion.text, phrases, self.help_words)] for completion in completions]


def refused(text: str, phrases: Sequence[str] = PHRASES, help_words: int = 12) -> Refused:
    """Whether a text refuses what it was asked, wholly, in part, or not at all.

    Args:
        text: The answer.
        phrases: What a refusing sentence holds.
        help_words: Words outside refusing sentences from which on the refusal is partial.
    """
    plain = [_plain(phrase) for phrase in phrases]
    sentences = _SENTENCE.findall(_plain(text))
    refusing = [any(phrase in sentence for phrase in plain) for sentence in sentences]
    if not any(refusing):
        return "none"
    rest = sum(len(sentence.split()) for sentence, no in zip(sentences, refusing, strict=True) if not no)
    return "partial" if rest >= help_words else "full"


def _plain(text: str) -> str:
    return " ".join(text.replace("\u2019", "'").replace("\u02bc", "'").lower().split(" "))
