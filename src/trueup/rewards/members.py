"""Members of an ensemble that share a backbone: outputs of one model, or adapters over one base, which is held once.

Shapes: B answers, H outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch

from trueup.config import Batch, Model
from trueup.data.batch import Ids
from trueup.engine.placement import place
from trueup.engine.score import outputs
from trueup.models.adapter_members import Backbone, open_adapter_members, shared_base
from trueup.models.files import looks_like_path
from trueup.models.heads import RewardModel, card_of, open_reward_model, output_of
from trueup.models.load import located
from trueup.rewards.model import Asked, ModelReward
from trueup.rewards.options import options
from trueup.rewards.protocol import Reward, require_finite
from trueup.rewards.registry import kind_name, open_reward
from trueup.types import Completion, Prompt

Key: TypeAlias = tuple[str, str]


def open_members(sources: Sequence[str], beside: Model | None, batch: Batch | None) -> list[Reward]:
    """Rewards in the order of ``sources``; those with one backbone have it in common.

    Args:
        sources: As in the setting ``reward``.
        beside: As for ``open_reward``; with ``engine: fsdp2`` nothing is shared, since it cuts a model into pieces.
        batch: As for ``open_reward``.
    """
    groups: dict[Key, list[int]] = {}
    for number, source in enumerate(sources):
        key = None if beside is not None and beside.engine == "fsdp2" else _backbone(source)
        groups.setdefault(key or ("alone", str(number)), []).append(number)
    opened: dict[int, Reward] = {}
    for (kind, name), numbers in groups.items():
        some = [sources[number] for number in numbers]
        if len(some) == 1:
            rewards: list[Reward] = [open_reward(some[0], beside, batch)]
        elif kind == "outputs":
            rewards = [*_of_outputs(name, some, _opening(name, beside), batch)]
        else:
            rewards = [*_of_adapters(some, _opening(name, beside), batch)]
        opened |= dict(zip(numbers, rewards, strict=True))
    return [opened[number] for number in range(len(sources))]


def _backbone(source: str) -> Key | None:
    """What a member shares with others of the same key; None where it has nothing to share."""
    if kind_name(source) != "model":
        return None
    path, _ = options(source, Asked)
    base = shared_base(path)
    if base is not None:
        return "adapters", str(Path(base).resolve()) if Path(base).is_dir() else base
    return "outputs", str(Path(path).resolve()) if looks_like_path(path) or Path(path).is_dir() else path


def _opening(name: str, beside: Model | None) -> Model:
    settings = {field: getattr(beside, field) for field in ("dtype", "device", "engine", "kernels")} if beside else {}
    return Model(name=name, **settings)


def _budget(model: RewardModel, batch: Batch | None) -> dict[str, int]:
    return {} if batch is None else {"budget": 2 * model.trunk.budget(batch)}


# Outputs of one model -------------------------------------------------------------------------------------------------


class OutputsPass:
    """One pass for all outputs: whoever asks next about the same sequences is given what it was for the first."""

    def __init__(self, model: RewardModel, budget: int) -> None:
        self.model, self.budget = model, budget
        self._sequences: list[tuple[Ids, Ids]] | None = None
        self._raw_BH = torch.zeros(0)

    def __call__(self, sequences: list[tuple[Ids, Ids]]) -> torch.Tensor:
        """Raw outputs [B, H]."""
        if sequences != self._sequences:
            self._raw_BH, self._sequences = outputs(self.model, sequences, budget=self.budget), sequences
        return self._raw_BH


class OutputReward(ModelReward):
    """One output of a model of several, beside others of the same."""

    def __init__(self, model: RewardModel, shared: OutputsPass) -> None:
        super().__init__(model, shared.budget)
        self.shared = shared

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Rewards [B], as ``ModelReward`` gives them for this output."""
        rendered = [self._render(p, c) for p, c in zip(prompts, completions, strict=True)]
        raw_BH = self.shared([(r.prompt_ids, r.completion_ids) for r in rendered])
        score_B = self.model.scale(raw_BH[:, self.model.head]) if len(rendered) else torch.zeros(0)
        require_finite(score_B, prompts, completions, self.name)
        return score_B


def _of_outputs(name: str, sources: Sequence[str], config: Model, batch: Batch | None) -> list[OutputReward]:
    paths, labels = zip(*((path, asked.label) for path, asked in (options(s, Asked) for s in sources)), strict=True)
    card = card_of(located(paths[0]))
    heads = [output_of(card, label, path) for path, label in zip(paths, labels, strict=True)]
    model = open_reward_model(config.model_copy(update={"name": paths[0]}), new_head=False, label=labels[0])
    place(model, config.engine)
    shared = OutputsPass(model, **_budget(model, batch) or {"budget": 16384})
    rewards = []
    for head in heads:
        one = copy.copy(model)
        one.head = head
        rewards.append(OutputReward(one, shared))
    return rewards


# Adapters of one base -------------------------------------------------------------------------------------------------


class AdapterReward(ModelReward):
    """A reward model that is an adapter, on a backbone that it shares with others."""

    def __init__(self, model: RewardModel, backbone: Backbone, member: str, **budget: int) -> None:
        super().__init__(model, **budget)
        self.backbone, self.member = backbone, member

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Rewards [B], as ``ModelReward`` gives them, with this member's adapter on."""
        self.backbone.turn_to(self.member)
        return super().score(prompts, completions)


def _of_adapters(sources: Sequence[str], config: Model, batch: Batch | None) -> list[AdapterReward]:
    named = [options(source, Asked) for source in sources]
    labels = [asked.label for _, asked in named]
    backbone, models = open_adapter_members(config, [path for path, _ in named], labels)
    place(models[0], config.engine)
    return [
        AdapterReward(model, backbone, f"member-{number}", **_budget(model, batch))
        for number, model in enumerate(models)
    ]
