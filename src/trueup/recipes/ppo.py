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

import torch
from pydantic import Field, model_validator

from trueup.config.seeds import derive
from trueup.engine.loop import Loop
from trueup.engine.resume import resume_from_checkpoint, saver
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.losses import advantage as advantages
from trueup.losses import policy as losses
from trueup.models.heads import ValueHead
from trueup.models.policy import Policy
from trueup.recipes import rollouts
from trueup.recipes.rollouts import AdaptiveKl, OnlineSettings, Rollout


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
    whiten_advantages: bool = True
    """Scale advantages to mean 0 and variance 1 over the valid tokens of the whole batch."""

    @model_validator(mode="after")
    def _mini_batches_hold_rollouts(self) -> Ppo:
        if self.mini_batches > self.batch.size:
            raise ValueError(
                f"mini_batches is {self.mini_batches} and batch.size {self.batch.size}: a batch of rollouts cannot be"
                " cut into more parts than it has"
            )
        return self


def train(config: Ppo, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    torch.manual_seed(derive(config.seed, "ppo"))
    actors = rollouts.open_actors(
        run,
        config.model,
        config.reward,
        reference=config.reference,
        batch=config.batch,
        read=config.read,
        seed=config.seed,
    )
    prompts = rollouts.usable_prompts(
        run, actors, config.data, read=config.read, batch=config.batch, sampling=config.sampling
    )
    plan = rollouts.prompt_plan(prompts, config.batch.size, config.steps, seed=config.seed, purpose="ppo prompts")
    policy = actors.policy
    value_head = ValueHead(policy.model.config.get_text_config().hidden_size).to(policy.device)
    parameters = policy.trainable() | {f"value_head.{n}": p for n, p in value_head.named_parameters()}
    stepper = Stepper(parameters, config.optim, config.steps * config.epochs * config.mini_batches)
    controller = rollouts.kl_controller(config.kl)
    coefficient = {"beta": float(resume_from_checkpoint(run, stepper).get("beta", controller.beta))}
    run.note(steps=config.steps)
    headline = ("score", "kl", "beta", "completion_length")
    loop = Loop(run, plan, save=saver(run, stepper, coefficient.copy), save_every=config.save_every, headline=headline)
    for step, batch in loop:
        beta = coefficient["beta"]
        rollout = rollouts.draw_rollout(
            actors,
            batch,
            config.sampling,
            seed=derive(config.seed, "rollout", step),
            budget=policy.trunk.budget(config.batch),
            missing_eos_penalty=config.missing_eos_penalty,
            length_penalty=config.length_penalty,
            value_head=value_head,
        )
        update, fit = _improve(policy, value_head, stepper, rollout, beta, config, step)
        measured = rollouts.describe(rollout, beta) | fit
        run.log(step, update, measured, {"kl_target": config.kl.target} if isinstance(config.kl, AdaptiveKl) else {})
        coefficient["beta"] = controller.update(beta, measured["kl"], len(batch))
        if step % config.probe_every == 0 or step + 1 == config.steps:
            probes = prompts[: config.probes]
            rollouts.log_probes(run, step, actors, probes, config.sampling, seed=derive(config.seed, "probes"))
        loop.time(step, tokens=float(rollout.mask_BC.sum()))
        if config.kl_stop is not None and measured["kl"] > config.kl_stop:
            run.event("kl_stop", step=step, kl=measured["kl"], limit=config.kl_stop)
            break
    actors.export(run, prompts)


def _improve(
    policy: Policy, value_head: ValueHead, stepper: Stepper, rollout: Rollout, beta: float, config: Ppo, step: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Several clipped passes over one batch of rollouts."""
    mask_BC = rollout.mask_BC
    rewards_BC = advantages.shaped_rewards(rollout.net_B, rollout.kl_BC, mask_BC, beta)
    raw_BC = advantages.gae(rewards_BC, rollout.values_BC, mask_BC, config.gamma, config.lam)
    returns_BC = advantages.returns(raw_BC, rollout.values_BC, mask_BC)
    advantages_BC = advantages.whiten(raw_BC, mask_BC) if config.whiten_advantages else raw_BC
    statistics = rollouts.UpdateStatistics()
    info: dict[str, float] = {}
    for mini_batch in rollouts.mini_batches(
        len(rollout), config.mini_batches, config.epochs, seed=config.seed, step=step
    ):
        tokens = float(mask_BC[mini_batch].sum())
        for part in rollouts.passes(
            policy,
            stepper,
            rollout,
            mini_batch,
            temperature=config.sampling.temperature,
            budget=policy.trunk.budget(config.batch),
            entropy=config.entropy_weight > 0,
            value_head=value_head,
        ):
            old_BC, advantage_BC = part.of(rollout.logps_BC), part.of(advantages_BC)
            surrogate_BC = losses.ppo_clip(part.logps_BC, old_BC, advantage_BC, config.clip_range) * part.mask_BC
            value_BC = part.mask_BC * losses.clipped_value(
                part.values_BC, part.of(rollout.values_BC), part.of(returns_BC), config.value_clip_range
            )
            total_BC = surrogate_BC + config.value_weight * value_BC
            if part.scores.entropy_BC is not None:
                total_BC = total_BC - config.entropy_weight * part.scores.entropy_BC
            stepper.accumulate(total_BC, count=tokens)
            statistics.add(
                part,
                old_BC,
                advantage_BC,
                clip_range=config.clip_range,
                policy_loss=surrogate_BC,
                value_loss=value_BC,
            )
        info = stepper.step()
        statistics.end_update()
    return info, statistics.summary() | _value_fit(raw_BC, returns_BC, rollout)


def _value_fit(raw_BC: torch.Tensor, returns_BC: torch.Tensor, rollout: Rollout) -> dict[str, float]:
    """Spread of the advantages, and the share of the variance of returns that the values explain."""
    mask_BC = rollout.mask_BC
    spread = float(raw_BC[mask_BC].std()) if int(mask_BC.sum()) > 1 else 0.0
    residual = returns_BC[mask_BC] - rollout.values_BC[mask_BC]
    variance = float(returns_BC[mask_BC].var())
    explained = 1.0 - float(residual.var()) / variance if variance > 0 else 0.0
    return {"advantage_std": spread, "explained_variance": explained}
