"""GRPO: answers to one prompt are compared with each other, and the clipped ratio of PPO holds the updates together.

    trueup grpo --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/grpo
    trueup grpo ... --set preset=dr-grpo
    trueup grpo ... --set preset=dapo

One step is: several answers to each prompt -> score -> minus the mean of the group, over its standard deviation (Shao
et al. 2024, arXiv:2402.03300) -> clipped updates, with the KL to the reference as k3 in the loss.

Dr. GRPO (Liu et al. 2025, arXiv:2503.20783) leaves out what biases it: ``scale=false`` (dividing by the group's
standard deviation favours questions that are nearly solved or nearly hopeless) and ``normalise=constant`` (1 / length
favours long wrong answers and short right ones). DAPO (Yu et al. 2025, arXiv:2503.14476): ``clip_high`` above
``clip_low``, ``normalise=token``, ``resample`` (other prompts in the place of groups that teach nothing) and
``overlong_share``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from trueup.config.seeds import derive
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.losses import advantage as advantages
from trueup.losses import policy as losses
from trueup.recipes import rollouts
from trueup.recipes.rollouts import AdaptiveKl, ClippedSettings, FixedKl, Rollout, Session, Step, Surrogate
from trueup.recipes.rollouts.groups import KlPlace
from trueup.types import Prompt


class Grpo(ClippedSettings):
    """Settings of ``trueup grpo``."""

    answers: int = 8
    """Answers to each prompt, 2 at least. ``batch.size`` counts answers, so a step asks ``batch.size / answers``
    prompts."""
    kl: AdaptiveKl | FixedKl = Field(default=FixedKl(beta=0.04), discriminator="kind")
    """Controller of the KL penalty."""
    kl_place: KlPlace = "k3"
    """Where the KL penalty acts: in the ``reward`` of each answer (k1, summed over its tokens), or on each token of the
    loss, as ``k2``, whose gradient is that of KL(policy || reference), or as GRPO's ``k3``, whose gradient is that of
    KL(reference || policy)."""
    scale: bool = True
    """Divide by the standard deviation of the group (over k - 1, plus 1e-4); off in Dr. GRPO."""
    normalise: Literal["answer", "token", "constant"] = "answer"
    """How tokens add up to the loss of a step: the mean over answers of their token means (GRPO), the mean over all
    tokens (DAPO), or sums over an answer's tokens divided by ``sampling.max_new_tokens`` (Dr. GRPO)."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """How far below 1 the ratio may go."""
    clip_high: float = Field(default=0.2, gt=0)
    """How far above 1; more than ``clip_low`` (DAPO: 0.28) leaves room to unlikely tokens."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Bound of the loss of bad answers, in advantages (Ye et al. 2020: 3). None: none."""
    resample: int = Field(default=0, ge=0)
    """Further draws of a step, of other prompts, in the place of groups whose rewards are all equal (DAPO's dynamic
    sampling); what is still dead then is left out. 0: dead groups stay, with advantage 0."""
    overlong_share: float = Field(default=0.0, ge=0, le=1)
    """Last share of ``sampling.max_new_tokens`` over which an answer loses score, linearly up to ``overlong_penalty``
    (DAPO: 0.2); 0 is off."""
    overlong_penalty: float = Field(default=1.0, gt=0)
    """What an answer loses at the length limit, where ``overlong_share`` is set."""


def train(config: Grpo, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    session = rollouts.open_session(config, run, asked=config.asked, purpose="grpo")
    stepper = Stepper(session.policy.trainable(), config.optim, config.updates)
    surrogate = Surrogate(
        lambda new, old, advantage, _mask: losses.ppo_clip(
            new, old, advantage, config.clip_low, config.clip_high, config.dual_clip
        ),
        config.normalise,
        clips=lambda new, old, advantage, _mask: losses.clip_stops(
            new, old, advantage, config.clip_low, config.clip_high
        ),
    )

    spare = rollouts.prompt_plan(
        session.prompts, config.asked, config.steps * config.resample, seed=config.seed, purpose="grpo spare prompts"
    )

    def learn(step: Step) -> tuple[Rollout, Mapping[str, float]]:
        def more(number: int, missing: int) -> Rollout:
            prompts = spare[step.number * config.resample + number][:missing]
            return _drawn(config, session, prompts, derive(config.seed, "rollout", step.number, "more", number))

        first = _drawn(config, session, step.prompts, derive(config.seed, "rollout", step.number))
        compared = rollouts.total_rewards(config, first, step.beta)
        rollout, groups, facts = first, compared, compared.metrics
        if config.resample:
            rollout, extra = rollouts.live_groups(
                first,
                config.answers,
                lambda drawn: rollouts.total_rewards(config, drawn, step.beta).dead_G,
                more,
                config.resample,
            )
            groups = rollouts.total_rewards(config, rollout, step.beta)
            facts = facts | {"resampled": extra / (len(first) + first.dropped)}
        advantages_GK = advantages.group_advantages(groups.rewards_GK, config.scale, groups.valid_GK)
        advantages_BC = rollouts.spread(advantages_GK, rollout)
        update = rollouts.improve(config, session, stepper, step, rollout, advantages_BC, surrogate)
        return first, update | facts

    rollouts.fit(config, run, session, stepper, learn, kl=config.kl)


def _drawn(config: Grpo, session: Session, prompts: Sequence[Prompt], seed: int) -> Rollout:
    """Answers, those near the length limit with their penalty."""
    rollout = rollouts.draw_groups(config, session, prompts, seed=seed)
    if not config.overlong_share:
        return rollout
    limit = config.sampling.max_new_tokens
    buffer = max(1, round(config.overlong_share * limit))
    share_B = advantages.overlong_penalty(rollout.mask_BC.sum(-1), limit, buffer)
    return replace(rollout, penalty_B=rollout.penalty_B + config.overlong_penalty * share_B)
