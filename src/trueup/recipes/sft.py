"""Supervised fine-tuning: imitate demonstrations. Also plain language modelling, for a base model from scratch.

    trueup sft --data demonstrations.jsonl --out runs/sft
    trueup sft --model gpt2 --data demonstrations.jsonl --out runs/sft --set optim.learning_rate=2e-5

Loss is on completion tokens, EOS included, summed over the batch and divided by its token count, so it does
not depend on padding, packing or accumulation. Left out on purpose: mixing of datasets (do it in the file, where it
can be audited).
"""

from __future__ import annotations

from pydantic import Field

from trueup.config import Batch, Model, Optim, Reading, Settings
from trueup.data.batch import EpochPlan, Ids, Rows
from trueup.data.read import read_demonstrations
from trueup.data.render import Renderer
from trueup.engine.placement import export, place
from trueup.engine.processes import share
from trueup.engine.resume import resume, saver
from trueup.engine.score import score
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.models.policy import Policy, open_policy
from trueup.types import Demonstration, prompt_text


class Sft(Settings):
    """Settings of ``trueup sft``."""

    data: str
    """Demonstrations: a file, a directory or ``hf:owner/name``."""
    validation: str | None = None
    """Held-out demonstrations; none means that no held-out loss is measured."""
    read: Reading = Reading()
    """How the files are read."""
    model: Model = Model()
    """What to train."""
    optim: Optim = Optim(learning_rate=2e-5, weight_decay=0.01)
    """How gradients become updates."""
    batch: Batch = Batch(size=32)
    """How examples become steps."""
    epochs: float = Field(default=2.0, gt=0)
    """Passes over the data."""
    loss_on_prompt: bool = False
    """Also learn to predict the prompt: language modelling, as in pre-training."""
    evaluate_every: int = Field(default=100, ge=1)
    """Steps between held-out measurements; one is always made at the end."""
    save_every: int = Field(default=200, ge=1)
    """Steps between checkpoints."""
    seed: int = 0
    """Names every random draw of the run."""


def train(config: Sft, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    run.headline = ("nll", "token_accuracy", "heldout_nll")
    demonstrations = read_demonstrations(config.data, **config.read.options())
    policy = open_policy(config.model, texts=_texts(demonstrations.items), seed=config.seed)
    parameters = _count(policy)
    place(policy, config.model.engine)
    renderer = Renderer.of(policy.tokenizer, config.batch, template=config.model.template, context=policy.context)
    examples, report = _sequences(renderer, demonstrations.items, config.loss_on_prompt)
    held_out: list[tuple[Ids, Ids]] = []
    if config.validation is not None:
        loaded = read_demonstrations(config.validation, **config.read.options(held_out=True))
        held_out, _ = _sequences(renderer, loaded.items, config.loss_on_prompt)
    plan = EpochPlan(
        examples,
        config.batch.size,
        config.epochs,
        config.seed,
        "sft order",
        length=_length,
        pool=config.batch.pool,
    )
    stepper, budget = Stepper(policy.trainable(), config.optim, len(plan)), policy.trunk.budget(config.batch)
    run.note(read=demonstrations.report.to_dict(), render=report, parameters=parameters, steps=len(plan))
    resume(run, stepper)
    for step, batch in run.steps(plan, save=saver(run, stepper), save_every=config.save_every):
        tokens = sum(_scored(example) for example in batch)
        right = 0.0
        mine = stepper.share(batch, _length, budget)
        for micro in mine:
            scores = score(policy, Rows.of(micro, policy.device), correct=True)
            assert scores.correct_BC is not None
            right += float(scores.correct_BC.sum())
            stepper.accumulate(-scores.logps_BC, count=tokens)
        info = stepper.step()
        (right,) = mine.sum(right)
        held = {}
        if held_out and ((step + 1) % config.evaluate_every == 0 or step + 1 == len(plan)):
            held = {"heldout_nll": mean_nll(policy, held_out, budget)}
            run.evaluation(step, **held)
        measured = {"nll": info["loss"], "token_accuracy": right / tokens, "tokens": float(tokens), **held}
        run.log(step, info, measured, {"epoch": (step + 1) / plan.per_epoch})
        run.time(step, tokens=float(tokens))
    export(policy, run.path / "final")


def mean_nll(policy: Policy, examples: list[tuple[Ids, Ids]], budget: int) -> float:
    """Token-mean negative log-likelihood, nats per token."""
    import torch

    total, tokens = 0.0, 0
    with torch.no_grad():
        mine = share(examples, _length, budget)
        for micro in mine:
            rows = Rows.of(micro, policy.device)
            total -= float(score(policy, rows).logps_BC.double().sum())
            tokens += int(rows.completion_lengths_B.sum())
    all_total, all_tokens = mine.sum(total, tokens)
    return all_total / all_tokens


def _sequences(
    renderer: Renderer, items: tuple[Demonstration, ...], loss_on_prompt: bool
) -> tuple[list[tuple[Ids, Ids]], dict[str, object]]:
    rendered, report = renderer.render_demonstrations(items)
    if loss_on_prompt:
        return [((), r.prompt_ids + r.completion_ids) for r in rendered], report.to_dict()
    return [(r.prompt_ids, r.completion_ids) for r in rendered], report.to_dict()


def _texts(items: tuple[Demonstration, ...]) -> list[str]:
    return [f"{prompt_text(d.prompt)} {d.completion}" for d in items]


def _length(example: tuple[Ids, Ids]) -> int:
    return len(example[0]) + len(example[1])


def _scored(example: tuple[Ids, Ids]) -> int:
    prompt, completion = example
    return len(completion) if prompt else len(completion) - 1


def _count(policy: Policy) -> int:
    return sum(p.numel() for p in policy.model.parameters())
