"""Collect once: sample answers of several models to the same prompts and measure each; analysis then only reads rows.

Shapes: C completion positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from trueup.config import Sampling
from trueup.config.seeds import derive
from trueup.data.batch import Ids
from trueup.data.render import Renderer
from trueup.engine.ask import ask
from trueup.engine.score import sequence_logps
from trueup.engine.waiting import adaptive_waiting
from trueup.errors import UsageError
from trueup.models.policy import Policy
from trueup.rewards.protocol import Reward
from trueup.types import Completion, Prompt, content_id, prompt_json, prompt_text, question


class Score(Protocol):
    """What a gold function gives: a total and its named parts."""

    @property
    def total(self) -> float:
        """The judgment."""

    @property
    def parts(self) -> Mapping[str, float]:
        """What it is made of."""


Gold = Callable[[str, str], Score]
Scorer = Callable[[Sequence[Prompt], Sequence[Completion]], Sequence[float]]
"""Prompts and an answer to each, in the order of the data, to a number for each."""


@adaptive_waiting()
def collect_answers(
    policies: Mapping[str, Policy],
    prompts: Sequence[Prompt],
    *,
    renderers: Mapping[str, Renderer],
    sampling: Sampling,
    seed: int,
    samples: int = 1,
    kinds: Sequence[str] | None = None,
    gold: Gold | None = None,
    reward: Reward | None = None,
    scorers: Mapping[str, Scorer] | None = None,
    marks: Sequence[Mapping[str, Any]] | None = None,
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
        reward: Scores the answers: the proxy.
        scorers: Further columns of the rows: a name, and what scores the answers.
        marks: What the data says of each prompt beside its kind, as further columns of its rows.
        reference: The policy from which KL is measured; it must share the vocabulary of the others.
        budget: Padded tokens of one forward pass.
    """
    if policies.keys() != renderers.keys():
        raise UsageError("every policy needs its renderer", where="collect", expected=", ".join(policies))
    for what, given in (("kinds", kinds), ("marks", marks)):
        if given is not None and len(given) != len(prompts):
            raise UsageError(
                f"{len(given)} {what} for {len(prompts)} prompts", where="collect", expected="one for each"
            )
    rows: list[dict[str, Any]] = []
    for name, policy in policies.items():
        for sample in range(samples):
            draw = derive(seed, "evaluation", sample)
            heads, drawn = ask(policy, renderers[name], prompts, sampling, seed=draw)
            gaps = _kl(policy, reference, heads, drawn, sampling, budget)
            columns: dict[str, Sequence[float]] = (
                {} if reward is None else {"reward": reward.score(prompts, drawn).tolist()}
            )
            columns |= {label: scorer(prompts, drawn) for label, scorer in (scorers or {}).items()}
            for index, (prompt, completion) in enumerate(zip(prompts, drawn, strict=True)):
                row = _row(name, prompt, completion, sample, seed)
                row |= {"kind": kinds[index] if kinds is not None else None, "reward": None, "kl": gaps[index]}
                row |= marks[index] if marks is not None else {}
                row |= {label: float(numbers[index]) for label, numbers in columns.items()}
                if gold is not None:
                    score = gold(question(prompt), completion.text)
                    row["gold"], row["gold_parts"] = score.total, dict(score.parts)
                rows.append(row)
    return rows


def _row(name: str, prompt: Prompt, completion: Completion, sample: int, seed: int) -> dict[str, Any]:
    return {
        "model": name,
        "prompt_id": content_id(prompt_json(prompt)),
        "prompt": prompt_text(prompt),
        "question": question(prompt),
        "sample": sample,
        "completion": completion.text,
        "stop": completion.stop.value,
        "tokens": len(completion.ids),
        "words": len(completion.text.split()),
        "gold": None,
        "seed": seed,
    }


def _kl(
    policy: Policy,
    reference: Policy | None,
    heads: Sequence[Ids],
    drawn: Sequence[Completion],
    sampling: Sampling,
    budget: int,
) -> list[float | None]:
    """Sequence log-ratio to the reference (k1) of each answer; its mean estimates the KL where T = 1."""
    modified = sampling.top_p < 1 or sampling.top_k > 0 or sampling.repetition_penalty != 1 or sampling.temperature == 0
    if reference is None or modified:
        return [None] * len(drawn)
    sequences = [(h, c.ids) for h, c in zip(heads, drawn, strict=True)]
    own = sequence_logps(policy, sequences, temperature=sampling.temperature, budget=2 * budget)
    theirs = sequence_logps(reference, sequences, temperature=sampling.temperature, budget=2 * budget)
    return [float((a.double() - b.double()).sum()) for a, b in zip(own, theirs, strict=True)]
