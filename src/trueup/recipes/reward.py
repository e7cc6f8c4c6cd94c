"""Reward model: learn a scalar from preferences (Bradley-Terry), read at the last token of prompt + response.

    trueup reward --model runs/sft/final --data pairs.jsonl --validation held-out.jsonl --out runs/reward

Training and scoring render through the same code, EOS included. After training the rewards of the training
responses have mean 0 and standard deviation 1; the scale is stored beside the weights.

Shapes: B pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from trueup.config import Batch, Model, Optim, Reading, Settings
from trueup.data.batch import EpochPlan, Ids, Rows
from trueup.data.read import read_pairs
from trueup.data.render import RenderedPair, Renderer, pair_length
from trueup.engine.placement import export, place
from trueup.engine.resume import resume, saver
from trueup.engine.score import raw_rewards, rewards
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.losses import preference as losses
from trueup.models.heads import RewardModel, open_reward_model
from trueup.recipes.agreement import PairAgreement, SeenPair, agreement, in_order, pair_metrics


class Reward(Settings):
    """Settings of ``trueup reward``."""

    data: str
    """Preference pairs: any of the documented formats."""
    validation: str | None = None
    """Held-out pairs, best of all with other prompts; none means no held-out accuracy."""
    read: Reading = Reading()
    """How the files are read."""
    model: Model = Model(name="")
    """The backbone to start from, usually the SFT model."""
    optim: Optim = Optim(learning_rate=1e-5, weight_decay=0.01)
    """How gradients become updates."""
    batch: Batch = Batch(size=32)
    """How pairs become steps."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the pairs; more than one over-fits soon (Ouyang et al. 2022)."""
    centre: float = Field(default=0.01, ge=0)
    """Weight of the squared sum of the two rewards, which keeps them near zero (Eisenstein et al. 2023)."""
    evaluate_every: int = Field(default=100, ge=1)
    """Steps between held-out measurements; one is always made at the end."""
    save_every: int = Field(default=200, ge=1)
    """Steps between checkpoints."""
    seed: int = 0
    """Names every random draw of the run."""


def train(config: Reward, run: Run) -> None:
    """Train and write ``final/``, which Hugging Face opens as a sequence classifier."""
    run.headline = ("loss", "accuracy", "heldout_accuracy")
    loaded = read_pairs(config.data, **config.read.options())
    model = open_reward_model(config.model, new_head=True, seed=config.seed)
    place(model, config.model.engine)
    renderer = Renderer.of(model.tokenizer, config.batch, template=config.model.template, context=model.context)
    pairs, report = renderer.render_pairs(loaded.items)
    held_out: list[RenderedPair] = []
    if config.validation is not None:
        held_out, _ = renderer.render_pairs(read_pairs(config.validation, **config.read.options(held_out=True)).items)
    plan = EpochPlan(
        pairs,
        config.batch.size,
        config.epochs,
        config.seed,
        "reward order",
        length=pair_length,
        pool=config.batch.pool,
    )
    stepper, budget = Stepper(model.trainable(), config.optim, len(plan)), model.trunk.budget(config.batch)
    run.note(read=loaded.report.to_dict(), render=report.to_dict(), steps=len(plan))
    resume(run, stepper)
    for step, batch in run.steps(plan, save=saver(run, stepper), save_every=config.save_every):
        here: list[SeenPair] = []
        mine = stepper.share(batch, pair_length, budget)
        for micro in mine:
            chosen_B, rejected_B = pair_rewards(model, micro)
            strength_B = torch.tensor([p.strength for p in micro], device=model.device)
            losses_B = losses.bradley_terry(chosen_B, rejected_B, strength_B=strength_B)
            if config.centre:
                losses_B = losses_B + config.centre * (chosen_B + rejected_B) ** 2
            stepper.accumulate(losses_B, count=len(batch))
            both = zip(micro, chosen_B.tolist(), rejected_B.tolist(), strict=True)
            here += [SeenPair(pair.pair_id, chosen, rejected) for pair, chosen, rejected in both]
        ids = [p.pair_id for p in batch]
        info = stepper.step(tuple(ids))
        held = {}
        if held_out and ((step + 1) % config.evaluate_every == 0 or step + 1 == len(plan)):
            found = evaluate(model, held_out, budget)
            held = {
                "heldout_loss": found.loss,
                "heldout_accuracy": found.accuracy,
                "heldout_margin": found.margin,
                "calibration_error": found.calibration_error,
            }
            run.evaluation(step, **held, strict_accuracy=found.strict_accuracy, pairs=len(held_out))
        seen = in_order(mine.gather(here), ids)
        for pair in seen:
            run.pair(step, pair.pair_id, pair.chosen, pair.rejected)
        run.log(step, info, pair_metrics(seen), held, {"epoch": (step + 1) / plan.per_epoch}, ids=ids)
        run.time(step, pairs=float(len(batch)))
    calibrate(model, pairs[:2000], budget)
    run.note(reward_mean=model.mean, reward_std=model.std)
    export(model, run.path / "final")


def pair_rewards(model: RewardModel, pairs: Sequence[RenderedPair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw rewards [B], [B] of both sides in one forward pass, so no cache can be overwritten between them."""
    sides = [(p.prompt_ids, p.chosen_ids) for p in pairs] + [(p.prompt_ids, p.rejected_ids) for p in pairs]
    raw_B = raw_rewards(model, Rows.of(sides, model.device))
    return raw_B[: len(pairs)], raw_B[len(pairs) :]


def evaluate(model: RewardModel, pairs: Sequence[RenderedPair], budget: int) -> PairAgreement:
    """Accuracy with ties half, margin, loss and calibration on pairs that were not trained on."""
    sides: list[tuple[Ids, Ids]] = [(p.prompt_ids, p.chosen_ids) for p in pairs]
    sides += [(p.prompt_ids, p.rejected_ids) for p in pairs]
    found = rewards(model, sides, budget=2 * budget, scaled=False).tolist()
    return agreement(found[: len(pairs)], found[len(pairs) :])


def calibrate(model: RewardModel, pairs: Sequence[RenderedPair], budget: int) -> None:
    """Set ``mean`` and ``std`` from the responses of ``pairs``; ordering is unchanged, and it is idempotent."""
    model.mean, model.std = 0.0, 1.0
    sides: list[tuple[Ids, Ids]] = [(p.prompt_ids, p.chosen_ids) for p in pairs]
    sides += [(p.prompt_ids, p.rejected_ids) for p in pairs]
    found = rewards(model, sides, budget=2 * budget).double()
    spread = float(found.std()) if len(found) > 1 else 0.0
    model.mean, model.std = float(found.mean()), spread if spread > 0 else 1.0
