"""What an offline run says along the way: fixed prompts that its model answers, or fixed answers that it scores.

``fit`` calls a probe before the first step, at even distances, and after the last one; its rows go to samples.jsonl.
The number of a probe is how many updates the model has had. Every probe draws with the same seed, and nothing that is
drawn or scored here changes a weight.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch

from trueup.config import Sampling
from trueup.config.seeds import derive
from trueup.data.batch import Ids, Rows
from trueup.data.render import Renderer
from trueup.engine.ask import ask
from trueup.engine.processes import share
from trueup.engine.score import outputs, rewards, score, sequence_logps
from trueup.errors import DataError
from trueup.ledger import Run
from trueup.ledger.progress import warn
from trueup.models.heads import RewardModel
from trueup.models.policy import Policy, Reference
from trueup.types import Prompt, Rated, prompt_text, question

Probe: TypeAlias = Callable[[int], None]
"""Updates that the model has had -> its rows in samples.jsonl."""

TOKENS = 48
"""Longest answer of a probe; a shorter one where the context leaves less."""
LEAST = 8
"""A prompt that leaves room for fewer tokens is no probe."""
TRIED = 256
"""Prompts among which the probes are looked for."""
DIGITS = 4
"""Of what is written of tokens."""
HALF = "\ufffd"
"""What a character decodes to of which a token is missing."""


def timed(run: Run, probe: Probe, step: int) -> None:
    """Probe, and note in events.jsonl what it took."""
    began = time.perf_counter()
    probe(step)
    run.event("probed", step=step, seconds=time.perf_counter() - began)


# Answers of a policy --------------------------------------------------------------------------------------------------


class Probed(Protocol):
    """Settings that a probe goes by."""

    @property
    def probes(self) -> int:
        """How many prompts are asked."""

    @property
    def seed(self) -> int:
        """Of the run."""


def answer_probe(
    config: Probed,
    run: Run,
    policy: Policy,
    renderer: Renderer,
    prompts: Iterable[Prompt],
    *,
    budget: int,
    reference: Reference | None = None,
) -> Probe | None:
    """A probe that answers the first different prompts which leave room for an answer; None without any.

    Args:
        config: How many of them are asked, and the seed.
        run: Where the answers are written.
        policy: The model that is trained.
        renderer: Feeds it.
        prompts: In order of preference.
        budget: Padded tokens of one pass.
        reference: What the answers' log-ratios are measured from, where it is at hand.
    """
    contexts = [policy.context, None if reference is None else reference.policy.context]
    limit = min([renderer.max_length, *(context for context in contexts if context is not None)])
    asked, longest = _usable(renderer, prompts, config.probes, limit - LEAST)
    if not asked:
        return None
    sampling = Sampling(max_new_tokens=min(TOKENS, limit - longest))
    drawn = derive(config.seed, "probes")

    def probe(step: int) -> None:
        heads, completions = ask(policy, renderer, asked, sampling, seed=drawn)
        sequences = [(head, completion.ids) for head, completion in zip(heads, completions, strict=True)]
        strips = token_strips(policy, reference, renderer, sequences, temperature=sampling.temperature, budget=budget)
        for prompt, completion, strip in zip(asked, completions, strips, strict=True):
            row = {**named(prompt), "completion": completion.text, "stop": completion.stop.value}
            run.sample(step, **row, **strip)

    return probe


def _usable(renderer: Renderer, prompts: Iterable[Prompt], count: int, limit: int) -> tuple[list[Prompt], int]:
    """The first different prompts of at most ``limit`` tokens, and the tokens of the longest of them."""
    if not count:
        return [], 0
    usable: list[Prompt] = []
    longest = tried = 0
    for prompt in itertools.islice(dict.fromkeys(prompts), TRIED):
        tried += 1
        try:
            ids = renderer.render_prompt(prompt)
        except DataError:
            continue  # a row that training leaves out too
        if 0 < len(ids) <= limit:
            usable.append(prompt)
            longest = max(longest, len(ids))
        if len(usable) == count:
            break
    if not usable:
        warn(f"samples.jsonl stays empty: none of the first {tried} prompts leaves room for an answer")
    return usable, longest


def named(prompt: Prompt) -> dict[str, str]:
    """How a row of samples.jsonl names its prompt: the whole of it, and what was asked last."""
    return {"prompt": prompt_text(prompt), "question": question(prompt)}


@dataclass(frozen=True, slots=True)
class _Measured:
    """Log-probs and entropies of the tokens of one answer."""

    logps_C: torch.Tensor
    entropy_C: torch.Tensor


@torch.no_grad()
def token_strips(
    policy: Policy,
    reference: Reference | None,
    renderer: Renderer,
    sequences: Sequence[tuple[Ids, Ids]],
    *,
    temperature: float,
    budget: int,
) -> list[dict[str, Any]]:
    """For each answer its tokens as texts, the entropy before each, and how much more likely each is than to the
    reference; ``log_ratio`` is the sum over the answer, one draw of the KL in nats."""
    measured = _measure(policy, sequences, temperature, budget)
    scored = None
    if reference is not None:
        scored = sequence_logps(reference, sequences, temperature=temperature, budget=budget)
    strips: list[dict[str, Any]] = []
    for place, (prompt_ids, ids) in enumerate(sequences):
        own = measured[place]
        tokens: dict[str, Any] = {"text": token_texts(renderer, prompt_ids, ids), "entropy": numbers(own.entropy_C)}
        strip: dict[str, Any] = {"tokens": tokens}
        if scored is not None:
            ratio_C = own.logps_C.double() - scored[place].double()
            strip = {"log_ratio": rounded(float(ratio_C.sum())), "tokens": tokens | {"log_ratio": numbers(ratio_C)}}
        strips.append(strip)
    return strips


def _measure(policy: Policy, sequences: Sequence[tuple[Ids, Ids]], temperature: float, budget: int) -> list[_Measured]:
    own: list[tuple[int, _Measured]] = []
    micros = share(range(len(sequences)), lambda i: len(sequences[i][0]) + len(sequences[i][1]), budget)
    for group in micros:
        rows = Rows.of([sequences[i] for i in group], policy.device)
        scores = score(policy, rows, temperature=temperature, entropy=True)
        assert scores.entropy_BC is not None
        logps_BC, entropy_BC = scores.logps_BC.cpu(), scores.entropy_BC.cpu()
        for row, place in enumerate(group):
            size = len(rows.completions[row])
            own.append((place, _Measured(logps_BC[row, :size], entropy_BC[row, :size])))
    by_place = dict(micros.gather(own))
    return [by_place[place] for place in range(len(sequences))]


def token_texts(renderer: Renderer, prompt_ids: Ids, ids: Ids) -> list[str]:
    """Each token's own part of the text. A character of several tokens stands at the last of them; a control token
    is written as it is spelt."""
    tokenizer = renderer.encoder.tokenizer
    control = {number: spelling for spelling, number in renderer.encoder.special_ids.items()}
    context = [i for i in prompt_ids[-LEAST:] if i not in control]
    texts: list[str] = []
    before = _decoded(tokenizer, context)
    last = max((place for place, number in enumerate(ids) if number not in control), default=0)
    for place, number in enumerate(ids):
        if number in control:
            texts.append(control[number])
            continue
        context.append(number)
        after = _decoded(tokenizer, context)
        if not after.startswith(before):  # a decoder that rewrites what stands before
            texts.append(_decoded(tokenizer, [number]))
            before = after
        elif after.endswith(HALF) and place < last:
            texts.append("")
        else:
            texts.append(after[len(before) :])
            before = after
    return texts


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def numbers(values_C: torch.Tensor) -> list[float | str]:
    """Values of the tokens of one answer, rounded for a file."""
    return [rounded(value) for value in values_C.tolist()]


def rounded(value: float) -> float | str:
    """Rounded, and a text where JSON has no number for it."""
    return round(value, DIGITS) + 0.0 if math.isfinite(value) else str(value)


# Scores of a reward model ---------------------------------------------------------------------------------------------


Labelled: TypeAlias = tuple[str, str]
"""What the data says of an answer (``chosen``, ``rejected``, ``rank 1``), and the answer."""


def reward_probe(
    config: Probed,
    run: Run,
    model: RewardModel,
    renderer: Renderer,
    judged: Iterable[tuple[Prompt, Sequence[Labelled]]],
    *,
    budget: int,
) -> Probe | None:
    """A probe that scores the answers to the first prompts, by the raw reward that is trained; None without any.

    Args:
        config: How many prompts are taken.
        run: Where the scores are written.
        model: The reward model.
        renderer: Feeds it.
        judged: Prompts with their answers, in order of preference.
        budget: Padded tokens of one pass.
    """
    rows, sequences = _labelled_rows(config, renderer, judged)
    if not rows:
        return None

    def probe(step: int) -> None:
        raw = rewards(model, sequences, budget=budget, scaled=False).tolist()
        for row, reward in zip(rows, raw, strict=True):
            run.sample(step, **row, reward=rounded(reward))

    return probe


def rating_probe(
    config: Probed, run: Run, model: RewardModel, renderer: Renderer, rated: Iterable[Rated], *, budget: int
) -> Probe | None:
    """A probe that rates the first responses by every output, in the data's own units; None without any.

    ``label`` is what the data says: ``helpfulness 4, correctness -``. The score is that of the only output, where
    there is one; several have no sum.
    """
    names = [head.name for head in model.heads]
    judged = (
        (
            item.prompt,
            [(", ".join(f"{n} {_spelled(r)}" for n, r in zip(names, item.ratings, strict=True)), item.completion)],
        )
        for item in rated
    )
    rows, sequences = _labelled_rows(config, renderer, judged)
    if not rows:
        return None

    def probe(step: int) -> None:
        raw = outputs(model, sequences, budget=budget).tolist()
        for row, values in zip(rows, raw, strict=True):
            ratings = {h.name: rounded(h.mean + h.std * value) for h, value in zip(model.heads, values, strict=True)}
            one = {"reward": ratings[names[0]]} if len(names) == 1 else {}
            run.sample(step, **row, **one, ratings=ratings)

    return probe


def _spelled(rating: float | None) -> str:
    return "-" if rating is None else f"{rating:g}"


def _labelled_rows(
    config: Probed, renderer: Renderer, judged: Iterable[tuple[Prompt, Sequence[Labelled]]]
) -> tuple[list[dict[str, str]], list[tuple[Ids, Ids]]]:
    """Rows of samples.jsonl for the answers to the first prompts, and what the model reads of each."""
    rows: list[dict[str, str]] = []
    sequences: list[tuple[Ids, Ids]] = []
    left = config.probes
    for prompt, answers in itertools.islice(judged, TRIED if config.probes else 0):
        try:
            rendered = [renderer.render(prompt, text) for _, text in answers]
        except DataError:
            continue  # training leaves it out too
        rows += [{**named(prompt), "completion": text, "label": label} for label, text in answers]
        sequences += [(answer.prompt_ids, answer.completion_ids) for answer in rendered]
        left -= 1
        if not left:
            break
    return rows, sequences
