"""A part of a reward in the settings: what every kind of part has, and the kind that reads nothing but texts.

A kind is a file of this package with its class below ``Part``, and its name in the union of ``mixture``. Whatever it
measures, a higher value is a better answer: a part that counts what is bad gives it with a minus, so that weights are
positive where nothing is turned round on purpose.

Shapes: B answers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from pydantic import Field

from trueup.config import Batch, Model, Settings
from trueup.errors import UsageError
from trueup.rewards.protocol import Reward, as_scores, sample_place
from trueup.types import Completion, Prompt, content_id

Values: TypeAlias = Callable[[Sequence[Prompt], Sequence[Completion]], list[float]]


class Part(Settings):
    """What every part of a reward has beside its own settings."""

    weight: float = 1.0
    """What its value is multiplied by, last of all; 0 measures without rewarding."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """What metrics, samples and errors call it; by default its source or kind."""
    normalise: str = Field(default="none", pattern="^(none|batch|running)$")
    """Bring its values to mean 0 and standard deviation 1: over the answers of the step, or over all so far."""
    clip: float | None = Field(default=None, gt=0)
    """Bounds of its value, minus this and plus this, after ``normalise``."""
    missing_eos_penalty: float = Field(default=0.0, ge=0)
    """Taken off its value, after ``clip``, where an answer hit the length limit."""
    on_error: str = Field(default="stop", pattern="^(stop|drop)$")
    """Where it cannot score an answer: stop the run, or drop the answer from the step and count it; never a 0."""

    @property
    @abstractmethod
    def own_name(self) -> str:
        """What it is called where no name is set."""

    def identity(self) -> str:
        """Hash of everything that its values depend on."""
        return content_id(self.model_dump(mode="json"))

    @abstractmethod
    def open(self, beside: Model | None, batch: Batch | None) -> Reward:
        """What gives its values, ready to score; arguments as for ``registry.open_reward``."""


class Rule(Part):
    """A part that is a rule on texts: one number for each answer, no model and no memory."""

    @property
    def own_name(self) -> str:
        """Its kind."""
        return str(type(self).model_fields["kind"].default)

    @abstractmethod
    def values(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        """A number for each answer; higher is better."""

    def open(self, beside: Model | None, batch: Batch | None) -> RuleReward:
        """The rule as a reward."""
        return RuleReward(self.values, self.own_name, self.identity())


class RuleReward:
    """A rule on texts as a reward.

    Args:
        values: The rule.
        name: Its kind.
        fingerprint: Hash of its settings.
    """

    def __init__(self, values: Values, name: str, fingerprint: str) -> None:
        self.values = values
        self.name = name
        self.fingerprint = fingerprint

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Scores [B] of the rule."""
        return as_scores(self.values(prompts, completions), prompts, completions, self.name)


Unit: TypeAlias = Any
UNITS = "^(words|tokens|characters)$"
"""What lengths and n-grams are counted in; tokens are the policy's own, the end token included."""


def units(completion: Completion, kind: str) -> Sequence[Unit]:
    """An answer as words (what stands between spaces, in small letters), as tokens of the policy, or as characters.

    Raises:
        UsageError: Tokens, of a text that nobody drew.
    """
    if kind == "words":
        return completion.text.lower().split()
    if kind == "characters":
        return completion.text
    if completion.text and not completion.ids:
        raise UsageError(
            "the unit is tokens, and the answer is a text without tokens",
            where=sample_place("reward", "", completion),
            expected="an answer that a policy drew",
            fix="count words or characters",
        )
    return completion.ids


def ngrams(sequence: Sequence[Unit], n: int) -> list[tuple[Unit, ...]]:
    """Its n-grams in order; of a shorter sequence itself, whole, unless it is empty."""
    if len(sequence) < n:
        return [tuple(sequence)] if sequence else []
    return [tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]
