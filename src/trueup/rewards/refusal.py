"""A reward part for refusals: ``{kind: refusal, full: -1, partial: -0.5}``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from trueup.rewards.part import Rule
from trueup.rewards.refusal_phrases import Refusal as Refused
from trueup.rewards.refusal_phrases import refusal
from trueup.types import Completion, Prompt

_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")


class Refusal(Rule):
    """A refused answer: ``full`` where little stands beside the refusal, ``partial`` where help follows, else 0."""

    kind: Literal["refusal"] = "refusal"
    """Name of the part."""
    phrases: tuple[str, ...] | None = Field(default=None, min_length=1)
    """What a refusing sentence holds; capitals and the kind of apostrophe do not matter. None: English refusals, in the
    classes in which ``trueup evaluate`` counts them."""
    full: float = -1.0
    """Value of an answer that only refuses."""
    partial: float = -0.5
    """Value of an answer that refuses and goes on to say something."""
    help_words: int = Field(default=12, ge=1)
    """With ``phrases``: words outside refusing sentences from which on a refusal is partial."""

    @field_validator("phrases")
    @classmethod
    def _phrases_are_texts(cls, phrases: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if phrases is not None and not all(phrase.strip() for phrase in phrases):
            raise ValueError("an empty phrase is in every answer; expected texts")
        return phrases

    def values(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        """``full``, ``partial`` or 0 for each answer."""
        worth = {Refused.FULL: self.full, Refused.PARTIAL: self.partial, Refused.NONE: 0.0}
        return [worth[self._class(completion.text)] for completion in completions]

    def _class(self, text: str) -> Refused:
        if self.phrases is None:
            return refusal(text)
        plain = [_plain(phrase) for phrase in self.phrases]
        sentences = _SENTENCE.findall(_plain(text))
        rest = [sentence for sentence in sentences if not any(phrase in sentence for phrase in plain)]
        if len(rest) == len(sentences):
            return Refused.NONE
        return Refused.PARTIAL if sum(len(s.split()) for s in rest) >= self.help_words else Refused.FULL


def _plain(text: str) -> str:
    return " ".join(text.replace("\u2019", "'").replace("\u02bc", "'").lower().split(" "))
