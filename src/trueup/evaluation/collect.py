"""Collect once: sample answers of several models to the same prompts and measure each; analysis then only reads rows.

Shapes: C completion positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from trueup.config import Sampling
from trueup.data.batch import Ids
from trueup.data.render import Renderer
from trueup.engine.generate import Completion, generate
from trueup.engine.score import rewards, sequence_logps
from trueup.errors import UsageError
from trueup.models.heads import RewardModel
from trueup.models.policy import Policy
from trueup.seeds import derive
from trueup.types import Prompt, StopReason, content_id, prompt_json, prompt_text


class Score(Protocol):
    """What a gold function gives: a total and its named parts."""

    @property
    def total(self) -> float:
        """The judgment."""

    @property
    def parts(self) -> Mapping[str, float]:
        """What it is made of."""


Gold = Callable[[str, str], Score]


def collect(
    policies: Mapping[str, Policy],
    prompts: Sequence[Prompt],
    *,
    renderers: Mapping[str, Renderer],
    sampling: Sampling,
    seed: int,
    samples: int = 1,
    kinds: Sequence[str] | None = None,
    gold: Gold | None = None,
    reward: RewardModel | None = None,
    reward_renderer: Renderer | None = None,
    reference: Policy | None = None,
    budget: int = 8192,
) -> list[dict[str, Any]]:
    """Answers of every policy to every prompt, as rows of ``eval.jsonl`` (see ``evaluation.rows``).

    Args:
        policies: Models by name.
        prompts: What each is asked.
        renderers: The renderer of each model, by the same names.
        sampling: How answers are drawn; the same for all.
        seed: Names the draws; all models share it, so comparisons are paired.
        samples: Answers per prompt.
        kinds: A label for each prompt, for tables by kind.
        gold: The truth, called with the text of the last user turn and the answer.
        reward: A reward model: the proxy.
        reward_renderer: Its renderer.
        reference: The policy from which KL is measured; it must share the vocabulary of the others.
        budget: Padded tokens of one forward pass.
    """
    if policies.keys() != renderers.keys():
        raise UsageError("every policy needs its renderer", where="collect", expected=", ".join(policies))
    if kinds is not None and len(kinds) != len(prompts):
        raise UsageError(f"{len(kinds)} kinds for {len(prompts)} prompts", where="collect", expected="one for each")
    if (reward is None) != (reward_renderer is None):
        raise UsageError("a reward model goes with its renderer", where="collect", expected="both or neither")
    found: list[dict[str, Any]] = []
    for name, policy in policies.items():
        renderer = renderers[name]
        heads = [renderer.render_prompt(p) for p in prompts]
        for sample in range(samples):
            drawn = generate(
                policy, heads, sampling, stop_ids=renderer.stop_ids, seed=derive(seed, "evaluation", sample)
            )
            texts = [policy.tokenizer.decode(c.ids, skip_special_tokens=True) for c in drawn]
            proxies = _proxies(reward, reward_renderer, prompts, texts, drawn, budget)
            gaps = _kl(policy, reference, heads, drawn, sampling, budget)
            for index, (prompt, text, completion) in enumerate(zip(prompts, texts, drawn, strict=True)):
                row = _row(name, prompt, text, completion, sample, seed)
                row["kind"] = kinds[index] if kinds is not None else None
                row["reward"], row["kl"] = proxies[index], gaps[index]
                if gold is not None:
                    score = gold(asked(prompt), text)
                    row["gold"], row["gold_parts"] = score.total, dict(score.parts)
                found.append(row)
    return found


def asked(prompt: Prompt) -> str:
    """The question: the text itself, or what the last turn says."""
    return prompt if isinstance(prompt, str) else prompt[-1].content


def _row(name: str, prompt: Prompt, text: str, completion: Completion, sample: int, seed: int) -> dict[str, Any]:
    return {
        "model": name,
        "prompt_id": content_id(prompt_json(prompt)),
        "prompt": prompt_text(prompt),
        "question": asked(prompt),
        "sample": sample,
        "completion": text,
        "stop": completion.stop.value,
        "tokens": len(completion.ids),
        "words": len(text.split()),
        "gold": None,
        "seed": seed,
    }


def _proxies(
    reward: RewardModel | None,
    renderer: Renderer | None,
    prompts: Sequence[Prompt],
    texts: Sequence[str],
    drawn: Sequence[Completion],
    budget: int,
) -> list[float | None]:
    if reward is None or renderer is None:
        return [None] * len(texts)
    shown = [
        renderer.render(p, t, ended=c.stop is StopReason.EOS) for p, t, c in zip(prompts, texts, drawn, strict=True)
    ]
    scores = rewards(reward, [(r.prompt_ids, r.completion_ids) for r in shown], budget=2 * budget)
    return [float(s) for s in scores]


def _kl(
    policy: Policy,
    reference: Policy | None,
    heads: Sequence[Ids],
    drawn: Sequence[Completion],
    sampling: Sampling,
    budget: int,
) -> list[float | None]:
    """Sequence log-ratio to the reference (k1) of each answer; its mean estimates the KL where T = 1."""
    bent = sampling.top_p < 1 or sampling.top_k > 0 or sampling.repetition_penalty != 1 or sampling.temperature == 0
    if reference is None or bent:
        return [None] * len(drawn)
    sequences = [(h, c.ids) for h, c in zip(heads, drawn, strict=True)]
    own = sequence_logps(policy, sequences, temperature=sampling.temperature, budget=2 * budget)
    theirs = sequence_logps(reference, sequences, temperature=sampling.temperature, budget=2 * budget)
    return [float((a.double() - b.double()).sum()) for a, b in zip(own, theirs, strict=True)]
