"""Supervised fine-tuning: imitate demonstrations. Also plain language modelling, for a base model from scratch.

    trueup sft --data demonstrations.jsonl --out runs/sft
    trueup sft --model gpt2 --data demonstrations.jsonl --out runs/sft --set optim.learning_rate=2e-5

Loss is on completion tokens, EOS included, summed over the batch and divided by its token count, so it does
not depend on padding, packing or accumulation. Both sums count the tokens of a demonstration as often as its weight
says. Left out on purpose: mixing of datasets (do it in the file, where it can be audited).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from pydantic import Field

from trueup.config import Model, Optim
from trueup.data.batch import Ids, Rows
from trueup.data.read import Loaded, read_demonstrations
from trueup.data.render import Renderer, RenderReport
from trueup.engine.placement import place
from trueup.engine.processes import share
from trueup.engine.score import score
from trueup.engine.step import Stepper
from trueup.ledger import Run
from trueup.models.policy import Policy, open_policy
from trueup.recipes.labels import say_unused
from trueup.recipes.offline import HeldOut, Learned, Offline, finish, fit, prepare, read
from trueup.types import Demonstration, prompt_text


class Sft(Offline):
    """Settings of ``trueup sft``."""

    data: str
    """Demonstrations: a file, a folder, a pattern such as ``data/*.parquet``, ``hf:owner/name``, or a list of these."""
    validation: str | None = None
    """Held-out demonstrations; none means that no held-out loss is measured."""
    model: Model = Model()
    """What to train."""
    optim: Optim = Optim(learning_rate=2e-5, weight_decay=0.01)
    """How gradients become updates."""
    epochs: float = Field(default=2.0, gt=0)
    """Passes over the data."""
    loss_on_prompt: bool = False
    """Also learn to predict the prompt: language modelling, as in pre-training."""


def train(config: Sft, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    files = read(config, read_demonstrations)
    policy = open_policy(config.model, texts=_texts(files.training.items), seed=config.seed)
    parameters = sum(p.numel() for p in policy.model.parameters())
    data = prepare(config, run, policy, files, partial(_examples, loss_on_prompt=config.loss_on_prompt), _length)
    place(policy, config.model.engine)
    stepper, budget = Stepper(policy.trainable(), config.optim, len(data.plan)), policy.trunk.budget(config.batch)
    say_unused(run, "sft", files.training.report.unused_columns)
    run.note(**data.facts, parameters=parameters)
    fit(
        config,
        run,
        data,
        stepper,
        learn=lambda batch: learn(policy, stepper, batch, budget),
        evaluate=(lambda: HeldOut({"heldout_nll": mean_nll(policy, data.held_out, budget)})) if data.held_out else None,
        headline=("nll", "token_accuracy", "heldout_nll"),
    )
    finish(run, policy, data)


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to imitate; without a prompt its own first token carries no loss."""

    prompt_ids: Ids
    completion_ids: Ids
    weight: float


def learn(policy: Policy, stepper: Stepper, batch: Sequence[Example], budget: int) -> Learned:
    """One update from a batch of examples."""
    weighted = sum(example.weight * _scored(example) for example in batch)
    right = 0.0
    micros = stepper.share(batch, _length, budget)
    for micro in micros:
        scores = score(policy, _rows(micro, policy), correct=True)
        assert scores.correct_BC is not None
        weight_B1 = _weights(micro, policy)
        right += float((scores.correct_BC * weight_B1).sum())
        stepper.accumulate(-scores.logps_BC, count=weighted, weight=weight_B1)
    info = stepper.step()
    (right,) = micros.sum(right)
    tokens = float(sum(_scored(example) for example in batch))
    measured = {"nll": info["loss"], "token_accuracy": right / weighted, "tokens": tokens}
    return Learned(info | measured, {"tokens": tokens})


def mean_nll(policy: Policy, examples: list[Example], budget: int) -> float:
    """Token-mean negative log-likelihood, nats per token; each token counts as its example's weight says."""
    total, tokens = 0.0, 0.0
    with torch.no_grad():
        micros = share(examples, _length, budget)
        for micro in micros:
            scores = score(policy, _rows(micro, policy))
            total -= float((scores.logps_BC.double() * _weights(micro, policy)).sum())
            tokens += sum(example.weight * _scored(example) for example in micro)
    all_total, all_tokens = micros.sum(total, tokens)
    return all_total / all_tokens


def _rows(examples: Sequence[Example], policy: Policy) -> Rows:
    return Rows.of([(e.prompt_ids, e.completion_ids) for e in examples], policy.device)


def _weights(examples: Sequence[Example], policy: Policy) -> torch.Tensor:
    """[B, 1], to be spread over the tokens."""
    return torch.tensor([[example.weight] for example in examples], device=policy.device)


def _examples(
    renderer: Renderer, demonstrations: Loaded[Demonstration], loss_on_prompt: bool
) -> tuple[list[Example], RenderReport]:
    rendered, report = renderer.render_demonstrations(demonstrations)
    if loss_on_prompt:
        return [Example((), r.prompt_ids + r.completion_ids, r.weight) for r in rendered], report
    return [Example(r.prompt_ids, r.completion_ids, r.weight) for r in rendered], report


def _texts(items: tuple[Demonstration, ...]) -> list[str]:
    return [f"{prompt_text(d.prompt)} {d.completion}" for d in items]


def _length(example: Example) -> int:
    return len(example.prompt_ids) + len(example.completion_ids)


def _scored(example: Example) -> int:
    return len(example.completion_ids) if example.prompt_ids else len(example.completion_ids) - 1
