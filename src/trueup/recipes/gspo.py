"""GSPO: the ratio of an answer, not of its tokens, is clipped.

    trueup gspo --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/gspo

One step is: several answers to each prompt -> score, as GRPO compares it -> several updates in which the geometric mean
of an answer's token ratios is clipped, for all of its tokens together (Zheng et al. 2025, arXiv:2507.18071). That mean
moves far less than one token does, so the band is a few ten-thousandths wide; with PPO's 0.2 nothing is ever clipped.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field

from trueup.config.seeds import derive
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.losses import advantage as advantages
from trueup.losses import policy as losses
from trueup.recipes import rollouts
from trueup.recipes.rollouts import AdaptiveKl, ClippedSettings, FixedKl, Rollout, Step, Surrogate


class Gspo(ClippedSettings):
    """Settings of ``trueup gspo``."""

    mini_batches: int = Field(default=4, ge=1)
    """Updates per pass: epochs x mini_batches updates a step in all; with one, nothing is ever clipped."""
    kl: AdaptiveKl | FixedKl = Field(default=FixedKl(beta=0.04), discriminator="kind")
    """Controller of the KL penalty, which the paper leaves out (``kl.beta=0``): its rewards were rules."""
    clip_low: float = Field(default=3e-4, gt=0, lt=1)
    """How far below 1 an answer's ratio may go."""
    clip_high: float = Field(default=4e-4, gt=0)
    """How far above 1."""


def train(config: Gspo, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    session = rollouts.open_session(config, run, asked=config.asked, purpose="gspo")
    stepper = Stepper(session.policy.trainable(), config.optim, config.updates)
    band = (config.clip_low, config.clip_high)

    def loss(new: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # On all tokens of an answer stands its loss; the mean over them, which "answer" takes, is that again.
        return losses.gspo(new, old, advantage[:, 0], mask, *band)[:, None].expand_as(new)

    def clips(new: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        gap_B = losses.sequence_ratio(new, old, mask).log()
        return losses.clip_stops(gap_B, torch.zeros_like(gap_B), advantage[:, 0], *band)[:, None].expand_as(mask)

    surrogate = Surrogate(loss, "answer", clips=clips)

    def learn(step: Step) -> tuple[Rollout, Mapping[str, float]]:
        seed = derive(config.seed, "rollout", step.number)
        rollout = rollouts.draw_groups(config, session, step.prompts, seed=seed)
        groups = rollouts.total_rewards(config, rollout, step.beta)
        advantages_GK = advantages.group_advantages(groups.rewards_GK, valid_GK=groups.valid_GK)
        advantages_BC = rollouts.spread(advantages_GK, rollout)
        update = rollouts.improve(config, session, stepper, step, rollout, advantages_BC, surrogate)
        return rollout, update | groups.metrics

    rollouts.fit(config, run, session, stepper, learn, kl=config.kl)
