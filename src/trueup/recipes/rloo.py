"""RLOO: REINFORCE in which the other answers to the same prompt are the baseline. No critic, no clipping.

    trueup rloo --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/rloo

One step is: several answers to each prompt -> score, minus beta times the answer's KL -> minus the mean of the others
(Ahmadian et al. 2024, arXiv:2402.14740) -> one update. An answer is one action: its advantage stands on all of its
tokens, and their log-probs are summed.

Left out on purpose: epochs and mini-batches. The gradient is that of the policy which drew the answers, so there is one
update a step; ``trueup grpo`` takes several and clips the ratio.
"""

from __future__ import annotations

from collections.abc import Mapping

from trueup.config.seeds import derive
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.losses import advantage as advantages
from trueup.losses import policy as losses
from trueup.recipes import rollouts
from trueup.recipes.rollouts import GroupSettings, Rollout, Step, Surrogate

LOSS = Surrogate(lambda logps, _old, advantage, _mask: losses.reinforce(logps, advantage), "sum")


class Rloo(GroupSettings):
    """Settings of ``trueup rloo``."""


def train(config: Rloo, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    session = rollouts.open_session(config, run, asked=config.asked, purpose="rloo")
    stepper = Stepper(session.policy.trainable(), config.optim, config.updates)

    def learn(step: Step) -> tuple[Rollout, Mapping[str, float]]:
        seed = derive(config.seed, "rollout", step.number)
        rollout = rollouts.draw_groups(config, session, step.prompts, seed=seed)
        groups = rollouts.total_rewards(config, rollout, step.beta)
        advantages_BC = rollouts.spread(advantages.rloo(groups.rewards_GK, groups.valid_GK), rollout)
        update = rollouts.improve(config, session, stepper, step, rollout, advantages_BC, LOSS)
        return rollout, update | groups.metrics

    rollouts.fit(config, run, session, stepper, learn, kl=config.kl)
