"""Direct preference optimisation and its family: preferences into a policy without a reward model or sampling.

    trueup dpo --model runs/sft/final --data pairs.jsonl --out runs/dpo
    trueup dpo ... --set objective.kind=ipo --set objective.tau=0.1

The reference is fixed and its fingerprint is pinned in run.json; its log-probs are computed once, in a fixed
order, and cached by (reference, pair, rendering) in the run directory.

Shapes: B pairs, C completion positions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file

from trueup.config import Batch, Model, Optim, Reading, Settings
from trueup.data.batch import EpochPlan, Ids, Rows, micro_batches
from trueup.data.read import read_pairs
from trueup.data.render import RenderedPair, Renderer, pair_length
from trueup.engine.placement import export, place, place_both
from trueup.engine.processes import everywhere, share
from trueup.engine.resume import resume, saver
from trueup.engine.score import score, sequence_logps
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.models.policy import Policy, Reference, open_policy, open_reference
from trueup.recipes.agreement import SeenPair, in_order, pair_metrics
from trueup.recipes.objectives import Dpo as DpoObjective
from trueup.recipes.objectives import Objective, PairLogps
from trueup.types import content_id


class Dpo(Settings):
    """Settings of ``trueup dpo``."""

    data: str
    """Preference pairs: any of the documented formats."""
    validation: str | None = None
    """Held-out pairs; none means no held-out accuracy."""
    read: Reading = Reading()
    """How the files are read."""
    model: Model = Model(name="")
    """The policy to start from, usually the SFT model."""
    reference: str | None = None
    """The fixed reference; by default the weights the policy starts from."""
    objective: Objective = Field(default=DpoObjective(), discriminator="kind")
    """Which loss; each kind has its own settings and no others."""
    optim: Optim = Optim(learning_rate=2e-6, warmup=0.1)
    """How gradients become updates."""
    batch: Batch = Batch(size=64)
    """How pairs become steps."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the pairs; the family over-optimises within the first (Rafailov et al. 2024)."""
    evaluate_every: int = Field(default=50, ge=1)
    """Steps between held-out measurements; one is always made at the end."""
    save_every: int = Field(default=100, ge=1)
    """Steps between checkpoints."""
    seed: int = 0
    """Names every random draw of the run."""


def train(config: Dpo, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    run.headline = ("loss", "accuracy", "margin")
    loaded = read_pairs(config.data, **config.read.options())
    policy = open_policy(config.model, seed=config.seed)
    renderer = Renderer.of(policy.tokenizer, config.batch, template=config.model.template, context=policy.context)
    pairs, report = renderer.render_pairs(loaded.items)
    held_out: list[RenderedPair] = []
    if config.validation is not None:
        held_out, _ = renderer.render_pairs(read_pairs(config.validation, **config.read.options(held_out=True)).items)
    plan = EpochPlan(
        pairs,
        config.batch.size,
        config.epochs,
        config.seed,
        "dpo order",
        length=pair_length,
        pool=config.batch.pool,
    )
    budget = policy.trunk.budget(config.batch)
    anchors: dict[str, tuple[float, float]] = {}
    if config.objective.uses_reference:
        anchor = config.model.model_copy(update={"name": config.reference or config.model.name})
        shared = policy if config.reference is None else None
        reference = open_reference(anchor, policy=shared, pinned=run.fingerprint("reference"))
        run.pin("reference", reference.fingerprint)
        place_both(policy, reference, config.model.engine)
        anchors = reference_logps(run, reference, [*needed(run, plan, pairs, budget), *held_out], budget)
        del reference
    else:
        place(policy, config.model.engine)
    stepper = Stepper(policy.trainable(), config.optim, len(plan))
    facts = {"reference_tokens": sum(map(pair_length, _distinct([*pairs, *held_out])))} if anchors else {}
    run.note(read=loaded.report.to_dict(), render=report.to_dict(), steps=len(plan), **facts)
    resume(run, stepper)
    for step, batch in run.steps(plan, save=saver(run, stepper), save_every=config.save_every):
        here: list[SeenPair] = []
        mine = stepper.share(batch, pair_length, budget)
        for micro in mine:
            now = pair_logps(policy, micro)
            fixed = _anchored(anchors, micro, now)
            losses_B = config.objective(now, fixed, _strengths(micro, policy))
            stepper.accumulate(losses_B, count=len(batch))
            here += _seen(micro, config.objective, now, fixed)
        ids = [p.pair_id for p in batch]
        info = stepper.step(tuple(ids))
        seen = in_order(mine.gather(here), ids)
        for pair in seen:
            run.pair(step, pair.pair_id, pair.chosen, pair.rejected)
        held = {}
        if held_out and ((step + 1) % config.evaluate_every == 0 or step + 1 == len(plan)):
            held = evaluate(config.objective, policy, held_out, anchors, budget)
            run.evaluation(step, **held, pairs=len(held_out))
        tokens = float(sum(len(p.chosen_ids) + len(p.rejected_ids) for p in batch))
        extra = {"epoch": (step + 1) / plan.per_epoch, "tokens": tokens}
        run.log(step, info, pair_metrics(seen), held, extra, ids=ids)
        run.time(step, pairs=float(len(batch)))
    export(policy, run.path / "final")


def pair_logps(policy: Policy, pairs: Sequence[RenderedPair]) -> PairLogps:
    """Sequence log-probs of both sides in one forward pass; gradients flow unless the caller forbids them."""
    sides: list[tuple[Ids, Ids]] = [(p.prompt_ids, p.chosen_ids) for p in pairs]
    sides += [(p.prompt_ids, p.rejected_ids) for p in pairs]
    scores = score(policy, Rows.of(sides, policy.device))
    tokens_B = scores.rows.completion_lengths_B
    half = len(pairs)
    return PairLogps(scores.sum_B[:half], scores.sum_B[half:], tokens_B[:half], tokens_B[half:])


def needed(
    run: Run, plan: EpochPlan[RenderedPair], pairs: Sequence[RenderedPair], budget: int
) -> Sequence[RenderedPair]:
    """The pairs whose reference log-probs this process will read: all of them, unless it only probes.

    A probe also scores as many of the longest as go into one pass, which takes the most memory of all.
    """
    if not run.samples(plan):
        return pairs
    first = micro_batches(pairs, pair_length, 2 * budget)[0]
    return [*(pair for step in (*run.indices(plan), *run.others(plan)) for pair in plan[step]), *first]


def reference_logps(
    run: Run, reference: Reference, pairs: Sequence[RenderedPair], budget: int
) -> dict[str, tuple[float, float]]:
    """Reference log-probs (chosen, rejected) by pair id, computed once and cached in the run directory."""
    distinct = _distinct(pairs)
    key = content_id(
        reference.fingerprint,
        str(reference.policy.compute),
        [[p.pair_id, p.prompt_ids, p.chosen_ids, p.rejected_ids] for p in distinct],
    )
    file = run.path / "cache" / f"reference-{key}.safetensors"
    if everywhere(file.exists()):
        stored = load_file(file)["logps"]
    else:
        began = time.perf_counter()
        sides = [(p.prompt_ids, p.chosen_ids) for p in distinct] + [(p.prompt_ids, p.rejected_ids) for p in distinct]
        sums = torch.stack([piece.double().sum() for piece in sequence_logps(reference, sides, budget=2 * budget)])
        stored = torch.stack([sums[: len(distinct)], sums[len(distinct) :]], dim=-1)
        if run.writes:
            file.parent.mkdir(exist_ok=True)
            temporary = file.with_suffix(".tmp")
            save_file({"logps": stored.contiguous()}, temporary)
            temporary.replace(file)
        run.event("reference", tokens=sum(map(pair_length, distinct)), seconds=time.perf_counter() - began)
    return {p.pair_id: (float(row[0]), float(row[1])) for p, row in zip(distinct, stored, strict=True)}


def _distinct(pairs: Sequence[RenderedPair]) -> list[RenderedPair]:
    return list({p.pair_id: p for p in pairs}.values())


@torch.no_grad()
def evaluate(
    objective: Objective,
    policy: Policy,
    pairs: Sequence[RenderedPair],
    anchors: dict[str, tuple[float, float]],
    budget: int,
) -> dict[str, float]:
    """Loss, accuracy and margin on held-out pairs."""
    here: list[SeenPair] = []
    total = 0.0
    mine = share(pairs, pair_length, 2 * budget)
    for micro in mine:
        now = pair_logps(policy, micro)
        fixed = _anchored(anchors, micro, now)
        total += float(objective(now, fixed, _strengths(micro, policy)).sum())
        here += _seen(micro, objective, now, fixed)
    found = pair_metrics(mine.gather(here))
    return {
        "heldout_loss": mine.sum(total)[0] / len(pairs),
        "heldout_accuracy": found["accuracy"],
        "heldout_margin": found["margin"],
    }


def _anchored(
    anchors: dict[str, tuple[float, float]], pairs: Sequence[RenderedPair], now: PairLogps
) -> PairLogps | None:
    if not anchors:
        return None
    table = torch.tensor([anchors[p.pair_id] for p in pairs], dtype=now.chosen_B.dtype, device=now.chosen_B.device)
    return PairLogps(table[:, 0], table[:, 1], now.chosen_tokens_B, now.rejected_tokens_B)


def _strengths(pairs: Sequence[RenderedPair], policy: Policy) -> torch.Tensor:
    return torch.tensor([p.strength for p in pairs], device=policy.device)


@torch.no_grad()
def _seen(
    pairs: Sequence[RenderedPair], objective: Objective, now: PairLogps, anchor: PairLogps | None
) -> list[SeenPair]:
    chosen_B, rejected_B = objective.implicit_rewards(now, anchor)
    sides = zip(pairs, chosen_B.tolist(), rejected_B.tolist(), strict=True)
    if anchor is None:
        return [SeenPair(pair.pair_id, chosen, rejected) for pair, chosen, rejected in sides]
    ratios = zip((now.chosen_B - anchor.chosen_B).tolist(), (now.rejected_B - anchor.rejected_B).tolist(), strict=True)
    return [
        SeenPair(pair.pair_id, chosen, rejected, *ratio)
        for (pair, chosen, rejected), ratio in zip(sides, ratios, strict=True)
    ]
