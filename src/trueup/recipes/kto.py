"""KTO: learn from single responses marked good or bad, without pairs (Ethayarajh et al. 2024, eq. 8).

    trueup kto --model runs/sft/final --data labelled.jsonl --out runs/kto

The point that gains and losses are measured from is the policy's KL from the reference. It is estimated anew at
every step, over the whole batch, from mismatched rows: each prompt with the completion of the next row. It is
detached and never below 0.

Shapes: B labelled responses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from trueup.config import Batch, Model, Optim, Reading, Settings
from trueup.data.batch import EpochPlan, Ids, Rows
from trueup.data.read import read_labelled
from trueup.data.render import RenderedLabelled, Renderer
from trueup.engine.placement import export, place_both
from trueup.engine.processes import share
from trueup.engine.resume import resume, saver
from trueup.engine.score import score, sequence_logps
from trueup.engine.step import Stepper
from trueup.errors import ConfigError, DataError
from trueup.ledger import Run
from trueup.losses import preference as losses
from trueup.models.policy import Policy, Reference, open_policy, open_reference


class Kto(Settings):
    """Settings of ``trueup kto``."""

    data: str
    """Responses with a yes/no label; preference pairs work too, as one good and one bad response each."""
    validation: str | None = None
    """Held-out labelled responses; none means no held-out loss."""
    read: Reading = Reading()
    """How the files are read."""
    model: Model = Model(name="")
    """The policy to start from, usually the SFT model."""
    reference: str | None = None
    """The fixed reference; by default the weights the policy starts from."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference."""
    desirable_weight: float = Field(default=1.0, gt=0)
    """Weight of good responses; the paper keeps (this x their number) / (the other's) within [1, 1.5]."""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """Weight of bad responses."""
    optim: Optim = Optim(learning_rate=5e-6, warmup=0.1)
    """How gradients become updates."""
    batch: Batch = Batch(size=64)
    """How responses become steps; at least 2, or nothing can be mismatched."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the responses."""
    evaluate_every: int = Field(default=50, ge=1)
    """Steps between held-out measurements; one is always made at the end."""
    save_every: int = Field(default=100, ge=1)
    """Steps between checkpoints."""
    seed: int = 0
    """Names every random draw of the run."""


def train(config: Kto, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    if config.batch.size < 2:
        raise ConfigError("batch.size is 1", where="batch.size", expected="at least 2: KTO needs mismatched rows")
    run.headline = ("loss", "margin", "kl")
    loaded = read_labelled(config.data, **config.read.options())
    policy = open_policy(config.model, seed=config.seed)
    renderer = Renderer.of(policy.tokenizer, config.batch, template=config.model.template, context=policy.context)
    rows, report = renderer.render_labelled(loaded.items)
    _require_both_labels(rows, config.data)
    held_out: list[RenderedLabelled] = []
    if config.validation is not None:
        held_out, _ = renderer.render_labelled(
            read_labelled(config.validation, **config.read.options(held_out=True)).items
        )
    anchor = config.model.model_copy(update={"name": config.reference or config.model.name})
    shared = policy if config.reference is None else None
    reference = open_reference(anchor, policy=shared, pinned=run.fingerprint("reference"))
    place_both(policy, reference, config.model.engine)
    run.pin("reference", reference.fingerprint)
    plan = EpochPlan(
        rows,
        config.batch.size,
        config.epochs,
        config.seed,
        "kto order",
        length=lambda r: _length((r.prompt_ids, r.completion_ids)),
        pool=config.batch.pool,
    )
    stepper = Stepper(policy.trainable(), config.optim, len(plan))
    run.note(read=loaded.report.to_dict(), render=report.to_dict(), steps=len(plan))
    resume(run, stepper)
    for step, batch in run.steps(plan, save=saver(run, stepper), save_every=config.save_every):
        if len(batch) < 2:
            continue  # a last batch of one row has nothing to be mismatched with
        z0 = reference_point(policy, reference, batch, policy.trunk.budget(config.batch))
        measured, _ = _pass(config, policy, reference, batch, z0, stepper)
        info = stepper.step()
        held = {}
        if len(held_out) > 1 and ((step + 1) % config.evaluate_every == 0 or step + 1 == len(plan)):
            held = evaluate(config, policy, reference, held_out)
            run.evaluation(step, **held, rows=len(held_out))
        run.log(step, info, measured, held, {"kl": z0, "epoch": (step + 1) / plan.per_epoch})
        run.time(step, rows=float(len(batch)))
    export(policy, run.path / "final")


@torch.no_grad()
def reference_point(policy: Policy, reference: Reference, rows: Sequence[RenderedLabelled], budget: int) -> float:
    """max(0, mean log-ratio of mismatched rows): each prompt with the next row's completion."""
    turned = [*rows[1:], rows[0]]
    crossed = [(row.prompt_ids, other.completion_ids) for row, other in zip(rows, turned, strict=True)]
    now = [float(piece.double().sum()) for piece in sequence_logps(policy, crossed, budget=2 * budget)]
    fixed = [float(piece.double().sum()) for piece in sequence_logps(reference, crossed, budget=2 * budget)]
    return max(0.0, sum(n - f for n, f in zip(now, fixed, strict=True)) / len(rows))


@torch.no_grad()
def evaluate(config: Kto, policy: Policy, reference: Reference, rows: Sequence[RenderedLabelled]) -> dict[str, float]:
    """Loss and separation of good from bad on rows that were not trained on."""
    z0 = reference_point(policy, reference, rows, policy.trunk.budget(config.batch))
    found, loss = _pass(config, policy, reference, rows, z0, None)
    held = {"heldout_loss": loss / len(rows)}
    if "margin" in found:
        held["heldout_margin"] = found["margin"]
    return held


def _pass(
    config: Kto,
    policy: Policy,
    reference: Reference,
    rows: Sequence[RenderedLabelled],
    z0: float,
    stepper: Stepper | None,
) -> tuple[dict[str, float], float]:
    """One pass over ``rows``: mean rewards by label and the summed loss; gradients go to ``stepper`` if given."""
    sequences: list[tuple[Ids, Ids]] = [(r.prompt_ids, r.completion_ids) for r in rows]
    fixed = [
        float(piece.double().sum())
        for piece in sequence_logps(reference, sequences, budget=2 * policy.trunk.budget(config.batch))
    ]
    here: list[tuple[int, float]] = []
    total = 0.0
    cut = share if stepper is None else stepper.share
    mine = cut(range(len(rows)), lambda i: _length(sequences[i]), policy.trunk.budget(config.batch))
    for group in mine:
        scores = score(policy, Rows.of([sequences[i] for i in group], policy.device))
        anchor_B = torch.tensor([fixed[i] for i in group], device=policy.device)
        desirable_B = torch.tensor([rows[i].desirable for i in group], device=policy.device)
        losses_B = losses.kto(
            scores.sum_B,
            anchor_B,
            desirable_B,
            z0,
            config.beta,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
        )
        total += float(losses_B.detach().sum())
        if stepper is not None:
            stepper.accumulate(losses_B, count=len(rows))
        here += zip(group, (config.beta * (scores.sum_B.detach() - anchor_B)).tolist(), strict=True)
    seen = sorted(mine.gather(here))
    good = [ratio for index, ratio in seen if rows[index].desirable]
    bad = [ratio for index, ratio in seen if not rows[index].desirable]
    measured: dict[str, float] = {}
    if good:
        measured["chosen_reward"] = sum(good) / len(good)
    if bad:
        measured["rejected_reward"] = sum(bad) / len(bad)
    if good and bad:
        measured["margin"] = measured["chosen_reward"] - measured["rejected_reward"]
    return measured, mine.sum(total)[0]


def _require_both_labels(rows: Sequence[RenderedLabelled], source: str) -> None:
    for wanted, name in ((True, "good"), (False, "bad")):
        if not any(r.desirable is wanted for r in rows):
            raise DataError(
                f"no response is labelled {name}",
                where=source,
                expected="good and bad responses, so there is a contrast",
            )


def _length(sequence: tuple[Ids, Ids]) -> int:
    return len(sequence[0]) + len(sequence[1])
