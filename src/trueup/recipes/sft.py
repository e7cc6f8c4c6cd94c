"""Supervised fine-tuning: imitate demonstrations. Also plain language modelling, for a base model from scratch.

    trueup sft --data demonstrations.jsonl --out runs/sft
    trueup sft --model gpt2 --data demonstrations.jsonl --out runs/sft --set optim.learning_rate=2e-5

Loss is on completion tokens, EOS included, summed over the batch and divided by its token count, so it does
not depend on padding, packing or accumulation. Both sums count the tokens of a demonstration as often as its weight
says. Left out on purpose: mixing of datasets (do it in the file, where it can be audited).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import Field, model_validator

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
from trueup.recipes.agreement import ratio_interval
from trueup.recipes.labels import say_unused
from trueup.recipes.offline import HeldOut, Learned, Offline, finish, fit, prepare, read
from trueup.recipes.probes import answer_probe
from trueup.types import Demonstration, Prompt, prompt_text


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
    train_on: Literal["last", "all"] = "last"
    """Which turns of the assistant are learned: the last one, or all of them, each token as much as its turn's
    ``weight`` says (1 where the turn has none). ``all`` goes by the chat template's ``{% generation %}`` marks, or
    renders turn by turn; a row whose earlier turns the template rewrites is refused."""

    @model_validator(mode="after")
    def _one_mask(self) -> Sft:
        if self.loss_on_prompt and self.train_on == "all":
            raise ValueError("loss_on_prompt learns every token, and train_on=all those of the assistant: choose one")
        return self


def train(config: Sft, run: Run) -> None:
    """Train and write ``final/``, a directory that Hugging Face opens."""
    files = read(config, read_demonstrations)
    policy = open_policy(config.model, texts=texts_of(files.training.items), seed=config.seed)
    parameters = sum(p.numel() for p in policy.model.parameters())
    data = prepare(config, run, policy, files, partial(examples_of, config=config), example_length)
    place(policy, config.model.engine)
    stepper, budget = Stepper(policy.trainable(), config.optim, len(data.plan)), policy.trunk.budget(config.batch)
    say_unused(run, "sft", files.training.report.unused_columns)
    run.note(**data.facts, parameters=parameters)
    prompts = map(probe_prompt, files.probed)
    probe = answer_probe(config, run, policy, data.renderer, prompts, budget=budget)
    fit(
        config,
        run,
        data,
        stepper,
        learn=lambda batch: learn(policy, stepper, batch, budget),
        evaluate=(lambda: evaluate(policy, data.held_out, budget)) if data.held_out else None,
        headline=("nll", "token_accuracy", "heldout_nll"),
        probe=probe,
    )
    finish(run, policy, data)


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to imitate; without a prompt its own first token carries no loss."""

    prompt_ids: Ids
    completion_ids: Ids
    weight: float
    token_weights: tuple[float, ...] | None = None
    """How much each token of the completion counts, where that differs."""


def learn(policy: Policy, stepper: Stepper, batch: Sequence[Example], budget: int) -> Learned:
    """One update from a batch of examples."""
    weighted = sum(map(example_weight, batch))
    right = 0.0
    micros = stepper.share(batch, example_length, budget)
    for micro in micros:
        scores = score(policy, rows_of(micro, policy), correct=True)
        assert scores.correct_BC is not None
        weight_BC = token_weights(micro, policy)
        right += float((scores.correct_BC * weight_BC).sum())
        stepper.accumulate(-scores.logps_BC, count=weighted, weight=weight_BC)
    info = stepper.step()
    (right,) = micros.sum(right)
    tokens = float(sum(_scored(example) for example in batch))
    measured = {"nll": info["loss"], "token_accuracy": right / weighted, "tokens": tokens}
    return Learned(info | measured, {"tokens": tokens})


def evaluate(policy: Policy, examples: list[Example], budget: int) -> HeldOut:
    """Token-mean negative log-likelihood, nats per token; each token counts as its example's weight says.

    Its interval counts the examples of one prompt together.
    """
    total, tokens = 0.0, 0.0
    each: list[tuple[float, float, Ids]] = []
    with torch.no_grad():
        micros = share(examples, example_length, budget)
        for micro in micros:
            scores = score(policy, rows_of(micro, policy))
            nll_BC = -scores.logps_BC.double() * token_weights(micro, policy)
            total += float(nll_BC.sum())
            counted = [example_weight(example) for example in micro]
            tokens += sum(counted)
            each += zip(nll_BC.sum(1).tolist(), counted, (e.prompt_ids or e.completion_ids for e in micro), strict=True)
    all_total, all_tokens = micros.sum(total, tokens)
    nlls, counts, prompts = zip(*micros.gather(each), strict=True)
    interval = ratio_interval(nlls, counts, prompts)
    return HeldOut({"heldout_nll": all_total / all_tokens}, {"rows": len(examples)}, {"heldout_nll": interval})


def rows_of(examples: Sequence[Example], policy: Policy) -> Rows:
    """Examples as rows of a forward pass."""
    return Rows.of([(e.prompt_ids, e.completion_ids) for e in examples], policy.device)


def token_weights(examples: Sequence[Example], policy: Policy) -> torch.Tensor:
    """[B, C], or [B, 1] to be spread over the tokens where all of an example count the same."""
    if all(example.token_weights is None for example in examples):
        return torch.tensor([[example.weight] for example in examples], device=policy.device)
    each = [[e.weight * w for w in e.token_weights or (1.0,) * _scored(e)] for e in examples]
    width = max(map(len, each))
    rows = [weights + [0.0] * (width - len(weights)) for weights in each]
    return torch.tensor(rows, device=policy.device)


def examples_of(
    renderer: Renderer, demonstrations: Loaded[Demonstration], config: Sft
) -> tuple[list[Example], RenderReport]:
    """Demonstrations as examples, and what rendering did."""
    rendered, report = renderer.render_demonstrations(demonstrations, all_turns=config.train_on == "all")
    if config.loss_on_prompt:
        return [Example((), r.prompt_ids + r.completion_ids, r.weight) for r in rendered], report
    return [Example(r.prompt_ids, r.completion_ids, r.weight, r.token_weights) for r in rendered], report


def texts_of(items: tuple[Demonstration, ...]) -> list[str]:
    """What a tiny model learns its tokenizer from."""
    return [f"{prompt_text(d.prompt)} {d.completion}" for d in items]


OPENING = re.compile(r"(?:\s*\S+){1,8}(?=\s)")
"""The first words of a text, of which there are more."""


def probe_prompt(demonstration: Demonstration) -> Prompt:
    """What a probe asks of a demonstration: its prompt; of a text without one, to go on from its first words."""
    if demonstration.prompt:
        return demonstration.prompt
    opening = OPENING.match(demonstration.completion)
    return "" if opening is None else opening.group()


def example_length(example: Example) -> int:
    """Tokens of prompt and completion."""
    return len(example.prompt_ids) + len(example.completion_ids)


def example_weight(example: Example) -> float:
    """What the example adds to the denominator of the loss."""
    if example.token_weights is None:
        return example.weight * _scored(example)
    return example.weight * sum(example.token_weights)


def _scored(example: Example) -> int:
    """Tokens that carry loss."""
    if example.token_weights is not None:
        return sum(weight > 0 for weight in example.token_weights)
    return len(example.completion_ids) if example.prompt_ids else len(example.completion_ids) - 1
