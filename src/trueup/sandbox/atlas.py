"""The world's knowledge, indexed: which topic a prompt is about, and what any sentence means for that topic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

from trueup.errors import DataError
from trueup.sandbox import phrases
from trueup.sandbox.advice import advice_topics
from trueup.sandbox.chat import chat_topics
from trueup.sandbox.facts import fact_topics
from trueup.sandbox.harmful import harmful_topics
from trueup.sandbox.howto import howto_topics
from trueup.sandbox.lookalikes import lookalike_topics
from trueup.sandbox.topics import Kind, Topic

_SPLIT = re.compile(r"(?<=[.!?])\s+")


class Role(StrEnum):
    """What a sentence does in a response to a given topic."""

    POINT = "point"
    WRONG = "wrong"
    COMPLIANCE = "compliance"
    REFUSAL = "refusal"
    REASON = "reason"
    GREETING = "greeting"
    CLOSING = "closing"
    FILLER = "filler"
    RUDE = "rude"
    OFF_TOPIC = "off_topic"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence of a response, understood. ``point`` numbers the topic's point it makes."""

    text: str
    role: Role
    point: int = -1


@dataclass(frozen=True)
class Atlas:
    """All topics with their look-up tables; build it with ``atlas()``."""

    topics: tuple[Topic, ...]
    by_question: Mapping[str, Topic]
    by_key: Mapping[str, Topic]
    everywhere: Mapping[str, Role]
    """Sentences that mean the same in every topic."""
    anywhere: frozenset[str]
    """Every sentence that is about some topic."""
    meanings: Mapping[str, Mapping[str, tuple[Role, int]]] = field(repr=False)

    def topic_of(self, prompt: str) -> Topic:
        """The topic of a prompt.

        Raises:
            DataError: The world has no such prompt.
        """
        text = " ".join(prompt.split())
        for opener in phrases.PROMPT_OPENERS:
            if not text.startswith(opener):
                continue
            inner = text[len(opener) :].strip()
            for closer in phrases.PROMPT_CLOSERS:
                if inner.endswith(closer):
                    topic = self.by_question.get(inner[: len(inner) - len(closer)].strip())
                    if topic is not None:
                        return topic
        raise DataError(
            f"{prompt[:80]!r} is not a prompt of the sandbox world",
            where="prompt",
            expected="a prompt made by World.prompts(); the gold function knows only those",
        )

    def understand(self, topic: Topic, response: str) -> list[Said]:
        """The sentences of a response, each with its role for ``topic``."""
        parts = [p for p in _SPLIT.split(" ".join(response.split())) if p]
        meaning = self.meanings[topic.key]
        understood: list[Said] = []
        at = 0
        while at < len(parts):
            for width in (2, 1):  # a joke takes two sentences
                text = " ".join(parts[at : at + width])
                sentence = self._mean(meaning, text) if at + width <= len(parts) else None
                if sentence is not None:
                    break
            understood.append(sentence or Said(parts[at], Role.BROKEN))
            at += width if sentence is not None else 1
        return understood

    def _mean(self, meaning: Mapping[str, tuple[Role, int]], text: str) -> Said | None:
        name = _name(text)
        if name in meaning:
            role, point = meaning[name]
            return Said(text, role, point)
        if name in self.everywhere:
            return Said(text, self.everywhere[name])
        return Said(text, Role.OFF_TOPIC) if name in self.anywhere else None


def _name(sentence: str) -> str:
    return sentence.rstrip(".!?")


def _meanings(topic: Topic) -> dict[str, tuple[Role, int]]:
    meanings: dict[str, tuple[Role, int]] = {}
    bad = Role.COMPLIANCE if topic.kind is Kind.HARMFUL else Role.WRONG
    for point in topic.wrong:
        meanings |= {_name(wording): (bad, -1) for wording in point}
    for number, point in enumerate(topic.points):
        meanings |= {_name(wording): (Role.POINT, number) for wording in point}
    if topic.kind is Kind.HARMFUL:
        meanings |= {_name(wording): (Role.REASON, -1) for wording in phrases.REASONS[topic.reason]}
    return meanings


@cache
def atlas() -> Atlas:
    """The one atlas of the world."""
    topics = (
        *fact_topics(),
        *howto_topics(),
        *advice_topics(),
        *chat_topics(),
        *harmful_topics(),
        *lookalike_topics(),
    )
    everywhere = {
        **{_name(s): Role.REFUSAL for s in phrases.REFUSALS},
        **{_name(s): Role.GREETING for s in phrases.OPENERS},
        **{_name(s): Role.CLOSING for s in phrases.CLOSERS},
        **{_name(s): Role.FILLER for s in phrases.FILLER},
        **{_name(s): Role.RUDE for s in phrases.RUDE},
    }
    meanings = {t.key: _meanings(t) for t in topics}
    reasons = {_name(s) for group in phrases.REASONS.values() for s in group}
    anywhere = frozenset(reasons.union(*(set(m) for m in meanings.values())))
    return Atlas(
        topics,
        {q: t for t in topics for q in t.questions},
        {t.key: t for t in topics},
        everywhere,
        anywhere,
        meanings,
    )
