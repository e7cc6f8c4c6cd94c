"""A reward part of patterns with points: ``{kind: regex, rules: [{pattern: "^- ", score: -0.1}]}``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import field_validator

from trueup.config import Settings
from trueup.rewards.part import Rule
from trueup.types import Completion, Prompt


class PatternRule(Settings):
    """A pattern and what it is worth."""

    pattern: str
    """Regular expression of Python, looked for anywhere in the answer; ``^`` and ``$`` also match at its lines."""
    score: float
    """Points for an answer that it matches."""
    each: bool = False
    """Points for every match, not only for the first."""
    ignore_case: bool = False
    """Whether capital and small letters are alike."""

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return pattern

    def points(self, text: str) -> float:
        """What a text gets."""
        flags = re.MULTILINE | (re.IGNORECASE if self.ignore_case else 0)
        if not self.each:
            return self.score if re.search(self.pattern, text, flags) else 0.0
        return self.score * sum(1 for _ in re.finditer(self.pattern, text, flags))


class Regex(Rule):
    """Points of the patterns that match, added up."""

    kind: Literal["regex"] = "regex"
    """Name of the part."""
    rules: tuple[PatternRule, ...]
    """The patterns, each with its points: ``[{pattern: ..., score: ...}]``."""

    @field_validator("rules")
    @classmethod
    def _there_is_one(cls, rules: tuple[PatternRule, ...]) -> tuple[PatternRule, ...]:
        if not rules:
            raise ValueError("an empty list; expected at least one {pattern: ..., score: ...}")
        return rules

    def values(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        """Points of each answer."""
        return [sum(rule.points(completion.text) for rule in self.rules) for completion in completions]
