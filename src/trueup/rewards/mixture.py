"""A reward of several parts: a list in the place of ``reward:``, each part with a weight.

    reward:
      - {source: runs/helpful/final, weight: 0.7}
      - {kind: length, weight: 0.3, per: 50}
      - {source: my_rewards:checked, on_error: drop}

The value of a part is what it measures, brought to mean 0 and standard deviation 1 where it says ``normalise``, then
clipped, less its penalty for a missing end. The score of an answer is the sum of weight * value.

Shapes: B answers, K of them kept.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import torch
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from trueup.config import Batch, Model, Settings, build
from trueup.config.errors import LIST
from trueup.engine.processes import rank
from trueup.errors import Interrupted, RunError, TrueupError
from trueup.rewards.diversity import Diversity, DiversityReward
from trueup.rewards.ensemble import Ensemble, EnsembleReward
from trueup.rewards.length import Length
from trueup.rewards.part import Part
from trueup.rewards.protocol import PartScores, Reward, Scored, cut_by
from trueup.rewards.refusal import Refusal
from trueup.rewards.regex import Regex
from trueup.rewards.registry import identify, open_reward
from trueup.rewards.repetition import Repetition
from trueup.rewards.scale import Scale
from trueup.types import Completion, Prompt, content_id

log = logging.getLogger("trueup.rewards")


class Source(Part):
    """A reward of its own: whatever ``reward`` may name alone."""

    kind: Literal["source"] = "source"
    """Name of the part; it need not be written where ``source`` is."""
    source: str
    """The directory of a reward model, a sequence classifier, or ``package.module:name``."""

    @property
    def own_name(self) -> str:
        """The last folder that is not ``final``, or the name of the function."""
        path = self.source.partition("#")[0]
        steps = [step for step in Path(path.rpartition(":")[2]).parts if step not in ("final", "/")]
        return re.sub(r"[^A-Za-z0-9_.-]", "", steps[-1] if steps else "").lstrip("_.-") or "source"

    def identity(self) -> str:
        """Hash of its settings and of what the source is."""
        return content_id(self.model_dump(mode="json"), identify(self.source))

    def open(self, beside: Model | None, batch: Batch | None) -> Reward:
        """The reward that the source names."""
        return open_reward(self.source, beside, batch)


AnyPart: TypeAlias = Annotated[
    Source | Ensemble | Length | Repetition | Diversity | Refusal | Regex, Field(discriminator="kind")
]


def _spelled_out(value: Any) -> Any:
    """A source alone as a part, and the kind of a part that has a source."""
    if not isinstance(value, list | tuple):
        return value
    parts = [{"source": item} if isinstance(item, str) else item for item in value]
    return [
        {"kind": "source", **part} if isinstance(part, Mapping) and "source" in part and "kind" not in part else part
        for part in parts
    ]


def _sound(parts: tuple[AnyPart, ...]) -> tuple[AnyPart, ...]:
    if not parts:
        raise ValueError("an empty list rewards nothing; expected at least one part")
    chosen = [part.name for part in parts if part.name is not None]
    twice = next((name for name in chosen if chosen.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two parts are called {twice!r}; give each its own name")
    return parts


Parts: TypeAlias = Annotated[tuple[AnyPart, ...], BeforeValidator(_spelled_out), AfterValidator(_sound)]
RewardSetting: TypeAlias = Annotated[
    Annotated[str, Tag("a text")] | Annotated[Parts, Tag(LIST)],
    Discriminator(lambda value: "a text" if isinstance(value, str) else LIST),
]
"""What ``reward`` may be: one source, or a list of parts."""


class PartList(Settings):
    """A list of parts alone, as those who have no recipe give it."""

    reward: Annotated[Parts, Tag(LIST)]
    """The parts."""


def as_parts(values: Sequence[Any]) -> tuple[AnyPart, ...]:
    """Parts from their settings, as run.json has them, or parts as they are.

    Raises:
        ConfigError: A setting is unknown or of the wrong type.
    """
    return build(PartList, {"reward": values}, where="reward").reward


def part_names(parts: Sequence[Part]) -> list[str]:
    """A name for each part; those that have none of their own and would be called alike are numbered."""
    taken, names = {part.name for part in parts if part.name is not None}, []
    for part in parts:
        name, number = part.name or part.own_name, 1
        while part.name is None and name in taken:
            number += 1
            name = f"{part.own_name}-{number}"
        taken.add(name)
        names.append(name)
    return names


def identify_parts(parts: Sequence[Part]) -> str:
    """Hash of every part and of everything that it reads."""
    return content_id([[name, part.identity()] for name, part in zip(part_names(parts), parts, strict=True)])


@dataclass(frozen=True, eq=False)
class Component:
    """A part, ready to score."""

    name: str
    part: Part
    reward: Reward
    scale: Scale

    def value_B(self, raw_B: torch.Tensor, completions: Sequence[Completion], *, learn: bool) -> torch.Tensor:
        """From what was measured to what is weighted [B], in float64."""
        value_B = self.scale(raw_B, learn=learn)
        if self.part.clip is not None:
            value_B = value_B.clamp(-self.part.clip, self.part.clip)
        open_end_B = torch.tensor([float(not completion.ended) for completion in completions], dtype=torch.float64)
        return value_B - self.part.missing_eos_penalty * open_end_B


class Mixture:
    """The weighted sum of its parts.

    Args:
        components: The parts.
        fingerprint: Hash of all of them.
    """

    def __init__(self, components: Sequence[Component], fingerprint: str) -> None:
        self.components = tuple(components)
        self.fingerprint = fingerprint
        self._said = False

    @classmethod
    def of(cls, parts: Sequence[Part], beside: Model | None, batch: Batch | None) -> Mixture:
        """Open every part.

        Raises:
            ModelError, ConfigError: One cannot be opened.
        """
        names = part_names(parts)
        components = [
            Component(name, part, part.open(beside, batch), Scale(part.normalise))
            for name, part in zip(names, parts, strict=True)
        ]
        return cls(components, identify_parts(parts))

    @property
    def name(self) -> str:
        """The sum, as it would be written."""
        return " + ".join(f"{c.part.weight:g}*{c.name}" for c in self.components)

    @property
    def members(self) -> tuple[Reward, ...]:
        """The rewards behind the parts."""
        return tuple(component.reward for component in self.components)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> torch.Tensor:
        """Scores [B] for whoever cannot do without an answer.

        Raises:
            TrueupError: A part cannot score an answer, whatever its ``on_error``.
        """
        return self._scored(prompts, completions, learn=False, drop=False).score_K

    def scored(self, prompts: Sequence[Prompt], completions: Sequence[Completion], *, learn: bool = False) -> Scored:
        """Scores of the answers that every part could score, part by part.

        Args:
            prompts: What was asked.
            completions: What was answered.
            learn: The answers are learned from: running means move on, and a memory takes them in.

        Raises:
            TrueupError: A part whose ``on_error`` is ``stop`` cannot score an answer.
            RunError: No answer that could be learned from is left.
        """
        return self._scored(prompts, completions, learn=learn, drop=True)

    def _scored(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion], *, learn: bool, drop: bool
    ) -> Scored:
        cuts = [cut_by(component.reward) for component in self.components]
        raw, failures = [], []
        for component in self.components:
            try:
                raw_B, failed = attempt(
                    component.reward, prompts, completions, drop and component.part.on_error == "drop"
                )
            except TrueupError as error:
                raise _named(error, component.name) from error
            raw.append(raw_B)
            failures.append(failed)
        dropped = {i: error for failed in failures for i, error in failed.items()}
        kept = tuple(i for i in range(len(completions)) if i not in dropped)
        if dropped and not kept and learn:
            first = dropped[min(dropped)]
            problem = f"none of the {len(completions)} answers of this step could be scored; of the first: {first.what}"
            raise RunError(problem, where=first.where, fix=first.fix)
        self._say(dropped)
        answers = [completions[i] for i in kept]
        parts, total_K = [], torch.zeros(len(kept), dtype=torch.float64)
        for component, raw_B, failed in zip(self.components, raw, failures, strict=True):
            raw_K = raw_B[list(kept)]
            weighted_K = component.part.weight * component.value_B(raw_K, answers, learn=learn)
            total_K = total_K + weighted_K
            parts.append(PartScores(component.name, raw_K, weighted_K.float(), len(failed), _spread(component.reward)))
        if learn:
            for memory in self._memories().values():
                memory.remember(completions)
        cut = max(cut_by(c.reward) - before for c, before in zip(self.components, cuts, strict=True))
        return Scored(kept, total_K.float(), tuple(parts), cut)

    def _say(self, dropped: Mapping[int, TrueupError]) -> None:
        if dropped and not self._said and rank() == 0:
            first = dropped[min(dropped)]
            log.warning("%s: %s. The answer is dropped and counted, as others will be", first.where, first.what)
        self._said = self._said or bool(dropped)

    # What outlives a step --------------------------------------------------------------------------------------------

    def _memories(self) -> dict[str, DiversityReward]:
        return {c.name: c.reward for c in self.components if isinstance(c.reward, DiversityReward)}

    def state(self) -> dict[str, Any]:
        """Running means and memories, in JSON form, for a checkpoint."""
        return {
            "scales": {c.name: c.scale.state() for c in self.components},
            "memories": {name: memory.state() for name, memory in self._memories().items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` gave; what follows is then the same to the bit.

        Raises:
            KeyError: It is the state of other parts.
        """
        for component in self.components:
            component.scale.restore(state["scales"][component.name])
        for name, memory in self._memories().items():
            memory.restore(state["memories"][name])


def attempt(
    reward: Reward, prompts: Sequence[Prompt], completions: Sequence[Completion], drop: bool
) -> tuple[torch.Tensor, dict[int, TrueupError]]:
    """Scores [B] of a part, NaN where it has none, and why it has none there.

    Where the answers cannot be scored together, each is tried alone, and those that can be are scored together again.

    Raises:
        TrueupError: ``drop`` is off; or the answers can all be scored alone, and only together not.
    """
    try:
        return reward.score(prompts, completions), {}
    except Interrupted:
        raise
    except TrueupError as error:
        if not drop:
            raise
        whole = error
    failed: dict[int, TrueupError] = {}
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        try:
            reward.score([prompt], [completion])
        except Interrupted:
            raise
        except TrueupError as error:
            failed[i] = error
    if not failed:
        raise whole
    score_B = torch.full((len(completions),), float("nan"))  # never read: whoever asks is told which these are
    rest = [i for i in range(len(completions)) if i not in failed]
    if rest:
        score_B[rest] = reward.score([prompts[i] for i in rest], [completions[i] for i in rest])
    return score_B, failed


def _spread(reward: Reward) -> float | None:
    """Mean disagreement of an ensemble over the answers that it scored last: all that it could score of a step."""
    return float(reward.spread_B.mean()) if isinstance(reward, EnsembleReward) and len(reward.spread_B) else None


def _named(error: TrueupError, name: str) -> TrueupError:
    """The same error, with the part that it comes from."""
    where = f"reward part {name}" + (f": {error.where}" if error.where else "")
    return type(error)(error.what, where=where, expected=error.expected, fix=error.fix)
