"""A reward part for answers that differ from one another: ``{kind: diversity, memory: 256}``.

An n-gram that D answers have is worth 1/D to each of them; the value of an answer is the mean over its distinct
n-grams: 1 where it shares none, 1/B where B answers are one. Answers of earlier steps count where they are remembered.

Shapes: B answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field

from trueup.config import Batch, Model
from trueup.rewards.part import UNITS, Part, Unit, ngrams, units
from trueup.rewards.protocol import as_scores
from trueup.types import Completion, Prompt


class Diversity(Part):
    """How much of an answer the other answers of the step, and remembered ones, do not have; at most 1."""

    kind: Literal["diversity"] = "diversity"
    """Name of the part."""
    unit: str = Field(default="words", pattern=UNITS)
    """What n-grams are made of: ``words``, ``tokens`` of the policy, or ``characters``."""
    n: int = Field(default=2, ge=1)
    """Units of an n-gram."""
    memory: int = Field(default=0, ge=0)
    """So many of the last answers of earlier steps count too; they are part of every checkpoint."""

    @property
    def own_name(self) -> str:
        """Its kind."""
        return "diversity"

    def open(self, beside: Model | None, batch: Batch | None) -> DiversityReward:
        """The measure, with an empty memory."""
        return DiversityReward(self)


class DiversityReward:
    """The measure with its memory. Scoring does not change the memory; ``remember`` does.

    Args:
        part: Its settings.
    """

    name = "diversity"

    def __init__(self, part: Diversity) -> None:
        self.part = part
        self.fingerprint = part.identity()
        self._remembered: list[list[Unit]] = []

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Scores [B]; what one answer is worth depends on the others of the call."""
        own = [self._distinct(units(completion, self.part.unit)) for completion in completions]
        owners = Counter(gram for grams in own for gram in grams)
        owners.update(gram for sequence in self._remembered for gram in self._distinct(sequence))
        # An empty answer has nothing that the others lack.
        values = [sum(1 / owners[gram] for gram in grams) / len(grams) if grams else 0.0 for grams in own]
        return as_scores(values, prompts, completions, self.name)

    def remember(self, completions: Sequence[Completion]) -> None:
        """Count these as answers of earlier steps from now on; only the last ``memory`` stay."""
        if self.part.memory:
            self._remembered += [list(units(completion, self.part.unit)) for completion in completions]
            self._remembered = self._remembered[-self.part.memory :]

    def state(self) -> dict[str, Any]:
        """The memory, in JSON form."""
        return {"remembered": self._remembered}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a memory that ``state`` gave."""
        self._remembered = [list(sequence) for sequence in state["remembered"]]

    def _distinct(self, sequence: Sequence[Unit]) -> list[tuple[Unit, ...]]:
        # In order of the text, not a set: sums of floats depend on the order, and that of a set on the process.
        return list(dict.fromkeys(ngrams(sequence, self.part.n)))
