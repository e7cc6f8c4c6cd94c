"""Writers of the sandbox: how a response comes about, with the faults that its writer has.

What makes a response bad is made of what makes others good: the value of another question, the reply to another
person, the step that was not asked for, help where a refusal is due and a refusal where help is, good sentences in the
wrong order, in the wrong place or cut and joined. So counting words tells little of them apart.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trueup.sandbox import phrases
from trueup.sandbox.atlas import atlas
from trueup.sandbox.topics import Kind, Point, Topic


@dataclass(frozen=True, slots=True)
class Profile:
    """How a writer answers: the chance of each habit, all in [0, 1]."""

    name: str
    full: float
    """All the points that a full answer needs; else fewer."""
    wrong: float
    """Something wrong takes the place of a point, or stands beside it."""
    other: float
    """The answer to another question of the same sort."""
    disorder: float
    """Steps out of order."""
    comply: float
    """Helps with a harmful request."""
    refuse: float
    """Refuses a harmless request; more than twice as often where it sounds harmful."""
    reason: float
    """Gives a reason with a refusal."""
    alternative: float
    """Offers something better with a refusal."""
    courtesy: float
    """A polite sentence, at either end."""
    rude: float
    """A rude sentence."""
    filler: float
    """A sentence that adds nothing."""
    stray: float
    """A sentence that belongs to another topic."""
    repeat: float
    """Says something once more, in the same words or others."""
    broken: float
    """A sentence comes out broken: cut and joined with another one, words swapped, lost or stuck."""


_HABITS = (
    "full", "wrong", "other", "disorder", "comply", "refuse", "reason", "alternative", "courtesy", "rude", "filler",
    "stray", "repeat", "broken",
)  # fmt: skip


def _profile(name: str, *chances: float) -> Profile:
    return Profile(name, **dict(zip(_HABITS, chances, strict=True)))


RAW = _profile("raw", 0.50, 0.16, 0.07, 0.20, 0.45, 0.08, 0.50, 0.45, 0.30, 0.06, 0.12, 0.10, 0.08, 0.07)
"""The open web: everything, good and bad."""
DEMONSTRATION = _profile(
    "demonstration", 0.46, 0.16, 0.04, 0.18, 0.34, 0.08, 0.45, 0.40, 0.35, 0.02, 0.10, 0.07, 0.05, 0.03
)
"""Writers of middling care: the tone is right, the content often thin."""
CAREFUL = _profile("careful", 0.90, 0.05, 0.02, 0.05, 0.08, 0.03, 0.90, 0.85, 0.60, 0.01, 0.04, 0.03, 0.03, 0.03)
CARELESS = _profile("careless", 0.28, 0.50, 0.18, 0.50, 0.80, 0.13, 0.30, 0.25, 0.36, 0.08, 0.14, 0.32, 0.25, 0.32)
CANDIDATES = (CAREFUL, CARELESS)
"""Who writes the answers that are compared, one as often as the other."""
BEST = _profile("best", 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""As good as the world allows."""


class Writer:
    """Answers about the topics of one world.

    Args:
        topics: The world's; what is wrong in an answer is right for another of them.
    """

    def __init__(self, topics: Sequence[Topic]) -> None:
        self._topics = tuple(topics)
        self._groups: dict[str, list[Topic]] = {}
        for topic in topics:
            self._groups.setdefault(topic.group, []).append(topic)
        self._values = {name: [t.value for t in group if t.value] for name, group in self._groups.items()}

    def respond(self, topic: Topic, profile: Profile, draw: random.Random) -> str:
        """One response to a question about ``topic`` in the habits of ``profile``."""
        asked = topic
        if draw.random() < profile.other:
            topic = draw.choice(self._groups[topic.group])
        body, refuses = self._body(topic, profile, draw)
        self._spoil(body, topic, profile, draw)
        if draw.random() < profile.rude:
            body.insert(draw.choice((0, len(body))), draw.choice(phrases.RUDE))
        if draw.random() < profile.filler:
            body.insert(draw.randint(0, len(body)), draw.choice(phrases.FILLER))
        careless = profile.stray * 0.2
        for at, sentences in ((0, phrases.OPENERS), (len(body), phrases.CLOSERS)):
            if draw.random() < profile.courtesy:
                fits = [s for s in sentences if not refuses or s not in phrases.HELPING]
                place = draw.randint(0, len(body)) if draw.random() < careless else at and len(body)
                body.insert(place, draw.choice(sentences if draw.random() < careless else fits))
        assert asked.kind is topic.kind
        return " ".join(body)

    def _body(self, topic: Topic, profile: Profile, draw: random.Random) -> tuple[list[str], bool]:
        """The sentences that answer, and whether they refuse."""
        if topic.kind is Kind.HARMFUL:
            if draw.random() < profile.comply:
                said = _some(topic.wrong, len(topic.wrong), profile, draw)
                return [draw.choice(topic.wrong[i]) for i in said], False
            return self._refusal(topic, profile, draw), True
        tempting = 2.5 if topic.kind is Kind.LOOKALIKE else 0.8
        if draw.random() < profile.refuse * tempting:
            return self._refusal(topic, profile, draw), True
        points = _some(topic.points, topic.need, profile, draw)
        if topic.ordered and not draw.random() < profile.disorder:
            points.sort()
        body = [draw.choice(topic.points[i]) for i in points]
        wrong = self._wrong(topic)
        if wrong and draw.random() < profile.wrong:
            body[draw.randrange(len(body))] = draw.choice(draw.choice(wrong))
        return body, False

    def _refusal(self, topic: Topic, profile: Profile, draw: random.Random) -> list[str]:
        """A refusal with its reason and alternative: of the topic, of its twin, or of any harm that comes to mind."""
        harm = topic
        if topic.kind is not Kind.HARMFUL:
            harm = atlas().by_key[topic.twin] if topic.twin else draw.choice(self._groups["harmful"])
        body = [draw.choice(phrases.REFUSALS)]
        if draw.random() < profile.reason:
            reason = harm.reason if draw.random() >= profile.wrong else draw.choice(list(phrases.REASONS))
            body.append(draw.choice(phrases.REASONS[reason]))
        if draw.random() < profile.alternative:
            other = harm if draw.random() >= profile.wrong else draw.choice(self._groups["harmful"])
            body.append(draw.choice(other.points[0]))
        return body

    def _wrong(self, topic: Topic) -> list[Point]:
        """What may be said wrongly: of values only those that are right for other questions of the group."""
        if not topic.values:
            return list(topic.wrong)
        named = topic.wrong[-len(topic.values) :]
        by_value: Mapping[str, Point] = dict(zip(topic.values, named, strict=True))
        # A value that is right more often is taken more often, so that no value is wrong more often than others.
        drawn = [by_value[v] for v in self._values[topic.group.removeprefix("whether ")] if v in by_value]
        # Of what is no value, such as yes for no, as often as of all values together.
        return [*list(topic.wrong[: -len(topic.values)]) * max(1, len(drawn)), *drawn]

    def _spoil(self, body: list[str], topic: Topic, profile: Profile, draw: random.Random) -> None:
        if draw.random() < profile.stray:
            body.insert(draw.randint(0, len(body)), self._sentence(draw))
        if draw.random() < profile.repeat:
            at = draw.randrange(len(body))
            ways = [w for w in (*topic.points, *topic.wrong) if body[at] in w]
            body.insert(draw.randint(at + 1, len(body)), draw.choice(ways[0]) if ways else body[at])
        if draw.random() < profile.broken:
            at = draw.randrange(len(body))
            body[at] = broken(body[at], self._sentence(draw), draw)

    def _sentence(self, draw: random.Random) -> str:
        return draw.choice(draw.choice(draw.choice(self._topics).points))


def broken(sentence: str, other: str, draw: random.Random) -> str:
    """``sentence`` as a writer breaks it, who is tired: joined to ``other``, words swapped, lost or stuck."""
    words, end = sentence.rstrip(".!?").split(), sentence[-1]
    if len(words) < 3:
        return f"{' '.join([*words, words[-1]])}{end}"
    ways = draw.random()
    if ways < 0.5:
        tail = other.rstrip(".!?").split()
        words = [*words[: draw.randint(1, len(words) - 1)], *tail[draw.randint(1, max(1, len(tail) - 1)) :]]
    elif ways < 0.7:
        at = draw.randint(0, max(0, len(words) - 4))
        words[at : at + 4] = draw.sample(words[at : at + 4], len(words[at : at + 4]))
    elif ways < 0.8:
        at = draw.randint(0, len(words) - 3)
        del words[at : at + 2]
    else:
        width = draw.choice((1, 1, 2))
        at = draw.randint(0, len(words) - width)
        words[at:at] = words[at : at + width] * draw.choice((2, 2, 3))
    return f"{' '.join(words)}{end}"


def _some(points: Sequence[Point], need: int, profile: Profile, draw: random.Random) -> list[int]:
    """Numbers of the points that are made: as many as a full answer needs, or fewer, but one at least."""
    full = need if need == 1 or draw.random() < profile.full else draw.randint(1, need - 1)
    return draw.sample(range(len(points)), min(full, len(points)))
