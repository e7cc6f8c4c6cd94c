"""Answers of a policy, scored, with the log-probs that an update needs; and the numbers that describe them.

Shapes: B rollouts, C completion positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from trueup.config import Sampling
from trueup.data.batch import Ids, Rows
from trueup.engine.ask import ask, draw_answers
from trueup.engine.processes import share
from trueup.engine.score import score, sequence_logps
from trueup.ledger import Run
from trueup.losses import kl
from trueup.models.heads import ValueHead
from trueup.recipes.probes import named, token_strips
from trueup.recipes.rollouts.actors import Actors
from trueup.rewards.protocol import PartScores, Scored, scored
from trueup.rewards.refusal_phrases import Refusal, refusal
from trueup.rewards.repetition import repeated_share
from trueup.types import Completion, Prompt


@dataclass(frozen=True, eq=False)
class Rollout:
    """B completions of one step and everything that an update needs; padding holds zeros."""

    sequences: tuple[tuple[Ids, Ids], ...]
    completions: tuple[Completion, ...]
    logps_BC: torch.Tensor
    """Log-probs of the policy that drew the tokens."""
    reference_BC: torch.Tensor
    """Log-probs of the reference."""
    values_BC: torch.Tensor
    """Values of the state before each token; zeros without a value head."""
    mask_BC: torch.Tensor
    score_B: torch.Tensor
    """What the reward says."""
    penalty_B: torch.Tensor
    """What is taken off it."""
    entropy: float
    """Of the policy, mean over tokens."""
    cut: int
    """Answers of which the reward could only read the beginning."""
    kept: tuple[int, ...] = ()
    """Which of the drawn answers these are: one that a part of the reward could not score is not among them."""
    parts: tuple[PartScores, ...] = ()
    """What each part of the reward gave, where it has parts."""
    dropped: int = 0
    """Answers that were drawn and are not here."""
    policy_versions: tuple[int, ...] = ()
    """Version of the policy that drew each: the steps that it had taken."""
    server_logps_BC: torch.Tensor | None = None
    """Log-probs by the servers that drew the tokens; None where the policy here did."""
    importance_BC: torch.Tensor | None = None
    """What each token's loss is multiplied by, where the rollouts of servers are weighed."""
    prompts: tuple[Prompt, ...] = ()
    """What each answers."""

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def net_B(self) -> torch.Tensor:
        """Score minus penalties."""
        return self.score_B - self.penalty_B

    @property
    def kl_BC(self) -> torch.Tensor:
        """Per-token k1 estimate of KL(policy || reference)."""
        return kl.k1(self.logps_BC, self.reference_BC)


@torch.no_grad()
def draw_rollout(
    actors: Actors,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    seed: int,
    budget: int,
    missing_eos_penalty: float = 0.0,
    length_penalty: float = 0.0,
    value_head: ValueHead | None = None,
) -> Rollout:
    """Sample one answer to each prompt, score it, and record log-probs, reference log-probs and values.

    An answer that a part of the reward could not score, where its settings say ``on_error: drop``, is not in the
    rollout: whoever forms groups goes by ``kept``.

    Args:
        actors: The models of the run.
        prompts: What is asked; one that stands here k times running is read once and answered k times.
        sampling: How answers are drawn.
        seed: Names the draw.
        budget: Padded tokens of one forward pass of the policy.
        missing_eos_penalty: Taken off the score of an answer that hit the length limit.
        length_penalty: Taken off it for each token.
        value_head: Also the value of the state before each token.
    """
    policy, temperature = actors.policy, sampling.temperature
    answers = draw_answers(actors.sampler, policy, actors.renderer, prompts, sampling, seed=seed)
    prompt_ids, drawn = answers.heads, answers.completions
    judged = scored(actors.reward, prompts, drawn, learn=True)
    completions = [drawn[i] for i in judged.kept]
    sequences = tuple((prompt_ids[i], drawn[i].ids) for i in judged.kept)
    logps_BC, values_BC, entropy_sum = _policy_pass(actors, sequences, temperature, budget, value_head)
    reference = sequence_logps(actors.reference, sequences, temperature=temperature, budget=2 * budget)
    lengths_B = torch.tensor([len(c.ids) for c in completions])
    generations = [answers.generations[i] for i in judged.kept]
    elsewhere = any(generation.version is not None for generation in generations)
    penalties = [length_penalty * len(c.ids) + (0.0 if c.ended else missing_eos_penalty) for c in completions]
    return Rollout(
        sequences,
        tuple(completions),
        logps_BC,
        pad_sequence(reference, batch_first=True).float(),
        values_BC,
        torch.arange(logps_BC.shape[1])[None, :] < lengths_B[:, None],
        judged.score_K,
        torch.tensor(penalties),
        entropy_sum / float(lengths_B.sum()),
        judged.cut,
        judged.kept,
        judged.parts,
        len(drawn) - len(judged.kept),
        tuple(actors.sampler.version if one.version is None else one.version for one in generations),
        pad_sequence([one.logps for one in generations], batch_first=True).float() if elsewhere else None,
        prompts=tuple(prompts[i] for i in judged.kept),
    )


def _policy_pass(
    actors: Actors,
    sequences: Sequence[tuple[Ids, Ids]],
    temperature: float,
    budget: int,
    value_head: ValueHead | None,
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Log-probs [B, C], values [B, C] and the sum of entropies, each process for its share of the rollouts."""
    width = max(len(c) for _, c in sequences)
    logps_BC, values_BC = torch.zeros(len(sequences), width), torch.zeros(len(sequences), width)
    entropy_sum = 0.0
    groups = share(range(len(sequences)), lambda i: length(sequences[i]), budget)
    scored: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    for group in groups:
        rows = Rows.of([sequences[i] for i in group], actors.policy.device)
        scores = score(actors.policy, rows, temperature=temperature, entropy=True, value_head=value_head)
        assert scores.entropy_BC is not None
        group_values_BC = torch.zeros_like(scores.logps_BC) if scores.values_BC is None else scores.values_BC
        scored += zip(group, scores.logps_BC.float().cpu(), group_values_BC.float().cpu(), strict=True)
        entropy_sum += float(scores.entropy_BC.sum())
    for i, logps_C, values_C in groups.gather(scored):
        logps_BC[i, : len(logps_C)], values_BC[i, : len(values_C)] = logps_C, values_C
    return logps_BC, values_BC, groups.sum(entropy_sum)[0]


def length(sequence: tuple[Ids, Ids]) -> int:
    """Tokens of a prompt and its completion."""
    return len(sequence[0]) + len(sequence[1])


def describe(rollout: Rollout, beta: float | None) -> dict[str, float]:
    """The metrics of a rollout under a KL penalty of ``beta``, None for a method that has none."""
    kl_B = (rollout.kl_BC * rollout.mask_BC).sum(-1)
    k3_B = (kl.k3(rollout.logps_BC, rollout.reference_BC) * rollout.mask_BC).sum(-1)
    return {
        "score": float(rollout.score_B.mean()),
        "score_cut": rollout.cut / len(rollout),
        "reward": float((rollout.net_B - (beta or 0.0) * kl_B).mean()),
        "kl": float(kl_B.mean()),
        "kl_k3": float(k3_B.mean()),
        **({} if beta is None else {"beta": beta}),
        "entropy": rollout.entropy,
        "completion_length": float(rollout.mask_BC.sum(-1).float().mean()),
        "eos_rate": sum(c.ended for c in rollout.completions) / len(rollout),
        **text_health(rollout.completions),
        **part_metrics(rollout),
    }


def text_health(completions: Sequence[Completion]) -> dict[str, float]:
    """What can be said of the answers of a step without judging them."""
    count = len(completions)
    return {
        "distinct_2": distinct_bigrams([c.ids for c in completions]),
        "repeated_3": sum(repeated_share(c.ids, 3) for c in completions) / count,
        "refusals": sum(refusal(c.text) is not Refusal.NONE for c in completions) / count,
    }


def part_metrics(rollout: Rollout) -> dict[str, float]:
    """Mean and standard deviation of each part of the reward, as measured and as weighted, answers dropped, and how far
    the members of an ensemble are apart."""
    metrics: dict[str, float] = {"dropped": rollout.dropped} if rollout.parts else {}
    for part in rollout.parts:
        name, raw_B, weighted_B = f"reward/{part.name}", part.raw_K.double(), part.weighted_K.double()
        metrics |= {name: float(raw_B.mean()), f"{name}/sd": float(raw_B.std(correction=0))}
        metrics |= {f"{name}/weighted": float(weighted_B.mean())}
        metrics |= {f"{name}/weighted_sd": float(weighted_B.std(correction=0)), f"{name}/dropped": part.dropped}
        metrics |= {} if part.spread is None else {f"{name}/spread": part.spread}
    return metrics


def distinct_bigrams(completions: Sequence[Ids]) -> float:
    """Distinct token bigrams over all bigrams of the batch; falls when outputs become alike."""
    bigrams = [pair for c in completions for pair in itertools.pairwise(c)]
    return len(set(bigrams)) / len(bigrams) if bigrams else 1.0


def log_probes(
    run: Run, step: int, actors: Actors, probes: Sequence[Prompt], sampling: Sampling, *, seed: int, budget: int
) -> None:
    """Answer the fixed prompts, score the answers, part by part where the reward has parts, and append them to
    samples.jsonl, with what is known of each token; the same ``seed`` every time."""
    if not probes:
        return
    heads, completions = ask(actors.policy, actors.renderer, probes, sampling, seed=seed)
    judged = scored(actors.reward, probes, completions)
    sequences = [(head, completion.ids) for head, completion in zip(heads, completions, strict=True)]
    strips = token_strips(
        actors.policy,
        actors.reference,
        actors.renderer,
        sequences,
        temperature=sampling.temperature,
        budget=budget,
    )
    for place, (prompt, completion, strip) in enumerate(zip(probes, completions, strips, strict=True)):
        row = {**named(prompt), "completion": completion.text, **_sample_scores(judged, place)}
        run.sample(step, **row, stop=completion.stop.value, **strip)


def _sample_scores(judged: Scored, place: int) -> dict[str, Any]:
    """Score of one answer, and each part's raw and weighted value; no score where a part could not give one."""
    if place not in judged.kept:
        return {"score": None, "dropped": True}
    k = judged.kept.index(place)
    row: dict[str, Any] = {"score": float(judged.score_K[k])}
    if judged.parts:
        row["parts"] = {part.name: part.of(k) for part in judged.parts}
    return row
