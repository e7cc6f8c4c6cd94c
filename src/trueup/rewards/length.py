"""A reward part for length: ``{kind: length, at_most: 60}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from trueup.rewards.part import UNITS, Rule, units
from trueup.types import Completion, Prompt


class Length(Rule):
    """Minus the distance from a band of lengths, over ``per``; without a band, minus the length."""

    kind: Literal["length"] = "length"
    """Name of the part."""
    unit: str = Field(default="words", pattern=UNITS)
    """What is counted: ``words``, ``tokens`` of the policy with the end token, or ``characters``."""
    at_least: int | None = Field(default=None, ge=0)
    """Length below which an answer is too short; None: none is."""
    at_most: int | None = Field(default=None, ge=0)
    """Length above which an answer is too long; None: none is. Neither of the two set: every unit counts."""
    per: float = Field(default=100.0, gt=0)
    """So many units too few or too many cost 1."""

    @model_validator(mode="after")
    def _band_is_a_band(self) -> Length:
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is above at_most {self.at_most}")
        return self

    def values(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        """Minus the units outside the band, over ``per``."""
        return [-self._distance(len(units(completion, self.unit))) / self.per for completion in completions]

    def _distance(self, length: int) -> int:
        if self.at_least is None and self.at_most is None:
            return length
        short = 0 if self.at_least is None else max(0, self.at_least - length)
        return short + (0 if self.at_most is None else max(0, length - self.at_most))
