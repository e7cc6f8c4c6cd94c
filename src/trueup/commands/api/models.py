"""Opened models in Python: texts in, texts and numbers out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch

from trueup.commands.api.material import reward_part
from trueup.commands.panel import as_prompt, require_room
from trueup.config import Model, Sampling, build
from trueup.data.conversations import messages
from trueup.data.fields import Fault
from trueup.engine.ask import ask, policy_window
from trueup.engine.rendering import renderer_of, whole_context
from trueup.engine.score import sequence_logps
from trueup.errors import DataError, ShapeError, UsageError
from trueup.models.policy import open_policy as open_model
from trueup.rewards.columns import column_stores
from trueup.rewards.protocol import Reward, check_prompts, prompt_for
from trueup.rewards.registry import open_reward as open_source
from trueup.types import Completion, Message, Prompt, StopReason

Asked: TypeAlias = str | Sequence[Mapping[str, str] | Message]
"""A question as text, or a conversation as a list of ``{"role": ..., "content": ...}``."""
Answer: TypeAlias = str | Completion
"""An answer as text, taken to be finished, or as it was sampled."""


class LanguageModel:
    """A policy, ready to be asked. ``policy`` and ``renderer`` are the objects behind it.

    Args:
        name: A name or directory, as in ``model.name``.
        settings: Other settings of ``model``, such as ``dtype`` or ``device``.
    """

    def __init__(self, name: str | Path, **settings: Any) -> None:
        config = build(Model, settings, {"name": str(name)}, where="open_policy")
        self.policy = open_model(config, frozen=True)
        self.renderer = renderer_of(self.policy, config, whole_context(self.policy.context))

    def __repr__(self) -> str:
        return f"LanguageModel({self.policy.source!r})"

    def sample(self, prompts: str | Sequence[Asked], *, seed: int = 0, **sampling: Any) -> list[Completion]:
        """One answer to each prompt, in order; the same seed gives the same answers.

        Args:
            prompts: Texts or conversations; a single text is one prompt.
            seed: Names the draws.
            sampling: ``max_new_tokens``, ``temperature``, ``top_p``, ``top_k``, ``repetition_penalty``.

        Returns:
            Completions: ``text``, ``ids``, ``stop`` (``eos`` or ``length``).

        Raises:
            DataError: A prompt does not fit the model's context with the longest answer.
        """
        settings = build(Sampling, sampling, where="sample")
        asked = self.prompts(prompts)
        window = policy_window(self.policy, self.renderer, settings, fix="shorten it, or lower max_new_tokens")
        require_room(asked, [window])
        return ask(self.policy, self.renderer, asked, settings, seed=seed)[1]

    def token_logps(self, prompts: str | Sequence[Asked], answers: str | Sequence[Answer]) -> list[torch.Tensor]:
        """Log-probs of the tokens of each answer, its end included if it has one, in nats.

        Raises:
            ShapeError: Not as many answers as prompts.
            DataError: Prompt and answer do not fit the model's context.
        """
        sequences = []
        for number, (prompt, answer) in enumerate(self._paired(prompts, answers), 1):
            if isinstance(answer, Completion):
                sequences.append((self.renderer.render_prompt(prompt), answer.ids))
                continue
            rendered = self.renderer.render(prompt, answer)
            if rendered.truncated or rendered.prompt_cut:
                raise DataError(
                    "prompt and answer do not fit the model",
                    where=f"answer {number}",
                    expected=f"at most {self.renderer.max_length} tokens",
                )
            sequences.append((rendered.prompt_ids, rendered.completion_ids))
        with torch.no_grad():
            return [logps_C.cpu() for logps_C in sequence_logps(self.policy, sequences)]

    def logps(self, prompts: str | Sequence[Asked], answers: str | Sequence[Answer]) -> list[float]:
        """Log-probs of whole answers: sums over their tokens, in nats. Raises as ``token_logps``."""
        return [float(logps_C.double().sum()) for logps_C in self.token_logps(prompts, answers)]

    def prompts(self, prompts: str | Sequence[Asked]) -> list[Prompt]:
        """Texts as chat turns where the model has a chat template, as plain texts elsewhere."""
        return [
            as_prompt(prompt, self.renderer) if isinstance(prompt, str) else _conversation(prompt, f"prompt {number}")
            for number, prompt in enumerate(_several(prompts), 1)
        ]

    def _paired(self, prompts: str | Sequence[Asked], answers: str | Sequence[Answer]) -> list[tuple[Prompt, Answer]]:
        asked, texts = self.prompts(prompts), [answers] if isinstance(answers, str) else list(answers)
        _require_as_many(asked, texts)
        return list(zip(asked, texts, strict=True))


class Scorer:
    """A reward, ready to score texts. ``reward`` is the object behind it."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward

    def __repr__(self) -> str:
        return f"Scorer({self.reward.name!r})"

    def score(
        self,
        prompts: str | Sequence[Asked],
        answers: str | Sequence[Answer],
        *,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[float]:
        """A number for each answer; higher is better.

        Args:
            prompts: Texts or conversations.
            answers: One for each prompt.
            columns: For a reward that asks for some: by name, a value for each prompt.

        Raises:
            ShapeError: Not as many answers as prompts.
            DataError: A prompt is longer than what the reward model reads; a column that it asks for is missing.
        """
        texts = [answers] if isinstance(answers, str) else list(answers)
        asked = [
            prompt_for(self.reward, prompt, (Message("user", prompt),))
            if isinstance(prompt, str)
            else _conversation(prompt, f"prompt {number}")
            for number, prompt in enumerate(_several(prompts), 1)
        ]
        _require_as_many(asked, texts)
        check_prompts(self.reward, asked)
        _give(self.reward, asked, columns)
        whole = [Completion(answer, (), StopReason.EOS) if isinstance(answer, str) else answer for answer in texts]
        return [float(score) for score in self.reward.score(asked, whole)]


def open_policy(name: str | Path, **settings: Any) -> LanguageModel:
    """A language model from a name, a directory or a run's ``final``; ``settings`` are those of ``model``."""
    return LanguageModel(name, **settings)


def open_reward(reward: str | Path | Callable[..., Any] | Sequence[Any]) -> Scorer:
    """A reward: a directory of a reward model, ``package.module:name``, or a function of (prompts, completions); or a
    list of parts with weights, as in the setting ``reward``."""
    if isinstance(reward, Sequence) and not isinstance(reward, str):
        return Scorer(open_source([reward_part(part) for part in reward]))
    return Scorer(open_source(reward_part(reward)))


def _several(prompts: str | Sequence[Asked]) -> Sequence[Asked]:
    return [prompts] if isinstance(prompts, str) else prompts


def _conversation(turns: Sequence[Mapping[str, str] | Message], place: str) -> Prompt:
    """Turns in any spelling that files have, or as ``Message``."""
    if all(isinstance(turn, Message) for turn in turns):
        return tuple(turns)  # type: ignore[arg-type]
    try:
        return messages(turns, "conversation")
    except Fault as fault:
        raise fault.error(place) from None


def _give(reward: Reward, prompts: Sequence[Prompt], columns: Mapping[str, Sequence[Any]] | None) -> None:
    stores, given = list(column_stores(reward)), dict(columns or {})
    if given and not stores:
        raise UsageError(f"{reward.name} asks for no columns", where="columns", fix="leave them out")
    if short := next((name for name, values in given.items() if len(values) != len(prompts)), None):
        raise ShapeError(f"{len(given[short])} values of {short!r}", expected=f"one for each of {len(prompts)} prompts")
    rows = [(f"prompt {n + 1}", {name: values[n] for name, values in given.items()}) for n in range(len(prompts))]
    taken = [name for store in stores for name in store.take(prompts, rows, "columns")]
    if idle := sorted(set(given) - set(taken)):
        raise UsageError(f"{reward.name} does not ask for {idle[0]!r}", where="columns", fix="leave it out")


def _require_as_many(prompts: Sequence[Prompt], answers: Sequence[Answer]) -> None:
    if len(prompts) != len(answers):
        raise ShapeError(f"{len(prompts)} prompts and {len(answers)} answers", expected="one answer for each prompt")
