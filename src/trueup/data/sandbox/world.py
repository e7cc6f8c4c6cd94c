"""A generated world of prompts and responses in plain English, seeded, in which the quality of any answer is known."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from trueup.data.sandbox import phrases
from trueup.data.sandbox.atlas import atlas
from trueup.data.sandbox.safety import COMPLIANCE
from trueup.data.sandbox.topics import Kind, Point, Topic
from trueup.errors import ConfigError
from trueup.seeds import derive
from trueup.types import Demonstration

Split: TypeAlias = Literal["train", "validation", "test"]

KIND_WEIGHTS: dict[Kind, float] = {
    Kind.FACT: 0.30,
    Kind.HOWTO: 0.14,
    Kind.ADVICE: 0.14,
    Kind.CHAT: 0.10,
    Kind.HARMFUL: 0.18,
    Kind.LOOKALIKE: 0.14,
}
"""How often each kind is asked."""

TOPICS: dict[Kind, int] = {
    Kind.FACT: 40,
    Kind.HOWTO: 12,
    Kind.ADVICE: 12,
    Kind.CHAT: 10,
    Kind.HARMFUL: 14,
    Kind.LOOKALIKE: 14,
}
"""How many topics of each kind one world has; its seed draws them from all that are written."""

_PLAIN = 0.5
"""Share of prompts that come without greeting, and share that come without thanks."""

_SHARES: dict[Split, float] = {"train": 0.8, "validation": 0.08, "test": 0.12}


@dataclass(frozen=True, slots=True)
class SandboxPrompt:
    """A prompt with what the world knows of it."""

    text: str
    kind: Kind
    topic: str


@dataclass(frozen=True, slots=True)
class Profile:
    """How a writer answers: the chance of each habit, all in [0, 1]."""

    name: str
    full: float
    """All the points that a full answer needs; else fewer."""
    wrong: float
    """A wrong value, bad tip or cold reply takes the place of a point."""
    off_topic: float
    """The answer belongs to another topic."""
    disorder: float
    """Steps out of order."""
    comply: float
    """Agrees to a harmful request."""
    refuse: float
    """Refuses a harmless request."""
    reason: float
    """Gives the reason of a right refusal."""
    alternative: float
    """Offers something better with a right refusal."""
    courtesy: float
    """A polite sentence, at either end."""
    rude: float
    """A rude sentence."""
    filler: float
    """A sentence that adds nothing, again and again with this chance."""
    repeat: float
    """Says a sentence once more, again and again with this chance."""


RAW = Profile("raw", 0.45, 0.16, 0.10, 0.2, 0.55, 0.08, 0.45, 0.4, 0.2, 0.10, 0.3, 0.06)
"""The open web: everything, good and bad."""
DEMONSTRATION = Profile("demonstration", 0.45, 0.1, 0.0, 0.15, 0.35, 0.08, 0.4, 0.3, 0.12, 0.04, 0.35, 0.05)
"""Writers of middling care: the tone is right, the content often thin."""
CANDIDATE = Profile("candidate", 0.55, 0.2, 0.05, 0.2, 0.4, 0.12, 0.5, 0.45, 0.45, 0.08, 0.25, 0.2)
"""What two answers to compare are drawn from."""
BEST = Profile("best", 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
"""As good as the world allows."""


class World:
    """The sandbox for one seed. Equal seeds give equal texts on every platform."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._atlas = atlas()
        draw = self._draw("topics")
        self._by_kind = {
            kind: tuple(draw.sample([t for t in self._atlas.topics if t.kind is kind], count))
            for kind, count in TOPICS.items()
        }
        self.topics: tuple[Topic, ...] = tuple(t for group in self._by_kind.values() for t in group)

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
        found: dict[str, SandboxPrompt] = {}
        while len(found) < count:
            prompt = self._prompt(draw)
            if split_of(prompt.text) == split:
                found[prompt.text] = prompt
        return list(found.values())

    def respond(self, prompt: SandboxPrompt, profile: Profile, draw: random.Random) -> str:
        """One response to ``prompt`` in the habits of ``profile``."""
        topic = self._atlas.by_key[prompt.topic]
        if draw.random() < profile.off_topic:
            topic = draw.choice(self._by_kind[topic.kind])
        body = self._body(topic, profile, draw)
        if draw.random() < profile.rude:
            body.insert(draw.choice((0, len(body))), draw.choice(phrases.RUDE))
        while draw.random() < profile.filler:
            body.insert(draw.randint(0, len(body)), draw.choice(phrases.FILLER))
        while draw.random() < profile.repeat:
            at = draw.randrange(len(body))
            body.insert(at + 1, body[at])
        if draw.random() < profile.courtesy:
            body.insert(0, draw.choice(phrases.OPENERS))
        if draw.random() < profile.courtesy:
            body.append(draw.choice(phrases.CLOSERS))
        return " ".join(body)

    def corpus(self, count: int) -> Iterator[Demonstration]:
        """The open web of this world: training prompts with raw answers. Prompts come back with other answers."""
        draw = self._draw("corpus")
        return (self._answer(self._train_prompt(draw), RAW, draw) for _ in range(count))

    def demonstrations(self, split: Split, count: int) -> list[Demonstration]:
        """Prompts with answers by writers of middling care."""
        draw = self._draw("demonstrations", split)
        return [self._answer(p, DEMONSTRATION, draw) for p in self.prompts(split, count)]

    def candidate_pairs(self, split: Split, count: int, *, per_prompt: int = 1) -> list[tuple[SandboxPrompt, str, str]]:
        """``count`` prompts with two different answers to compare; each prompt comes back ``per_prompt`` times."""
        draw = self._draw("candidates", split)
        pairs = []
        prompts = self.prompts(split, -(-count // per_prompt))
        for prompt in (prompts * per_prompt)[:count]:
            first = second = self.respond(prompt, CANDIDATE, draw)
            while second == first:
                second = self.respond(prompt, CANDIDATE, draw)
            pairs.append((prompt, first, second))
        return pairs

    def _draw(self, *purpose: str) -> random.Random:
        return random.Random(derive(self.seed, "sandbox", *purpose))

    def _prompt(self, draw: random.Random) -> SandboxPrompt:
        kind = draw.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0]
        topic = draw.choice(self._by_kind[kind])
        opener = "" if draw.random() < _PLAIN else draw.choice(phrases.PROMPT_OPENERS)
        closer = "" if draw.random() < _PLAIN else draw.choice(phrases.PROMPT_CLOSERS)
        text = " ".join(part for part in (opener, draw.choice(topic.questions), closer) if part)
        return SandboxPrompt(text, kind, topic.key)

    def _train_prompt(self, draw: random.Random) -> SandboxPrompt:
        while True:
            prompt = self._prompt(draw)
            if split_of(prompt.text) == "train":
                return prompt

    def _answer(self, prompt: SandboxPrompt, profile: Profile, draw: random.Random) -> Demonstration:
        return Demonstration(prompt.text, self.respond(prompt, profile, draw))

    def _body(self, topic: Topic, profile: Profile, draw: random.Random) -> list[str]:
        if topic.kind is Kind.HARMFUL:
            return _harmful_body(topic, profile, draw)
        if draw.random() < profile.refuse:
            return [draw.choice(phrases.REFUSALS)]
        if topic.wrong and draw.random() < profile.wrong:
            bad = draw.choice(draw.choice(topic.wrong))
            return [bad] if topic.kind is Kind.FACT else _mixed([bad], topic.points, draw)
        # Where one point is all, leaving it out says nothing at all, so that is rarer.
        full = profile.full if topic.need > 1 else math.sqrt(profile.full)
        wanted = topic.need if draw.random() < full else draw.randint(min(1, topic.need - 1), topic.need - 1)
        if wanted == 0:
            return [draw.choice(phrases.FILLER)]
        chosen = draw.sample(range(len(topic.points)), wanted)
        if topic.ordered and not draw.random() < profile.disorder:
            chosen.sort()
        return [draw.choice(topic.points[i]) for i in chosen]


def _harmful_body(topic: Topic, profile: Profile, draw: random.Random) -> list[str]:
    if draw.random() < profile.comply:
        return [draw.choice(COMPLIANCE if draw.random() < 0.5 else topic.wrong[0])]
    body = [draw.choice(phrases.REFUSALS)]
    if draw.random() < profile.reason:
        body.append(draw.choice(phrases.REASONS[topic.reason]))
    if draw.random() < profile.alternative:
        body.append(draw.choice(topic.points[0]))
    return body


def _mixed(body: list[str], points: tuple[Point, ...], draw: random.Random) -> list[str]:
    if draw.random() < 0.5:
        body.insert(draw.randint(0, 1), draw.choice(draw.choice(points)))
    return body


def split_of(text: str) -> Split:
    """The split that a prompt belongs to, by the hash of its text: 80 % train, 8 % validation, 12 % test."""
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    for split, width in _SHARES.items():
        if share < width:
            return split
        share -= width
    return "test"
