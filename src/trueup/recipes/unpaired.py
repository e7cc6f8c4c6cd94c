"""Objectives on single responses marked good or bad: ``objective: {kind: bco, shift_decay: 0.9}``.

Both compare the implicit reward of a response with a point between good and bad. KTO takes the policy's KL from the
reference, which needs mismatched rows; BCO takes the middle between what good and what bad responses are rewarded. The
point is a number without gradient. The mathematics lives in ``losses.unpaired``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from trueup.config import Settings
from trueup.losses import unpaired as losses


class KtoObjective(Settings):
    """KTO (Ethayarajh et al. 2024, eq. 8): the gain over the policy's KL from the reference, squashed by a sigmoid."""

    mismatched: ClassVar[bool] = True
    """Whether its point is measured on each prompt with the completion of another."""
    point: ClassVar[str] = "kl"
    """The metric that its point is logged as."""
    loss: ClassVar[Any] = staticmethod(losses.kto)
    """Losses [B] of log-probs, labels and the point."""
    kind: Literal["kto"] = "kto"
    """Name of the objective."""


class BcoObjective(Settings):
    """BCO (Jung et al. 2024, arXiv 2404.04656): a classifier of good and bad whose logit is the implicit reward."""

    mismatched: ClassVar[bool] = False
    """Whether its point is measured on each prompt with the completion of another."""
    point: ClassVar[str] = "reward_shift"
    """The metric that its point is logged as."""
    loss: ClassVar[Any] = staticmethod(losses.bco)
    """Losses [B] of log-probs, labels and the point."""
    kind: Literal["bco"] = "bco"
    """Name of the objective."""
    shift_decay: float = Field(default=0.9, ge=0, lt=1)
    """What each step leaves of the running means of good and of bad rewards; 0 takes the last batch alone."""


UnpairedObjective: TypeAlias = KtoObjective | BcoObjective
"""Every objective on single responses; ``kind`` tells them apart."""


class RewardShift:
    """The middle between the running means of what good and what bad responses are rewarded; a part of checkpoints.

    Each label has a mean of its own, so that a batch with many of one label does not move the middle. A step uses what
    the steps before it left: its own responses are in no shift that they are measured from, and it does not matter how
    a batch is cut. Before the first step, and for a label that no step had, the mean is 0, the reward of a policy that
    is its reference.

    Args:
        decay: What an update leaves of the mean before.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.means: dict[bool, float] = {}

    @property
    def value(self) -> float:
        """The shift, in units of the reward."""
        return (self.means.get(True, 0.0) + self.means.get(False, 0.0)) / 2

    def update(self, rewards: Sequence[float], desirable: Sequence[bool], weights: Sequence[float]) -> None:
        """Take in a batch; a label that is not in it, or has no weight there, keeps its mean."""
        for label in (True, False):
            some = [(w, r) for r, good, w in zip(rewards, desirable, weights, strict=True) if good is label and w > 0]
            if some:
                mean = sum(w * r for w, r in some) / sum(w for w, _ in some)
                before = self.means.get(label)
                self.means[label] = mean if before is None else self.decay * before + (1 - self.decay) * mean

    def state(self) -> dict[str, Any]:
        """For a checkpoint, in JSON form; floats come back to the bit."""
        return {"good": self.means.get(True), "bad": self.means.get(False)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` gave."""
        known = {True: state["good"], False: state["bad"]}
        self.means = {label: float(mean) for label, mean in known.items() if mean is not None}
