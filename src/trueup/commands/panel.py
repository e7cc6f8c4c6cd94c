"""``trueup sample``: answers of several models to the same prompts, side by side, with reward and KL where asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trueup.config import Model, Sampling, build
from trueup.data.fields import half_character
from trueup.data.fit import Window, fitting_prompts
from trueup.data.read_report import Loaded, ReadReport
from trueup.data.render import Renderer
from trueup.engine.ask import ask, policy_window, reference_window
from trueup.engine.rendering import renderer_difference, renderer_of, whole_context
from trueup.engine.score import sequence_logps
from trueup.errors import DataError
from trueup.models.policy import Policy, Reference, open_policy, open_reference
from trueup.rewards.columns import refuse_columns
from trueup.rewards.protocol import Reward, prompt_for, windows_of
from trueup.types import Message, Prompt, StopReason

log = logging.getLogger("trueup.commands.panel")

_FIX = "shorten it, or lower --max-new-tokens"


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's answer. ``kl`` is the k1 estimate, in nats over the sequence, under the reference."""

    model: str
    prompt: str
    text: str
    tokens: int
    stop: StopReason
    reward: float | None
    kl: float | None


@dataclass(frozen=True, slots=True)
class _Speaker:
    name: str
    policy: Policy
    renderer: Renderer
    reference: Reference | None
    """What its KL is measured from; None where it cannot be."""


class Panel:
    """Models opened once, asked many times.

    Args:
        models: Names or directories.
        reward: Scores the answers.
        reference: Name or directory of the model from which KL is measured.
        device, dtype, template: As in the settings of a run.
    """

    def __init__(
        self,
        models: Sequence[str],
        *,
        reward: Reward | None = None,
        reference: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        template: str | None = None,
    ) -> None:
        settings = {"device": device, "dtype": dtype}
        if reward is not None:
            refuse_columns(reward, "reward")
        opened = None
        if reference is not None:
            opened = open_reference(build(Model, settings, {"name": reference}, where="reference"))
        self.speakers = [
            _open(build(Model, settings, {"name": name, "template": template}, where="models"), opened)
            for name in models
        ]
        self.reward = reward

    def check(self, texts: Sequence[str], sampling: Sampling) -> None:
        """Refuse what cannot be answered, before anything is.

        Raises:
            DataError: A prompt is no valid Unicode, or with the longest answer it does not fit a model; then it names
                the model and its positions.
        """
        for text in texts:
            at = half_character(text)
            if at is not None:
                raise DataError(
                    f"the prompt holds half a character or a byte that is no text ({text[at]!r}) at position {at}",
                    where="prompt",
                    expected="valid Unicode; on a command line UTF-8",
                    fix="type it anew, or convert it: iconv -f WINDOWS-1252 -t UTF-8",
                )
        for speaker in self.speakers:
            windows = [policy_window(speaker.policy, speaker.renderer, sampling, fix=_FIX)]
            if speaker.reference is not None:
                windows.append(reference_window(speaker.reference, speaker.renderer, sampling, fix=_FIX))
            asked = [as_prompt(text, speaker.renderer) for text in texts]
            require_room(asked, windows)
            if self.reward is not None:
                read = [prompt_for(self.reward, text, prompt) for text, prompt in zip(texts, asked, strict=True)]
                require_room(read, windows_of(self.reward, speaker.renderer, sampling.max_new_tokens, fix=_FIX))

    def ask(self, text: str, sampling: Sampling, seed: int) -> list[Answer]:
        """One answer of each model.

        Raises:
            DataError: As ``check``.
        """
        self.check([text], sampling)
        return [self._answer(speaker, text, sampling, seed) for speaker in self.speakers]

    def _answer(self, speaker: _Speaker, text: str, sampling: Sampling, seed: int) -> Answer:
        prompt = as_prompt(text, speaker.renderer)
        (head,), (answer,) = ask(speaker.policy, speaker.renderer, [prompt], sampling, seed=seed)
        reward = kl = None
        if self.reward is not None:
            reward = float(self.reward.score([prompt_for(self.reward, text, prompt)], [answer])[0])
        if speaker.reference is not None:
            sequence = [(head, answer.ids)]
            temperature = sampling.temperature or 1.0
            own = sequence_logps(speaker.policy, sequence, temperature=temperature)[0]
            kl = float((own - sequence_logps(speaker.reference, sequence, temperature=temperature)[0]).sum())
        return Answer(speaker.name, text, answer.text, len(answer.ids), answer.stop, reward, kl)


def as_prompt(text: str, renderer: Renderer) -> Prompt:
    """A chat turn where the tokenizer (or ``template``) has a chat format, the plain text elsewhere."""
    if renderer.chat.exists:
        return (Message("user", text),)
    return text


def require_room(prompts: Sequence[Prompt], windows: Sequence[Window]) -> None:
    """Refuse prompts that do not fit a model with the longest answer.

    Raises:
        DataError: It names the prompt, the model and its positions.
    """
    report = ReadReport("prompt", "prompts", items=len(prompts))
    fitting_prompts(Loaded(tuple(prompts), report), windows)


def _open(config: Model, reference: Reference | None) -> _Speaker:
    policy = open_policy(config, frozen=True)
    renderer = renderer_of(policy, config, whole_context(policy.context))
    path = Path(config.name)
    label = path.parent.name if path.name == "final" else path.name
    if reference is not None:
        theirs = renderer_of(
            reference.policy, Model(name=reference.policy.source), whole_context(reference.policy.context)
        )
        apart = renderer_difference(renderer, theirs)
        if apart:
            log.warning("%s: KL from %s is not measured: %s", config.name, reference.policy.source, apart)
            reference = None
    return _Speaker(label, policy, renderer, reference)
