"""A reward part of several rewards that say the same thing each in its own way: ``{kind: ensemble, members: [...]}``.

The worst of them (``min``) or the mean less their disagreement (``mean_minus_sd``) postpones over-optimisation, since
what only one of them likes is worth little (Coste et al. 2024, arXiv 2310.02743).

Shapes: B answers, M members.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator

from trueup.config import Batch, Model
from trueup.errors import ConfigError
from trueup.rewards.options import apart
from trueup.rewards.part import Part
from trueup.rewards.protocol import Reward, require_finite
from trueup.rewards.registry import identify
from trueup.types import Completion, Prompt, content_id


class Ensemble(Part):
    """Several rewards as one."""

    kind: Literal["ensemble"] = "ensemble"
    """Name of the part."""
    members: tuple[str, ...] = Field(min_length=2)
    """Sources as in ``reward``, none of them twice: runs of other seeds, adapters, heads of one model
    (``path#label=head-0``). Adapters of one base, and heads of one model, hold it once."""
    combine: str = Field(default="mean", pattern="^(mean|min|mean_minus_sd)$")
    """``mean``, ``min`` (the worst), or ``mean_minus_sd``: mean - k * standard deviation of the members."""
    k: float = Field(default=1.0, ge=0)
    """How much disagreement costs; only ``mean_minus_sd`` has it."""

    @model_validator(mode="after")
    def _k_is_used(self) -> Ensemble:
        if self.k != 1.0 and self.combine != "mean_minus_sd":
            raise ValueError(f"k: combine={self.combine} does not use it; leave it out, or set combine=mean_minus_sd")
        return self

    @model_validator(mode="after")
    def _members_differ(self) -> Ensemble:
        twice = _alike(self.members, [_place(member) for member in self.members])
        if twice is not None:
            raise ValueError(f"members: {twice}")
        return self

    @property
    def own_name(self) -> str:
        """Its kind."""
        return "ensemble"

    def identity(self) -> str:
        """Hash of its settings and of every member.

        Raises:
            ConfigError: Two members are copies of one model.
        """
        prints = [identify(member) for member in self.members]
        twice = _alike(self.members, prints)
        if twice is not None:
            raise ConfigError(twice, where="members", expected="other seeds, adapters, heads or functions")
        return content_id(self.model_dump(mode="json"), prints)

    def open(self, beside: Model | None, batch: Batch | None) -> EnsembleReward:
        """All members, opened; those with one backbone share it."""
        from trueup.rewards.members import open_members  # which loads what opens models

        fingerprint = self.identity()
        members = open_members(self.members, beside, batch)
        return EnsembleReward(members, self.combine, self.k, fingerprint)


def _place(source: str) -> Hashable:
    """What a source names, however its path is written, and what is asked of it."""
    path, asked = apart(source)
    return Path(path).resolve(), frozenset(part.strip() for part in asked.split(","))


def _alike(members: Sequence[str], marks: Sequence[Hashable]) -> str | None:
    """What to say of two members of one mark: one reward counted twice, which agrees with itself. None without any."""
    for (one, mark), (other, its_mark) in combinations(zip(members, marks, strict=True), 2):
        if mark == its_mark:
            named = f"{one!r} is named twice" if one == other else f"{one!r} and {other!r} are the same reward"
            return f"{named}; its weight would double and its disagreement be 0: leave one out"
    return None


class EnsembleReward:
    """Members and how they become one score.

    Args:
        members: At least two.
        combine: As in the settings.
        k: As in the settings.
        fingerprint: Hash of settings and members.

    Attributes:
        spread_B: Standard deviation of the members (divided by M) over each of the answers that were scored last [B].
    """

    def __init__(self, members: Sequence[Reward], combine: str, k: float, fingerprint: str) -> None:
        self.members = tuple(members)
        self.combine = combine
        self.k = k
        self.fingerprint = fingerprint
        self.spread_B = torch.zeros(0, dtype=torch.float64)

    @property
    def name(self) -> str:
        """How and of what it is made."""
        return f"{self.combine} of {', '.join(member.name for member in self.members)}"

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Scores [B]; the order of the members does not matter."""
        score_MB = torch.stack([member.score(prompts, completions) for member in self.members]).double()
        self.spread_B = score_MB.std(0, correction=0)
        score_B = combined(score_MB, self.combine, self.k).float()
        require_finite(score_B, prompts, completions, self.name)
        return score_B


def combined(score_MB: torch.Tensor, combine: str, k: float) -> torch.Tensor:
    """Mean, minimum, or mean - k * standard deviation over the members [B]; the deviation is that of these members
    (divided by M), so with two of them and k = 1 it is the minimum."""
    if combine == "min":
        return score_MB.amin(0)
    mean_B = score_MB.mean(0)
    return mean_B if combine == "mean" else mean_B - k * score_MB.std(0, correction=0)
