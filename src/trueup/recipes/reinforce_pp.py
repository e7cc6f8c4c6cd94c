"""REINFORCE++: token returns without a critic, whitened over the whole batch; here with the prompt's mean as baseline.

    trueup reinforce-pp --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/reinforce-pp

One step is: several answers to each prompt -> score minus the mean of the group -> per-token reward (that at the last
token, minus beta * k1 everywhere) -> the return from each token on -> mean 0 and variance 1 over all tokens of the
batch (Hu et al. 2025, arXiv:2501.03262) -> clipped updates. One standard deviation for the whole batch, where GRPO has
one for each group: a group of answers that are nearly equal stays small. A group of equal rewards has advantage 0 and
no part in that.
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
from trueup.recipes.rollouts import ClippedSettings, Rollout, Step, Surrogate


class ReinforcePp(ClippedSettings):
    """Settings of ``trueup reinforce-pp``."""

    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount per token."""
    clip_range: float = Field(default=0.2, gt=0, lt=1)
    """Half-width of the ratio's trust band."""


def train(config: ReinforcePp, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    session = rollouts.open_session(config, run, asked=config.asked, purpose="reinforce-pp")
    stepper = Stepper(session.policy.trainable(), config.optim, config.updates)
    surrogate = Surrogate(
        lambda new, old, advantage, _mask: losses.ppo_clip(new, old, advantage, config.clip_range),
        "token",
        clips=lambda new, old, advantage, _mask: losses.clip_stops(new, old, advantage, config.clip_range),
    )

    def learn(step: Step) -> tuple[Rollout, Mapping[str, float]]:
        seed = derive(config.seed, "rollout", step.number)
        rollout = rollouts.draw_groups(config, session, step.prompts, seed=seed)
        groups = rollouts.total_rewards(config, rollout, step.beta)
        live_BC = rollout.mask_BC & rollouts.spread((~groups.dead_G)[:, None].expand_as(groups.valid_GK), rollout)
        raw_BC = token_returns(config, rollout, step.beta)
        advantages_BC = advantages.whiten(raw_BC, live_BC)
        update = rollouts.improve(config, session, stepper, step, rollout, advantages_BC, surrogate)
        spread = float(raw_BC[rollout.mask_BC].std(correction=0))
        return rollout, update | groups.metrics | {"advantage_std": spread}

    rollouts.fit(config, run, session, stepper, learn, kl=config.kl)


def token_returns(config: ReinforcePp, rollout: Rollout, beta: float) -> torch.Tensor:
    """What follows from each token on [B, C]: the score less its group's mean, and the KL of the tokens that come."""
    groups = rollouts.group(rollout.net_B, rollout, config.answers)
    score_B = advantages.group_advantages(groups.rewards_GK, False, groups.valid_GK).flatten()[list(rollout.kept)]
    in_reward = beta if config.kl_place == "reward" else 0.0
    rewards_BC = advantages.shaped_rewards(score_B, rollout.kl_BC, rollout.mask_BC, in_reward)
    return advantages.discounted_returns(rewards_BC, rollout.mask_BC, config.gamma)
