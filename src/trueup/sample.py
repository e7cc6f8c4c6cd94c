"""``trueup sample``: answers of several models to the same prompts, side by side, with reward and KL where asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trueup.config import Batch, Model, Sampling
from trueup.data.render import Renderer
from trueup.engine.generate import generate
from trueup.engine.score import rewards, sequence_logps
from trueup.models.heads import RewardModel, open_reward_model
from trueup.models.policy import Policy, Reference, open_policy, open_reference
from trueup.types import Message, Prompt, StopReason


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


class Panel:
    """Models opened once, asked many times."""

    def __init__(
        self,
        models: Sequence[str],
        *,
        reward: str | None = None,
        reference: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        template: str | None = None,
    ) -> None:
        self.speakers = [_open(name, device, dtype, template) for name in models]
        self.judge: RewardModel | None = None
        self.anchor: Reference | None = None
        if reward is not None:
            self.judge = open_reward_model(Model(name=reward, device=device, dtype=dtype), new_head=False)
            self.judge_renderer = Renderer.of(self.judge.tokenizer, Batch(max_length=_room(self.judge.context)))
        if reference is not None:
            self.anchor = open_reference(Model(name=reference, device=device, dtype=dtype))

    def ask(self, text: str, sampling: Sampling, seed: int) -> list[Answer]:
        """One answer of each model."""
        return [self._answer(speaker, text, sampling, seed) for speaker in self.speakers]

    def _answer(self, speaker: _Speaker, text: str, sampling: Sampling, seed: int) -> Answer:
        policy, renderer = speaker.policy, speaker.renderer
        prompt = as_prompt(text, renderer)
        head = renderer.render_prompt(prompt)
        (drawn,) = generate(policy, [head], sampling, stop_ids=renderer.stop_ids, seed=seed)
        answer = policy.tokenizer.decode(drawn.ids, skip_special_tokens=True).strip()
        reward = kl = None
        if self.judge is not None:
            shown = self.judge_renderer.render(
                as_prompt(text, self.judge_renderer), answer, ended=drawn.stop is StopReason.EOS
            )
            reward = float(rewards(self.judge, [(shown.prompt_ids, shown.completion_ids)])[0])
        if self.anchor is not None:
            sequence = [(head, drawn.ids)]
            temperature = sampling.temperature or 1.0
            own = sequence_logps(policy, sequence, temperature=temperature)[0]
            kl = float((own - sequence_logps(self.anchor, sequence, temperature=temperature)[0]).sum())
        return Answer(speaker.name, text, answer, len(drawn.ids), drawn.stop, reward, kl)


def as_prompt(text: str, renderer: Renderer) -> Prompt:
    """A chat turn where the tokenizer (or ``template``) has a chat format, the plain text elsewhere."""
    if renderer.chat.exists:
        return (Message("user", text),)
    return text


def _open(name: str, device: str, dtype: str, template: str | None) -> _Speaker:
    policy = open_policy(Model(name=name, device=device, dtype=dtype), frozen=True)
    renderer = Renderer.of(policy.tokenizer, Batch(max_length=_room(policy.context)), template=template)
    path = Path(name)
    label = path.parent.name if path.name == "final" else path.name
    return _Speaker(label, policy, renderer)


def _room(context: int | None) -> int:
    return context if context is not None else 1 << 20
