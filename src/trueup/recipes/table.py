"""The recipes by name. Nothing heavy is imported until one of them is used, so that ``--help`` stays fast."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from trueup.errors import ConfigError, nearest

if TYPE_CHECKING:
    from trueup.config import Settings
    from trueup.ledger import Run


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where a method lives, what it reads, and what its command says of itself.

    ``inputs`` are the settings that name what is read: a run resumes only with the same contents, and each has a flag.
    ``inner_inputs`` are more of them, inside a block that need not be there; those have none.
    """

    module: str
    config: str
    inputs: tuple[str, ...]
    teaches: str
    summary: str
    example: str
    inner_inputs: tuple[str, ...] = ()

    def settings(self) -> type[Settings]:
        """The config class."""
        settings: type[Settings] = getattr(import_module(self.module), self.config)
        return settings

    def code(self) -> str | None:
        """Hash of the method's source where it is not ours: part of a run's identity."""
        return None

    def train(self) -> Callable[[Any, Run], None]:
        """The training function."""
        train: Callable[[Any, Run], None] = import_module(self.module).train
        return train


def _online(kind: str, config: str, teaches: str, summary: str) -> Recipe:
    """A method that learns from its own answers to prompts; its module is called as its command is."""
    inputs = ("model.name", "data", "reward", "reference")
    example = f"trueup {kind} --model runs/sft/final --reward runs/reward/final --data prompts.jsonl --out runs/{kind}"
    module = f"trueup.recipes.{kind.replace('-', '_')}"
    return Recipe(module, config, inputs, teaches, summary, example, ("ptx.data",) if kind == "ppo" else ())


RECIPES: dict[str, Recipe] = {
    "sft": Recipe(
        "trueup.recipes.sft",
        "Sft",
        ("model.name", "data", "validation"),
        "imitate demonstrations",
        "Fine-tune on demonstrations.",
        "trueup sft --model gpt2 --data demos.jsonl --out runs/sft --set epochs=1",
    ),
    "reward": Recipe(
        "trueup.recipes.reward",
        "Reward",
        ("model.name", "data", "validation"),
        "learn a reward from preferences",
        "Train a reward model on preference pairs or rankings.",
        "trueup reward --model runs/sft/final --data pairs.jsonl --validation held.jsonl --out runs/reward",
    ),
    "dpo": Recipe(
        "trueup.recipes.dpo",
        "Dpo",
        ("model.name", "data", "validation", "reference"),
        "preferences into a policy",
        "Train a policy on preference pairs directly: DPO and its family.",
        "trueup dpo --model runs/sft/final --data pairs.jsonl --out runs/dpo --set objective.beta=0.1",
    ),
    "kto": Recipe(
        "trueup.recipes.kto",
        "Kto",
        ("model.name", "data", "validation", "reference"),
        "learn from single responses marked good or bad",
        "Train a policy on single responses marked good or bad: KTO, or BCO by objective.kind=bco.",
        "trueup kto --model runs/sft/final --data labelled.jsonl --out runs/kto",
    ),
    "ppo": _online(
        "ppo",
        "Ppo",
        "RLHF against a reward",
        "RLHF: sample, score with a reward, improve by PPO, stay near the reference.",
    ),
    "rloo": _online(
        "rloo",
        "Rloo",
        "RLHF without a critic",
        "RLOO: reinforce answers that beat the others to the same prompt.",
    ),
    "grpo": _online(
        "grpo",
        "Grpo",
        "RLHF without a critic",
        "GRPO: answers against their group's mean and spread, clipped; Dr. GRPO and DAPO by preset.",
    ),
    "reinforce-pp": _online(
        "reinforce-pp",
        "ReinforcePp",
        "RLHF without a critic",
        "REINFORCE++: token returns against the group's mean, whitened over the batch.",
    ),
    "cispo": _online(
        "cispo",
        "Cispo",
        "RLHF without a critic",
        "CISPO: REINFORCE weighted by a clipped ratio, so that no token loses its gradient.",
    ),
    "gspo": _online(
        "gspo",
        "Gspo",
        "RLHF without a critic",
        "GSPO: the ratio of a whole answer is clipped.",
    ),
    "online-dpo": _online(
        "online-dpo",
        "OnlineDpo",
        "preferences among the policy's own answers",
        "Online DPO: the best and the worst of the policy's own answers, judged by a reward.",
    ),
    "best-of-n": _online(
        "best-of-n",
        "BestOfN",
        "imitate the best of the policy's own answers",
        "Best-of-n distillation: imitate the best of several answers; rejection sampling with a bar.",
    ),
}
"""Every recipe; its command, its settings page and its place in a chain of stages follow from its line here."""


@dataclass(frozen=True, slots=True)
class OwnRecipe(Recipe):
    """A recipe of your own: ``package.module:Settings``, with ``train(config, run)`` in it or beside it."""

    def settings(self) -> type[Settings]:
        """The config class.

        Raises:
            ConfigError: It cannot be imported, or is no subclass of ``trueup.config.Settings``.
        """
        from trueup.config import Settings
        from trueup.config.code import find

        kind = find(self.config, "recipe")
        if not (isinstance(kind, type) and issubclass(kind, Settings)):
            raise ConfigError(
                "is no settings class", where=f"recipe {self.config}", expected="a subclass of trueup.config.Settings"
            )
        return kind

    def train(self) -> Callable[[Any, Run], None]:
        """The training function.

        Raises:
            ConfigError: There is none.
        """
        kind = self.settings()
        train: Callable[[Any, Run], None] | None = getattr(kind, "train", None)
        train = train or getattr(sys.modules[kind.__module__], "train", None)
        if train is None:
            raise ConfigError(
                "there is no train", where=f"recipe {self.config}", expected="train(config, run) in the class or module"
            )
        return train

    def code(self) -> str | None:
        """Hash of its source."""
        from trueup.config.code import identify

        return identify(self.config, "recipe")


def recipe_of(kind: str) -> Recipe:
    """The recipe of a name, or of ``package.module:Settings``.

    Raises:
        ConfigError: There is none.
    """
    if kind in RECIPES:
        return RECIPES[kind]
    if ":" not in kind and not kind.startswith("@"):
        raise ConfigError(
            f"no recipe {kind!r}", where="recipe", expected=f"{nearest(kind, RECIPES)}, or module:Settings"
        )
    inputs = ("model.name", "data", "validation", "reference", "reward")
    return OwnRecipe(kind, kind, inputs, "a recipe of your own", "", "")
