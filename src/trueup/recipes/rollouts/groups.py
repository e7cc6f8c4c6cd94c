"""Several answers to each prompt, compared with each other: what methods without a critic share.

A group are the answers to one prompt of a step, drawn side by side; a prompt that stands twice in a step makes two
groups. The prompt is read once for all of them. An answer that the reward dropped counts nowhere.

Shapes: B rollouts, C completion positions, G groups, K answers of a group (B = G K).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from pydantic import Field, model_validator

from trueup.engine.step import Stepper
from trueup.losses import advantage as advantages
from trueup.losses import kl
from trueup.losses import policy as losses
from trueup.recipes.rollouts.draw import Rollout
from trueup.recipes.rollouts.session import Session, Step, draw
from trueup.recipes.rollouts.settings import OnlineSettings, RolloutSettings, check_mini_batches
from trueup.recipes.rollouts.update import Part, UpdateStatistics, mini_batches, passes
from trueup.types import Prompt

KlPlace: TypeAlias = Literal["reward", "k2", "k3"]


class Grouped(RolloutSettings):
    """Settings of a method that compares the answers to a prompt."""

    answers: int = 4
    """Answers to each prompt, 2 at least. ``batch.size`` counts answers, so a step asks ``batch.size / answers``
    prompts."""

    @model_validator(mode="after")
    def _groups_are_whole(self) -> Grouped:
        check_groups(self.answers, self.batch.size)
        return self

    @property
    def asked(self) -> int:
        """Prompts of a step."""
        return self.batch.size // self.answers


class GroupSettings(Grouped, OnlineSettings):
    """The same for a policy gradient with a KL penalty."""

    kl_place: KlPlace = "reward"
    """Where the KL penalty acts: in the ``reward`` of each answer (k1, summed over its tokens), or on each token of the
    loss, as ``k2``, whose gradient is that of KL(policy || reference), or as GRPO's ``k3``, whose gradient is that of
    KL(reference || policy)."""
    entropy_weight: float = Field(default=0.0, ge=0)
    """Weight of an entropy bonus."""

    @property
    def cuts(self) -> tuple[int, int]:
        """Mini-batches and epochs of a step."""
        return 1, 1

    @property
    def updates(self) -> int:
        """Updates of the whole run."""
        return self.steps * self.cuts[0] * self.cuts[1]


class ClippedSettings(GroupSettings):
    """The same for several updates of one batch, which a clipped ratio holds together."""

    epochs: int = Field(default=1, ge=1)
    """Passes over each batch of rollouts."""
    mini_batches: int = Field(default=1, ge=1)
    """Updates per pass: epochs x mini_batches updates a step in all."""

    @model_validator(mode="after")
    def _mini_batches_hold_rollouts(self) -> ClippedSettings:
        check_mini_batches(self.mini_batches, self.batch.size)
        return self

    @property
    def cuts(self) -> tuple[int, int]:
        """Mini-batches and epochs of a step."""
        return self.mini_batches, self.epochs


def check_groups(answers: int, size: int) -> None:
    """Refuse groups that hold nothing to compare, or that a batch does not hold whole.

    Raises:
        ValueError: Says which setting to change.
    """
    if answers < 2:
        raise ValueError(f"answers is {answers}: an answer is measured by the others to its prompt; take 2 or more")
    if size % answers:
        raise ValueError(
            f"batch.size {size} counts answers and is no multiple of answers {answers}:"
            f" take batch.size {max(1, size // answers) * answers}, or other answers"
        )


def draw_groups(config: Grouped, session: Session, prompts: Sequence[Prompt], *, seed: int) -> Rollout:
    """``config.answers`` answers to each prompt, group after group."""
    return draw(config, session, [prompt for prompt in prompts for _ in range(config.answers)], seed=seed)


@dataclass(frozen=True, eq=False)
class Groups:
    """What the answers of each group are compared by; an answer that the reward dropped is not valid."""

    rewards_GK: torch.Tensor
    valid_GK: torch.Tensor

    @property
    def dead_G(self) -> torch.Tensor:
        """Groups that teach nothing."""
        return advantages.dead_groups(self.rewards_GK, self.valid_GK)

    @property
    def metrics(self) -> dict[str, float]:
        """How many there are of those."""
        return {"dead_groups": float(self.dead_G.float().mean())}


def group(values_B: torch.Tensor, rollout: Rollout, answers: int) -> Groups:
    """One number of each rollout by groups of so many answers, as they were drawn."""
    drawn = torch.zeros(len(rollout) + rollout.dropped, dtype=values_B.dtype)
    valid = torch.zeros(len(drawn), dtype=torch.bool)
    kept = list(rollout.kept)
    drawn[kept], valid[kept] = values_B, True
    return Groups(drawn.view(-1, answers), valid.view(-1, answers))


def total_rewards(config: GroupSettings, rollout: Rollout, beta: float) -> Groups:
    """Score minus penalties, and minus the KL where that is part of the reward."""
    total_B = rollout.net_B
    if config.kl_place == "reward":
        total_B = total_B - beta * (rollout.kl_BC * rollout.mask_BC).sum(-1)
    return group(total_B, rollout, config.answers)


def spread(advantages_GK: torch.Tensor, rollout: Rollout) -> torch.Tensor:
    """One advantage of each answer, on all of its tokens [B, C]."""
    return advantages_GK.flatten()[list(rollout.kept)][:, None] * rollout.mask_BC


TokenLoss: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(log-probs now, old ones, advantages, mask), all [B, C] -> something of each token [B, C]."""


@dataclass(frozen=True)
class Surrogate:
    """The loss of a method.

    Attributes:
        loss: Of each token.
        normalise: How tokens add up, see ``losses.policy.answer_weights``.
        clips: On which tokens clipping acts, in a method that clips.
    """

    loss: TokenLoss
    normalise: str
    clips: TokenLoss | None = None


def improve(
    config: GroupSettings,
    session: Session,
    stepper: Stepper,
    step: Step,
    rollout: Rollout,
    advantages_BC: torch.Tensor,
    surrogate: Surrogate,
) -> dict[str, float]:
    """All updates of a step; returns their metrics.

    Args:
        config: Settings of the method.
        session: Its models.
        stepper: Takes the updates.
        step: Names the order of the mini-batches; its beta acts here unless the KL penalty is in the reward.
        rollout: The answers of the step.
        advantages_BC: Their advantages.
        surrogate: The method's loss.
    """
    step.trained.see(rollout, advantages_BC)
    statistics = UpdateStatistics(step.trained)
    info: dict[str, float] = {}
    for batch in mini_batches(len(rollout), *config.cuts, seed=config.seed, step=step.number):
        weights_BC = torch.zeros_like(rollout.logps_BC)
        mask_BC = rollout.mask_BC[batch]
        weights_BC[batch] = losses.answer_weights(mask_BC, surrogate.normalise, config.sampling.max_new_tokens)
        for part in passes(
            session.policy,
            stepper,
            rollout,
            batch,
            temperature=config.sampling.temperature,
            budget=session.budget,
            entropy_grad=config.entropy_weight > 0,
        ):
            old_BC = part.of(rollout.logps_BC)
            tensors = (part.logps_BC, old_BC, part.of(advantages_BC), part.mask_BC)
            loss_BC = surrogate.loss(*tensors)
            if rollout.importance_BC is not None:
                loss_BC = loss_BC * part.of(rollout.importance_BC)
            total_BC = loss_BC + _penalties(config, part, rollout, step.beta)
            stepper.accumulate(total_BC, count=1.0, weight=part.of(weights_BC))
            with torch.no_grad():
                clipped_BC = None if surrogate.clips is None else surrogate.clips(*tensors)
            statistics.add(part, old_BC, clipped_BC=clipped_BC, policy_loss=loss_BC * part.mask_BC)
        info = stepper.step()
        statistics.end_update()
    return info | statistics.summary()


def _penalties(config: GroupSettings, part: Part, rollout: Rollout, beta: float) -> torch.Tensor:
    """What stands beside the policy's loss on each token [B, C]: KL, if it is here, less the entropy bonus."""
    total_BC = torch.zeros_like(part.logps_BC)
    if config.kl_place != "reward":
        estimator = kl.k2 if config.kl_place == "k2" else kl.k3
        total_BC = total_BC + beta * estimator(part.logps_BC, part.of(rollout.reference_BC))
    if part.scores.entropy_BC is not None:
        total_BC = total_BC - config.entropy_weight * part.scores.entropy_BC
    return total_BC
