"""A reward that is a model: it reads what it was trained to read, whoever asks.

The reward model renders prompt and answer itself, by the tokenizer, template and limits that it was trained with, so
the score of an answer depends on nothing but its text and on whether it ended; ids that a policy drew are never shown
to it.

Shapes: B answers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

import torch

from trueup.config import Batch, Model, Settings
from trueup.data.encode import Text
from trueup.data.fit import Window
from trueup.data.render import Rendered, Renderer
from trueup.engine.placement import place
from trueup.engine.processes import rank
from trueup.engine.rendering import whole_context
from trueup.engine.score import rewards
from trueup.errors import ModelError
from trueup.models.files import identity
from trueup.models.heads import SCALE_FILE, RewardModel, open_reward_model
from trueup.rewards.options import options
from trueup.rewards.protocol import require_finite
from trueup.types import Completion, Message, Prompt, content_id

log = logging.getLogger("trueup.rewards")


class Asked(Settings):
    """What stands behind the ``#`` of a reward model: ``label=helpfulness``."""

    label: str | None = None
    """Of a model of ratings the column whose rating is the score."""


class ModelReward:
    """A reward model together with the rendering that it was trained on.

    Args:
        model: The model.
        budget: Padded tokens of one forward pass.
    """

    def __init__(self, model: RewardModel, budget: int = 16384) -> None:
        self.model = model
        self.renderer = reward_renderer(model)
        self.budget = budget
        self.cut = 0

    @property
    def name(self) -> str:
        """Where the model was opened from, and which of its outputs is the score."""
        model = self.model
        return f"{model.source}#label={model.heads[model.head].name}" if len(model.heads) > 1 else model.source

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model's own files, the scale and the rendering included, and of which output is the score."""
        return identify(self.name)

    @property
    def log_odds(self) -> float | None:
        """Log-odds of one unit of reward: the standard deviation that was divided by after training.

        None for a model of ratings, whose points are no odds.
        """
        return None if self.model.heads else self.model.std

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Rewards [B], centred and scaled; an answer that did not end is shown without an end token.

        Raises:
            NonFiniteError: A reward is NaN or infinite; it names the prompt.
        """
        rendered = [self._render(p, c) for p, c in zip(prompts, completions, strict=True)]
        score_B = rewards(self.model, [(r.prompt_ids, r.completion_ids) for r in rendered], budget=self.budget)
        require_finite(score_B, prompts, completions, self.name)
        return score_B

    def windows(self, policy: Renderer, new_tokens: int, *, fix: str) -> list[Window]:
        """What fits the reward model: its own rendering of a prompt, and an answer of ``new_tokens`` policy tokens.

        With another tokenizer than the policy's an answer may take more tokens than that; one that does not fit is
        then cut as in training, and counted.
        """
        model, renderer = self.model, self.renderer
        by_context = model.context is not None and model.context <= renderer.max_length
        limit = (
            f"its {model.context} positions" if by_context else f"the {renderer.max_length} tokens it was trained on"
        )
        more = max(0, _wrapping(renderer) - _wrapping(policy))
        owner = f"the reward model {model.source}"
        return [Window(owner, renderer, renderer.max_length, limit, new_tokens + more, fix)]

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Say before the first answer what kind of prompt this reward model cannot read, or never read.

        Raises:
            ModelError: Chats, and it has no chat template.
        """
        rendering = self.model.rendering
        for chat, name, other in ((True, "chats", "plain text"), (False, "plain text", "chats")):
            count = sum(isinstance(p, str) is not chat for p in prompts)
            if not count:
                continue
            if chat and not self.renderer.chat.exists:
                raise ModelError(
                    f"{count} of {len(prompts)} prompts are chats and the reward model has no chat template",
                    where=self.model.source,
                    expected="prompts of the kind that it was trained on, which is plain text",
                    fix="train a reward model on chats: trueup reward with --set model.template=plain, or on a model"
                    " that has a template",
                )
            if rendering is not None and not (rendering.chats if chat else rendering.texts):
                _say(f"{self.model.source} was trained on {other} only; {count} of {len(prompts)} prompts are {name}")

    def as_prompt(self, text: str) -> Prompt:
        """A question as the kind of prompt that this reward model was trained on."""
        rendering = self.model.rendering
        chat = self.renderer.chat.exists and (rendering is None or rendering.chats or not rendering.texts)
        return (Message("user", text),) if chat else text

    def _render(self, prompt: Prompt, completion: Completion) -> Rendered:
        rendered = self.renderer.render(prompt, completion.text, ended=completion.ended)
        tokens = len(rendered.prompt_ids) + len(rendered.completion_ids)
        if rendered.truncated and tokens >= self.renderer.max_length:
            self.cut += 1
            if self.cut == 1:
                _say(
                    f"{self.model.source} reads {self.renderer.max_length} tokens: an answer is longer and was cut, as"
                    " in its training; such answers are counted"
                )
        return rendered


def takes(source: str) -> bool:
    """Whether this names a model: whatever no other kind of reward takes does."""
    return True


def identify(source: str) -> str:
    """Content hash of a reward model's own files and of what is asked of it; a hub name stands for itself."""
    path, asked = options(source, Asked)
    values = asked.model_dump(exclude_none=True)
    return content_id(identity(path), values) if values else identity(path)


def load(source: str, beside: Model, batch: Batch | None = None) -> ModelReward:
    """Open the directory of a reward model that ``trueup reward`` wrote, frozen and placed.

    Raises:
        ModelError: There is none, or it has several outputs and none is named.
        ConfigError: What stands behind the ``#`` cannot be used.
    """
    path, asked = options(source, Asked)
    settings = {name: getattr(beside, name) for name in ("dtype", "device", "engine", "kernels")}
    config = Model(name=path, **settings)
    model = open_reward_model(config, new_head=False, label=asked.label)
    place(model, config.engine)
    return ModelReward(model) if batch is None else ModelReward(model, 2 * model.trunk.budget(batch))


def reward_renderer(model: RewardModel) -> Renderer:
    """The rendering that a reward model was trained on: its tokenizer, its template, its limits."""
    rendering = model.rendering
    if rendering is None:
        log.warning(
            "%s: its %s does not say how it was trained to read; its tokenizer's chat template and its whole context"
            " are used. Train it again to be sure",
            model.source,
            SCALE_FILE,
        )
        return Renderer.of(model.tokenizer, whole_context(model.context))
    batch = Batch(max_length=rendering.max_length, max_prompt_length=rendering.max_prompt_length)
    return Renderer.of(model.tokenizer, batch, context=model.context, today=rendering.today)


def _wrapping(renderer: Renderer) -> int:
    """Tokens of a one-letter answer with what the template puts before and after it."""
    if not renderer.chat.exists:
        return 1
    return len(renderer.encoder.encode([Text(renderer.chat.gap + "a" + renderer.chat.closing, parsed=True)])[0])


def _say(line: str) -> None:
    if rank() == 0:  # one of several processes speaks
        log.warning(line)
