"""What only the models can say of a pair: how likely either answer is before and after, its reward, its gradient.

Shapes: B sides of a pair or pairs of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trueup.commands.influences import products
from trueup.commands.located import input_of, places
from trueup.config import Model, Sampling
from trueup.data.render import Renderer
from trueup.engine.ask import ask
from trueup.engine.influence import gradient, linear_layers, visits
from trueup.engine.rendering import renderer_of, whole_context
from trueup.engine.score import rewards, sequence_logps
from trueup.ledger import read_run
from trueup.models.heads import open_reward_model
from trueup.models.policy import open_policy
from trueup.recipes.lessons import Point, open_lessons, points, put
from trueup.types import PreferencePair, Prompt, StopReason


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Log-prob, in nats, that a model gives the whole of either answer, end included, and what it says itself."""

    model: str
    chosen: float
    rejected: float
    answer: str
    """Its own answer, drawn greedily."""


@dataclass(frozen=True, slots=True)
class Rewards:
    """What a reward model gives either answer."""

    chosen_raw: float
    rejected_raw: float
    chosen: float
    """Centred and scaled: what PPO sees."""
    rejected: float


@dataclass(frozen=True, slots=True)
class Push:
    """The pair's gradient at weights that were kept, beside that of the batch it was trained in."""

    point: str
    step: int
    """The step whose batch it is."""
    norm: float
    """Norm of the gradient of the pair's own loss, of linear layers."""
    share: float
    """Of the batch's gradient: the projection of the pair's own on it; the shares of a batch sum to 1."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the models of one run say."""

    likelihoods: tuple[Likelihood, ...] = ()
    """Reference, before and after, as far as they differ."""
    rewards: Rewards | None = None
    pushes: tuple[Push, ...] = ()


def measure(run: Path, pair: PreferencePair, steps: Sequence[int]) -> Measured:
    """Open the models of a run and ask them about a pair.

    Args:
        run: A run of any kind.
        pair: The pair.
        steps: Steps that trained on it.

    Raises:
        ModelError, DataError: An input is not there any more, or is another one.
    """
    record = read_run(run)
    if record["kind"] == "reward":
        return Measured(rewards=_rewards(run, pair), pushes=_pushes(run, pair, steps))
    moved = places(run, record)
    start = moved.get("model.name") or input_of(record, "model.name") or ""
    reference = moved.get("reference") or input_of(record, "reference")
    named = {"reference": reference} if reference is not None and reference != start else {}
    named |= {} if start in ("", "tiny") else {"before" if named else "reference (before)": start}
    likelihoods = [_likelihood(role, name, pair) for role, name in {**named, "after": str(run / "final")}.items()]
    return Measured(tuple(likelihoods), pushes=_pushes(run, pair, steps) if record["kind"] == "dpo" else ())


def _likelihood(role: str, name: str, pair: PreferencePair) -> Likelihood:
    config = Model(name=name)
    policy = open_policy(config, frozen=True)
    renderer = renderer_of(policy, config, whole_context(policy.context))
    rendered = renderer.render_pair(pair)
    sides = [(rendered.prompt_ids, rendered.chosen_ids), (rendered.prompt_ids, rendered.rejected_ids)]
    chosen, rejected = (float(logps.double().sum()) for logps in sequence_logps(policy, sides))
    return Likelihood(role, chosen, rejected, _own_answer(policy, renderer, pair.prompt))


def _own_answer(policy: Any, renderer: Renderer, prompt: Prompt) -> str:
    _, (completion,) = ask(policy, renderer, [prompt], Sampling(temperature=0.0, max_new_tokens=64), seed=0)
    return completion.text + ("" if completion.stop is StopReason.EOS else " ...")


def _rewards(run: Path, pair: PreferencePair) -> Rewards:
    config = Model(name=str(run / "final"))
    model = open_reward_model(config, new_head=False)
    rendered = renderer_of(model, config, whole_context(model.context)).render_pair(pair)
    sides = [(rendered.prompt_ids, rendered.chosen_ids), (rendered.prompt_ids, rendered.rejected_ids)]
    raw = rewards(model, sides, scaled=False).tolist()
    chosen, rejected = (float(model.scale(torch.tensor(value))) for value in raw)
    return Rewards(raw[0], raw[1], chosen, rejected)


def _pushes(run: Path, pair: PreferencePair, steps: Sequence[int]) -> tuple[Push, ...]:
    """At each of the weights that are kept, with the batch of the nearest step that saw the pair."""
    if not steps:
        return ()
    lessons = open_lessons(run, places=places(run, read_run(run)))
    layers = linear_layers(lessons.model.model, lessons.learned)
    pushes = []
    for point in points(lessons):
        step = min(steps, key=lambda s: (abs(s - point.step), s))
        pushes.append(_push(lessons, layers, point, step, pair.key))
    return tuple(pushes)


def _push(lessons: Any, layers: Any, point: Point, step: int, key: str) -> Push:
    put(lessons, point)
    batch = lessons.data.plan[step]
    place = next(i for i, example in enumerate(batch) if example.key == key)
    whole = gradient(visits(layers, lambda: lessons.losses(batch).sum()), layers)
    shares_B = products(lessons, layers, batch, whole)
    alone = [batch[place]]
    own = gradient(visits(layers, lambda: lessons.losses(alone).sum()), layers)
    norm = float(products(lessons, layers, alone, own)[0]) ** 0.5
    total = float(shares_B.sum())
    return Push(point.name, step, norm, float(shares_B[place]) / total if total else 0.0)
