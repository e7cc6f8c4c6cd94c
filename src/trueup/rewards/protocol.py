"""What a reward is: a name, a fingerprint, and a score for each answer.

PPO, ``evaluate``, ``sample``, the quickstart and whatever comes next are given a ``Reward`` and know nothing of what is
behind it. A reward that reads by a template and has only so much room is a ``Reader`` as well; one that is made of
others is ``Composite``, and ``Parted`` where it adds up parts. Callers ask by the functions below, which have an answer
for every reward.

Shapes: B answers, K of them kept.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from trueup.data.fit import Window
from trueup.data.render import Renderer
from trueup.errors import NonFiniteError, ShapeError, UsageError
from trueup.types import Completion, Prompt, prompt_text


class Reward(Protocol):
    """From answers to numbers; higher is better."""

    @property
    def name(self) -> str:
        """What it is, as messages name it: a directory, or ``package.module:name``."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that its scores depend on; pinned in a run, which goes on with the same one only."""

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Scores [B] in float32 on the CPU, all finite, in the order given and equal in all processes of a job.

        Args:
            prompts: What was asked, one for each completion.
            completions: The answers: text, ids and why they stopped. One that was cut is never shown as finished.
        """


@runtime_checkable
class Reader(Protocol):
    """A reward that reads prompts and answers by a template of its own and has only so much room for them."""

    cut: int
    """Answers so far that were longer than what it reads and lost their end."""

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Refuse prompts that it cannot read, and say which it never read in training, before the first answer."""

    def windows(self, policy: Renderer, new_tokens: int, *, fix: str) -> list[Window]:
        """What fits it: its own rendering of a prompt, and an answer of ``new_tokens`` tokens of the policy."""

    def as_prompt(self, text: str) -> Prompt:
        """A question as the kind of prompt that it was trained on."""


@runtime_checkable
class Composite(Protocol):
    """A reward made of others; what they say as readers, it need not repeat."""

    @property
    def members(self) -> Sequence[Reward]:
        """The rewards that it is made of."""


@dataclass(frozen=True, eq=False)
class PartScores:
    """What one part of a reward gave to the K answers that are kept."""

    name: str
    raw_K: torch.Tensor
    """As it was measured."""
    weighted_K: torch.Tensor
    """What it adds to the score."""
    dropped: int
    """Answers that it could not score."""
    spread: float | None = None
    """Of an ensemble: the standard deviation of its members over one answer, mean over the answers."""

    def of(self, k: int) -> dict[str, float]:
        """What it gave to one answer, as files write it."""
        return {"raw": float(self.raw_K[k]), "weighted": float(self.weighted_K[k])}


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of a batch of answers."""

    kept: tuple[int, ...]
    """Which of the answers have a score, in their order."""
    score_K: torch.Tensor
    """Their scores."""
    parts: tuple[PartScores, ...] = ()
    """Part by part; nothing for a reward of one piece."""
    cut: int = 0
    """Answers of which the reward could only read the beginning; of several parts, of the one that cut most."""


@runtime_checkable
class Parted(Protocol):
    """A reward of several parts, which may drop answers and may remember earlier ones."""

    def scored(self, prompts: Sequence[Prompt], completions: Sequence[Completion], *, learn: bool = False) -> Scored:
        """Scores part by part; ``learn`` where the answers are learned from, not only looked at."""


def scored(
    reward: Reward, prompts: Sequence[Prompt], completions: Sequence[Completion], *, learn: bool = False
) -> Scored:
    """Scores of answers by any reward, for whoever can do without an answer that cannot be scored."""
    if isinstance(reward, Parted):
        return reward.scored(prompts, completions, learn=learn)
    before = cut_by(reward)
    score_B = reward.score(prompts, completions)
    return Scored(tuple(range(len(completions))), score_B, cut=cut_by(reward) - before)


def readers(reward: Reward) -> Iterator[Reader]:
    """The readers that a reward is made of: itself, its members, or none."""
    if isinstance(reward, Composite):
        for member in reward.members:
            yield from readers(member)
    elif isinstance(reward, Reader):
        yield reward


def windows_of(reward: Reward, policy: Renderer, new_tokens: int, *, fix: str) -> list[Window]:
    """What fits a reward; nothing for one that reads whatever it is given."""
    return [window for reader in readers(reward) for window in reader.windows(policy, new_tokens, fix=fix)]


def check_prompts(reward: Reward, prompts: Sequence[Prompt]) -> None:
    """Refuse, before the first answer, prompts that a reward cannot read."""
    for reader in readers(reward):
        reader.check(prompts)


def cut_by(reward: Reward) -> int:
    """Answers so far of which a reward could only read the beginning; several parts count theirs each."""
    return sum(reader.cut for reader in readers(reward))


def prompt_for(reward: Reward, text: str, asked: Prompt) -> Prompt:
    """A question as a reward reads it: in the kind of its first reader, or as the policy was ``asked``."""
    reader = next(readers(reward), None)
    return asked if reader is None else reader.as_prompt(text)


def log_odds_of(reward: Reward) -> float | None:
    """Log-odds of one unit of reward, of a model that was trained on preferences here; None elsewhere."""
    scale = getattr(reward, "log_odds", None)
    return scale if isinstance(scale, float) else None


def as_scores(values: Any, prompts: Sequence[Prompt], completions: Sequence[Completion], name: str) -> torch.Tensor:
    """What a reward gave, as scores [B].

    Args:
        values: A list, a tuple, a NumPy array or a tensor of B numbers; true and false are 1 and 0.
        prompts: What was asked.
        completions: What was answered.
        name: The reward.

    Raises:
        ShapeError: Something else than one number for each answer.
        UsageError: Not a number; it names the answer.
        NonFiniteError: NaN, infinite, or beyond float32; it names the answer.
    """
    expected = f"a list, an array or a tensor of {len(completions)} numbers, one for each answer"
    shape = getattr(values, "shape", None)
    if shape is None and not isinstance(values, (list, tuple)):
        raise ShapeError(f"the reward gave {_description(values)}", where=name, expected=expected)
    sizes = (len(values),) if shape is None else tuple(shape)
    if sizes != (len(completions),):
        raise ShapeError(f"the reward gave values of shape {list(sizes)}", where=name, expected=expected)
    items = values.tolist() if shape is not None else values
    numbers = [_number(v, sample_place(name, p, c)) for v, p, c in zip(items, prompts, completions, strict=True)]
    scores_B = torch.tensor(numbers, dtype=torch.float32)
    require_finite(scores_B, prompts, completions, name)
    return scores_B


def require_finite(
    scores_B: torch.Tensor, prompts: Sequence[Prompt], completions: Sequence[Completion], name: str
) -> None:
    """Refuse a score that no gradient may see.

    Raises:
        NonFiniteError: A score is NaN or infinite; it names the prompt and the answer.
    """
    for prompt, completion, value in zip(prompts, completions, scores_B.tolist(), strict=True):
        if not math.isfinite(value):
            raise NonFiniteError(
                f"the reward gave {value}", where=sample_place(name, prompt, completion), expected="a finite float32"
            )


def sample_place(name: str, prompt: Prompt, completion: Completion) -> str:
    """Where a reward failed: the reward, and the beginnings of prompt and answer."""
    return f"{name}, prompt {prompt_text(prompt)[:80]!r}, answer {completion.text[:80]!r}"


def _number(value: Any, where: str) -> float:
    item = value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value
    if not isinstance(item, (int, float)):
        raise UsageError(f"the reward gave {_description(item)}", where=where, expected="a number")
    try:
        return float(item)
    except OverflowError:  # an integer beyond all floats, refused with the infinite ones
        return math.inf


def _description(value: Any) -> str:
    return f"{reprlib.repr(value)} ({type(value).__name__})"
