"""KTO and BCO: learn from single responses marked good or bad, without pairs (``recipes.unpaired``).

    trueup kto --model runs/sft/final --data labelled.jsonl --out runs/kto
    trueup kto ... --set objective.kind=bco

The point that KTO measures gains and losses from is the policy's KL from the reference. It is estimated anew at
every step, over the whole batch, from mismatched rows: each prompt with the completion of the next row. It is
detached and never below 0. BCO's point is the middle between good and bad rewards so far, and needs no such rows.

The plan says which rows meet in which step, so the reference scores all rows, matched and mismatched, once and before
the first step; its log-probs are cached in the run directory. The reference itself is let go, unless it costs little.

Shapes: B labelled responses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from trueup.config import EpochBatch, Optim
from trueup.data.batch import Ids, Rows
from trueup.data.read import read_labelled
from trueup.data.render import RenderedLabelled, Renderer
from trueup.engine.processes import share
from trueup.engine.score import score, sequence_logps
from trueup.engine.step import Stepper
from trueup.errors import ConfigError, DataError
from trueup.ledger import Run
from trueup.losses import kl
from trueup.losses.preference import implicit_reward
from trueup.models.policy import Policy, Reference, open_policy
from trueup.recipes.agreement import SeenResponse
from trueup.recipes.labels import say_unused
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
    steps_to_score,
    tokens_of,
)
from trueup.recipes.unpaired import BcoObjective, KtoObjective, RewardShift, UnpairedObjective


class Kto(WithReference):
    """Settings of ``trueup kto``."""

    data: str
    """Responses with a yes/no label; preference pairs work too, as one good and one bad response each."""
    validation: str | None = None
    """Held-out labelled responses; none means no held-out loss."""
    optim: Optim = Optim(learning_rate=5e-6, warmup=0.1)
    """How gradients become updates."""
    batch: EpochBatch = EpochBatch(size=64)
    """How responses become steps; at least 2, or nothing can be mismatched."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the responses."""
    objective: UnpairedObjective = Field(default=KtoObjective(), discriminator="kind")
    """Which loss."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference: the implicit reward is beta times the log-ratio."""
    desirable_weight: float = Field(default=1.0, gt=0)
    """Weight of good responses; the paper keeps (this x their number) / (the other's) within [1, 1.5]."""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """Weight of bad responses."""


def train(config: Kto, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    if config.batch.size < 2 and config.objective.mismatched:
        raise ConfigError(
            "batch.size is 1",
            where="batch.size",
            expected="at least 2: KTO needs mismatched rows",
            fix="make it larger, or set objective.kind=bco, which needs none",
        )
    files = read(config, read_labelled)
    policy = open_policy(config.model, seed=config.seed)
    data = prepare(config, run, policy, files, Renderer.render_labelled, _length)
    _require_both_labels(data.examples, config.data)
    reference, near = score_reference(config, run, policy, data)
    stepper = Stepper(policy.trainable(), config.optim, len(data.plan))
    say_unused(run, config.objective.kind, files.training.report.unused_columns)
    met = sequences_met(config.objective, data, data.examples, range(len(data.plan)))
    run.note(**data.facts, reference_tokens=tokens_of(met))
    longest = data.renderer.max_length
    prompts, budget = (row.prompt for row in files.probed), policy.trunk.budget(config.batch)
    probe = answer_probe(config, run, policy, data.renderer, prompts, budget=budget, reference=near)
    shift = None
    if isinstance(config.objective, BcoObjective):
        shift = RewardShift(config.objective.shift_decay)
        run.carry("reward shift", shift)
    measured = len(data.held_out) > (1 if config.objective.mismatched else 0)
    fit(
        config,
        run,
        data,
        stepper,
        learn=lambda batch: learn(config, policy, reference, stepper, batch, longest, shift),
        evaluate=(lambda: evaluate(config, policy, reference, data.held_out, longest, shift)) if measured else None,
        headline=("loss", "margin", config.objective.point),
        probe=probe,
    )
    finish(run, policy, data)


def score_reference(
    config: Kto, run: Run, policy: Policy, data: Data[RenderedLabelled]
) -> tuple[Logps, Reference | None]:
    """Reference log-probs of all that this run will look up, and the reference where it is kept."""
    budget = policy.trunk.budget(config.batch)
    rows = needed(run, data.plan, data.examples, _length, budget)
    met = sequences_met(config.objective, data, rows, steps_to_score(run, data.plan))
    reference = place_with_reference(config, run, policy, data.renderer, max(map(sequence_length, met)))
    return reference_logps(run, reference, met, budget), kept(config, run, reference)


def sequences_met(
    objective: UnpairedObjective, data: Data[RenderedLabelled], rows: Sequence[RenderedLabelled], steps: Sequence[int]
) -> list[tuple[Ids, Ids]]:
    """Prompts with completions: of ``rows`` and the held-out rows, and mismatched as ``steps`` and evaluation do it."""
    sequences = [_ids(row) for row in (*rows, *data.held_out)]
    if not objective.mismatched:
        return sequences
    for batch in (*map(data.plan.__getitem__, steps), data.held_out):
        sequences += mismatched(batch, data.renderer.max_length)
    return sequences


def mismatched(rows: Sequence[RenderedLabelled], max_length: int) -> list[tuple[Ids, Ids]]:
    """Each prompt with the next row's completion; a single row has none.

    A long prompt may meet a long completion: what goes beyond ``max_length`` tokens is then left out.
    """
    following = [*rows[1:], *rows[:1]]
    return [
        (row.prompt_ids, other.completion_ids[: max_length - len(row.prompt_ids)])
        for row, other in zip(rows, following, strict=True)
        if len(rows) > 1
    ]


def learn(
    config: Kto,
    policy: Policy,
    reference: Logps,
    stepper: Stepper,
    rows: Sequence[RenderedLabelled],
    max_length: int,
    shift: RewardShift | None = None,
) -> Learned | None:
    """One update from a batch of rows; none by KTO from a last batch of one row, which has nothing to be mismatched
    with. ``shift`` is BCO's, and takes the batch in afterwards."""
    if shift is None and len(rows) < 2:
        return None
    point = reference_point(config, policy, reference, rows, max_length) if shift is None else shift.value
    rewards, _ = _contrast(config, policy, reference, rows, point, stepper)
    info = stepper.step(tuple(row.key for row in rows))
    if shift is not None:
        shift.update(rewards, [row.desirable for row in rows], [row.weight for row in rows])
    metrics = info | _by_label(rows, rewards) | {config.objective.point: point}
    seen = [SeenResponse(row.key, row.desirable, reward) for row, reward in zip(rows, rewards, strict=True)]
    return Learned(metrics, {"rows": float(len(rows))}, responses=seen)


@torch.no_grad()
def evaluate(
    config: Kto,
    policy: Policy,
    reference: Logps,
    rows: Sequence[RenderedLabelled],
    max_length: int,
    shift: RewardShift | None = None,
) -> HeldOut:
    """Loss and separation of good from bad on rows that were not trained on; BCO's ``shift`` is that of training."""
    point = reference_point(config, policy, reference, rows, max_length) if shift is None else shift.value
    rewards, loss = _contrast(config, policy, reference, rows, point, None)
    measured = _by_label(rows, rewards)
    margin = {"heldout_margin": measured["margin"]} if "margin" in measured else {}
    return HeldOut({"heldout_loss": loss, **margin}, {"rows": len(rows)})


@torch.no_grad()
def reference_point(
    config: Kto, policy: Policy, reference: Logps, rows: Sequence[RenderedLabelled], max_length: int
) -> float:
    """max(0, mean log-ratio of mismatched rows): the policy's KL from the reference, by k1."""
    sequences = mismatched(rows, max_length)
    pieces = sequence_logps(policy, sequences, budget=2 * policy.trunk.budget(config.batch))
    policy_B = torch.stack([piece.double().sum() for piece in pieces])
    reference_B = torch.tensor([reference[sequence] for sequence in sequences], dtype=torch.float64)
    return max(0.0, float(sum(kl.k1(policy_B, reference_B).tolist())) / len(rows))


def _contrast(
    config: Kto,
    policy: Policy,
    reference: Logps,
    rows: Sequence[RenderedLabelled],
    point: float,
    stepper: Stepper | None,
) -> tuple[list[float], float]:
    """One pass over ``rows``: their implicit rewards and the mean loss; gradients go to ``stepper`` if given."""
    contrasts: list[tuple[int, float]] = []
    total, weights = 0.0, sum(row.weight for row in rows)
    cut = share if stepper is None else stepper.share
    micros = cut(range(len(rows)), lambda i: _length(rows[i]), policy.trunk.budget(config.batch))
    for group in micros:
        micro = [rows[i] for i in group]
        scores = score(policy, Rows.of([_ids(row) for row in micro], policy.device))
        reference_B = torch.tensor([reference[_ids(row)] for row in micro], device=policy.device)
        desirable_B = torch.tensor([row.desirable for row in micro], device=policy.device)
        weight_B = torch.tensor([row.weight for row in micro], device=policy.device)
        losses_B = config.objective.loss(
            scores.sum_B,
            reference_B,
            desirable_B,
            point,
            config.beta,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
            strength_B=torch.tensor([row.strength for row in micro], device=policy.device),
        )
        total += float((losses_B.detach() * weight_B).sum())
        if stepper is not None:
            stepper.accumulate(losses_B, count=weights, weight=weight_B)
        contrasts += zip(group, implicit_reward(scores.sum_B.detach(), reference_B, config.beta).tolist(), strict=True)
    return [reward for _, reward in sorted(micros.gather(contrasts))], micros.sum(total)[0] / weights


def _by_label(rows: Sequence[RenderedLabelled], rewards: Sequence[float]) -> dict[str, float]:
    """Mean rewards of good and of bad responses, by weight, and the margin between them where both are there."""
    measured: dict[str, float] = {}
    for name, label in (("chosen_reward", True), ("rejected_reward", False)):
        sides = [(row.weight, reward) for row, reward in zip(rows, rewards, strict=True) if row.desirable is label]
        if sides:
            measured[name] = sum(weight * reward for weight, reward in sides) / sum(weight for weight, _ in sides)
    if len(measured) == 2:
        measured["margin"] = measured["chosen_reward"] - measured["rejected_reward"]
    return measured


def _require_both_labels(rows: Sequence[RenderedLabelled], source: str) -> None:
    for wanted, name in ((True, "good"), (False, "bad")):
        if not any(row.desirable is wanted for row in rows):
            raise DataError(
                f"no response is labelled {name}",
                where=source,
                expected="good and bad responses, so there is a contrast",
                fix="add the others; good ones alone are demonstrations, for trueup sft (prompt, completion)",
            )


def _ids(row: RenderedLabelled) -> tuple[Ids, Ids]:
    return row.prompt_ids, row.completion_ids


def _length(row: RenderedLabelled) -> int:
    return len(row.prompt_ids) + len(row.completion_ids)
