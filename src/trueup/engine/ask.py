"""Prompts to a model, answers back: the one way from text to text, for training, evaluation and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trueup.config import Sampling
from trueup.data.answers import answer_text
from trueup.data.batch import Ids
from trueup.data.fit import Window
from trueup.data.render import Renderer
from trueup.engine.generate import Generation
from trueup.engine.sampler import LocalSampler, Sampler
from trueup.models.policy import Policy, Reference
from trueup.types import Completion, Prompt, StopReason


@dataclass(frozen=True, eq=False)
class Answers:
    """What a policy was fed and what it answered, prompt by prompt."""

    heads: list[Ids]
    completions: list[Completion]
    generations: list[Generation]
    """The same with the sampler's own log-probs, and the version of the policy that it had."""


def ask(
    policy: Policy, renderer: Renderer, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int
) -> tuple[list[Ids], list[Completion]]:
    """Draw one completion for each prompt, in the order given.

    Returns:
        The ids that the policy was fed, and what it answered. An answer ends at the end token of the chat template,
        the tokenizer's EOS, or any other that the model's generation settings name.
    """
    answers = draw_answers(LocalSampler(policy), policy, renderer, prompts, sampling, seed=seed)
    return answers.heads, answers.completions


def draw_answers(
    sampler: Sampler, policy: Policy, renderer: Renderer, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int
) -> Answers:
    """``ask`` by a sampler, which may have the policy's weights on another machine."""
    heads = [renderer.render_prompt(prompt) for prompt in prompts]
    drawn = sampler.draw(heads, sampling, stop_ids={*renderer.stop_ids, *policy.end_ids}, seed=seed)
    completions = []
    for prompt, head, completion in zip(prompts, heads, drawn, strict=True):
        text = answer_text(renderer, prompt, head, completion.ids, ended=completion.stop is StopReason.EOS)
        completions.append(Completion(text, completion.ids, completion.stop))
    return Answers(heads, completions, drawn)


def policy_window(policy: Policy, renderer: Renderer, sampling: Sampling, *, fix: str) -> Window:
    """What fits a policy: the prompt as it is fed, and the longest answer."""
    by_context = policy.context is not None and policy.context <= renderer.max_length
    return Window(
        f"the policy {policy.source}",
        renderer,
        renderer.max_length,
        f"its context of {policy.context} positions" if by_context else f"batch.max_length, {renderer.max_length}",
        sampling.max_new_tokens,
        fix,
    )


def reference_window(reference: Reference, renderer: Renderer, sampling: Sampling, *, fix: str) -> Window:
    """What fits the reference, which reads the policy's own ids."""
    context = reference.policy.context
    return Window(
        f"the reference {reference.policy.source}",
        renderer,
        renderer.max_length if context is None else min(context, renderer.max_length),
        f"its context of {context} positions",
        sampling.max_new_tokens,
        fix,
    )
