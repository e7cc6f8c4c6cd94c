"""What a run draws with: the policy here, or servers that have its weights (``engine.servers``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from trueup.config import Sampling
from trueup.data.batch import Ids
from trueup.engine.generate import Generation, generate
from trueup.models.policy import Policy


class Sampler(Protocol):
    """Draws completions of a policy.

    Attributes:
        version: Of the policy as the trainer has it: the steps that it has taken.
        drawn: Completions since the last ``sync``.
    """

    version: int
    drawn: int

    def sync(self, version: int) -> None:
        """The policy is at this version now; whoever holds its weights elsewhere gets them."""

    def draw(
        self, prompts: Sequence[Ids], sampling: Sampling, *, stop_ids: Collection[int], seed: int
    ) -> list[Generation]:
        """One completion for each prompt, in the order given; see ``generate``."""

    def facts(self) -> dict[str, float]:
        """Metrics of the draws since the last ``sync``."""

    def close(self) -> None:
        """Nothing will be drawn any more."""


class LocalSampler:
    """The policy itself, whose weights need no transfer.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.version = 0
        self.drawn = 0

    def sync(self, version: int) -> None:
        """The policy is at this version now."""
        self.version, self.drawn = version, 0

    def draw(
        self, prompts: Sequence[Ids], sampling: Sampling, *, stop_ids: Collection[int], seed: int
    ) -> list[Generation]:
        """One completion for each prompt, by ``generate``."""
        self.drawn += len(prompts)
        return generate(self.policy, prompts, sampling, stop_ids=stop_ids, seed=seed)

    def facts(self) -> dict[str, float]:
        """None: its log-probs are the trainer's own."""
        return {}

    def close(self) -> None:
        """Nothing to close."""
