"""Direct preference optimisation and its family: preferences into a policy without a reward model or sampling.

    trueup dpo --model runs/sft/final --data pairs.jsonl --out runs/dpo
    trueup dpo ... --set objective.kind=ipo --set objective.tau=0.1

The reference is fixed and its fingerprint is pinned in run.json; its log-probs are computed once, in a fixed
order, and cached by (reference, pair, rendering) in the run directory.

Shapes: B pairs, C completion positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, model_validator

from trueup.config import EpochBatch, Optim
from trueup.data.batch import Ids, Rows
from trueup.data.read import read_pairs
from trueup.data.render import RenderedPair, Renderer, pair_length
from trueup.engine.placement import place
from trueup.engine.processes import share
from trueup.engine.score import score
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.models.policy import Policy, Reference, open_policy
from trueup.recipes.agreement import SeenPair, in_order, label, pair_intervals, pair_metrics
from trueup.recipes.labels import say_unused
from trueup.recipes.objectives import DpoObjective, Objective, PairLogps
from trueup.recipes.offline import Data, HeldOut, Learned, finish, fit, prepare, read
from trueup.recipes.probes import answer_probe
from trueup.recipes.reference import (
    Logps,
    WithReference,
    kept,
    needed,
    place_with_reference,
    reference_logps,
    sequence_length,
    tokens_of,
)


class Dpo(WithReference):
    """Settings of ``trueup dpo``."""

    data: str
    """Preference pairs: any of the documented formats."""
    validation: str | None = None
    """Held-out pairs; none means no held-out accuracy."""
    optim: Optim = Optim(learning_rate=2e-6, warmup=0.1)
    """How gradients become updates."""
    batch: EpochBatch = EpochBatch(size=64)
    """How pairs become steps."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the pairs; the family over-optimises within the first (Rafailov et al. 2024)."""
    objective: Objective = Field(default=DpoObjective(), discriminator="kind")
    """Which loss; each kind has its own settings and no others."""

    @model_validator(mode="after")
    def _reference_is_used(self) -> Dpo:
        if self.reference is not None and not self.objective.uses_reference:
            raise ValueError(f"reference: the objective {self.objective.kind} uses none; leave it out")
        return self


def train(config: Dpo, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    files = read(config, read_pairs)
    policy = open_policy(config.model, seed=config.seed)
    data = prepare(config, run, policy, files, Renderer.render_pairs, pair_length)
    objective, budget = config.objective, policy.trunk.budget(config.batch)
    reference: Logps = {}
    near: Reference | None = None
    facts: dict[str, int] = {}
    if objective.uses_reference:
        reference, near = score_reference(config, run, policy, data, budget)
        facts = {"reference_tokens": tokens_of(sides([*data.examples, *data.held_out]))}
    else:
        place(policy, config.model.engine)
    stepper = Stepper(policy.trainable(), config.optim, len(data.plan))
    margins = ["margin"] if any(pair.margin is not None for pair in files.training.items) else []
    say_unused(run, f"dpo ({objective.kind})", [*files.training.report.unused_columns, *margins])
    run.note(**data.facts, **facts)
    prompts = (pair.prompt for pair in files.probed)
    probe = answer_probe(config, run, policy, data.renderer, prompts, budget=budget, reference=near)
    fit(
        config,
        run,
        data,
        stepper,
        learn=lambda batch: learn(objective, policy, reference, stepper, batch, budget),
        evaluate=(lambda: evaluate(objective, policy, reference, data.held_out, budget)) if data.held_out else None,
        headline=("loss", "accuracy", "margin"),
        probe=probe,
    )
    finish(run, policy, data)


def score_reference(
    config: Dpo, run: Run, policy: Policy, data: Data[RenderedPair], budget: int
) -> tuple[Logps, Reference | None]:
    """Reference log-probs of both sides of every pair that this run will meet, and the reference where it is kept."""
    longest = max(map(sequence_length, sides([*data.examples, *data.held_out])))
    reference = place_with_reference(config, run, policy, data.renderer, longest)
    pairs = [*needed(run, data.plan, data.examples, pair_length, budget), *data.held_out]
    return reference_logps(run, reference, sides(pairs), budget), kept(config, run, reference)


def sides(pairs: Sequence[RenderedPair]) -> list[tuple[Ids, Ids]]:
    """Prompt and completion of all chosen sides, then of all rejected ones."""
    chosen = [(pair.prompt_ids, pair.chosen_ids) for pair in pairs]
    return chosen + [(pair.prompt_ids, pair.rejected_ids) for pair in pairs]


def learn(
    objective: Objective, policy: Policy, reference: Logps, stepper: Stepper, batch: Sequence[RenderedPair], budget: int
) -> Learned:
    """One update from a batch of pairs."""
    seen: list[SeenPair] = []
    weight = sum(pair.weight for pair in batch)
    micros = stepper.share(batch, pair_length, budget)
    for micro in micros:
        policy_logps = pair_logps(policy, micro)
        reference_pair_logps = looked_up(reference, micro, policy_logps)
        losses_B = objective(policy_logps, reference_pair_logps, _strengths(micro, policy))
        stepper.accumulate(losses_B, count=weight, weight=_weights(micro, policy))
        seen += _seen(micro, objective, policy_logps, reference_pair_logps)
    info = stepper.step(tuple(map(label, batch)))
    pairs = in_order(micros.gather(seen), batch)
    tokens = float(sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in batch))
    return Learned(info | pair_metrics(pairs), {"pairs": float(len(batch))}, {"tokens": tokens}, pairs)


def pair_logps(policy: Policy, pairs: Sequence[RenderedPair]) -> PairLogps:
    """Sequence log-probs of both sides in one forward pass; gradients flow unless the caller forbids them."""
    scores = score(policy, Rows.of(sides(pairs), policy.device))
    tokens_B = scores.rows.completion_lengths_B
    half = len(pairs)
    return PairLogps(scores.sum_B[:half], scores.sum_B[half:], tokens_B[:half], tokens_B[half:])


@torch.no_grad()
def evaluate(
    objective: Objective, policy: Policy, reference: Logps, pairs: Sequence[RenderedPair], budget: int
) -> HeldOut:
    """Loss, accuracy and margin on held-out pairs."""
    seen: list[SeenPair] = []
    total = 0.0
    micros = share(pairs, pair_length, 2 * budget)
    for micro in micros:
        policy_logps = pair_logps(policy, micro)
        reference_pair_logps = looked_up(reference, micro, policy_logps)
        total += float(
            (objective(policy_logps, reference_pair_logps, _strengths(micro, policy)) * _weights(micro, policy)).sum()
        )
        seen += _seen(micro, objective, policy_logps, reference_pair_logps)
    gathered = micros.gather(seen)
    metrics = pair_metrics(gathered)
    return HeldOut(
        {
            "heldout_loss": micros.sum(total)[0] / sum(pair.weight for pair in pairs),
            "heldout_accuracy": metrics["accuracy"],
            "heldout_margin": metrics["margin"],
        },
        {"pairs": len(pairs)},
        pair_intervals(gathered, {pair.key: pair.prompt_ids for pair in pairs}),
    )


def looked_up(reference: Logps, pairs: Sequence[RenderedPair], like: PairLogps) -> PairLogps | None:
    """The reference's log-probs of ``pairs``, in the form of the policy's; None for an objective without reference."""
    if not reference:
        return None
    both = torch.tensor(
        [reference[side] for side in sides(pairs)], dtype=like.chosen_B.dtype, device=like.chosen_B.device
    )
    return PairLogps(both[: len(pairs)], both[len(pairs) :], like.chosen_tokens_B, like.rejected_tokens_B)


def _strengths(pairs: Sequence[RenderedPair], policy: Policy) -> torch.Tensor:
    return torch.tensor([pair.strength for pair in pairs], device=policy.device)


def _weights(pairs: Sequence[RenderedPair], policy: Policy) -> torch.Tensor:
    return torch.tensor([pair.weight for pair in pairs], device=policy.device)


@torch.no_grad()
def _seen(
    pairs: Sequence[RenderedPair], objective: Objective, policy: PairLogps, reference: PairLogps | None
) -> list[SeenPair]:
    chosen_B, rejected_B = objective.implicit_rewards(policy, reference)
    rewards = zip(pairs, chosen_B.tolist(), rejected_B.tolist(), strict=True)
    if reference is None:
        return [
            SeenPair(pair.pair_id, pair.key, chosen, rejected, weight=pair.weight) for pair, chosen, rejected in rewards
        ]
    chosen_ratio_B, rejected_ratio_B = policy.chosen_B - reference.chosen_B, policy.rejected_B - reference.rejected_B
    ratios = zip(chosen_ratio_B.tolist(), rejected_ratio_B.tolist(), strict=True)
    return [
        SeenPair(pair.pair_id, pair.key, chosen, rejected, *ratio, weight=pair.weight)
        for (pair, chosen, rejected), ratio in zip(rewards, ratios, strict=True)
    ]
