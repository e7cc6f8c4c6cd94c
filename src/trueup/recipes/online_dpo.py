"""Online DPO: the policy's own answers, judged by the reward, are the pairs that DPO learns from.

    trueup online-dpo --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/online-dpo
    trueup online-dpo ... --set answers=8 --set objective.kind=ipo

One step is: several answers to each prompt -> score -> the best and the worst of each group -> one update by a
preference objective (Guo et al. 2024, arXiv:2402.04792, with DPO and two answers; Dong et al. 2024, arXiv:2405.07863,
with eight).
Two answers of equal reward make no pair. The reward decides which of two is better and by how much does not matter, so
its scale does not, either; the pull to the reference is the objective's own beta.

Shapes: B pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field

from trueup.config import Optim
from trueup.config.seeds import derive
from trueup.data.batch import Rows
from trueup.engine.score import score
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.recipes import rollouts
from trueup.recipes.agreement import SeenPair, pair_metrics
from trueup.recipes.objectives import DpoObjective, Objective, PairLogps
from trueup.recipes.rollouts import Grouped, Groups, Part, Rollout, Session, Step


class OnlineDpo(Grouped):
    """Settings of ``trueup online-dpo``."""

    answers: int = 2
    """Answers to each prompt, 2 at least, of which the best and the worst make a pair. ``batch.size`` counts answers,
    so a step asks ``batch.size / answers`` prompts."""
    optim: Optim = Optim(learning_rate=2e-6, eps=1e-5, schedule="constant", warmup=0.0)
    """How gradients become updates."""
    objective: Objective = Field(default=DpoObjective(), discriminator="kind")
    """Which loss on the pairs; each kind has its own settings and no others."""


SIDES = ("chosen", "rejected")
"""How the two answers of a pair are called where people look at them."""


def train(config: OnlineDpo, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    session = rollouts.open_session(config, run, asked=config.asked, purpose="online-dpo")
    stepper = Stepper(session.policy.trainable(), config.optim, config.steps)

    def learn(step: Step) -> tuple[Rollout, Mapping[str, float]]:
        seed = derive(config.seed, "rollout", step.number)
        rollout = rollouts.draw_groups(config, session, step.prompts, seed=seed)
        groups = rollouts.group(rollout.net_B, rollout, config.answers)
        pairs = best_and_worst(groups, rollout, seed=derive(config.seed, "ties", step.number))
        step.trained.see(rollout, labels={row: name for pair in pairs for row, name in zip(pair, SIDES, strict=True)})
        return rollout, _improve(config, session, stepper, rollout, pairs) | groups.metrics

    headline = ("score", "kl", "accuracy", "margin", "completion_length")
    rollouts.fit(config, run, session, stepper, learn, headline=headline)


Pair = tuple[int, int]
"""Numbers of the better and of the worse of two rollouts."""


def best_and_worst(groups: Groups, rollout: Rollout, *, seed: int) -> list[Pair]:
    """A pair of each group that has one; among equal answers the lot decides."""
    row_of = {place: row for row, place in enumerate(rollout.kept)}
    answers = groups.rewards_GK.shape[1]
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for group, dead in enumerate(groups.dead_G.tolist()):
        lot = torch.randperm(answers, generator=generator).tolist()
        if dead:
            continue
        order = sorted((k for k in lot if groups.valid_GK[group, k]), key=lambda k: float(groups.rewards_GK[group, k]))
        pairs.append((row_of[group * answers + order[-1]], row_of[group * answers + order[0]]))
    return pairs


def _improve(
    config: OnlineDpo, session: Session, stepper: Stepper, rollout: Rollout, pairs: Sequence[Pair]
) -> dict[str, float]:
    """One update from all pairs of a step; without any the weights stay as they are."""
    statistics, seen = rollouts.UpdateStatistics(), list[SeenPair]()
    sequences, objective = rollout.sequences, config.objective
    micros = stepper.share(pairs, lambda pair: 2 * max(sum(map(len, sequences[i])) for i in pair), session.budget)
    for micro in micros:
        index = (*(better for better, _ in micro), *(worse for _, worse in micro))
        rows = Rows.of([sequences[i] for i in index], session.policy.device)
        part = Part(index, rows, score(session.policy, rows, temperature=config.sampling.temperature), micros.copies)
        policy = _sides(part, part.logps_BC)
        reference = _sides(part, part.of(rollout.reference_BC)) if objective.uses_reference else None
        losses_B = objective(policy, reference, torch.ones(len(micro), device=session.policy.device))
        stepper.accumulate(losses_B, count=len(pairs))
        statistics.add(part, part.of(rollout.logps_BC))
        seen += _seen(objective, policy, reference)
    update = stepper.step()
    return update | statistics.summary() | pair_metrics(micros.gather(seen)) if pairs else update


def _sides(part: Part, logps_BC: torch.Tensor) -> PairLogps:
    """Sequence log-probs of better and worse, whose rows stand one half after the other."""
    sum_B, tokens_B = (logps_BC * part.mask_BC).sum(-1), part.rows.completion_lengths_B
    half = len(part.index) // 2
    return PairLogps(sum_B[:half], sum_B[half:], tokens_B[:half], tokens_B[half:])


@torch.no_grad()
def _seen(objective: Objective, policy: PairLogps, reference: PairLogps | None) -> list[SeenPair]:
    chosen_B, rejected_B = objective.implicit_rewards(policy, reference)
    columns = [chosen_B, rejected_B]
    if reference is not None:
        columns += [policy.chosen_B - reference.chosen_B, policy.rejected_B - reference.rejected_B]
    return [SeenPair("", "", *row) for row in zip(*(values.tolist() for values in columns), strict=True)]
