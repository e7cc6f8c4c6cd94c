"""CISPO: the ratio is a clipped weight of REINFORCE, so that no token loses its gradient.

    trueup cispo --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/cispo

One step is: several answers to each prompt -> score, as GRPO compares it -> several updates by log p with the weight
clip(ratio, 1 - clip_low, 1 + clip_high), which has no gradient itself (MiniMax 2025, arXiv:2506.13585). PPO's clipping
takes unlikely tokens out of the update after the first mini-batch; here they stay in, with a bounded weight. The bounds
are wide for that reason: 0.2, as in PPO, is another method.
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


class Cispo(ClippedSettings):
    """Settings of ``trueup cispo``."""

    mini_batches: int = Field(default=4, ge=1)
    """Updates per pass: epochs x mini_batches updates a step in all; with one, the weight is always 1."""
    kl: AdaptiveKl | FixedKl = Field(default=FixedKl(beta=0.04), discriminator="kind")
    """Controller of the KL penalty, which the paper leaves out (``kl.beta=0``): its rewards were rules."""
    clip_low: float = Field(default=1.0, gt=0, le=1)
    """How far below 1 the weight may go; 1 is down to 0."""
    clip_high: float = Field(default=5.0, gt=0)
    """How far above 1."""


def train(config: Cispo, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    session = rollouts.open_session(config, run, asked=config.asked, purpose="cispo")
    stepper = Stepper(session.policy.trainable(), config.optim, config.updates)

    def clips(new: torch.Tensor, old: torch.Tensor, _advantage: torch.Tensor, _mask: torch.Tensor) -> torch.Tensor:
        ratio = (new - old).exp()
        return (ratio < 1 - config.clip_low) | (ratio > 1 + config.clip_high)

    surrogate = Surrogate(
        lambda new, old, advantage, _mask: losses.cispo(new, old, advantage, config.clip_low, config.clip_high),
        "token",
        clips=clips,
    )

    def learn(step: Step) -> tuple[Rollout, Mapping[str, float]]:
        seed = derive(config.seed, "rollout", step.number)
        rollout = rollouts.draw_groups(config, session, step.prompts, seed=seed)
        groups = rollouts.total_rewards(config, rollout, step.beta)
        advantages_GK = advantages.group_advantages(groups.rewards_GK, valid_GK=groups.valid_GK)
        advantages_BC = rollouts.spread(advantages_GK, rollout)
        update = rollouts.improve(config, session, stepper, step, rollout, advantages_BC, surrogate)
        return rollout, update | groups.metrics

    rollouts.fit(config, run, session, stepper, learn, kl=config.kl)
