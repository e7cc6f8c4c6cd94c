"""A reward part against answers that repeat themselves: ``{kind: repetition, n: 3}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from trueup.rewards.part import UNITS, Rule, Unit, ngrams, units
from trueup.types import Completion, Prompt


class Repetition(Rule):
    """Minus the share of an answer's n-grams that stood in it before: 0 where none repeats, near -1 in a loop."""

    kind: Literal["repetition"] = "repetition"
    """Name of the part."""
    unit: str = Field(default="words", pattern=UNITS)
    """What n-grams are made of: ``words``, ``tokens`` of the policy, or ``characters``."""
    n: int = Field(default=3, ge=1)
    """Units of an n-gram; longer ones forgive more."""

    def values(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        """Minus the share of repeated n-grams."""
        return [-repeated_share(units(completion, self.unit), self.n) for completion in completions]


def repeated_share(sequence: Sequence[Unit], n: int) -> float:
    """1 - distinct n-grams / n-grams; 0 for a sequence with at most one."""
    every = ngrams(sequence, n)
    return 1.0 - len(set(every)) / len(every) if every else 0.0
