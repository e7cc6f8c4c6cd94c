"""The implicit reward of a policy: beta log pi(y|x) / pi_ref(y|x), what DPO fits (Rafailov et al. 2023, eq. 5).

It is a reward without a reward model: a policy that was trained by DPO judges answers, its own or those of others, by
how much likelier they became. Each answer is rendered as text for the judging policy, so models with other
vocabularies can be judged too.

Shapes: B answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trueup.config import Model
from trueup.data.fit import Window
from trueup.data.render import Renderer
from trueup.engine.rendering import renderer_difference, renderer_of, whole_context
from trueup.engine.score import sequence_logps
from trueup.errors import ConfigError, ModelError
from trueup.ledger import read_run
from trueup.models.policy import Policy, open_policy, open_reference
from trueup.rewards.protocol import require_finite
from trueup.types import Completion, Message, Prompt


class ImplicitReward:
    """beta times the log-ratio of a policy to its reference, as a reward.

    Args:
        policy: The policy that judges.
        reference: What it is compared with; it reads the same token ids.
        renderer: Renders prompts and answers for both.
        beta: The coefficient that the policy was trained with.
        budget: Padded tokens of one forward pass.
    """

    def __init__(self, policy: Policy, reference: Policy, renderer: Renderer, beta: float, budget: int = 16384) -> None:
        self.policy, self.reference, self.renderer = policy, reference, renderer
        self.beta, self.budget = beta, budget
        self.cut = 0

    @property
    def name(self) -> str:
        """Policy and reference."""
        return f"implicit reward of {self.policy.source} over {self.reference.source}"

    @property
    def fingerprint(self) -> str:
        """What its scores depend on."""
        return f"{self.name}, beta {self.beta}"

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Implicit rewards [B]; an answer that did not end is scored without an end token.

        Raises:
            NonFiniteError: A reward is NaN or infinite; it names the prompt.
        """
        rendered = [self.renderer.render(p, c.text, ended=c.ended) for p, c in zip(prompts, completions, strict=True)]
        limit = self.renderer.max_length
        self.cut += sum(r.truncated and len(r.prompt_ids) + len(r.completion_ids) >= limit for r in rendered)
        sequences = [(r.prompt_ids, r.completion_ids) for r in rendered]
        with torch.no_grad():
            ours = sequence_logps(self.policy, sequences, budget=self.budget)
            theirs = sequence_logps(self.reference, sequences, budget=self.budget)
        ratios = [float((a.double() - b.double()).sum()) for a, b in zip(ours, theirs, strict=True)]
        score_B = self.beta * torch.tensor(ratios, dtype=torch.float32)
        require_finite(score_B, prompts, completions, self.name)
        return score_B

    def windows(self, policy: Renderer, new_tokens: int, *, fix: str) -> list[Window]:
        """What fits: its own rendering of a prompt, and an answer of ``new_tokens`` tokens."""
        limit = f"the {self.renderer.max_length} tokens that it reads"
        return [Window(self.name, self.renderer, self.renderer.max_length, limit, new_tokens, fix)]

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Refuse chats where the policy has no chat template.

        Raises:
            ModelError: It has none.
        """
        chats = sum(not isinstance(prompt, str) for prompt in prompts)
        if chats and not self.renderer.chat.exists:
            raise ModelError(
                f"{chats} of {len(prompts)} prompts are chats and it has no chat template",
                where=self.name,
                expected="prompts of the kind that it was trained on, which is plain text",
            )

    def as_prompt(self, text: str) -> Prompt:
        """A question as a chat turn where the policy has a chat template."""
        return (Message("user", text),) if self.renderer.chat.exists else text


def open_implicit(
    path: str, *, reference: str | None = None, beta: float | None = None, settings: Mapping[str, Any] | None = None
) -> ImplicitReward:
    """The implicit reward of a trained policy; reference and beta are those of its run unless they are given.

    Args:
        path: A run's directory, its ``final``, or any policy if ``reference`` and ``beta`` are given.
        reference: Name or directory of the reference.
        beta: The coefficient.
        settings: Other settings of ``model`` for both, such as dtype and device.

    Raises:
        ConfigError: Nothing says what the reference or beta is.
        ModelError: A model cannot be opened, or the two do not read the same tokens.
    """
    run = _run_of(Path(path))
    record = read_run(run) if run else {}
    config, trained = record.get("config", {}), record.get("pinned", {}).get("reference")
    model = config.get("model") or {}
    if reference is None and trained is not None:
        reference = config.get("reference") or model.get("name")
    if beta is None:
        beta = (config.get("objective") or {}).get("beta", config.get("beta"))
    for name, value in (("reference", reference), ("beta", beta)):
        if value is None:
            raise ConfigError(
                f"nothing says what its {name} is",
                where=f"implicit:{path}",
                expected="a run of dpo or kto whose objective has a reference; run.json then says it",
                fix=f"implicit:{path}#reference=PATH,beta=0.1",
            )
    opened = Model(name=str(run / "final" if run is not None and Path(path) == run else path), **(settings or {}))
    base = Model(name=str(reference), **(settings or {}))
    policy, frozen = (
        open_policy(opened, frozen=True),
        open_reference(base, pinned=trained if _comparable(config, reference, base) else None),
    )
    renderer = renderer_of(policy, opened, whole_context(policy.context))
    other = renderer_difference(renderer, renderer_of(frozen.policy, base, whole_context(frozen.policy.context)))
    if other is not None:
        raise ModelError(f"the reference cannot read its answers: {other}", where=f"implicit:{path} over {reference}")
    return ImplicitReward(policy, frozen.policy, renderer, float(beta or 0.0))


def _comparable(config: Mapping[str, Any], reference: str | None, base: Model) -> bool:
    """Whether the weights must be those that the run pinned: the same name, held as they were then."""
    model = config.get("model") or {}
    same = reference == (config.get("reference") or model.get("name"))
    return same and model.get("lora") is None and model.get("dtype") == base.dtype


def _run_of(path: Path) -> Path | None:
    """The run that a directory is, or lies in."""
    return next((folder for folder in (path, path.parent) if (folder / "run.json").is_file()), None)
