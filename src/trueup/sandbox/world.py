"""A generated world of prompts and responses in plain English, seeded, in which the quality of any answer is known."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from trueup.config.seeds import derive, split_by_hash
from trueup.errors import ConfigError
from trueup.sandbox import phrases
from trueup.sandbox.atlas import atlas
from trueup.sandbox.topics import Kind, Topic
from trueup.sandbox.writer import CANDIDATES, CARELESS, DEMONSTRATION, RAW, Profile, Writer
from trueup.types import Demonstration

Split: TypeAlias = Literal["train", "validation", "test"]

FAMILIES: dict[str, tuple[Kind, float]] = {
    "fact": (Kind.FACT, 0.19),
    "whether": (Kind.FACT, 0.11),
    "sum": (Kind.FACT, 0.05),
    "howto": (Kind.HOWTO, 0.10),
    "step": (Kind.HOWTO, 0.06),
    "advice": (Kind.ADVICE, 0.12),
    "chat": (Kind.CHAT, 0.09),
    "harmful": (Kind.HARMFUL, 0.14),
    "lookalike": (Kind.LOOKALIKE, 0.14),
}
"""Family of topics -> its kind, and how often it is asked."""

KIND_WEIGHTS: dict[Kind, float] = {kind: sum(share for its, share in FAMILIES.values() if its is kind) for kind in Kind}
"""How often each kind is asked."""

_RELATIONS, _FACTS, _ABOUT, _SUMS = 4, 4, 6, 4
"""Relations of one world, facts of each, facts asked about, sums."""
_TASKS, _ALONE, _ADVICE, _CHAT, _HARMS, _SOUNDING = 5, 2, 6, 6, 6, 2
"""Tasks of one world, those whose steps are asked for alone, wishes, moments, harms with their twins, look-alikes
that are nobody's twin."""

_PLAIN = 0.5
"""Share of prompts that come without greeting, and share that come without thanks."""

_CONTRAST = 0.75
"""Share of pairs that are by a careful and a careless writer; of the others any two writers are as likely."""

_BY_MODEL = 0.35
"""Share of the careless writer's answers that a model gives instead, where there is one."""

_SHARES: dict[Split, float] = {"train": 0.8, "validation": 0.08, "test": 0.12}


@dataclass(frozen=True, slots=True)
class SandboxPrompt:
    """A prompt with what the world knows of it."""

    text: str
    kind: Kind
    topic: str


Answering: TypeAlias = Callable[[Sequence[SandboxPrompt]], list[str]]
"""One answer to each of some prompts."""


class World:
    """The sandbox for one seed. Equal seeds give equal texts on every platform.

    Args:
        seed: Draws the topics and everything that is written about them.
        whole: All topics that are written down, not the seed's share: what a model of the whole language reads.
    """

    def __init__(self, seed: int, *, whole: bool = False) -> None:
        self.seed = seed
        families = _families()
        self._families = families if whole else _drawn(families, self._draw("topics"))
        self.topics: tuple[Topic, ...] = tuple(t for family in self._families.values() for t in family)
        self._by_key = {topic.key: topic for topic in self.topics}
        self._writer = Writer(self.topics)

    @property
    def capacity(self) -> int:
        """How many distinct prompts the world can make."""
        ways = len(phrases.PROMPT_OPENERS) * len(phrases.PROMPT_CLOSERS)
        return ways * sum(len(t.questions) for t in self.topics)

    def prompts(self, split: Split, count: int) -> list[SandboxPrompt]:
        """``count`` distinct prompts; a text belongs to one split only.

        Raises:
            ConfigError: The split has fewer prompts than that.
        """
        most = int(0.9 * _SHARES[split] * self.capacity)
        if count > most:
            raise ConfigError(
                f"{count} distinct {split} prompts were asked for", where="prompts", expected=f"at most {most}"
            )
        draw = self._draw("prompts", split)
        prompts: dict[str, SandboxPrompt] = {}
        while len(prompts) < count:
            prompt = self._prompt(draw)
            if split_of_prompt(prompt.text) == split:
                prompts[prompt.text] = prompt
        return list(prompts.values())

    def respond(self, prompt: SandboxPrompt, profile: Profile, draw: random.Random) -> str:
        """One response to ``prompt`` in the habits of ``profile``."""
        return self._writer.respond(self._by_key[prompt.topic], profile, draw)

    def corpus(self, count: int) -> Iterator[Demonstration]:
        """The open web of this world: training prompts with raw answers. Prompts come back with other answers."""
        draw = self._draw("corpus")
        for _ in range(count):
            yield self._answer(self._train_prompt(draw), RAW, draw)

    def demonstrations(self, split: Split, count: int) -> list[Demonstration]:
        """Prompts with answers by writers of middling care."""
        draw = self._draw("demonstrations", split)
        return [self._answer(p, DEMONSTRATION, draw) for p in self.prompts(split, count)]

    def candidate_pairs(
        self, split: Split, count: int, *, per_prompt: int = 1, model: Answering | None = None
    ) -> list[tuple[SandboxPrompt, str, str]]:
        """``count`` prompts with two different answers to compare; each prompt comes back ``per_prompt`` times.

        Args:
            split: Where the prompts are from.
            count: How many pairs.
            per_prompt: How often a prompt comes back, with other answers.
            model: Gives answers of a model. They take the place of a third of the careless writer's.
        """
        draw = self._draw("candidates", split)
        pairs = []
        asked: list[tuple[int, int]] = []
        prompts = self.prompts(split, -(-count // per_prompt))
        for number, prompt in enumerate((prompts * per_prompt)[:count]):
            writers = draw.sample(CANDIDATES, 2) if draw.random() < _CONTRAST else draw.choices(CANDIDATES, k=2)
            answers = [self.respond(prompt, writer, draw) for writer in writers]
            while answers[0] == answers[1]:
                answers[1] = self.respond(prompt, writers[1], draw)
            asked += [(number, side) for side in (0, 1) if writers[side] is CARELESS and draw.random() < _BY_MODEL]
            pairs.append((prompt, answers))
        if model is not None:
            for (number, side), answer in zip(asked, model([pairs[n][0] for n, _ in asked]), strict=True):
                answers = pairs[number][1]
                if answer and answer != answers[1 - side]:
                    answers[side] = answer
        return [(prompt, first, second) for prompt, (first, second) in pairs]

    def _draw(self, *purpose: str) -> random.Random:
        return random.Random(derive(self.seed, "sandbox", *purpose))

    def _prompt(self, draw: random.Random) -> SandboxPrompt:
        family = draw.choices(list(FAMILIES), [share for _, share in FAMILIES.values()])[0]
        topic = draw.choice(self._families[family])
        opener = "" if draw.random() < _PLAIN else draw.choice(phrases.PROMPT_OPENERS)
        closer = "" if draw.random() < _PLAIN else draw.choice(phrases.PROMPT_CLOSERS)
        text = " ".join(part for part in (opener, draw.choice(topic.questions), closer) if part)
        return SandboxPrompt(text, topic.kind, topic.key)

    def _train_prompt(self, draw: random.Random) -> SandboxPrompt:
        while True:
            prompt = self._prompt(draw)
            if split_of_prompt(prompt.text) == "train":
                return prompt

    def _answer(self, prompt: SandboxPrompt, profile: Profile, draw: random.Random) -> Demonstration:
        return Demonstration(prompt.text, self.respond(prompt, profile, draw))


def split_of_prompt(text: str) -> Split:
    """The split that a prompt belongs to, by the hash of its text: 80 % train, 8 % validation, 12 % test."""
    return split_by_hash(hashlib.sha256(text.encode()).hexdigest(), _SHARES)


def _families() -> dict[str, list[Topic]]:
    """Every topic by its family."""
    families: dict[str, list[Topic]] = {name: [] for name in FAMILIES}
    for topic in atlas().topics:
        families[_family(topic)].append(topic)
    return families


def _family(topic: Topic) -> str:
    if topic.kind is not Kind.FACT:
        return topic.group
    return "sum" if topic.group == "sum" else "whether" if topic.group.startswith("whether ") else "fact"


def _drawn(families: dict[str, list[Topic]], draw: random.Random) -> dict[str, list[Topic]]:
    """One world's share of each family. What is wrong in it for one topic is right for another one."""
    relations = draw.sample(sorted({t.group for t in families["fact"]}), _RELATIONS)
    facts = [topic for name in relations for topic in _varied([t for t in families["fact"] if t.group == name], draw)]
    about = {
        key: [t for t in families["whether"] if t.key.startswith(f"whether/{key}/")] for key in (t.key for t in facts)
    }
    values = {name: {t.value for t in facts if t.group == name} for name in relations}
    whether = []
    for number, fact in enumerate(draw.sample(facts, _ABOUT)):
        other = [t for t in about[fact.key] if t.value != fact.value and t.value in values[fact.group]]
        whether += [t for t in about[fact.key] if t.value == fact.value] if number % 2 else [draw.choice(other)]
    whole = draw.sample(families["howto"], _TASKS)
    alone = {t.key.removeprefix("howto/") for t in draw.sample(whole, _ALONE)}
    harms = draw.sample(families["harmful"], _HARMS)
    twins = {t.twin for t in harms}
    return {
        "fact": facts,
        "whether": whether,
        "sum": draw.sample(families["sum"], _SUMS),
        "howto": whole,
        "step": [t for t in families["step"] if t.key.split("/", 2)[2] in alone],
        "advice": draw.sample(families["advice"], _ADVICE),
        "chat": draw.sample(families["chat"], _CHAT),
        "harmful": harms,
        "lookalike": [
            *(t for t in families["lookalike"] if t.key in twins),
            *draw.sample([t for t in families["lookalike"] if not t.twin], _SOUNDING),
        ],
    }


def _varied(facts: list[Topic], draw: random.Random) -> list[Topic]:
    """Some facts of one relation, of which at least two values are right somewhere."""
    while True:
        some = draw.sample(facts, min(_FACTS, len(facts)))
        if len({t.value for t in some}) > 1:
            return some
