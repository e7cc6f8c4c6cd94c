"""What a finished run learned from, rebuilt from its directory: examples, steps, the loss of each, its checkpoints.

``trueup why`` asks it which examples moved an answer; ``trueup trace`` which share of a step's gradient a pair had.
Rankings, ratings and labels (``objective.kind=plackett-luce``, ``ratings``, ``kto``) and online methods are refused:
what is followed is a judgment on a pair, or a demonstration.

Shapes: B examples of a micro-batch, E all examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from trueup.config import Model
from trueup.data.batch import Ids
from trueup.data.listing import data_hash
from trueup.data.read import Loaded, read_demonstrations, read_pairs
from trueup.data.render import RenderedPair, Renderer, pair_length
from trueup.engine import checkpoint
from trueup.engine.score import score
from trueup.errors import DataError, RunError, TrueupError, UsageError
from trueup.ledger import Run, metric_rows
from trueup.models.files import identity
from trueup.models.heads import RewardModel, open_reward_model
from trueup.models.policy import Policy, Reference, open_policy, open_reference
from trueup.recipes import dpo, sft
from trueup.recipes.offline import Data, Files, Offline, prepare
from trueup.recipes.reference import Logps, reference_logps
from trueup.recipes.registry import settings_of
from trueup.recipes.reward import BradleyTerry, PairLoss, Reward, head_facts
from trueup.types import Demonstration, PreferencePair

Losses: TypeAlias = Callable[[Sequence[Any]], torch.Tensor]
Item: TypeAlias = PreferencePair | Demonstration
Kind: TypeAlias = Reward | dpo.Dpo | sft.Sft


@dataclass(frozen=True, eq=False)
class Lessons:
    """A run's examples and how it learned from them."""

    run: Run
    config: Offline
    model: Policy | RewardModel
    data: Data[Any]
    items: Sequence[Item | None]
    """What each example was in the data; None where a text was cut into several."""
    losses: Losses
    """Examples -> losses [B], each times its weight, with gradients."""
    sequences: Callable[[Sequence[Any]], list[tuple[Ids, Ids]]]
    """Examples -> the rows of their forward pass; row r is of example r modulo their number."""
    weight: Callable[[Any], float]
    """What an example adds to the denominator of its step's loss."""
    length: Callable[[Any], int]
    """Padded tokens of an example."""
    start: Mapping[str, torch.Tensor]
    """The weights that were trained, by name, as they were at the start; ``model`` may hold others by now."""

    @property
    def learned(self) -> frozenset[str]:
        """Names of the parameters that were trained."""
        return frozenset(self.start)


def open_lessons(path: str | Path, *, places: Mapping[str, str] | None = None) -> Lessons:
    """Rebuild what the run in ``path`` learned from.

    Args:
        path: A run of ``sft``, ``dpo``, or ``reward`` on pairs.
        places: Where inputs lie now, by setting (``data``, ``model.name``, ...), if not where run.json says.

    Raises:
        UsageError: Another kind of run.
        DataError, ModelError: An input is not there, or is not what the run was trained on.
    """
    kind, settings = settings_of(path)
    if not isinstance(settings, Reward | dpo.Dpo | sft.Sft):
        raise UsageError(f"it is a run of {kind}", where=str(path), expected="a run of reward, dpo or sft")
    if isinstance(settings, Reward) and not isinstance(settings.objective, BradleyTerry):
        what = "ratings" if settings.objective.kind == "ratings" else "whole rankings"
        raise UsageError(f"it learned from {what}", where=str(path), expected="a reward model of pairs")
    run = Run.follow(path)
    config = _placed(settings, places or {})
    _require_same(run, config)
    if isinstance(config, Reward):
        return _of_reward(run, config)
    return _of_dpo(run, config) if isinstance(config, dpo.Dpo) else _of_sft(run, config)


def _placed(config: Kind, places: Mapping[str, str]) -> Kind:
    """``config`` with inputs where they lie now; kernels are plain, so that every layer can be watched."""
    model = config.model.model_copy(
        update={
            "kernels": "plain",
            "name": places.get("model.name", config.model.name),
            "gradient_checkpointing": False,
        }
    )
    others = {name: place for name, place in places.items() if name != "model.name"}
    return config.model_copy(update={"model": model, **others})


def _require_same(run: Run, config: Kind) -> None:
    """Refuse data and a start that are not those of the run: its steps would be made of others."""
    known = run.record["inputs"]
    fixes = {"data": "name the file of that time with --data", "model.name": "put back the model that it started from"}
    for name, now in (("data", data_hash(config.data)), ("model.name", identity(config.model.name))):
        if known.get(name) != now:
            raise DataError(
                f"{name} is not what the run was trained on",
                where=config.data if name == "data" else config.model.name,
                expected=f"content {known.get(name)}, and this is {now}",
                fix=fixes[name],
            )


# The kinds -----------------------------------------------------------------------------------------------------------


def _of_reward(run: Run, config: Reward) -> Lessons:
    files = Files(read_pairs(config.data, **config.read.options()), None)
    model = open_reward_model(config.model, new_head=True, seed=config.seed, pooling=config.pooling)
    data = prepare(config, run, model, files, Renderer.render_pairs, pair_length)
    loss = PairLoss(config.centre, config.margin)
    head_facts(config, model, data.examples, loss)
    start = _copied(model)

    def losses(pairs: Sequence[RenderedPair]) -> torch.Tensor:
        return loss(model, pairs)[0] * _pair_weights(pairs, model.device)

    items = _pairs_of(data.examples, files.training)
    model.model.requires_grad_(False)
    return Lessons(run, config, model, data, items, losses, loss.sequences, _pair_weight, pair_length, start)


def _of_dpo(run: Run, config: dpo.Dpo) -> Lessons:
    held_out = None if config.validation is None else _held_out(config)
    files = Files(read_pairs(config.data, **config.read.options()), held_out)
    policy = open_policy(config.model, seed=config.seed)
    start = _copied(policy)
    data = prepare(config, run, policy, files, Renderer.render_pairs, pair_length)
    reference: Logps = {}
    if config.objective.uses_reference:
        sides = dpo.sides([*data.examples, *data.held_out])
        reference = reference_logps(run, _reference(run, config, policy), sides, policy.trunk.budget(config.batch))

    def losses(pairs: Sequence[RenderedPair]) -> torch.Tensor:
        logps = dpo.pair_logps(policy, pairs)
        strength_B = torch.tensor([pair.strength for pair in pairs], device=policy.device)
        losses_B = config.objective(logps, dpo.looked_up(reference, pairs, logps), strength_B)
        return losses_B * _pair_weights(pairs, policy.device)

    items = _pairs_of(data.examples, files.training)
    policy.model.requires_grad_(False)
    return Lessons(run, config, policy, data, items, losses, dpo.sides, _pair_weight, pair_length, start)


def _of_sft(run: Run, config: sft.Sft) -> Lessons:
    files = Files(read_demonstrations(config.data, **config.read.options()), None)
    policy = open_policy(config.model, texts=sft.texts_of(files.training.items), seed=config.seed)
    start = _copied(policy)
    data = prepare(config, run, policy, files, partial(sft.examples_of, config=config), sft.example_length)

    def losses(examples: Sequence[sft.Example]) -> torch.Tensor:
        logps_BC = score(policy, sft.rows_of(examples, policy)).logps_BC
        return -(logps_BC * sft.token_weights(examples, policy)).sum(1)

    whole = len(data.examples) == len(files.training.items)
    items: Sequence[Item | None] = files.training.items if whole else [None] * len(data.examples)
    policy.model.requires_grad_(False)
    return Lessons(
        run, config, policy, data, items, losses, _sft_sequences, sft.example_weight, sft.example_length, start
    )


def _held_out(config: dpo.Dpo) -> Loaded[PreferencePair] | None:
    """Held-out pairs, which the reference's cached log-probs go by; without them these are computed again."""
    try:
        return read_pairs(str(config.validation), **config.read.held_out_options())
    except TrueupError:
        return None


def _reference(run: Run, config: dpo.Dpo, policy: Policy) -> Reference:
    if config.reference is None or config.reference == config.model.name:
        return Reference(policy, adapters_off=policy.adapters, fingerprint=str(run.fingerprint("reference")))
    named: Model = config.model.model_copy(update={"name": config.reference})
    return open_reference(named, pinned=run.fingerprint("reference"))


def _copied(model: Policy | RewardModel) -> dict[str, torch.Tensor]:
    """The weights that are trained, of their own."""
    return {name: parameter.detach().clone() for name, parameter in model.trainable().items()}


def _pair_weights(pairs: Sequence[RenderedPair], device: torch.device) -> torch.Tensor:
    return torch.tensor([pair.weight for pair in pairs], device=device)


def _pair_weight(pair: RenderedPair) -> float:
    return pair.weight


def _sft_sequences(examples: Sequence[sft.Example]) -> list[tuple[Ids, Ids]]:
    return [(example.prompt_ids, example.completion_ids) for example in examples]


def _pairs_of(examples: Sequence[RenderedPair], loaded: Loaded[PreferencePair]) -> list[Item | None]:
    by_key = {pair.key: pair for pair in loaded.items}
    return [by_key.get(example.key) for example in examples]


# Weights along the run -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Point:
    """Weights of the run that are still to be had."""

    name: str
    """``start``, or the name of a checkpoint."""
    step: int
    """Steps that were done then."""
    parameters: Mapping[str, torch.Tensor]
    moments: Mapping[str, torch.Tensor]
    """Adam's second moments by name of the parameter, after ``moments_step`` steps."""
    moments_step: int


def points(lessons: Lessons) -> list[Point]:
    """The start and every checkpoint that is kept, in order; the start borrows the moments of the first checkpoint.

    Raises:
        RunError: No checkpoint is left.
        CheckpointError: One is damaged.
    """
    run = lessons.run.path
    kept: list[Point] = []
    for name in checkpoint.names(run):
        loaded = checkpoint.load(run, name)
        assert loaded is not None
        weights, moments = (_named(loaded.tensors, prefix) for prefix in ("param/", "adam/exp_avg_sq/"))
        kept.append(Point(name, loaded.step, weights, moments, int(loaded.state["stepper"]["updates"])))
    if not kept:
        raise RunError(
            "no checkpoint is left, and what moved the weights is measured along them",
            where=str(run / "checkpoints"),
            fix="train it again: the last two checkpoints are kept; set save_every to half of the steps or less",
        )
    return [Point("start", 0, lessons.start, kept[0].moments, kept[0].moments_step), *kept]


def put(lessons: Lessons, point: Point) -> None:
    """Give the model the weights of ``point``."""
    named = dict(lessons.model.model.named_parameters())
    with torch.no_grad():
        for name, value in point.parameters.items():
            named[name].copy_(value)


def _named(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def step_rates(lessons: Lessons) -> dict[int, float]:
    """Step -> learning rate over the weight of its batch, times what clipping left of the gradient.

    Raises:
        RunError: metrics.jsonl does not have them.
    """
    limit = lessons.config.optim.max_grad_norm
    rates = {}
    for row in metric_rows(lessons.run.path, damaged=[]):
        try:
            norm, rate = float(row["grad_norm"]), float(row["learning_rate"])
        except KeyError as error:
            raise RunError(f"step {row['step']} has no {error}", where=f"{lessons.run.path}/metrics.jsonl") from error
        if not math.isfinite(norm):  # the step was skipped
            continue
        batch = lessons.data.plan[row["step"]]
        rates[row["step"]] = rate * min(1.0, limit / max(norm, 1e-12)) / sum(map(lessons.weight, batch))
    return rates
