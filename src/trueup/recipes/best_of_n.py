"""Best-of-n distillation: draw n answers, keep the best, imitate them. The plainest use of a reward.

    trueup best-of-n --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/best-of-n

One step is: several answers to each prompt -> score -> the ``keep`` best of each group (those above ``threshold``,
which makes it rejection sampling) -> one update of supervised learning on them (Dong et al. 2023, RAFT,
arXiv:2304.06767; Touvron et al. 2023, section 3.2). The next step draws from the policy that this made.

There is no KL penalty and no negative example: the policy can only become what it already says sometimes, so KL grows
slowly, by at most log n - (n - 1) / n nats each time the whole distribution is distilled (Beirami et al. 2024).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field, model_validator

from trueup.config.seeds import derive
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.recipes import rollouts
from trueup.recipes.rollouts import Grouped, Groups, Rollout, Step


class BestOfN(Grouped):
    """Settings of ``trueup best-of-n``."""

    answers: int = 8
    """Answers to each prompt, 2 at least. ``batch.size`` counts answers, so a step asks ``batch.size / answers``
    prompts."""
    keep: int = Field(default=1, ge=1)
    """How many of them are imitated: the best, fewer than there are."""
    threshold: float | None = None
    """Answers whose score minus penalties is below this are not imitated, even if they are the best. None: no bar."""

    @model_validator(mode="after")
    def _some_are_left_out(self) -> BestOfN:
        if self.keep >= self.answers:
            raise ValueError(f"keep is {self.keep} of answers {self.answers}: nothing is chosen; keep fewer")
        return self


def train(config: BestOfN, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    session = rollouts.open_session(config, run, asked=config.asked, purpose="best-of-n")
    stepper = Stepper(session.policy.trainable(), config.optim, config.steps)

    def learn(step: Step) -> tuple[Rollout, Mapping[str, float]]:
        seed = derive(config.seed, "rollout", step.number)
        rollout = rollouts.draw_groups(config, session, step.prompts, seed=seed)
        groups = rollouts.group(rollout.net_B, rollout, config.answers)
        best_GK = choose_best(groups, config.keep, config.threshold, seed=derive(config.seed, "ties", step.number))
        rows = best_GK.flatten()[list(rollout.kept)].nonzero().flatten().tolist()
        step.trained.see(rollout, labels=dict.fromkeys(rows, "imitated"))
        statistics = rollouts.UpdateStatistics()
        tokens = float(rollout.mask_BC[rows].sum())
        for part in rollouts.passes(
            session.policy,
            stepper,
            rollout,
            rows,
            temperature=config.sampling.temperature,
            budget=session.budget,
        ):
            nll_BC = -part.logps_BC
            stepper.accumulate(nll_BC, count=tokens)
            statistics.add(part, part.of(rollout.logps_BC), nll=nll_BC)
        facts = {"kept": len(rows) / len(rollout)}
        if rows:
            facts |= statistics.summary() | {"kept_score": float(rollout.score_B[rows].mean())}
        return rollout, stepper.step() | facts | groups.metrics

    rollouts.fit(config, run, session, stepper, learn, headline=("score", "kept_score", "kl", "completion_length"))


def choose_best(groups: Groups, keep: int, threshold: float | None, *, seed: int) -> torch.Tensor:
    """The best answers of each group [G, K]; none of a group that teaches nothing, and none below ``threshold``.

    Equal ones are chosen from by lot, so that the place in which they were drawn decides nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    rewards_GK, valid_GK = groups.rewards_GK, groups.valid_GK
    best_GK = torch.zeros_like(valid_GK)
    for group, dead in enumerate(groups.dead_G.tolist()):
        lot = torch.randperm(rewards_GK.shape[1], generator=generator)
        if dead:
            continue
        worth = torch.where(valid_GK[group], rewards_GK[group], -torch.inf)[lot]
        chosen = lot[worth.argsort(descending=True, stable=True)[:keep]]
        best_GK[group, chosen] = valid_GK[group, chosen]
    return best_GK if threshold is None else best_GK & (rewards_GK >= threshold)
