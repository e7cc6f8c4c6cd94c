"""PPO: sample from the policy, score with a reward model, move towards what scored well, stay near the reference.

    trueup ppo --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/ppo

One step is: rollout -> score -> per-token reward (score at the last token, minus beta * k1 everywhere)
-> GAE -> several epochs of clipped updates -> adaptive beta. The value head sits on the policy's trunk and the
reference is a frozen copy (or adapters off), so two networks' worth of weights are held, not four.

Left out on purpose: top-p, top-k and repetition penalty in rollouts. They modify the sampling distribution, so
old log-probs would not be those of the policy and the first ratio would not be 1; they are refused here and
available in ``trueup sample`` and evaluation. Temperature is allowed and enters every log-prob.

Shapes: B rollouts, C completion positions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field, model_validator

from trueup.config.seeds import derive
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.losses import advantage as advantages
from trueup.losses import policy as losses
from trueup.models.heads import ValueHead
from trueup.recipes import rollouts
from trueup.recipes.rollouts import OnlineSettings, PretrainingMix, Ptx, Rollout, Session, Step


class Ppo(OnlineSettings):
    """Settings of ``trueup ppo``."""

    epochs: int = Field(default=4, ge=1)
    """Passes over each batch of rollouts."""
    mini_batches: int = Field(default=1, ge=1)
    """Updates per pass: epochs x mini_batches updates a step in all."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount per token."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """GAE's lambda (Schulman et al. 2016)."""
    clip_range: float = Field(default=0.2, gt=0)
    """Half-width of the ratio's trust band."""
    value_clip_range: float = Field(default=0.2, gt=0)
    """How far values may move from the old ones before the loss stops following."""
    value_weight: float = Field(default=0.1, ge=0)
    """Weight of the value loss beside the policy loss."""
    entropy_weight: float = Field(default=0.0, ge=0)
    """Weight of an entropy bonus."""
    critic_warmup: int = Field(default=0, ge=0)
    """Steps at the beginning in which only the value head learns, from answers of the policy as it started: advantages
    against values that mean nothing yet are noise."""
    ptx: Ptx | None = None
    """Texts to go on learning beside the reward (PPO-ptx), as ``{data: texts.jsonl, weight: 1.0}``."""
    whiten_advantages: bool = True
    """Scale advantages to mean 0 and variance 1 over the valid tokens of the whole batch."""

    @model_validator(mode="after")
    def _mini_batches_hold_rollouts(self) -> Ppo:
        rollouts.check_mini_batches(self.mini_batches, self.batch.size)
        return self


def train(config: Ppo, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    session = rollouts.open_session(config, run, asked=config.batch.size, purpose="ppo")
    policy = session.policy
    value_head = ValueHead(policy.model.config.get_text_config().hidden_size).to(policy.device)
    parameters = policy.trainable() | {f"value_head.{n}": p for n, p in value_head.named_parameters()}
    stepper = Stepper(parameters, config.optim, config.steps * config.epochs * config.mini_batches)
    mix = None if config.ptx is None else PretrainingMix(config.ptx, run, session, config.read, config.seed)

    def learn(step: Step) -> tuple[Rollout, Mapping[str, float]]:
        seed = derive(config.seed, "rollout", step.number)
        rollout = rollouts.draw(config, session, step.prompts, seed=seed, value_head=value_head)
        return rollout, _improve(config, session, value_head, stepper, step, rollout, mix)

    rollouts.fit(config, run, session, stepper, learn, kl=config.kl)


def _improve(
    config: Ppo,
    session: Session,
    value_head: ValueHead,
    stepper: Stepper,
    step: Step,
    rollout: Rollout,
    mix: PretrainingMix | None,
) -> dict[str, float]:
    """Several clipped passes over one batch of rollouts."""
    warming = step.number < config.critic_warmup
    mask_BC = rollout.mask_BC
    rewards_BC = advantages.shaped_rewards(rollout.net_B, rollout.kl_BC, mask_BC, step.beta)
    raw_BC = advantages.gae(rewards_BC, rollout.values_BC, mask_BC, config.gamma, config.lam)
    returns_BC = advantages.returns(raw_BC, rollout.values_BC, mask_BC)
    advantages_BC = advantages.whiten(raw_BC, mask_BC) if config.whiten_advantages else raw_BC
    step.trained.see(rollout, advantages_BC)
    statistics = rollouts.UpdateStatistics(step.trained)
    mixed: list[float] = []
    info: dict[str, float] = {}
    for mini_batch in rollouts.mini_batches(
        len(rollout), config.mini_batches, config.epochs, seed=config.seed, step=step.number
    ):
        tokens = float(mask_BC[mini_batch].sum())
        for part in rollouts.passes(
            session.policy,
            stepper,
            rollout,
            mini_batch,
            temperature=config.sampling.temperature,
            budget=session.budget,
            entropy_grad=config.entropy_weight > 0,
            value_head=value_head,
        ):
            old_BC, advantage_BC = part.of(rollout.logps_BC), part.of(advantages_BC)
            surrogate_BC = losses.ppo_clip(part.logps_BC, old_BC, advantage_BC, config.clip_range) * part.mask_BC
            if rollout.importance_BC is not None:
                surrogate_BC = surrogate_BC * part.of(rollout.importance_BC)
            value_BC = part.mask_BC * losses.clipped_value(
                part.values_BC, part.of(rollout.values_BC), part.of(returns_BC), config.value_clip_range
            )
            total_BC = config.value_weight * value_BC if warming else surrogate_BC + config.value_weight * value_BC
            if not warming and part.scores.entropy_BC is not None:
                total_BC = total_BC - config.entropy_weight * part.scores.entropy_BC
            stepper.accumulate(total_BC, count=tokens)
            clipped_BC = losses.clip_stops(part.logps_BC.detach(), old_BC, advantage_BC, config.clip_range)
            statistics.add(part, old_BC, clipped_BC=clipped_BC, policy_loss=surrogate_BC, value_loss=value_BC)
        if warming:
            for parameter in session.policy.trainable().values():
                parameter.grad = None  # the value head sits on the trunk, which stays as it is
        elif mix is not None:
            mixed.append(mix.accumulate(stepper))
        info = stepper.step()
        statistics.end_update()
    if mixed:
        info["ptx_nll"] = sum(mixed) / len(mixed)
    return info | statistics.summary() | _value_fit(raw_BC, returns_BC, rollout.values_BC, mask_BC)


def _value_fit(
    raw_BC: torch.Tensor, returns_BC: torch.Tensor, values_BC: torch.Tensor, mask_BC: torch.Tensor
) -> dict[str, float]:
    """Spread of the advantages, and the share of the variance of returns that the values explain."""
    spread = float(raw_BC[mask_BC].std()) if int(mask_BC.sum()) > 1 else 0.0
    residual = returns_BC[mask_BC] - values_BC[mask_BC]
    variance = float(returns_BC[mask_BC].var())
    explained = 1.0 - float(residual.var()) / variance if variance > 0 else 0.0
    return {"advantage_std": spread, "explained_variance": explained}
