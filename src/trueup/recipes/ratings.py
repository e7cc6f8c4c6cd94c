"""Ratings for a reward model: one output for each column of numbers, on one trunk, learned by squared error.

    trueup reward --model runs/sft/final --data rated.jsonl --validation held-out.jsonl --out runs/rm \
        --set objective.kind=ratings --set 'objective.columns=[helpfulness, correctness]'

Each column is brought to mean 0 and standard deviation 1 of the training data, so that a loss of 1 is what its mean
gets and no column counts more because its numbers are larger. Every rating counts alike: the loss of a step is the sum
of squared errors over its ratings by their number. A rating that is not there is no term of that sum.

Shapes: B responses, H outputs, N held-out responses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, field_validator

from trueup.config import Settings
from trueup.data.batch import Ids, Rows
from trueup.data.rated_formats import read_rated
from trueup.data.read import Loaded
from trueup.data.render import RenderedRated, Renderer
from trueup.engine.placement import place
from trueup.engine.score import outputs, raw_outputs
from trueup.engine.step import Stepper
from trueup.errors import DataError
from trueup.ledger import Run
from trueup.ledger.progress import warn
from trueup.models.heads import HeadCard, Pooling, RewardModel, open_reward_model
from trueup.recipes.labels import say_unused
from trueup.recipes.offline import HeldOut, Learned, Offline, finish, fit, prepare, read
from trueup.recipes.probes import rating_probe
from trueup.recipes.rating_fit import rating_fit
from trueup.types import Rated

FORBIDDEN = ",#/"
"""What the name of a column may not hold: it stands in ``path#label=name`` and in the names of metrics."""


class Ratings(Settings):
    """Single responses with numbers: each column is learned by an output of its own, by squared error."""

    kind: Literal["ratings"] = "ratings"
    """Name of the objective."""
    columns: tuple[str, ...] = Field(min_length=1)
    """Columns of the data that hold the ratings; each becomes a label of the model."""

    @field_validator("columns", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @field_validator("columns")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name != name.strip() or not name or any(mark in name for mark in FORBIDDEN):
                raise ValueError(
                    f"{name!r} cannot be the name of an output; expected a name without {' '.join(FORBIDDEN)} and"
                    " without spaces around it; a column is renamed by read.columns={our name: the file's}"
                )
            if value.count(name) > 1:
                raise ValueError(f"{name!r} is there {value.count(name)} times; expected each column once")
        return value


def train_ratings(config: Offline, columns: Sequence[str], run: Run, pooling: Pooling = "last") -> None:
    """Train one output for each of ``columns`` and write ``final/``, a sequence classifier with these labels.

    Raises:
        DataError: A column is not there, holds no ratings, or holds the same one everywhere.
    """
    files = read(config, partial(read_rated, ratings=columns))
    model = open_reward_model(config.model, new_head=True, seed=config.seed, columns=columns, pooling=pooling)
    data = prepare(config, run, model, files, Renderer.render_rated, rated_length)
    model.heads = scales(data.examples, columns, config.data)
    _say_unmeasured(files.held_out, columns)
    place(model, config.model.engine)
    stepper, budget = Stepper(model.trainable(), config.optim, len(data.plan)), model.trunk.budget(config.batch)
    say_unused(run, "reward (ratings)", files.training.report.unused_columns)
    run.note(**data.facts, heads=[head.model_dump(mode="json") for head in model.heads])

    def learn(batch: Sequence[RenderedRated]) -> Learned:
        count = sum(example.weight * known(example) for example in batch)
        for micro in stepper.share(batch, rated_length, budget):
            raw_BH = raw_outputs(model, Rows.of(sequences(micro), model.device))
            weight_B = torch.tensor([example.weight for example in micro], device=model.device)
            stepper.accumulate(squared_errors(raw_BH, micro, model.heads), count=count, weight=weight_B)
        info = stepper.step(tuple(example.key for example in batch))
        return Learned(info, {"rows": float(len(batch))})

    probe = rating_probe(config, run, model, data.renderer, files.probed, budget=2 * budget)
    fit(
        config,
        run,
        data,
        stepper,
        learn=learn,
        evaluate=(lambda: evaluate(model, data.held_out, 2 * budget)) if data.held_out else None,
        headline=("loss", "heldout_loss", f"heldout/{columns[0]}/r2"),
        probe=probe,
    )
    finish(run, model, data)


def rated_length(example: RenderedRated) -> int:
    """Tokens of a response with its prompt."""
    return len(example.prompt_ids) + len(example.completion_ids)


def sequences(examples: Sequence[RenderedRated]) -> list[tuple[Ids, Ids]]:
    """Prompt and completion of every response."""
    return [(example.prompt_ids, example.completion_ids) for example in examples]


def known(example: RenderedRated) -> int:
    """How many ratings a response has."""
    return sum(rating is not None for rating in example.ratings)


def scales(examples: Sequence[RenderedRated], columns: Sequence[str], source: str) -> tuple[HeadCard, ...]:
    """Mean and standard deviation of each column over the responses that are trained on, each counted once.

    Raises:
        DataError: A column has no ratings there, or all are the same.
    """
    heads = []
    for number, name in enumerate(columns):
        ratings = [r for example in examples if (r := example.ratings[number]) is not None]
        if len(set(ratings)) < 2:
            raise DataError(
                f"all {len(ratings)} ratings in {name!r} are {ratings[0]:g}"
                if ratings
                else f"no response has a rating in {name!r}",
                where=source,
                expected="ratings that differ, or there is nothing to learn",
                fix=f"leave {name!r} out of objective.columns",
            )
        mean = math.fsum(ratings) / len(ratings)
        spread = math.sqrt(math.fsum((rating - mean) ** 2 for rating in ratings) / len(ratings))
        heads.append(HeadCard(name=name, mean=mean, std=spread))
    return tuple(heads)


def squared_errors(raw_BH: torch.Tensor, examples: Sequence[RenderedRated], heads: Sequence[HeadCard]) -> torch.Tensor:
    """Sums [B] over the ratings that are there of (output - (rating - mean) / std)^2."""
    target_BH, mask_BH = standardised(examples, heads)
    gap_BH = raw_BH - target_BH.to(raw_BH)
    return (gap_BH**2 * mask_BH.to(raw_BH)).sum(-1)


def standardised(examples: Sequence[RenderedRated], heads: Sequence[HeadCard]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ratings [B, H] in standard deviations from the mean, and which are there; what stands elsewhere is not used."""
    target_BH = torch.tensor(
        [
            [0.0 if r is None else (r - head.mean) / head.std for r, head in zip(example.ratings, heads, strict=True)]
            for example in examples
        ],
        dtype=torch.float64,
    )
    return target_BH, torch.tensor([[rating is not None for rating in example.ratings] for example in examples])


def evaluate(model: RewardModel, examples: Sequence[RenderedRated], budget: int) -> HeldOut:
    """Loss, and for each output how well it rates responses that were not trained on, beside the training mean."""
    raw_NH = outputs(model, sequences(examples), budget=budget).double()
    weights = [example.weight for example in examples]
    loss_N = squared_errors(raw_NH, examples, model.heads).tolist()
    count = sum(weight * known(example) for weight, example in zip(weights, examples, strict=True))
    metrics = {"heldout_loss": sum(w * loss for w, loss in zip(weights, loss_N, strict=True)) / count}
    facts: dict[str, float] = {}
    intervals: dict[str, tuple[float, float] | None] = {}
    for number, head in enumerate(model.heads):
        rows = [n for n, example in enumerate(examples) if example.ratings[number] is not None]
        if not rows:
            continue
        measured = rating_fit(
            [head.mean + head.std * float(raw_NH[n, number]) for n in rows],
            [float(examples[n].ratings[number] or 0.0) for n in rows],
            baseline=head.mean,
            weight=[weights[n] for n in rows],
            prompts=[examples[n].prompt_ids for n in rows],
        )
        place = f"heldout/{head.name}"
        metrics |= {f"{place}/{name}": value for name, value in measured.figures.items()}
        intervals |= {f"{place}/{name}": bounds for name, bounds in measured.intervals.items()}
        facts[f"{place}/ratings"] = float(len(rows))
    return HeldOut(metrics, facts, intervals)


def _say_unmeasured(held_out: Loaded[Rated] | None, columns: Sequence[str]) -> None:
    """Say of which outputs the held-out data says nothing."""
    for number, name in enumerate(columns):
        if held_out is not None and all(item.ratings[number] is None for item in held_out.items):
            warn(f"{held_out.report.source}: no response has a rating in {name!r}: nothing is measured of that output")
